// SPDX-License-Identifier: Apache-2.0
/** Whole outputs of commands, kept in files beside the tests. UPDATE_GOLDEN=1 writes them anew: read the difference. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";

/** Compares with the file of this name below test/cli/golden. */
export function assertGolden(name: string, text: string): void {
  const path = fileURLToPath(new URL(`../cli/golden/${name}`, import.meta.url));
  if (process.env.UPDATE_GOLDEN === "1") {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text);
    return;
  }
  assert.equal(
    text,
    existsSync(path) ? readFileSync(path, "utf8") : "",
    `${path} differs: look at it, and if it is right run again with UPDATE_GOLDEN=1`,
  );
}

/** A JSON text, or JSON lines, laid out for people, so that a difference is seen. */
export function prettyJson(text: string): string {
  const lines = text.trimEnd().split("\n");
  return lines.map((line) => `${JSON.stringify(JSON.parse(line), null, 2)}\n`).join("");
}
