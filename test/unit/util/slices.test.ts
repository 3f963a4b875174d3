// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { inSlices, type Sliced } from "../../../src/util/slices.js";

test("inSlices() gives the event loop a turn whenever the budget is used up", async () => {
  let time = 0;
  let turns = 0;
  function* work(): Sliced<string> {
    for (let i = 0; i < 10; i++) {
      time += 3;
      yield;
    }
    return "done";
  }
  const result = await inSlices(work(), {
    budgetMs: 6,
    now: () => time,
    turn: (workedMs) => {
      turns += 1;
      assert.equal(workedMs, 6);
      return Promise.resolve();
    },
  });
  assert.equal(result, "done");
  assert.equal(turns, 5, "10 steps of 3 ms at 6 ms each");
});

test("inSlices() throws what the work throws", async () => {
  // biome-ignore lint/correctness/useYield: fails before its first pause
  function* work(): Sliced<never> {
    throw new RangeError("bad work");
  }
  await assert.rejects(inSlices(work()), /bad work/);
});
