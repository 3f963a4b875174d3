// SPDX-License-Identifier: Apache-2.0
/** A BPF ring buffer that is read. Nothing here waits: whoever reads looks again after a while. */
import type { Ffi } from "./ffi.js";

/** Records taken by one FFI call: with 104 bytes each, 416 KiB. */
const RECORDS = 4096;

export class Ring {
  readonly #ffi: Ffi;
  readonly #recordSize: number;
  readonly #buffer: Buffer;
  #ring: number;

  /** Takes over the ring, a number from ptl_ring_open. */
  constructor(ffi: Ffi, ring: number, recordSize: number) {
    this.#ffi = ffi;
    this.#ring = ring;
    this.#recordSize = recordSize;
    this.#buffer = Buffer.alloc(RECORDS * recordSize);
  }

  /**
   * Takes the records that are there, at most 4096: one FFI call. `more`: there may be others. The bytes are good until
   * the next call.
   */
  drain(): { readonly count: number; readonly bytes: Uint8Array; readonly more: boolean } {
    const count = this.#ffi.call("ptl_ring_drain", this.#ring, this.#buffer, this.#recordSize, RECORDS);
    return { count, bytes: this.#buffer.subarray(0, count * this.#recordSize), more: count === RECORDS };
  }

  /** Throws away what is there, such as what a reader before this one has left. Number of records. */
  skip(): number {
    let skipped = 0;
    for (let more = true; more; ) {
      const count = this.#ffi.call("ptl_ring_drain", this.#ring, null, this.#recordSize, RECORDS);
      skipped += count;
      more = count === RECORDS;
    }
    return skipped;
  }

  /** Idempotent. */
  close(): void {
    if (this.#ring !== 0) this.#ffi.callRaw("ptl_ring_close", this.#ring);
    this.#ring = 0;
  }
}
