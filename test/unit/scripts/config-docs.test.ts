// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { withTables } from "../../../scripts/config-docs.js";
import { KUBE_PROXY_FIELDS, KUBE_PROXY_FLAGS } from "../../../src/config/kube-proxy-settings.js";
import { PORTOLAN_SETTINGS } from "../../../src/config/portolan-settings.js";

const TEXT = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8");
const ALL = [...KUBE_PROXY_FIELDS, ...KUBE_PROXY_FLAGS, ...PORTOLAN_SETTINGS];

test("docs/configuration.md has the settings that the parser knows (npx tsx scripts/config-docs.ts writes them)", () => {
  assert.equal(withTables(TEXT), TEXT);
});

test("docs/configuration.md names every field and every flag", () => {
  for (const { field, flag } of ALL) {
    if (field !== null) assert.ok(TEXT.includes(`| \`${field}\` |`), field);
    if (flag !== null) assert.ok(TEXT.includes(flag.length === 1 ? `\`-${flag}\`` : `\`--${flag}\``), flag);
  }
});

test("No two settings have one field or one flag", () => {
  const unique = new Set(ALL);
  const flags = Array.from(unique, ({ flag }) => flag).filter((flag) => flag !== null);
  assert.equal(new Set(flags).size, flags.length);
  const fields = [...KUBE_PROXY_FIELDS, ...PORTOLAN_SETTINGS].map(({ field }) => field);
  assert.equal(new Set(fields).size, fields.length);
});

test("What a setting does, and why it does nothing, is a sentence that is not ended", () => {
  for (const { does, idle } of ALL) {
    for (const text of [does, idle ?? "x"]) assert.match(text, /[^.]$/);
  }
});
