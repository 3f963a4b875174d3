// SPDX-License-Identifier: Apache-2.0
/** Whole outputs of commands, kept in files beside the tests. UPDATE_GOLDEN=1 writes them anew: read the difference. */
import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
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
  assert.equal(text, readFileSync(path, "utf8"), `it is not as ${path} has it`);
}

/** JSON laid out for people, so that a difference is seen. */
export function prettyJson(text: string): string {
  return `${JSON.stringify(JSON.parse(text), null, 2)}\n`;
}
