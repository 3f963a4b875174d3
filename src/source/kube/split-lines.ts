// SPDX-License-Identifier: Apache-2.0
/**
 * A watch is one JSON object a line. Lines are split on the byte 0x0a and nothing else: U+2028, which other line readers
 * take for an end, may stand inside a string.
 */
import { ApiError } from "./errors.js";

const NEWLINE = 0x0a;
/** etcd takes no object of more than 1.5 MiB; in JSON it is a few times that at most. */
export const LONGEST_LINE: number = 16 << 20;

export class LineSplitter {
  #parts: Buffer[] = [];
  #length = 0;

  /**
   * The lines that end in this chunk, without their ends, blank ones left out. They share the chunk's memory.
   * @throws ApiError "garbage" when a line does not end.
   */
  *feed(chunk: Buffer): Generator<Buffer, void, void> {
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(NEWLINE, start);
      if (end < 0) break;
      const line = this.#take(chunk.subarray(start, end));
      start = end + 1;
      if (line.length > 0) yield line;
    }
    if (start === chunk.length) return;
    this.#parts.push(chunk.subarray(start));
    this.#length += chunk.length - start;
    if (this.#length > LONGEST_LINE) throw new ApiError("garbage", "a line of the watch does not end");
  }

  /** Bytes after the last end of a line: of a line that was cut off. */
  get rest(): number {
    return this.#length;
  }

  #take(tail: Buffer): Buffer {
    if (this.#parts.length === 0) return tail;
    this.#parts.push(tail);
    const line = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#length = 0;
    return line;
  }
}
