// SPDX-License-Identifier: Apache-2.0
/** A peer that is gone without a word: contract item 6 of the source. The kernel's timers are real ones, so this takes a while. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { describe, it, type TestContext } from "node:test";
import { awakeNow } from "../support/awake.js";

const FAR = "198.18.77.2";

const ip = (...args: string[]): void => void execFileSync("ip", args, { stdio: "pipe" });

/** Two network namespaces and a cable between them. */
function namespaces(t: TestContext): { near: string; far: string } {
  const [near, far] = [`ptl-hole-${process.pid}-near`, `ptl-hole-${process.pid}-far`];
  t.after(() => {
    ip("netns", "del", near);
    ip("netns", "del", far);
  });
  ip("netns", "add", near);
  ip("netns", "add", far);
  ip("-n", near, "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", far);
  for (const [name, address] of [
    [near, "198.18.77.1"],
    [far, FAR],
  ] as const) {
    ip("-n", name, "address", "add", `${address}/24`, "dev", "eth0");
    ip("-n", name, "link", "set", "eth0", "up");
    ip("-n", name, "link", "set", "lo", "up");
  }
  return { near, far };
}

function run(t: TestContext, namespace: string, file: string, argument: string): () => Promise<string> {
  const path = new URL(`support/${file}`, import.meta.url).pathname;
  const command = ["netns", "exec", namespace, process.execPath, "--import", "tsx", path, argument];
  const child = spawn("ip", command, { stdio: ["pipe", "pipe", "inherit"] });
  const ended = new Promise((resolve) => child.on("close", resolve));
  t.after(async () => {
    // They end with their standard input, and take their files with them.
    child.stdin.end();
    await ended;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return async () => String((await lines.next()).value);
}

describe("KubeSource, a peer that is gone without a word (contract 6)", () => {
  it("is noticed within a minute, by the kernel's probes", async (t) => {
    const { near, far } = namespaces(t);
    const kubeconfig = await run(t, far, "far-server.ts", FAR)();
    const line = run(t, near, "near-client.ts", kubeconfig);
    assert.deepEqual(JSON.parse(await line()), { synced: true });

    ip("-n", far, "address", "del", `${FAR}/24`, "dev", "eth0");
    const [began, awake] = [performance.now(), awakeNow()];
    const ends = await Promise.all(
      Array.from({ length: 4 }, async () => JSON.parse(await line()) as { result: string }),
    );
    const [seconds, running] = [performance.now() - began, awakeNow() - awake].map((ms) => ms / 1000) as [
      number,
      number,
    ];
    t.diagnostic(`${seconds.toFixed(1)} s, ${running.toFixed(1)} s of which the machine ran`);
    assert.deepEqual(
      ends.map(({ result }) => result),
      ["lost", "lost", "lost", "lost"],
    );
    assert.ok(running < 60 && seconds > 25, `${running} and ${seconds} s`);
  });
});
