// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Lane } from "../../../src/util/lane.js";

interface Gate {
  open(): void;
  fail(error: Error): void;
}

function gatedLane(): { lane: Lane<number>; gates: Gate[] } {
  const gates: Gate[] = [];
  const lane = new Lane(() => {
    const run = gates.length + 1;
    return new Promise<number>((resolve, reject) => {
      gates.push({ open: () => resolve(run), fail: reject });
    });
  });
  return { lane, gates };
}

test("Lane runs at once when nothing is under way", async () => {
  const { lane, gates } = gatedLane();
  const result = lane.request();
  assert.equal(gates.length, 1);
  gates[0]?.open();
  assert.equal(await result, 1);
  assert.equal(lane.busy, false);
});

test("Lane answers any number of requests made during a run with one more run", async () => {
  const { lane, gates } = gatedLane();
  const first = lane.request();
  const later = [lane.request(), lane.request(), lane.request()];
  assert.equal(gates.length, 1, "no second run beside the first");
  gates[0]?.open();
  assert.equal(await first, 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(gates.length, 2);
  gates[1]?.open();
  assert.deepEqual(await Promise.all(later), [2, 2, 2]);
  assert.equal(gates.length, 2);
});

test("Lane gives a request made during the follow-up run a run of its own", async () => {
  const { lane, gates } = gatedLane();
  const first = lane.request();
  const second = lane.request();
  gates[0]?.open();
  await first;
  await new Promise((resolve) => setImmediate(resolve));
  const third = lane.request();
  gates[1]?.open();
  assert.equal(await second, 2);
  await new Promise((resolve) => setImmediate(resolve));
  gates[2]?.open();
  assert.equal(await third, 3);
});

test("Lane tells a failure to those who asked for that run only, and goes on", async () => {
  const { lane, gates } = gatedLane();
  const first = lane.request();
  const second = lane.request();
  gates[0]?.fail(new Error("no kernel"));
  await assert.rejects(first, /no kernel/);
  await new Promise((resolve) => setImmediate(resolve));
  gates[1]?.open();
  assert.equal(await second, 2);
});

test("Lane turns a throw of the work into a rejection and stays usable", async () => {
  let calls = 0;
  const lane = new Lane((): Promise<number> => {
    calls += 1;
    if (calls === 1) throw new Error("thrown at once");
    return Promise.resolve(calls);
  });
  await assert.rejects(lane.request(), /thrown at once/);
  assert.equal(await lane.request(), 2);
});

test("Lane is idle only after the follow-up run", async () => {
  const { lane, gates } = gatedLane();
  const first = lane.request();
  const second = lane.request();
  let idle = false;
  const waiting = lane.idle().then(() => {
    idle = true;
  });
  gates[0]?.open();
  await first;
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(idle, false);
  gates[1]?.open();
  await second;
  await waiting;
  assert.equal(lane.busy, false);
});

test("Lane never runs twice at once, whoever asks in the instant a run ends", async () => {
  let running = 0;
  let most = 0;
  const lane = new Lane(async () => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
  });
  const again = async (times: number): Promise<void> => {
    for (let i = 0; i < times; i++) await lane.request();
  };
  await Promise.all([again(5), again(5), again(5)]);
  await lane.idle();
  assert.equal(most, 1);
});
