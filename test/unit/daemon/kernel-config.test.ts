// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { Detector, Option } from "../../../src/abi/enums.gen.js";
import { ptlConfigCodec } from "../../../src/abi/layout.gen.js";
import {
  DEFAULT_TIMEOUTS,
  type KernelOptions,
  kernelConfig,
  ticks,
} from "../../../src/daemon/kernel-config.js";
import { DEFAULT_SNAT_RANGES } from "../../../src/daemon/snat-ports.js";
import { parseCidr } from "../../../src/net/cidr.js";

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

const ALL_ON: KernelOptions = {
  mark: 0x8000_0000,
  masqueradeMark: 0x4000,
  socketsOfPods: true,
  loopbackNodePorts: true,
  resetRemovedBackends: true,
  setRetval: true,
  coarseClock: true,
  shortcut: true,
  hostNetns: 0x1_0000_0002n,
  detectors: { 4: "interface", 6: "none" },
};

test("kernelConfig() has one bit for each option, the whole mark, and the cookie's low word first", () => {
  const config = kernelConfig([], DEFAULT_TIMEOUTS, ALL_ON);
  const { SOCKETS_PODS, LOOPBACK_NODEPORT, RESET_REMOVED, SET_RETVAL, SHORTCUT, COARSE_CLOCK } = Option;
  const all = SOCKETS_PODS | LOOPBACK_NODEPORT | RESET_REMOVED | SET_RETVAL | SHORTCUT | COARSE_CLOCK;
  assert.equal(config.options, all);
  assert.equal(config.mark, 0x8000_0000);
  assert.deepEqual(config.hostNetns, [2, 1]);
  assert.equal(kernelConfig([], DEFAULT_TIMEOUTS).options, 0);
  const bytes = ptlConfigCodec.encode(config);
  assert.deepEqual(ptlConfigCodec.decode(bytes), config, "it survives the codec");
});

test("kernelConfig() gives each family its detector, with network and mask (8.3)", () => {
  const six = parseCidr("fd00:10:244::/56");
  assert.ok(six);
  const config = kernelConfig([], DEFAULT_TIMEOUTS, { ...ALL_ON, detectors: { 4: "interface", 6: six } });
  assert.equal(config.detector4, Detector.DETECT_INTERFACE);
  assert.equal(config.detector6, Detector.DETECT_NETWORK);
  assert.deepEqual(config.localNetwork6, six.address.bytes);
  assert.deepEqual([...config.localMask6], [...Array(7).fill(0xff), ...Array(9).fill(0)]);
  assert.deepEqual(config.localMask4, new Uint8Array(4));
});
