// SPDX-License-Identifier: Apache-2.0
import assert from "node:assert/strict";
import { type ChildProcessByStdio, spawn } from "node:child_process";
import { once } from "node:events";
import { performance } from "node:perf_hooks";
import { createInterface, type Interface } from "node:readline";
import type { Readable, Writable } from "node:stream";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { NativeLibrary } from "../../src/native/lib.js";
import type { MemoryKernel } from "../../src/native/memory.js";
import { buildDirectory } from "../../src/native/paths.js";
import { compileBpf, compileScript } from "../native/support/compile.js";
import { freshPins, isolated, scratch } from "../native/support/isolate.js";
import { assertExactly, readAll } from "../property/dataplane/rules.js";
import { copyOf, MAPS_ONLY } from "./support/maps-only.js";
import { imageNumber, type Orders, SIZES } from "./support/story.js";

const DEATHS = 50;
/** Two of five agents die inside of a native call, by their parent's hand at a moment that nobody chose; the others between two calls. */
const diesInside = (i: number): boolean => i % 5 === 1 || i % 5 === 3;
/** So many of those 20 meet the call at work even where the machine is busy; the others die just before or after it. */
const INSIDE_AT_LEAST = 5;
/** Every agent is a process that starts Node.js and the library: seconds, where the machine is busy. */
const TIMEOUT_MS = 840_000;
const SOURCE = fileURLToPath(new URL("./support/mortal-agent.ts", import.meta.url));
interface Repair {
  readonly writes: number;
  readonly ffiCalls: number;
  readonly failure: unknown;
  readonly refused: readonly unknown[];
}

class Agent {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;
  readonly #ready: Promise<unknown>;
  static readonly #all: Agent[] = [];

  /** Whatever happened: an agent that waits for orders would keep the test waiting. */
  static killAll(): void {
    for (const agent of Agent.#all) agent.#child.kill("SIGKILL");
  }

  constructor(script: string, pins: string, object: string) {
    this.#child = spawn(process.execPath, [script, pins, object], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, PORTOLAN_BUILD_DIR: buildDirectory() },
    });
    this.#lines = createInterface({ input: this.#child.stdout });
    this.#ready = once(this.#lines, "line");
    Agent.#all.push(this);
  }

  async repair(orders: Orders): Promise<Repair> {
    await this.#ready;
    const answer = once(this.#lines, "line");
    this.#child.stdin.write(`${JSON.stringify(orders)}\n`);
    const [line] = (await answer) as [string];
    return JSON.parse(line) as Repair;
  }

  /** Resolves with how it ended. */
  async goOn(): Promise<string | number> {
    const end = this.#end();
    this.#child.stdin.write("go on\n");
    return await end;
  }

  /** Kills it when its call should have come to this write (0 to 1), if each takes so long. */
  async killInside(moment: number, msPerWrite: number): Promise<string | number> {
    const end = this.#end();
    const applying = once(this.#lines, "line");
    this.#child.stdin.write("go on\n");
    const [writes] = (await applying) as [string];
    // A timer knows milliseconds only.
    for (const until = performance.now() + Number(writes) * moment * msPerWrite; performance.now() < until; );
    this.#child.kill("SIGKILL");
    return await end;
  }

  async #end(): Promise<string | number> {
    const [code, signal] = (await once(this.#child, "exit")) as [number | null, string | null];
    return signal ?? code ?? "?";
  }

  async endInPeace(): Promise<void> {
    const last = await this.repair({ repair: DEATHS, next: DEATHS, dieAt: null });
    assert.equal(last.failure, null);
    assert.equal(await this.goOn(), 0);
  }
}

isolated(
  import.meta.url,
  () => {
    test(`the maps survive ${DEATHS} agents that are killed at a random write, two of five inside of a native call: each start repairs exactly, then nothing is left to write`, async () => {
      const library = new NativeLibrary();
      const pins = freshPins(library);
      const object = compileBpf(scratch(), "maps", MAPS_ONLY);
      const loaded = await library.open({ pins, object, maxEntries: SIZES });
      const script = compileScript(scratch(), SOURCE);
      const start = (): Agent => new Agent(script, pins, object);
      // Multiples of the golden section: spread evenly over the writes, and never in step with anything.
      const moments = Array.from({ length: DEATHS }, (_, i) => (i * 0.6180339887498949) % 1);
      const waiting = [start(), start()];
      let inTheMiddle = 0;
      let inTheCall = 0;
      /** A guess that gets better: the deaths that came too late make it smaller, the others larger. */
      let msPerWrite = 0.3;
      try {
        for (const [i, moment] of moments.entries()) {
          const inside = diesInside(i);
          const agent = waiting.shift() as Agent;
          waiting.push(start());
          const dieAt = inside ? "inside" : moment;
          const repair = await agent.repair({ repair: i, next: i + 1, dieAt });
          assert.deepEqual([repair.failure, repair.refused], [null, []], `start ${i}`);
          const before = await copyOf(loaded);
          assertExactly(before, imageNumber(i));
          assert.equal(await (inside ? agent.killInside(moment, msPerWrite) : agent.goOn()), "SIGKILL");
          const left = await copyOf(loaded);
          // Throws unless every frontend names live cells of its own service port only.
          readAll(left);
          const split = isNeither(left, i);
          inTheMiddle += Number(split);
          inTheCall += Number(split && inside);
          if (inside) msPerWrite *= !split && holds(left, i + 1) ? 0.7 : 1.25;
        }
        await (waiting.shift() as Agent).endInPeace();
        const restarted = start();
        waiting.push(restarted);
        const again = await restarted.repair({ repair: DEATHS, next: DEATHS, dieAt: null });
        assert.equal(again.writes, 0, "a start with nothing changed writes nothing");
        assert.equal(again.ffiCalls, 13, "and only reads");
        assertExactly(await copyOf(loaded), imageNumber(DEATHS));
      } finally {
        Agent.killAll();
        await loaded.close();
      }
      assert.ok(inTheMiddle > DEATHS / 2, `${inTheMiddle} of ${DEATHS} died with a part of the writes done`);
      assert.ok(inTheCall >= INSIDE_AT_LEAST, `${inTheCall} died inside of a native call`);
    });
  },
  TIMEOUT_MS,
);

function isNeither(kernel: MemoryKernel, i: number): boolean {
  return !holds(kernel, i) && !holds(kernel, i + 1);
}

function holds(kernel: MemoryKernel, number: number): boolean {
  try {
    assertExactly(kernel, imageNumber(number));
    return true;
  } catch {
    return false;
  }
}
