// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { parseHostPort, withPort } from "../../../src/config/host-port.js";

for (const [text, expected] of [
  ["0.0.0.0:10256", "0.0.0.0 10256"],
  ["[::]:10256", ":: 10256"],
  ["[fd00::1]:1", "fd00::1 1"],
  ["[10.0.0.1]:65535", "10.0.0.1 65535"],
  ["", null],
  ["0.0.0.0", null],
  ["::1:80", null],
  ["[::1]", null],
  [":10256", null],
  ["10.0.0.1:", null],
  ["10.0.0.1:0", null],
  ["10.0.0.1:65536", null],
  ["10.0.0.1:1x", null],
  ["localhost:80", null],
  ["[fe80::1%eth0]:80", null],
  ["[[::1]]:80", null],
] as const) {
  test(`parseHostPort() reads ${JSON.stringify(text)} as ${expected ?? "nothing"}`, () => {
    const found = parseHostPort(text);
    assert.equal(found === null ? null : `${found.address.text} ${found.port}`, expected);
  });
}

for (const [text, expected] of [
  ["10.0.0.1", "10.0.0.1:7"],
  ["fd00::1", "[fd00::1]:7"],
  ["10.0.0.1:9", "10.0.0.1:9"],
  ["[fd00::1]:9", "[fd00::1]:9"],
  ["[fd00::1]", "[fd00::1]"],
  ["here", "here"],
  ["", ""],
] as const) {
  test(`withPort() makes ${JSON.stringify(expected)} of ${JSON.stringify(text)}`, () => {
    assert.equal(withPort(text, 7), expected);
  });
}
