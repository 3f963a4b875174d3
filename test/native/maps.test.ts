// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MAPS, type MapName } from "../../src/abi/maps.gen.js";
import type { KernelMaps, MapDump, MapWrite } from "../../src/native/kernel.js";
import { NativeLibrary } from "../../src/native/lib.js";
import { MemoryKernel } from "../../src/native/memory.js";
import type { LoadedObject } from "../../src/native/object.js";
import { leastOf } from "../support/awake.js";
import { longestTurn } from "../support/turns.js";
import { isolated } from "./support/isolate.js";

const E2BIG = 7;
const EEXIST = 17;
const EINVAL = 22;
const ENOSPC = 28;
const SMALL = { frontends4: 64, slots4: 64, addresses6: 64, services: 64, counters: 128 };

/** Entries whose key begins with the number i. */
function write(map: MapName, kind: "update" | "delete", ids: readonly number[], fill = 1): MapWrite {
  const { keySize, valueSize } = MAPS[map];
  const keys = new Uint8Array(ids.length * keySize);
  const view = new DataView(keys.buffer);
  for (const [i, id] of ids.entries()) view.setUint32(i * keySize, id, true);
  const values = new Uint8Array(kind === "update" ? ids.length * valueSize : 0).fill(fill);
  return { map, kind, count: ids.length, keys, values };
}

const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

/** Networks of an LPM trie: the longest prefix there is, and addresses that end with the number i. */
function prefixRun(map: MapName, kind: "update" | "delete", ids: readonly number[]): MapWrite {
  const { keySize } = MAPS[map];
  const entries = write(map, kind, ids);
  const view = new DataView(entries.keys.buffer);
  for (const [i, id] of ids.entries()) {
    view.setUint32(i * keySize, (keySize - 4) * 8, true);
    view.setUint32((i + 1) * keySize - 4, id);
  }
  return entries;
}

/** Sorted "key=value" lines: what a map holds, whatever the order. */
function lines(map: MapName, dump: MapDump): string[] {
  const { keySize, valueSize } = MAPS[map];
  const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
  return Array.from(
    { length: dump.count },
    (_, i) =>
      `${hex(dump.keys.subarray(i * keySize, (i + 1) * keySize))}=${hex(dump.values.subarray(i * valueSize, (i + 1) * valueSize))}`,
  ).sort();
}

/** The numbers that the keys of addresses4 begin with. */
function idsOf(dumps: readonly MapDump[]): Set<number> {
  const ids = new Set<number>();
  for (const { keys, count } of dumps) {
    const view = new DataView(keys.buffer, keys.byteOffset);
    for (let i = 0; i < count; i++) ids.add(view.getUint32(i * 8, true));
  }
  return ids;
}

/** A generator of the same numbers every time (mulberry32). */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function randomTransaction(pick: (below: number) => number): MapWrite[] {
  return range(0, 1 + pick(6)).map((): MapWrite => {
    const map = (["frontends4", "slots4", "addresses6", "services", "counters"] as const)[pick(5)] as MapName;
    const ids = range(0, 1 + pick(30)).map(() => pick(100));
    const isArray = map === "slots4" || map === "counters";
    // Arrays refuse deletes, and an index outside; both happen now and then.
    const kind = pick(isArray ? 20 : 3) === 0 ? "delete" : "update";
    const createOnly = kind === "update" && pick(10) === 0;
    return {
      ...write(map, kind, isArray ? ids.map((id) => (id > 95 ? id * 100 : id % 60)) : ids, pick(256)),
      createOnly,
    };
  });
}

isolated(import.meta.url, () => {
  const library = new NativeLibrary();
  let kernel: LoadedObject;
  before(async () => {
    kernel = await library.open({ pins: "", maxEntries: { nat4: 1024, nat6: 1024 } });
  });
  after(() => kernel.close());

  // The first of this file: later on everything has been used.
  test("No first use of a function makes V8 believe in another gigabyte, and collect at once", async () => {
    const before = process.memoryUsage().external;
    await kernel.apply([write("services", "update", [1])]);
    await kernel.apply([write("services", "delete", [1])]);
    await kernel.dump("services");
    await kernel.dump("slots4", 10);
    assert.ok(process.memoryUsage().external - before < 2 ** 27);
  });

  test("A transaction is one FFI call, is applied in order, and is counted entry by entry", async () => {
    const start = { ...kernel.stats };
    const result = await kernel.apply([
      write("services", "update", [1, 2, 3]),
      write("services", "delete", [2, 77]),
      write("slots6", "update", [5], 9),
    ]);
    assert.deepEqual(result, { applied: 6, failure: null });
    assert.equal(kernel.stats.ffiCalls - start.ffiCalls, 1);
    assert.equal(kernel.stats.mapWrites - start.mapWrites, 6);
    const dump = await kernel.dump("services");
    assert.equal(dump.count, 2);
    assert.equal(kernel.stats.ffiCalls - start.ffiCalls, 2);
    assert.deepEqual([...(await kernel.dump("slots6", 6)).values.subarray(20)], [9, 9, 9, 9]);
    await kernel.apply([write("services", "delete", [1, 3])]);
    assert.equal((await kernel.apply([])).applied, 0);
    assert.equal(kernel.stats.ffiCalls - start.ffiCalls, 4, "an empty transaction is no call");
  });

  test("A failed transaction names the run, the entry, the map and the errno, and has applied what came before", async () => {
    const small = await library.open({
      pins: "",
      maxEntries: { ...SMALL, frontends4: 4, nat4: 1024, nat6: 1024 },
    });
    try {
      const full = await small.apply([
        write("slots4", "update", [0, 1]),
        write("slots4", "update", []),
        write("frontends4", "update", [1, 2, 3, 1, 4, 5, 6]),
        write("slots4", "update", [2]),
      ]);
      assert.deepEqual(full, {
        applied: 7,
        failure: { writeIndex: 2, entryIndex: 5, map: "frontends4", errno: E2BIG },
      });
      assert.equal((await small.dump("frontends4")).count, 4);
      assert.deepEqual([...(await small.dump("slots4", 3)).values], [1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0]);
      const outside = await small.apply([write("slots4", "update", [...range(0, 40), 64, ...range(41, 50)])]);
      assert.deepEqual(outside.failure, { writeIndex: 0, entryIndex: 40, map: "slots4", errno: E2BIG });
      const exists = await small.apply([{ ...write("frontends4", "update", [1]), createOnly: true }]);
      assert.equal(exists.failure?.errno, EEXIST);
      assert.equal((await small.apply([write("slots4", "delete", [1])])).failure?.errno, EINVAL);
    } finally {
      await small.close();
    }
  });

  test("Batch commands, single writes and the kernel in memory give the same results and contents", async () => {
    const options = { pins: "", maxEntries: { ...SMALL, nat4: 1024, nat6: 1024 } };
    const batched = await library.open(options);
    const single = await library.open(options);
    single.batch = false;
    const memory = new MemoryKernel({ maxEntries: SMALL });
    const kernels: readonly KernelMaps[] = [batched, single, memory];
    const pick = random(20261123);
    let refused = 0;
    try {
      for (let i = 0; i < 150; i++) {
        const writes = randomTransaction(pick);
        const [first, ...others] = await Promise.all(kernels.map((each) => each.apply(writes)));
        for (const other of others) assert.deepEqual(other, first, `transaction ${i}`);
        if (first?.failure) refused++;
      }
      for (const map of ["frontends4", "slots4", "addresses6", "services", "counters"] as const) {
        const [first, ...others] = await Promise.all(
          kernels.map(async (each) => lines(map, await each.dump(map))),
        );
        assert.ok((first?.length ?? 0) > 0);
        for (const other of others) assert.deepEqual(other, first, map);
      }
      assert.ok(refused > 5 && refused < 145, `${refused} of 150 refused: both kinds must occur`);
      assert.deepEqual(batched.stats.mapWrites, memory.stats.mapWrites);
      assert.ok(batched.systemCalls < single.systemCalls);
    } finally {
      await batched.close();
      await single.close();
    }
  });

  test("A dump of 200,000 entries is complete, in one call and in chunks", async () => {
    const ids = range(0, 200_000);
    const calls = kernel.stats.ffiCalls;
    const systemCalls = kernel.systemCalls;
    const applied = await kernel.apply([write("addresses4", "update", ids)]);
    assert.deepEqual(applied, { applied: 200_000, failure: null });
    assert.equal(kernel.systemCalls - systemCalls, 1, "one batch command");
    const dump = await kernel.dump("addresses4");
    assert.equal(kernel.stats.ffiCalls - calls, 2);
    assert.equal(dump.count, 200_000);
    assert.equal(idsOf([dump]).size, 200_000);
    const chunks: MapDump[] = [];
    for await (const chunk of kernel.dumpChunks("addresses4", 8192)) chunks.push(chunk);
    assert.ok(chunks.length >= 25 && chunks.every((chunk) => chunk.count <= 8192));
    assert.equal(idsOf(chunks).size, 200_000);
    const once = new Set<number>();
    const rooms = new Set<ArrayBufferLike>();
    for await (const chunk of kernel.dumpChunks("addresses4", 8192, undefined, 8192, true)) {
      for (const id of idsOf([chunk])) once.add(id as number);
      rooms.add(chunk.keys.buffer);
    }
    assert.deepEqual([once.size, rooms.size], [200_000, 1]);
    assert.equal(kernel.infos(true).find((info) => info.name === "addresses4")?.used, 200_000);
    assert.deepEqual(await kernel.usage(), kernel.infos(true));
    const gone = await kernel.apply([write("addresses4", "delete", ids)]);
    assert.deepEqual(gone, { applied: 200_000, failure: null });
  });

  test("A transaction and a dump of 200,000 entries hold up the event loop for less than 50 ms", async () => {
    const big = write("addresses4", "update", range(0, 200_000));
    const attempts = await leastOf(50, () =>
      longestTurn(async () => {
        await kernel.apply([big]);
        await kernel.dump("addresses4");
      }),
    );
    assert.ok(Math.min(...attempts) < 50, `longest turns in ms: ${attempts.map(Math.round).join(", ")}`);
    await kernel.apply([{ ...big, kind: "delete", values: new Uint8Array(0) }]);
  });

  test("A dump that reads entry by entry, as on a kernel without batch commands, is the same", async () => {
    await kernel.apply([
      write("addresses4", "update", range(0, 3000)),
      write("counters", "update", range(0, 200), 3),
    ]);
    for (const map of ["addresses4", "counters", "backends6"] as const) {
      const batched = lines(map, await kernel.dump(map, 1000));
      kernel.batch = false;
      const single = lines(map, await kernel.dump(map, 1000));
      const chunked: string[] = [];
      for await (const chunk of kernel.dumpChunks(map, 700, 1000)) chunked.push(...lines(map, chunk));
      kernel.batch = true;
      assert.deepEqual(single, batched);
      assert.deepEqual(chunked.sort(), batched);
    }
    await kernel.apply([write("addresses4", "delete", range(0, 3000))]);
  });

  test("A dump with room for one entry still ends, and gives every entry once", async () => {
    await kernel.apply([write("services", "update", range(0, 500))]);
    const found: string[] = [];
    for await (const chunk of kernel.dumpChunks("services", 1)) found.push(...lines("services", chunk));
    assert.equal(new Set(found).size, 500);
    assert.equal(found.length, 500);
    await kernel.apply([write("services", "delete", range(0, 500))]);
  });

  test("A per-CPU value that is written is what a dump sums up", async () => {
    await kernel.apply([write("counters", "update", [7], 2)]);
    const { values } = await kernel.dump("counters", 8);
    assert.deepEqual([...values.subarray(7 * 24)], Array(24).fill(2));
  });

  test("A trie is written, read and emptied like the other maps, in batches and entry by entry, and says when it is full", async () => {
    const small = await library.open({
      pins: "",
      maxEntries: { ...SMALL, nat4: 1024, nat6: 1024, source_ranges4: 600, source_ranges6: 600 },
    });
    try {
      for (const batch of [true, false])
        for (const map of ["source_ranges4", "source_ranges6", "service_nets4", "service_nets6"] as const) {
          small.batch = batch;
          const count = Math.min(500, small.info(map).maxEntries);
          const prefixes = prefixRun(map, "update", range(0, count));
          assert.deepEqual(await small.apply([prefixes]), { applied: count, failure: null }, map);
          const found = lines(map, await small.dump(map));
          assert.deepEqual(found, lines(map, prefixes), map);
          const chunked: string[] = [];
          for await (const chunk of small.dumpChunks(map, 7)) chunked.push(...lines(map, chunk));
          assert.deepEqual(chunked.sort(), found, map);
          assert.equal(small.infos(true).find((info) => info.name === map)?.used, count);
          const again = await small.apply([{ ...prefixRun(map, "update", [3]), createOnly: true }]);
          assert.equal(again.failure?.errno, EEXIST);
          const gone = await small.apply([
            prefixRun(map, "delete", range(0, count)),
            prefixRun(map, "delete", [1]),
          ]);
          assert.deepEqual(gone, { applied: count + 1, failure: null }, "a missing key is no failure");
          assert.equal((await small.dump(map)).count, 0);
        }
      const full = await small.apply([prefixRun("source_ranges4", "update", range(0, 700))]);
      assert.deepEqual(full.failure, {
        writeIndex: 0,
        entryIndex: 600,
        map: "source_ranges4",
        errno: ENOSPC,
      });
      const memory = new MemoryKernel({ maxEntries: { source_ranges4: 600 } });
      assert.deepEqual(await memory.apply([prefixRun("source_ranges4", "update", range(0, 700))]), full);
      assert.deepEqual(
        lines("source_ranges4", await memory.dump("source_ranges4")),
        lines("source_ranges4", await small.dump("source_ranges4")),
      );
    } finally {
      await small.close();
    }
  });

  test("LRU maps that programs write are dumped and emptied, in batches and entry by entry", async () => {
    for (const map of ["socket_nat4", "socket_nat6", "affinity4", "affinity6"] as const) {
      const ids = range(0, 1500);
      const entries = write(map, "update", ids, 7);
      assert.deepEqual(await kernel.apply([entries]), { applied: 1500, failure: null });
      const wanted = lines(map, entries);
      assert.deepEqual(lines(map, await kernel.dump(map)), wanted, map);
      kernel.batch = false;
      assert.deepEqual(lines(map, await kernel.dump(map)), wanted, map);
      kernel.batch = true;
      await kernel.apply([write(map, "delete", ids)]);
      assert.equal((await kernel.dump(map)).count, 0);
    }
  });

  test("Transactions asked for at once are applied in the order in which they were asked for", async () => {
    const large = write("addresses4", "update", range(0, 5000), 1);
    const results = await Promise.all([
      kernel.apply([large]),
      kernel.apply([write("addresses4", "update", [42], 9)]),
      kernel.apply([{ ...large, values: new Uint8Array(large.values.length).fill(5) }]),
      kernel.apply([write("addresses4", "update", [43], 9)]),
    ]);
    assert.deepEqual(
      results.map((result) => result.applied),
      [5000, 1, 5000, 1],
    );
    const found = new Map(
      lines("addresses4", await kernel.dump("addresses4")).map((line) => line.split("=") as [string, string]),
    );
    assert.equal(found.get("2a00000000000000"), "05050505");
    assert.equal(found.get("2b00000000000000"), "09090909");
    await kernel.apply([{ ...large, kind: "delete", values: new Uint8Array(0) }]);
  });

  test("Buffers that do not fit their count are refused before anything is written", async () => {
    const bad = { ...write("slots4", "update", [0, 1]), count: 3 };
    await assert.rejects(
      kernel.apply([write("services", "update", [1]), bad]),
      /Cannot write 3 entries to slots4/,
    );
    assert.equal((await kernel.dump("services")).count, 0);
  });
});
