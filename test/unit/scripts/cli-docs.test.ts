// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { readTree, withReference } from "../../../scripts/cli-docs.js";

const text = readFileSync(new URL("../../../docs/cli.md", import.meta.url), "utf8");

test("docs/cli.md has the commands that there are (make docs writes them)", () => {
  assert.equal(withReference(text, readTree()), text);
});

test("a document without a place for the commands is an error", () => {
  assert.throws(() => withReference("no markers", readTree()), /no place for the commands/);
});
