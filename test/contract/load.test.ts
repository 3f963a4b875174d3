// SPDX-License-Identifier: Apache-2.0
/** 10,000 Services with 10 endpoints each: contract item 12 of the source. Server and source are processes of their own. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { describe, it, type TestContext } from "node:test";

interface Cost {
  readonly services: number;
  readonly endpoints: number;
  readonly listed: readonly string[];
  readonly listMs: number;
  /** By the clock, but for the time in which others had the CPU. */
  readonly longestMs: number;
  /** What this thread computed in a turn. */
  readonly longestCpuMs: number;
  readonly rssMB: number;
  readonly heapBeforeMB: number;
  readonly heapMB: number;
}

interface Again {
  readonly longestMs: number;
  readonly same: boolean;
  readonly heapMB: number;
}

/** The longest turn of the event loop that anybody may have to wait for. */
const LONGEST_MS = 50;
/** For 10,000 Services and 100,000 endpoints, beside what the process takes without: 78 MB when this was written. */
const HEAP_MB = 100;

interface Child {
  readonly process: ChildProcess;
  line(): Promise<string>;
  tell(text: string): void;
}

function start(t: TestContext, file: string, args: readonly string[]): Child {
  const path = new URL(`support/${file}`, import.meta.url).pathname;
  const child = spawn(process.execPath, ["--expose-gc", "--import", "tsx", path, ...args], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise((resolve) => child.on("close", resolve));
  t.after(async () => {
    // It ends with its standard input, and takes its files with it.
    child.stdin.end();
    await ended;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return {
    process: child,
    line: async () => String((await lines.next()).value),
    tell: (text) => void child.stdin.write(`${text}\n`),
  };
}

describe("KubeSource, 10,000 Services with 10 endpoints each (contract 12)", () => {
  for (const mode of ["streaming", "paged"]) {
    it(`reads them without holding up the event loop (${mode})`, async (t) => {
      const server = start(t, "big-server.ts", ["10000", "10", mode]);
      const kubeconfig = await server.line();
      const source = start(t, "big-client.ts", [kubeconfig]);
      const cost = JSON.parse(await source.line()) as Cost;
      server.tell("break");
      source.tell("again");
      const again = JSON.parse(await source.line()) as Again;
      t.diagnostic(JSON.stringify({ ...cost, again }));

      assert.deepEqual([cost.services, cost.endpoints], [10_000, 100_000]);
      assert.ok(cost.listed.every((text) => text.endsWith(mode)));
      assert.ok(cost.heapMB - cost.heapBeforeMB < HEAP_MB, `${cost.heapMB - cost.heapBeforeMB} MB`);
      assert.ok(again.heapMB - cost.heapMB < 20, "a list again leaves nothing behind");
      assert.equal(again.same, true, "a list that brings nothing new makes no new Snapshot (1.10)");
      assert.ok(
        cost.longestCpuMs < LONGEST_MS,
        `a turn that takes ${cost.longestCpuMs} ms of processor time`,
      );
      assert.ok(cost.longestMs < LONGEST_MS, `${cost.longestMs} ms at the first list`);
      assert.ok(again.longestMs < LONGEST_MS, `${again.longestMs} ms at the list again`);
    });
  }
});
