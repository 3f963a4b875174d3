// SPDX-License-Identifier: Apache-2.0
import { viewOf } from "../../abi/codec.js";
import type { MapName } from "../../abi/maps.gen.js";
import type { KernelMaps } from "../../native/kernel.js";

/** Every entry of a map as views into one dump. */
export async function* entries(
  kernel: KernelMaps,
  map: MapName,
  limit?: number,
): AsyncGenerator<{ key: DataView; value: DataView; keyAt: number; valueAt: number }> {
  const { keySize, valueSize } = kernel.info(map);
  const dump = await kernel.dump(map, limit);
  const key = viewOf(dump.keys);
  const value = viewOf(dump.values);
  for (let i = 0; i < dump.count; i += 1) yield { key, value, keyAt: i * keySize, valueAt: i * valueSize };
}
