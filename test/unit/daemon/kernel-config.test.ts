// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { DEFAULT_TIMEOUTS, kernelConfig, ticks } from "../../../src/daemon/kernel-config.js";
import { DEFAULT_SNAT_RANGES } from "../../../src/daemon/snat-ports.js";

test("ticks() rounds seconds up to the programs' unit, so that no flow dies early", () => {
  assert.equal(ticks(0), 0);
  assert.equal(ticks(1), 1);
  assert.equal(ticks(5), 5);
  assert.equal(ticks(86_400), 80_467);
  for (const seconds of [1, 5, 30, 180, 3_600]) assert.ok(ticks(seconds) * 2 ** 30 >= seconds * 1e9);
});

test("kernelConfig() gives both port ranges as first port and count, and none as zero", () => {
  const config = kernelConfig(DEFAULT_SNAT_RANGES, DEFAULT_TIMEOUTS);
  assert.deepEqual(config.snatPortBase, [10240, 61000]);
  assert.deepEqual(config.snatPortCount, [19760, 4536]);
  assert.deepEqual(kernelConfig([], DEFAULT_TIMEOUTS).snatPortCount, [0, 0]);
});
