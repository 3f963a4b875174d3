// SPDX-License-Identifier: Apache-2.0
// The demonstration, run as `make demo` runs it.
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { tmpdir } from "node:os";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const MAIN = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

interface Running {
  readonly child: ChildProcess;
  readonly ended: Promise<number | null>;
  /** What it has printed so far. */
  output(): string;
  /** Waits until that fits. */
  until(pattern: RegExp): Promise<RegExpExecArray>;
}

function startDemo(...args: string[]): Running {
  // A group of its own, as a terminal gives it.
  const child = spawn(process.execPath, [MAIN, "demo", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    detached: true,
  });
  let text = "";
  let wake = (): void => {};
  let over = false;
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      wake();
    });
  }
  const ended = new Promise<number | null>((resolve) =>
    child.on("close", (code) => {
      over = true;
      wake();
      resolve(code);
    }),
  );
  const until = async (pattern: RegExp): Promise<RegExpExecArray> => {
    for (;;) {
      const match = pattern.exec(text);
      if (match) return match;
      assert.ok(!over, `the demo ended before it printed ${pattern}:\n${text}`);
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
  };
  return { child, ended, output: () => text, until };
}

/** Namespaces, pins, files and processes of a demonstration that has ended. */
function assertNothingLeft(pid: number): void {
  const namespaces = existsSync("/run/netns") ? readdirSync("/run/netns") : [];
  assert.deepEqual(
    namespaces.filter((name) => name.startsWith(`ptl-${pid}-`)),
    [],
  );
  assert.ok(!existsSync(`/sys/fs/bpf/portolan-demo-${pid}`), "pins");
  const cgroups = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"].filter((root) => existsSync(root));
  const left = cgroups.flatMap((root) => readdirSync(root)).filter((name) => name.startsWith(`ptl-${pid}-`));
  assert.deepEqual(left, [], "cgroups");
  const { stdout } = spawnSync("pgrep", ["-f", `portolan-demo-${pid}/`], { encoding: "utf8" });
  assert.equal(stdout, "", "processes");
}

const temporary = (): string[] => readdirSync(tmpdir()).filter((name) => name.startsWith("portolan-demo-"));

test("portolan demo proves every step with a figure, in plain text when piped, and leaves nothing", async () => {
  const before = temporary();
  const demo = startDemo();
  const code = await demo.ended;
  const output = demo.output();
  assert.equal(code, 0, output);
  assert.ok(!output.includes("\u001b["), "no colours in a pipe");
  for (const proof of [
    /3 redis servers answer \(\d+ ms\)/,
    /100 connections to 10\.96\.65\.65, 100 answered: redis-0 \d+, redis-1 \d+, redis-2 \d+/,
    /100 connections to fd00:10:96::6565, 100 answered/,
    /a pod behind the Service uses it too/,
    /20000 requests, \d+ a second/,
    /default\/redis +redis +TCP +ClusterIP +10\.96\.65\.65:6379/,
    /no pod left: ECONNREFUSED [\d.]+ ms after/,
    /3 pods again: redis-\d answered [\d.]+ ms after/,
    /20 of 20 connections to 10\.96\.65\.66 reached 192\.168\.60\.2/,
    /without an agent: \d+ new connections and \d+ requests on an old one answered, 0 failed/,
    /restart: ready after \d+ ms, 0 map writes/,
    /during the restart: \d+ new connections .* 0 failed/,
    /both agents stopped, the dataplane stays: .* 0 failed/,
    /10\.96\.65\.65 is an address like any other again/,
    /Every step held\. \d+ seconds\./,
  ]) {
    assert.match(output, proof);
  }
  assert.doesNotMatch(output, /✗/);
  assertNothingLeft(demo.child.pid as number);
  assert.deepEqual(temporary(), before);
});

test("portolan demo --keep prints commands that work, and Ctrl-C removes the world", async () => {
  const demo = startDemo("--keep");
  const { pid } = demo.child;
  const [, ask = ""] = await demo.until(/^ +\$ (nsenter .* redis-cli -h 10\.96\.65\.65 get pod)$/m);
  const [, list = ""] = await demo.until(/^ +\$ (nsenter .* services --bpf-root .*)$/m);
  await demo.until(/the agents follow/);
  const shell = (line: string): { status: number | null; stdout: string } =>
    spawnSync("sh", ["-c", line], { encoding: "utf8" });
  assert.match(shell(ask).stdout, /^redis-\d\n$/);
  assert.match(shell(list).stdout, /default\/redis-external/);
  process.kill(-(pid as number), "SIGINT");
  assert.equal(await demo.ended, 0, demo.output());
  assertNothingLeft(pid as number);
});

test("portolan demo interrupted in the middle says so with status 130, and removes the world", async () => {
  const demo = startDemo();
  const { pid } = demo.child;
  await demo.until(/agent on n1: ready/);
  process.kill(-(pid as number), "SIGINT");
  assert.equal(await demo.ended, 130, demo.output());
  assert.match(demo.output(), /interrupted/);
  assertNothingLeft(pid as number);
});

test("portolan demo whose output nobody reads any more ends, and removes the world", async () => {
  const before = temporary();
  const demo = startDemo();
  await demo.until(/redis servers answer/);
  demo.child.stdout?.destroy();
  await demo.ended;
  assertNothingLeft(demo.child.pid as number);
  assert.deepEqual(temporary(), before);
});
