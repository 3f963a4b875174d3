// SPDX-License-Identifier: Apache-2.0
// What tests measure time with on machines that stand still for seconds.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { test } from "node:test";
import type { Host } from "../../../src/demo/world/index.js";
import { freePort } from "../../support/apiserver/gate.js";
import { awakeNow, awakeTimeout, leastOf, undisturbed } from "../../support/awake.js";
import { HostAgent } from "../../support/host-agent.js";
import { watchStandstills } from "../../support/standstill-thread.js";

const GAP_MS = 1_500;

/** This process does nothing for so long: to itself, the machine has stood still. */
const standStill = (): void => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, GAP_MS);
const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

test("awakeNow() leaves out what a standstill takes, and nothing else", async () => {
  const [before, awake] = [performance.now(), awakeNow()];
  standStill();
  for (let i = 0; i < 10; i++) await pause(10);
  const gone = awakeNow() - awake;
  assert.ok(gone <= performance.now() - before - GAP_MS + 200, `${gone} ms`);
  assert.ok(gone > 90, `${gone} ms`);
});

test("awakeTimeout() is not over because the machine stood still, and is over in the end", async () => {
  const signal = awakeTimeout(GAP_MS / 2);
  standStill();
  await pause(0);
  assert.equal(signal.aborted, false);
  const alive = setInterval(() => {}, 1_000); // as with AbortSignal.timeout(), nobody is kept waiting by it alone
  await new Promise((resolve) => signal.addEventListener("abort", resolve));
  clearInterval(alive);
  assert.equal((signal.reason as DOMException).name, "TimeoutError");
});

test("undisturbed() begins anew after a failure in which the machine stood still, and says so", async () => {
  const said: string[] = [];
  let attempts = 0;
  const result = await undisturbed({ diagnostic: (text) => void said.push(text) }, async () => {
    attempts++;
    if (attempts > 2) return "done";
    standStill();
    throw new Error(`failure ${attempts}`);
  });
  assert.deepEqual([result, attempts, said.length], ["done", 3, 2]);
  assert.match(said[0] as string, /stood still for \d+ ms: begun anew \(1\) after Error: failure 1$/);
});

test("undisturbed() lets a failure through at once when the machine ran, and after many standstills in the end", async () => {
  const silent = { diagnostic: () => {} };
  let attempts = 0;
  const fail = async (): Promise<void> => {
    attempts++;
    throw new Error("wrong");
  };
  await assert.rejects(undisturbed(silent, fail), /^Error: wrong$/);
  assert.ok(attempts < 20, `${attempts} attempts`);
});

test("leastOf() stops at the first that holds, and gives up when none does", async () => {
  const times = [9, 8, 3, 1];
  assert.deepEqual(await leastOf(5, () => times.shift() as number), [9, 8, 3]);
  assert.equal((await leastOf(5, () => 7)).length, 8);
});

test("watchStandstills() tells a process that was stopped from an event loop that is blocked", async () => {
  const stoodStill = watchStandstills();
  await pause(300);
  const before = stoodStill();
  standStill(); // this thread only
  assert.ok(stoodStill() - before < GAP_MS / 2, `${stoodStill() - before} ms, though the other thread ran`);
  const waker = spawn("sh", [
    "-c",
    `kill -STOP ${process.pid}; sleep ${GAP_MS / 1000}; kill -CONT ${process.pid}`,
  ]);
  await new Promise((resolve) => waker.once("close", resolve));
  assert.ok(stoodStill() - before > GAP_MS / 2, `${stoodStill() - before} ms`);
});

test("a host agent's client waits while it runs: a standstill longer than its limit is no lost answer", async (t) => {
  // On the loopback of whoever runs this: a host agent needs a host only to be started.
  const host = (name: string): Host =>
    ({
      name,
      spawn: ([program = ""]: string[], options: object) => spawn(program, options),
    }) as unknown as Host;
  const [client, server] = [await HostAgent.start(host("client")), await HostAgent.start(host("server"))];
  t.after(() => {
    for (const { pid } of [client, server]) process.kill(pid, "SIGKILL");
  });
  const port = await freePort();
  await server.serve("tcp", port);
  const stood = await client.standstills();
  process.kill(server.pid, "SIGSTOP"); // its kernel takes the connection; nobody answers
  const asked = client.connect({ dst: "127.0.0.1", port, timeout: 0.8 * GAP_MS });
  await pause(50);
  process.kill(client.pid, "SIGSTOP");
  await pause(GAP_MS);
  process.kill(client.pid, "SIGCONT");
  process.kill(server.pid, "SIGCONT");
  const answer = await asked;
  assert.equal(answer.who, "server", JSON.stringify(answer));
  assert.ok(answer.us < GAP_MS * 1000, `${answer.us} us`);
  assert.ok((await client.standstills()) > stood);

  process.kill(server.pid, "SIGSTOP");
  const silence = await client.connect({ dst: "127.0.0.1", port, timeout: 200 });
  process.kill(server.pid, "SIGCONT");
  assert.deepEqual([silence.ok, silence.errno], [false, "ETIMEDOUT"]);
});
