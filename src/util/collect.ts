// SPDX-License-Identifier: Apache-2.0
import { Buffer } from "node:buffer";

/** V8 begins to mark when it has been told of 64 MiB more beside its heap than after the last collection; this is more. */
const PRESSURE_BYTES = 72 * 1024 * 1024;

/**
 * Has V8 collect the whole heap step by step, beside the program, for when much garbage is known to be old: V8 itself would
 * find it out in the middle of later work. There is no call for that (`gc()` stops everything at once), but V8 begins when it
 * hears of much memory beside its heap: a buffer that nobody writes to is no memory, and is gone with that collection.
 */
export function collectInSteps(): void {
  Buffer.allocUnsafeSlow(PRESSURE_BYTES);
}
