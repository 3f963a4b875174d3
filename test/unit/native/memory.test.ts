// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import type { MapWrite } from "../../../src/native/kernel.js";
import { type EntryWrite, MemoryKernel, SimulatedCrash } from "../../../src/native/memory.js";

const E2BIG = 7;
const EEXIST = 17;
const EINVAL = 22;

/** Entries whose key is the number i and whose value is filled with `fill`. */
function write(map: MapName, kind: "update" | "delete", ids: readonly number[], fill = 1): MapWrite {
  const { keySize, valueSize } = MAPS[map];
  const keys = new Uint8Array(ids.length * keySize);
  for (const [i, id] of ids.entries()) new DataView(keys.buffer).setUint32(i * keySize, id, true);
  const values = new Uint8Array(kind === "update" ? ids.length * valueSize : 0).fill(fill);
  return { map, kind, count: ids.length, keys, values };
}

test("MemoryKernel applies runs in order and counts one call and every entry", async () => {
  const kernel = new MemoryKernel();
  const result = await kernel.apply([
    write("frontends4", "update", [1, 2, 3]),
    write("frontends4", "delete", [2, 99]),
    write("slots6", "update", [7], 9),
  ]);
  assert.deepEqual(result, { applied: 6, failure: null });
  assert.deepEqual(kernel.stats, { ffiCalls: 1, mapWrites: 6 });
  const dump = await kernel.dump("frontends4");
  assert.equal(dump.count, 2);
  assert.deepEqual(
    [...dump.keys].filter((_, i) => i % 8 === 0),
    [1, 3],
  );
  assert.equal(dump.values.length, 2 * MAPS.frontends4.valueSize);
  const cells = await kernel.dump("slots6", 8);
  assert.deepEqual([...cells.values.subarray(28)], [9, 9, 9, 9]);
  assert.equal(kernel.stats.ffiCalls, 3);
  assert.equal((await kernel.dump("slots6")).count, MAPS.slots6.maxEntries);
});

test("MemoryKernel makes no call for an empty transaction", async () => {
  const kernel = new MemoryKernel();
  assert.deepEqual(await kernel.apply([write("slots4", "update", [])]), { applied: 0, failure: null });
  assert.equal(kernel.stats.ffiCalls, 0);
});

test("MemoryKernel refuses a new key of a full hash and takes an existing one", async () => {
  const kernel = new MemoryKernel({ maxEntries: { frontends4: 2 } });
  const result = await kernel.apply([
    write("slots4", "update", [0]),
    write("frontends4", "update", [1, 2, 1, 3]),
    write("slots4", "update", [1]),
  ]);
  assert.deepEqual(result, {
    applied: 4,
    failure: { writeIndex: 1, entryIndex: 3, map: "frontends4", errno: E2BIG },
  });
  assert.equal(kernel.size("frontends4"), 2);
  assert.deepEqual(kernel.get("slots4", Uint8Array.of(1, 0, 0, 0)), new Uint8Array(4));
});

test("MemoryKernel evicts the oldest of a full LRU hash", async () => {
  const kernel = new MemoryKernel({ maxEntries: { nat4: 2 } });
  await kernel.apply([write("nat4", "update", [1, 2, 1, 3])]);
  assert.deepEqual(
    [...kernel.entries("nat4")].map(([key]) => key[0]),
    [1, 3],
  );
});

test("MemoryKernel refuses what arrays refuse: an index outside, a delete, a create", async () => {
  const kernel = new MemoryKernel({ maxEntries: { slots4: 4 } });
  const errno = async (bad: MapWrite): Promise<number | undefined> =>
    (await kernel.apply([bad])).failure?.errno;
  assert.equal(await errno(write("slots4", "update", [4])), E2BIG);
  assert.equal(await errno(write("slots4", "delete", [0])), EINVAL);
  assert.equal(await errno({ ...write("slots4", "update", [0]), createOnly: true }), EEXIST);
  const hash = { ...write("frontends4", "update", [1]), createOnly: true };
  assert.equal(await errno(hash), undefined);
  assert.equal(await errno(hash), EEXIST);
});

test("MemoryKernel stops at the write that a crash test asks for and keeps what came before", async () => {
  const kernel = new MemoryKernel();
  kernel.crashAfter(3);
  await assert.rejects(
    kernel.apply([write("slots4", "update", [0, 1]), write("frontends4", "update", [1, 2])]),
    SimulatedCrash,
  );
  await assert.rejects(kernel.apply([write("slots4", "update", [0])]), SimulatedCrash);
  assert.equal(kernel.size("frontends4"), 1);
  const next = kernel.clone();
  assert.equal((await next.apply([write("frontends4", "update", [2])])).applied, 1);
  assert.equal(kernel.size("frontends4"), 1);
  assert.deepEqual(next.stats, { ffiCalls: 1, mapWrites: 1 });
});

test("MemoryKernel shows every write to its hook, in order, with the map as it is then", async () => {
  const seen: string[] = [];
  const kernel = new MemoryKernel({
    afterWrite: ({ map, kind, key }: EntryWrite, now) =>
      seen.push(`${kind} ${map} ${key[0]} ${now.size("frontends4")}`),
  });
  await kernel.apply([write("frontends4", "update", [5, 6]), write("frontends4", "delete", [5])]);
  assert.deepEqual(seen, ["update frontends4 5 1", "update frontends4 6 2", "delete frontends4 5 1"]);
});

test("MemoryKernel refuses one write on request and goes on afterwards", async () => {
  const kernel = new MemoryKernel();
  kernel.refuseAfter(1, 12);
  const first = await kernel.apply([write("slots4", "update", [0, 1, 2])]);
  assert.deepEqual(first, {
    applied: 1,
    failure: { writeIndex: 0, entryIndex: 1, map: "slots4", errno: 12 },
  });
  assert.equal((await kernel.apply([write("slots4", "update", [1, 2])])).applied, 2);
});

test("MemoryKernel rejects buffers that do not fit their count", async () => {
  const kernel = new MemoryKernel();
  const bad = { ...write("slots4", "update", [0, 1]), count: 3 };
  await assert.rejects(kernel.apply([bad]), /Cannot write 3 entries to slots4: 8 bytes of keys/);
});
