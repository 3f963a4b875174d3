// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { Backoff } from "../../../../src/source/kube/backoff.js";

describe("Backoff", () => {
  it("doubles from 800 ms to 30 s, each with as much again at random", () => {
    let now = 0;
    for (const [random, expected] of [
      [0, [800, 1_600, 3_200, 6_400, 12_800, 25_600, 30_000, 30_000]],
      [0.999999, [1_600, 3_200, 6_400, 12_800, 25_600, 51_200, 60_000, 60_000]],
    ] as const) {
      const backoff = new Backoff({ now: () => now }, () => random);
      const waits = expected.map(() => {
        const wait = backoff.next();
        now += wait;
        return Math.round(wait);
      });
      assert.deepEqual(waits, expected);
    }
  });

  it("begins again after two minutes without a failure, not counting the time it has waited itself", () => {
    let now = 0;
    const backoff = new Backoff({ now: () => now }, () => 0);
    assert.equal(backoff.next(), 800);
    now += 800 + 120_000;
    assert.equal(backoff.next(), 1_600);
    now += 1_600 + 120_001;
    assert.equal(backoff.next(), 800);
  });

  it("waits at least as long as the server asks", () => {
    const backoff = new Backoff({ now: () => 0 }, () => 0);
    assert.equal(backoff.next(7_000), 7_000);
    assert.equal(backoff.next(500), 1_600);
  });
});
