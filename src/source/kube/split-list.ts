// SPDX-License-Identifier: Apache-2.0
/**
 * A List of many megabytes, taken apart as it arrives: each item's bytes as soon as they are there, and in the end what is
 * around them. Brackets are counted; whether a piece is JSON is for JSON.parse to say.
 */
import { ApiError } from "./errors.js";
import { parseJson } from "./raw.js";
import { LONGEST_LINE } from "./split-lines.js";

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPEN_LIST = 0x5b;
const ITEMS_KEY = '"items"';
/** What is around the items: kind, apiVersion, metadata. */
const LONGEST_HEAD = 1 << 20;

const isOpen = (code: number): boolean => code === 0x7b || code === OPEN_LIST;
const isClose = (code: number): boolean => code === 0x7d || code === 0x5d;
const isSpace = (code: number): boolean => code === 0x20 || code === 0x0a || code === 0x0d || code === 0x09;

export class ListSplitter {
  #depth = 0;
  #inString = false;
  #escaped = false;
  /** Inside the brackets of the top-level "items". */
  #inItems = false;
  #started = false;
  /** Of the item, or of the head, that goes on in the next chunk. */
  #item: Buffer[] = [];
  #itemLength = 0;
  #inItem = false;
  #head: Buffer[] = [];
  #headLength = 0;

  /**
   * The items that end in this chunk; they share its memory.
   * @throws ApiError "garbage" when it cannot be a List.
   */
  *feed(chunk: Buffer): Generator<Buffer, void, void> {
    // Where the piece began that belongs together: of an item, or of the head.
    let start = 0;
    for (let i = 0; i < chunk.length; i += 1) {
      const code = chunk[i] as number;
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false;
        else if (code === BACKSLASH) this.#escaped = true;
        else if (code === QUOTE) this.#inString = false;
        continue;
      }
      const between = this.#inItems && this.#depth === 2;
      if (between && (code === COMMA || isClose(code))) {
        if (this.#inItem) yield this.#takeItem(chunk.subarray(start, i));
        start = i;
        if (code === COMMA) start = i + 1;
        else this.#inItems = false;
      } else if (between && !this.#inItem && !isSpace(code)) {
        this.#inItem = true;
        start = i;
      }
      if (code === QUOTE) this.#inString = true;
      else if (isOpen(code)) {
        this.#depth += 1;
        this.#started = true;
        if (
          this.#depth === 2 &&
          code === OPEN_LIST &&
          !this.#inItems &&
          this.#endsInItemsKey(chunk, start, i)
        ) {
          this.#addHead(chunk.subarray(start, i + 1));
          this.#inItems = true;
          start = i + 1;
        }
      } else if (isClose(code)) this.#depth -= 1;
      else if (!this.#started && !isSpace(code)) throw new ApiError("garbage", "the list is no JSON object");
      if (this.#depth < 0) throw new ApiError("garbage", "the list has a bracket too many");
    }
    this.#keep(chunk.subarray(start));
  }

  /**
   * The List without its items. Call it at the end.
   * @throws ApiError "garbage" when it is no JSON, or cut off.
   */
  end(): unknown {
    if (!this.#started || this.#depth !== 0 || this.#inString) {
      throw new ApiError("garbage", "the list is cut off");
    }
    return parseJson(Buffer.concat(this.#head), "the list");
  }

  #keep(piece: Buffer): void {
    if (this.#inItem) {
      this.#item.push(piece);
      this.#itemLength += piece.length;
      if (this.#itemLength > LONGEST_LINE) throw new ApiError("garbage", "an item of the list does not end");
    } else if (!this.#inItems) this.#addHead(piece);
  }

  #addHead(piece: Buffer): void {
    this.#headLength += piece.length;
    if (this.#headLength > LONGEST_HEAD) throw new ApiError("garbage", "the list has no items");
    this.#head.push(piece);
  }

  #takeItem(tail: Buffer): Buffer {
    this.#inItem = false;
    if (this.#item.length === 0) return tail;
    this.#item.push(tail);
    const item = Buffer.concat(this.#item);
    this.#item = [];
    this.#itemLength = 0;
    return item;
  }

  /** The key may have begun in an earlier chunk. */
  #endsInItemsKey(chunk: Buffer, start: number, end: number): boolean {
    const here = chunk.toString("latin1", Math.max(start, end - 64), end);
    const before = here.length < 64 ? Buffer.concat(this.#head).toString("latin1").slice(-64) : "";
    return (before + here).replace(/\s+$/, "").replace(/\s*:$/, "").endsWith(ITEMS_KEY);
  }
}
