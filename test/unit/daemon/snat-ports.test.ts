// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  DEFAULT_SNAT_RANGES,
  NODE_PORTS,
  parseLocalPortRange,
  parsePortRanges,
  usablePorts,
} from "../../../src/daemon/snat-ports.js";

test("parsePortRanges() reads ranges and single ports", () => {
  assert.deepEqual(parsePortRanges("10240-29999,61000-65535"), DEFAULT_SNAT_RANGES);
  assert.deepEqual(parsePortRanges(" 4000 , 5000-5001 "), [
    { first: 4000, last: 4000 },
    { first: 5000, last: 5001 },
  ]);
});

for (const [text, says] of [
  ["", /"" is no range/],
  ["0-10", /"0-10" is no range/],
  ["10-70000", /"10-70000" is no range/],
  ["20-10", /"20-10" is no range/],
  ["a-b", /"a-b" is no range/],
  ["1-2,3-4,5-6", /3 ranges are given, 2 are possible/],
  ["100-200,150-300", /100-200 and 150-300 overlap/],
] as const) {
  test(`parsePortRanges() refuses "${text}" and says why`, () => {
    assert.throws(() => parsePortRanges(text), { code: "E_USER", message: says });
  });
}

test("usablePorts() leaves the defaults alone where nothing overlaps", () => {
  const taken = [
    { range: NODE_PORTS, by: "NodePorts" },
    { range: { first: 32768, last: 60999 }, by: "local" },
  ];
  assert.deepEqual(usablePorts(DEFAULT_SNAT_RANGES, taken), { ranges: DEFAULT_SNAT_RANGES, conflicts: [] });
});

test("usablePorts() takes out what others use, and keeps the two largest pieces", () => {
  const { ranges, conflicts } = usablePorts(
    [
      { first: 1000, last: 9999 },
      { first: 20000, last: 65535 },
    ],
    [
      { range: { first: 5000, last: 5099 }, by: "a" },
      { range: { first: 30000, last: 60000 }, by: "b" },
    ],
  );
  assert.deepEqual(ranges, [
    { first: 20000, last: 29999 },
    { first: 60001, last: 65535 },
  ]);
  assert.deepEqual(
    conflicts.map(({ by }) => by),
    ["a", "b"],
  );
});

test("usablePorts() leaves nothing of a range that lies within another", () => {
  const taken = [{ range: { first: 1024, last: 65535 }, by: "local" }];
  assert.deepEqual(usablePorts(DEFAULT_SNAT_RANGES, taken).ranges, []);
});

test("parseLocalPortRange() reads what the kernel prints, and nothing else", () => {
  assert.deepEqual(parseLocalPortRange("32768\t60999\n"), { first: 32768, last: 60999 });
  assert.equal(parseLocalPortRange("none"), null);
});
