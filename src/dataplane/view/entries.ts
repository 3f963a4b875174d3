// SPDX-License-Identifier: Apache-2.0
import { viewOf } from "../../abi/codec.js";
import type { MapName } from "../../abi/maps.gen.js";
import type { KernelReads } from "../../native/kernel.js";

/** Entries read at a time: what is held of a map of any size. */
export const CHUNK = 65_536;
/** Read first: the whole of most maps. */
export const FIRST = 2048;

/** Every entry of a map as views into the piece of it that was read last; `index` counts from 0. */
export async function* entries(
  kernel: KernelReads,
  map: MapName,
  limit?: number,
): AsyncGenerator<{ key: DataView; value: DataView; keyAt: number; valueAt: number; index: number }> {
  const { keySize, valueSize, maxEntries } = kernel.info(map);
  let index = 0;
  for await (const dump of kernel.dumpChunks(map, Math.min(CHUNK, limit ?? maxEntries), limit, FIRST)) {
    const key = viewOf(dump.keys);
    const value = viewOf(dump.values);
    for (let i = 0; i < dump.count; i += 1, index += 1)
      yield { key, value, keyAt: i * keySize, valueAt: i * valueSize, index };
  }
}
