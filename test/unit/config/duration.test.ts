// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { formatDuration, parseDuration } from "../../../src/config/duration.js";

for (const [text, milliseconds] of [
  ["0", 0],
  ["0s", 0],
  ["-0", 0],
  ["30s", 30_000],
  ["1m0s", 60_000],
  ["1m", 60_000],
  ["24h0m0s", 86_400_000],
  ["1.5h", 5_400_000],
  [".5s", 500],
  ["1.s", 1000],
  ["250ms", 250],
  ["10us", 0.01],
  ["10\u00b5s", 0.01],
  ["10\u03bcs", 0.01],
  ["1ns", 0.000_001],
  ["-1m30s", -90_000],
  ["+5s", 5000],
  ["1h15m30.918s", 4_530_918],
  ["1s1s", 2000],
] as const) {
  test(`parseDuration() reads ${text} as Go does`, () => {
    assert.equal(parseDuration(text), milliseconds);
  });
}

for (const text of [
  "",
  "s",
  "30",
  "1 s",
  " 1s",
  "1S",
  "1d",
  "1m30",
  ".s",
  "-",
  "--1s",
  "1e3s",
  "300000000h",
  "1m,2s",
]) {
  test(`parseDuration() refuses ${JSON.stringify(text)}, as Go does`, () => {
    assert.equal(parseDuration(text), null);
  });
}

for (const [milliseconds, text] of [
  [0, "0s"],
  [30_000, "30s"],
  [60_000, "1m0s"],
  [900_000, "15m0s"],
  [86_400_000, "24h0m0s"],
  [3_600_000, "1h0m0s"],
  [1500, "1.5s"],
  [250, "250ms"],
  [0.01, "10\u00b5s"],
  [0.000_005, "5ns"],
  [-90_000, "-1m30s"],
] as const) {
  test(`formatDuration() writes ${milliseconds} ms as ${text}, as Go does`, () => {
    assert.equal(formatDuration(milliseconds), text);
  });
}

test("parseDuration() reads what formatDuration() writes, to the microsecond", () => {
  fc.assert(
    fc.property(fc.integer({ min: -(2 ** 50), max: 2 ** 50 }), (microseconds) => {
      const milliseconds = microseconds / 1000;
      const back = parseDuration(formatDuration(milliseconds));
      assert.ok(back !== null && Math.abs(back - milliseconds) < 1e-3, `${milliseconds}: ${back}`);
    }),
  );
});
