// SPDX-License-Identifier: Apache-2.0
/**
 * What a sync would write, without writing it: the maps are copied into memory, and the real planner runs against the copy.
 * Which cells, slots and indexes are taken is what an agent that starts now would take; one that runs may take others.
 */
import type { MapName } from "../abi/maps.gen.js";
import type { Image } from "../image/types.js";
import type { KernelMaps, KernelReads, MapDump, MapWrite } from "../native/kernel.js";
import { MemoryKernel } from "../native/memory.js";
import { Reconciler, type SyncResult } from "./reconciler.js";
import { SERVICE_MAPS } from "./service-maps.js";

/** Entries copied at a time. */
const CHUNK = 65_536;

/** A copy of the maps that Services are written to, of the same sizes. Rejects with what the maps reject with. */
export async function copyMaps(from: KernelReads): Promise<MemoryKernel> {
  const sized: readonly MapName[] = [...SERVICE_MAPS, "counters"];
  const maxEntries = Object.fromEntries(sized.map((map) => [map, from.info(map).maxEntries]));
  const copy = new MemoryKernel({ maxEntries });
  for (const map of SERVICE_MAPS) {
    for await (const dump of from.dumpChunks(map, CHUNK)) {
      const { keySize, valueSize } = from.info(map);
      const count =
        map.startsWith("backends") || map.startsWith("slots") ? usedCells(dump, valueSize) : dump.count;
      const keys = dump.keys.subarray(0, count * keySize);
      const values = dump.values.subarray(0, count * valueSize);
      await copy.apply([{ map, kind: "update", count, keys, values }]);
    }
  }
  return copy;
}

/** Cells up to the last one that holds anything: the rest is as it is in an empty map. */
function usedCells({ values, count }: MapDump, valueSize: number): number {
  let end = count * valueSize;
  while (end > 0 && values[end - 1] === 0) end -= 1;
  return Math.ceil(end / valueSize);
}

/** What the maps hold, as an image: see found.ts. */
export function imageIn(kernel: KernelMaps): Promise<Image> {
  return new Reconciler({ kernel }).found();
}

export interface DryRun {
  /** What the maps hold before and after, as an image: see found.ts. */
  readonly before: Image;
  readonly after: Image;
  /** In publish order; each is one FFI call. */
  readonly transactions: readonly (readonly MapWrite[])[];
  readonly result: SyncResult;
}

/** Makes a copy hold what an image asks for, and tells how. The copy is changed. */
export async function dryRun(kernel: MemoryKernel, image: Image): Promise<DryRun> {
  const before = await imageIn(kernel);
  const transactions: (readonly MapWrite[])[] = [];
  const recording: KernelMaps = {
    stats: kernel.stats,
    info: (map) => kernel.info(map),
    dump: (map, limit) => kernel.dump(map, limit),
    dumpChunks: (map, chunk, limit) => kernel.dumpChunks(map, chunk, limit),
    apply: (writes) => {
      transactions.push(writes);
      return kernel.apply(writes);
    },
  };
  // Nothing uses what was let go: there are no packets here to wait for.
  const result = await new Reconciler({ kernel: recording, quarantineMs: 0 }).sync(image);
  return { before, after: await imageIn(kernel), transactions, result };
}
