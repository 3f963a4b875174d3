// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { test } from "node:test";
import type { SocketLb } from "../../../src/daemon/kernel-options.js";
import { SocketHooks } from "../../../src/daemon/socket-hooks.js";
import { AppError } from "../../../src/util/errors.js";
import type { Logger } from "../../../src/util/log.js";

function setUp(mode: SocketLb, cgroup: string | null = "/cg") {
  const said: string[] = [];
  const say = ({ code }: Readonly<Record<string, unknown>>, message: string): void => {
    said.push(code === undefined ? message : `${message}: ${String(code)}`);
  };
  const log: Logger = { debug: say, info: say, warn: say, error: say };
  /** How many hooks carry our programs. */
  const kernel = { hooks: 0, error: null as Error | null, attaches: 0 };
  const hooks = new SocketHooks({
    mode,
    cgroup,
    log,
    kernel: {
      attach: () => {
        kernel.attaches += 1;
        if (kernel.error !== null) throw kernel.error;
        const added = 8 - kernel.hooks;
        kernel.hooks = 8;
        return { added };
      },
      detach: () => {
        const { hooks: before } = kernel;
        kernel.hooks = 0;
        return before;
      },
    },
  });
  return { hooks, kernel, said };
}

test("SocketHooks puts the programs on, says so once, and puts back what somebody has taken off", async () => {
  const { hooks, kernel, said } = setUp("host-only");
  await hooks.ensure();
  await hooks.ensure();
  assert.deepEqual(said, ["socket hooks attached"]);
  kernel.hooks = 6;
  await hooks.ensure();
  assert.equal(kernel.hooks, 8);
  assert.deepEqual(said.slice(1), ["socket programs were taken off by someone else"]);
});

test("SocketHooks with mode off takes off what an agent before it has left", async () => {
  const { hooks, kernel, said } = setUp("off");
  kernel.hooks = 8;
  await hooks.ensure();
  await hooks.ensure();
  assert.equal(kernel.hooks, 0);
  assert.deepEqual(said, ["socket hooks detached"]);
});

test("SocketHooks without cgroup v2 warns once, and goes on", async () => {
  const { hooks, kernel, said } = setUp("full", null);
  await hooks.ensure();
  await hooks.ensure();
  assert.equal(kernel.attaches, 0);
  assert.deepEqual(said, ["sockets of this host are not served: no_cgroup2"]);
});

test("SocketHooks says why the kernel refused, once, tries again each time, and says when it went well", async () => {
  const { hooks, kernel, said } = setUp("host-only");
  kernel.error = new AppError("E_NATIVE_CGROUP_BUSY", "somebody holds it");
  await hooks.ensure();
  await hooks.ensure();
  assert.deepEqual(said, ["sockets of this host are not served: E_NATIVE_CGROUP_BUSY"]);
  kernel.error = null;
  await hooks.ensure();
  assert.deepEqual(said.slice(1), ["socket hooks attached"]);
  kernel.error = new AppError("E_NATIVE_CGROUP_BUSY", "somebody holds it");
  await hooks.ensure();
  assert.equal(said.length, 3, "it is news again");
});
