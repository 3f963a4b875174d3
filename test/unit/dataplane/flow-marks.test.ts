// SPDX-License-Identifier: Apache-2.0
/** When the programs are told that all flows have their marks. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Direction, Mark, Marks } from "../../../src/abi/enums.gen.js";
import { markIndex } from "../../../src/abi/hash.js";
import { natKey4Codec, natValue4Codec } from "../../../src/abi/layout.gen.js";
import {
  FlowMarks,
  GRACE_MS,
  MOST_MARKED,
  markCells,
  missingMarks,
  type OtherPrograms,
} from "../../../src/dataplane/flow-marks.js";
import type { KernelMaps } from "../../../src/native/kernel.js";
import { MemoryKernel } from "../../../src/native/memory.js";
import { silentLogger } from "../../../src/util/log.js";
import type { Timers } from "../../../src/util/timers.js";

/** Time that goes on as soon as somebody waits for it. */
class Hurry implements Timers {
  time = 0;
  waits = 0;
  now(): number {
    return this.time;
  }
  epoch(): number {
    return this.time;
  }
  after(milliseconds: number, callback: () => void): () => void {
    this.waits += 1;
    setImmediate(() => {
      this.time += milliseconds;
      callback();
    });
    return () => undefined;
  }
}

const SERVICE = Uint8Array.of(10, 96, 0, 10);
const cell = markIndex(SERVICE, 0, 4, Mark.IN);

async function withFlow(): Promise<MemoryKernel> {
  const kernel = new MemoryKernel();
  const key = natKey4Codec.encode({
    src: Uint8Array.of(10, 244, 0, 1),
    dst: SERVICE,
    sport: 40000,
    dport: 80,
    protocol: 6,
    direction: Direction.IN,
  });
  const values = new Uint8Array(natValue4Codec.size);
  await kernel.apply([{ map: "nat4", kind: "update", count: 1, keys: key, values }]);
  return kernel;
}

async function isSet(kernel: MemoryKernel, at: number): Promise<boolean> {
  const { values } = await kernel.dump("flow_marks");
  return values[4 * at] !== 0;
}

test("An agent marks the flows that it finds, and only then says so, once nobody else writes any", async () => {
  const kernel = await withFlow();
  await markCells(kernel, [Marks.COMPLETE]); // left by an agent before, whose word counts no more
  assert.deepEqual(await missingMarks(kernel), [cell]);
  const timers = new Hurry();
  let others: OtherPrograms = "different";
  const marks = new FlowMarks({ maps: kernel, others: async () => others, log: silentLogger, timers });
  await marks.begin();
  assert.equal(await missingMarks(kernel), null);
  await marks.look();
  assert.equal(await isSet(kernel, Marks.COMPLETE), false, "programs of another agent are there");
  others = "none";
  await marks.look();
  assert.ok(timers.time >= GRACE_MS, "who began before has ended");
  assert.equal(await isSet(kernel, cell), true);
  assert.deepEqual(await missingMarks(kernel), []);
  const { waits } = timers;
  await marks.look();
  assert.equal(timers.waits, waits, "nothing is left to do");
  await marks.stop();
});

test("An agent that follows one of the same programs believes its marks, and writes nothing", async () => {
  const kernel = await withFlow();
  await markCells(kernel, [cell, Marks.COMPLETE]);
  const writes = kernel.stats.mapWrites;
  let others: OtherPrograms = "alike";
  const marks = new FlowMarks({
    maps: kernel,
    others: async () => others,
    log: silentLogger,
    timers: new Hurry(),
  });
  await marks.begin();
  others = "none";
  await marks.look();
  assert.equal(kernel.stats.mapWrites, writes);
  assert.deepEqual(await missingMarks(kernel), []);
  await marks.stop();
});

test("When too many cells are marked they are made anew, for the flows that there are", async () => {
  const kernel = await withFlow();
  const timers = new Hurry();
  const marks = new FlowMarks({ maps: kernel, others: async () => "none", log: silentLogger, timers });
  await marks.look();
  await markCells(
    kernel,
    Array.from({ length: MOST_MARKED + 1 }, (_, i) => (i * 7) % Marks.COUNT),
  );
  await marks.look();
  assert.equal(await isSet(kernel, 7), true, "not looked at so soon");
  timers.time += 3_600_000;
  await marks.look();
  assert.equal(await isSet(kernel, 7), false);
  assert.deepEqual(await missingMarks(kernel), []);
  assert.equal(await isSet(kernel, cell), true);
  await marks.stop();
});

test("Without the kernel's consent nothing is believed, and the next look tries again", async () => {
  const kernel = await withFlow();
  const timers = new Hurry();
  let refuse = true;
  const failure = { writeIndex: 0, entryIndex: 0, map: "flow_marks", errno: 12 } as const;
  const maps: KernelMaps = {
    stats: kernel.stats,
    info: (map) => kernel.info(map),
    dump: (map, limit) => kernel.dump(map, limit),
    dumpChunks: (map, chunk, limit, first) => kernel.dumpChunks(map, chunk, limit, first),
    apply: async (writes) => (refuse ? { applied: 0, failure } : await kernel.apply(writes)),
  };
  const marks = new FlowMarks({ maps, others: async () => "none", log: silentLogger, timers });
  await marks.look();
  assert.equal(await missingMarks(kernel), null);
  refuse = false;
  await marks.look();
  assert.deepEqual(await missingMarks(kernel), []);
});
