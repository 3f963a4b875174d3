// SPDX-License-Identifier: Apache-2.0
/**
 * JSON without its values: where each value of a text begins and ends, and each item of a `List`, so that a file of many
 * megabytes is parsed piece by piece. Brackets are counted; whether a piece is JSON is for JSON.parse to say.
 */
import type { Sliced } from "../../util/slices.js";

export interface JsonRange {
  readonly start: number;
  readonly end: number;
}

export interface JsonValue extends JsonRange {
  /** The brackets of a top-level "items" list, and what is in it; null without one. */
  readonly list: (JsonRange & { readonly items: readonly JsonRange[] }) | null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const BRACKET = 0x5b;
const ITEMS_KEY = '"items"';
const YIELD_EVERY_BYTES = 1 << 20;

const isOpen = (code: number): boolean => code === 0x7b || code === 0x5b;
const isClose = (code: number): boolean => code === 0x7d || code === 0x5d;
const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;

/** Offsets in bytes. Null when brackets and quotes do not match, or something stands between the values. */
export function* scanJson(text: Buffer): Sliced<readonly JsonValue[] | null> {
  const values: JsonValue[] = [];
  let position = 0;
  let pause = YIELD_EVERY_BYTES;
  for (;;) {
    while (position < text.length && isSpace(text[position] ?? 0)) position += 1;
    if (position >= text.length) return values;
    if (!isOpen(text[position] ?? 0)) return null;
    const scan = new ValueScan(text, position);
    while (!scan.done) {
      if (!scan.step(pause)) return null;
      if (scan.position >= pause) {
        pause = scan.position + YIELD_EVERY_BYTES;
        yield;
      }
    }
    values.push(scan.value());
    position = scan.position;
  }
}

class ValueScan {
  position: number;
  done = false;
  readonly #text: Buffer;
  readonly #start: number;
  #depth = 0;
  #listStart = -1;
  #listEnd = -1;
  #itemStart = -1;
  readonly #items: JsonRange[] = [];
  /** Where the last string at depth 1 was: the key of what follows it. */
  #keyStart = -1;
  #keyEnd = -1;

  constructor(text: Buffer, start: number) {
    this.#text = text;
    this.#start = start;
    this.position = start;
  }

  /** Goes on to the end of the value or to `limit`. False when the text cannot be JSON. */
  step(limit: number): boolean {
    const text = this.#text;
    while (!this.done && this.position < limit) {
      if (this.position >= text.length) return false;
      const code = text[this.position] ?? 0;
      if (code === QUOTE) {
        if (!this.#string()) return false;
      } else {
        if (isOpen(code)) this.#open();
        else if (isClose(code)) this.#close();
        else if (code === COMMA && this.#inList()) this.#endItem();
        else if (!isSpace(code) && this.#inList()) this.#beginItem();
        this.position += 1;
      }
    }
    return true;
  }

  value(): JsonValue {
    const list =
      this.#listEnd < 0 ? null : { start: this.#listStart, end: this.#listEnd, items: this.#items };
    return { start: this.#start, end: this.position, list };
  }

  #inList(): boolean {
    return this.#listStart >= 0 && this.#listEnd < 0 && this.#depth === 2;
  }

  #string(): boolean {
    const text = this.#text;
    let end = this.position;
    do {
      end = text.indexOf(QUOTE, end + 1);
      if (end < 0) return false;
    } while (this.#isEscaped(end));
    if (this.#inList()) this.#beginItem();
    if (this.#depth === 1) {
      this.#keyStart = this.position;
      this.#keyEnd = end + 1;
    }
    this.position = end + 1;
    return true;
  }

  #isEscaped(quote: number): boolean {
    let before = quote - 1;
    while (this.#text[before] === BACKSLASH) before -= 1;
    return (quote - 1 - before) % 2 === 1;
  }

  #open(): void {
    if (this.#inList()) this.#beginItem();
    this.#depth += 1;
    if (this.#depth !== 2 || this.#listStart >= 0 || this.#text[this.position] !== BRACKET) return;
    const text = (from: number, to: number): string => this.#text.toString("latin1", from, to);
    if (this.#keyEnd - this.#keyStart !== ITEMS_KEY.length) return;
    if (text(this.#keyStart, this.#keyEnd) !== ITEMS_KEY) return;
    if (text(this.#keyEnd, this.position).trim() === ":") this.#listStart = this.position;
  }

  #close(): void {
    if (this.#inList()) {
      this.#endItem();
      this.#listEnd = this.position + 1;
    }
    this.#depth -= 1;
    if (this.#depth === 0) this.done = true;
  }

  #beginItem(): void {
    if (this.#itemStart < 0) this.#itemStart = this.position;
  }

  #endItem(): void {
    if (this.#itemStart >= 0) this.#items.push({ start: this.#itemStart, end: this.position });
    this.#itemStart = -1;
  }
}
