// SPDX-License-Identifier: Apache-2.0
// What the scripts share that write parts of documents: where a part stands, and `--check`, which only compares.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import { fileURLToPath } from "node:url";

/** Where a part of a document stands: between two marks. */
export interface Place {
  /** For people. */
  readonly what: string;
  readonly open: string;
  readonly close: string;
}

export function tablePlace(name: string): Place {
  return { what: `the table ${name}`, open: `<!-- table: ${name} -->`, close: `<!-- end: ${name} -->` };
}

/**
 * The document with `content` in its place, whatever stands there now.
 *
 * @throws Error when it has no such place
 */
export function withPart(text: string, { what, open, close }: Place, content: string): string {
  const [start, end] = [text.indexOf(open), text.indexOf(close)];
  if (start < 0 || end < start) throw new Error(`there is no place for ${what}`);
  return `${text.slice(0, start + open.length)}\n\n${content}\n\n${text.slice(end)}`;
}

/**
 * Writes a document as it should be, when the process was started with the script that calls; with `--check` it tells that it
 * is not, and fails.
 *
 * @param script its import.meta.url
 * @param target what to make to have it written
 */
export function writeDocument(
  script: string,
  file: URL,
  asItShouldBe: (text: string) => string,
  target = "docs",
): void {
  if (process.argv[1] !== fileURLToPath(script)) return;
  const before = readFileSync(file, "utf8");
  const after = asItShouldBe(before);
  if (before === after) return;
  if (process.argv.includes("--check")) {
    process.stderr.write(`docs/${basename(file.pathname)} is out of date: make ${target}\n`);
    process.exitCode = 1;
  } else writeFileSync(file, after);
}
