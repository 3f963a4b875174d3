// SPDX-License-Identifier: Apache-2.0
/**
 * Cuts a file's bytes into documents without understanding them, so that each can be compared with its earlier self, read
 * by itself and refused by itself. A line that begins with `---` ends a document wherever it stands: YAML allows no scalar
 * to contain one at the start of a line.
 */
import type { Sliced } from "../../util/slices.js";

export interface Chunk {
  readonly bytes: Uint8Array;
  /** 1-based line of the file that the chunk begins on. */
  readonly line: number;
}

const NEWLINE = 0x0a;
const MARKER = Buffer.from("\n---");
const YIELD_EVERY_BYTES = 1 << 20;

export function* splitDocuments(file: Buffer): Sliced<readonly Chunk[]> {
  const chunks: Chunk[] = [];
  let start = 0;
  let line = 1;
  let lastYield = 0;
  while (start < file.length) {
    let next = file.indexOf(MARKER, start);
    while (next >= 0 && !endsMarker(file[next + MARKER.length])) next = file.indexOf(MARKER, next + 1);
    const end = next < 0 ? file.length : next + 1;
    const bytes = file.subarray(start, end);
    chunks.push({ bytes, line });
    // Nobody asks where the last one ends, and it may be the whole of a large file.
    if (next >= 0) line += countLines(bytes);
    start = end;
    if (start - lastYield > YIELD_EVERY_BYTES) {
      lastYield = start;
      yield;
    }
  }
  return chunks;
}

/** After `---`: white space, a line's end or the file's. Otherwise it is text that begins with dashes. */
function endsMarker(byte: number | undefined): boolean {
  return byte === undefined || byte === 0x20 || byte === 0x09 || byte === 0x0d || byte === NEWLINE;
}

export function countLines(bytes: Uint8Array): number {
  let count = 0;
  for (let i = bytes.indexOf(NEWLINE); i >= 0; i = bytes.indexOf(NEWLINE, i + 1)) count += 1;
  return count;
}

/** An item of a List whose other fields have been read already. */
export interface ItemText {
  readonly text: string;
  /** Lines after the list's first line. */
  readonly lineOffset: number;
}

export interface ListText {
  /** The list with `items: []`. */
  readonly head: string;
  readonly items: readonly ItemText[];
}

/**
 * Cuts a YAML `List` in block style into its items, each padded so that its columns stay. Null when the text does not have
 * that form. Anchors do not reach from one item into another: such an alias is an error of its item.
 */
export function splitYamlList(text: string): ListText | null {
  if (!/^kind:[ \t]*["']?\w*List["']?[ \t]*\r?$/m.test(text)) return null;
  const lines = text.split("\n");
  const header = lines.findIndex((line) => /^items:[ \t]*(?:#.*)?\r?$/.test(line));
  if (header < 0) return null;
  const first = lines.findIndex((line, i) => i > header && !isBlank(line));
  const dash = /^( *)-(?:[ \t\r]|$)/.exec(lines[first] ?? "");
  if (dash === null) return null;
  const indent = dash[1] ?? "";
  const items: { from: number; to: number }[] = [];
  let end = first;
  for (; end < lines.length; end += 1) {
    const line = lines[end] ?? "";
    if (isBlank(line)) continue;
    if (line.startsWith(`${indent}-`) && /^[ \t\r]?$/.test(line.charAt(indent.length + 1))) {
      const previous = items.at(-1);
      if (previous !== undefined) previous.to = end;
      items.push({ from: end, to: end });
    } else if (!line.startsWith(`${indent} `)) break;
  }
  const last = items.at(-1);
  if (last !== undefined) last.to = end;
  return {
    head: [...lines.slice(0, header), "items: []", ...lines.slice(end)].join("\n"),
    items: items.map(({ from, to }) => {
      const [line = "", ...rest] = lines.slice(from, to);
      const opened = `${indent} ${line.slice(indent.length + 1)}`;
      return { text: [opened, ...rest].join("\n"), lineOffset: from };
    }),
  };
}

function isBlank(line: string): boolean {
  return /^[ \t\r]*(?:#.*)?$/.test(line);
}
