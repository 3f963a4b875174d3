// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import { onlyOne } from "../../../src/daemon/only-one.js";

const pins = (name: string): string => `/sys/fs/bpf/test-${process.pid}/${name}`;

test("onlyOne() lets one agent at a time have the pins, and the next one when it has gone", async () => {
  const release = await onlyOne(pins("v1"));
  await assert.rejects(onlyOne(pins("v1")), {
    code: "E_AGENT_RUNNING",
    message: `another agent is running with the maps below ${pins("v1")}`,
  });
  const other = await onlyOne(pins("v2"));
  await release();
  const next = await onlyOne(pins("v1"));
  await Promise.all([other(), next()]);
});

test("onlyOne() tells long directories apart that begin alike", async () => {
  const long = pins("x".repeat(120));
  const [a, b] = [await onlyOne(`${long}/a/v1`), await onlyOne(`${long}/b/v1`)];
  await assert.rejects(onlyOne(`${long}/a/v1`), { code: "E_AGENT_RUNNING" });
  await Promise.all([a(), b()]);
});
