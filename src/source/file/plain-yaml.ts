// SPDX-License-Identifier: Apache-2.0
/**
 * The YAML that most manifests are made of, read some thirty times as fast as by the library: block mappings and sequences
 * of plain words, decimal numbers, addresses and simple quoted text. Whatever is not surely of that kind is not read here
 * but left to the library, mistakes above all. A property test holds the two against each other.
 */

interface Line {
  indent: number;
  content: string;
}

/** Thrown and caught in this file only: the text is for the library. */
const NOT_PLAIN = Symbol("not plain");

const KEY = /^([A-Za-z][A-Za-z0-9_./-]{0,200}):(?: +(.*))?$/;
const PRINTABLE = /^[\x20-\x7e]*$/;
const WHOLE_NUMBER = /^(?:0|[1-9][0-9]{0,14})$/;
const ADDRESS =
  /^(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?:\/[0-9]{1,2})?|[0-9a-fA-F]{1,4}:[0-9a-fA-F:]*[0-9a-fA-F])$/;
/** Words with a meaning of their own in YAML 1.1, in whatever case. */
const SPECIAL_WORD = /^(?:y|n|yes|no|on|off|true|false|null)$/i;

/** The value and its first line (1-based), or null when the library has to read it. */
export function readPlainYaml(text: string): { readonly value: object; readonly line: number } | null {
  try {
    const lines: Line[] = [];
    const first = collect(text, lines);
    const reader = new PlainReader(lines);
    return { value: reader.readDocument(), line: first };
  } catch (error) {
    if (error === NOT_PLAIN) return null;
    throw error;
  }
}

/** Fills `lines` with what is neither blank nor comment. Returns the number of the first one. */
function collect(text: string, lines: Line[]): number {
  let number = 0;
  let first = 0;
  for (let start = 0; start < text.length; ) {
    const newline = text.indexOf("\n", start);
    const end = newline < 0 ? text.length : newline;
    number += 1;
    let from = start;
    while (from < end && text.charCodeAt(from) === 0x20) from += 1;
    const code = from < end ? text.charCodeAt(from) : 0;
    if (code === 0x2d && from === start && text.startsWith("---", start)) {
      if (lines.length > 0 || text.slice(start, end).trimEnd() !== "---") throw NOT_PLAIN;
    } else if (code !== 0 && code !== 0x23) {
      if (lines.length === 0) first = number;
      lines.push({ indent: from - start, content: contentOf(text.slice(from, end)) });
    }
    start = end + 1;
  }
  return first;
}

function contentOf(text: string): string {
  const content = text.endsWith(" ") ? text.trimEnd() : text;
  // Tabs, carriage returns, other scripts, comments behind a value: seldom, and seldom simple.
  if (!PRINTABLE.test(content) || content.includes(" #")) throw NOT_PLAIN;
  return content;
}

class PlainReader {
  readonly #lines: readonly Line[];
  #at = 0;

  constructor(lines: readonly Line[]) {
    this.#lines = lines;
  }

  readDocument(): object {
    const first = this.#lines[0];
    if (first === undefined || isEntry(first.content)) throw NOT_PLAIN;
    const value = this.#mapping(first.indent);
    // A list's items have lines of their own, which the library knows.
    if (this.#at < this.#lines.length || Object.hasOwn(value, "items")) throw NOT_PLAIN;
    return value;
  }

  #block(indent: number): unknown {
    const line = this.#lines[this.#at];
    return line !== undefined && isEntry(line.content) ? this.#sequence(indent) : this.#mapping(indent);
  }

  #mapping(indent: number): Record<string, unknown> {
    const map: Record<string, unknown> = {};
    for (
      let line = this.#lines[this.#at];
      line !== undefined && line.indent >= indent;
      line = this.#lines[this.#at]
    ) {
      if (line.indent > indent) throw NOT_PLAIN;
      if (isEntry(line.content)) break;
      const match = KEY.exec(line.content);
      const key = match?.[1];
      if (key === undefined || Object.hasOwn(map, key)) throw NOT_PLAIN;
      this.#at += 1;
      const rest = match?.[2];
      map[key] = rest === undefined || rest === "" ? this.#valueBelow(indent) : this.#scalar(rest, indent);
    }
    return map;
  }

  /** After `key:` alone: what is indented more, or a sequence at the key's own column, or nothing. */
  #valueBelow(indent: number): unknown {
    const next = this.#lines[this.#at];
    if (next === undefined || next.indent < indent) return null;
    if (next.indent > indent) return this.#block(next.indent);
    return isEntry(next.content) ? this.#sequence(indent) : null;
  }

  #sequence(indent: number): unknown[] {
    const items: unknown[] = [];
    for (
      let line = this.#lines[this.#at];
      line !== undefined && line.indent >= indent;
      line = this.#lines[this.#at]
    ) {
      if (line.indent > indent) throw NOT_PLAIN;
      if (!isEntry(line.content)) break;
      const rest = line.content.slice(1).trimStart();
      if (rest === "" || isEntry(rest)) throw NOT_PLAIN;
      if (KEY.test(rest)) {
        // A mapping that begins behind the dash: its other keys stand in the same column.
        line.indent += line.content.length - rest.length;
        line.content = rest;
        items.push(this.#mapping(line.indent));
      } else {
        this.#at += 1;
        items.push(this.#scalar(rest, indent));
      }
    }
    return items;
  }

  #scalar(text: string, indent: number): unknown {
    const next = this.#lines[this.#at];
    // It may go on there.
    if (next !== undefined && next.indent > indent) throw NOT_PLAIN;
    return scalarOf(text);
  }
}

/** "-" alone or followed by a blank: an entry of a sequence. */
function isEntry(content: string): boolean {
  return content.charCodeAt(0) === 0x2d && (content.length === 1 || content.charCodeAt(1) === 0x20);
}

function scalarOf(text: string): unknown {
  const code = text.charCodeAt(0);
  if (code === 0x22) return quoted(text, /^"[^"\\]*"$/);
  if (code === 0x27) return quoted(text, /^'[^']*'$/);
  if (text === "{}") return {};
  if (text === "[]") return [];
  if (text.endsWith(":") || text.includes(": ")) throw NOT_PLAIN;
  if (code >= 0x30 && code <= 0x39) return digits(text);
  if (!((code >= 0x41 && code <= 0x5a) || (code >= 0x61 && code <= 0x7a) || code === 0x2f)) throw NOT_PLAIN;
  if (text === "true") return true;
  if (text === "false") return false;
  if (text === "null") return null;
  if (SPECIAL_WORD.test(text)) throw NOT_PLAIN;
  return text;
}

function quoted(text: string, whole: RegExp): string {
  if (!whole.test(text)) throw NOT_PLAIN;
  return text.slice(1, -1);
}

function digits(text: string): unknown {
  if (WHOLE_NUMBER.test(text)) return Number(text);
  if (ADDRESS.test(text)) return text;
  throw NOT_PLAIN;
}
