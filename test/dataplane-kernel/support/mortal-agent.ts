// SPDX-License-Identifier: Apache-2.0
/** An agent that dies by SIGKILL in the middle of a transaction: mortal-agent.ts PINS OBJECT, then orders on stdin. */
import { once } from "node:events";
import { writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { setTimeout } from "node:timers/promises";
import { MAPS } from "../../../src/abi/maps.gen.js";
import { Reconciler } from "../../../src/dataplane/reconciler.js";
import type { ApplyResult, KernelMaps, MapWrite } from "../../../src/native/kernel.js";
import { NativeLibrary } from "../../../src/native/lib.js";
import { imageNumber, type Orders, SIZES } from "./story.js";

const [pins = "", object = ""] = process.argv.slice(2);
const loaded = await new NativeLibrary().open({ pins, object, maxEntries: SIZES });
let dieAt: number | "inside" | null = null;
/** System calls behind each entry: what takes microseconds becomes milliseconds, which a signal can be aimed at. */
const STRETCH = 200;

/** The first part of the writes, as one transaction: what the kernel holds when the process dies in the middle. */
function firstEntries(writes: readonly MapWrite[], entries: number): MapWrite[] {
  let left = entries;
  return writes.map((write) => {
    const count = Math.min(left, write.count);
    left -= count;
    const keySize = write.keys.length / write.count;
    const valueSize = write.values.length / write.count;
    const keys = write.keys.subarray(0, count * keySize);
    return { ...write, count, keys, values: write.values.subarray(0, count * valueSize) };
  });
}

/** The same writes in the same order, with many to a map in between that nobody reads here. */
function stretched(writes: readonly MapWrite[]): MapWrite[] {
  const { keySize, valueSize } = MAPS.counters;
  const padding: MapWrite = {
    map: "counters",
    kind: "update",
    count: STRETCH,
    keys: new Uint8Array(STRETCH * keySize),
    values: new Uint8Array(STRETCH * valueSize),
  };
  return writes.flatMap((write) =>
    Array.from({ length: write.count }, (_, i) => {
      const keySize = write.keys.length / write.count;
      const valueSize = write.values.length / write.count;
      const keys = write.keys.subarray(i * keySize, (i + 1) * keySize);
      return [
        { ...write, count: 1, keys, values: write.values.subarray(i * valueSize, (i + 1) * valueSize) },
        padding,
      ];
    }).flat(),
  );
}

const kernel: KernelMaps = {
  stats: loaded.stats,
  info: (map) => loaded.info(map),
  dump: (map, limit) => loaded.dump(map, limit),
  dumpChunks: (map, chunk, limit) => loaded.dumpChunks(map, chunk, limit),
  async apply(writes): Promise<ApplyResult> {
    if (dieAt === null) return await loaded.apply(writes);
    const total = writes.reduce((sum, { count }) => sum + count, 0);
    if (dieAt === "inside") {
      writeSync(1, `${total}\n`);
      await loaded.apply(stretched(writes));
      return await new Promise<never>(() => {}); // the signal comes too late this time: wait for it
    }
    await loaded.apply(firstEntries(writes, Math.floor(total * dieAt)));
    process.kill(process.pid, "SIGKILL");
    return await new Promise<never>(() => {});
  },
};

process.stdout.write("ready\n");
const [line] = (await once(createInterface({ input: process.stdin }), "line")) as [string];
const orders = JSON.parse(line) as Orders;
// No packet uses these maps: a short quarantine is enough for it to be met at every start.
const reconciler = new Reconciler({ kernel, quarantineMs: 20 });
let repair = await reconciler.sync(imageNumber(orders.repair));
for (let waits = 0; repair.retryAfterMs !== null && waits < 3; waits += 1) {
  await setTimeout(repair.retryAfterMs);
  repair = await reconciler.sync(imageNumber(orders.repair));
}
process.stdout.write(
  `${JSON.stringify({ writes: repair.writes, ffiCalls: repair.ffiCalls, failure: repair.failure, refused: repair.refused })}\n`,
);
// The parent looks at the kernel before it says go on.
await once(process.stdin, "data");
dieAt = orders.dieAt;
await reconciler.sync(imageNumber(orders.next));
process.exit(0);
