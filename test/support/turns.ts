// SPDX-License-Identifier: Apache-2.0
import { type PerformanceEntry, PerformanceObserver, performance } from "node:perf_hooks";
import { watchStandstills } from "./standstill-thread.js";
import { type ThreadTimes, threadTimes } from "./thread-cpu.js";

const stoodStillMs = watchStandstills();
/** Within so long collections of garbage are told. */
const TOLD_MS = 200;
/** Shorter turns are nobody's concern. */
const NOTEWORTHY_MS = 10;

interface Turn {
  readonly start: number;
  readonly end: number;
  /** But for the time in which others had the CPU or the machine stood still. */
  readonly ms: number;
}

/**
 * Turns of the event loop: how long the longest was, and what it computed. (A processor that is taken from a virtual
 * machine seems to compute all the while.) A thread that collects garbage waits for helpers, which a busy machine lets
 * wait; what the collection itself computes counts all the same.
 */
export class Turns {
  longestCpuMs = 0;
  readonly #turns: Turn[] = [];
  readonly #collections: PerformanceEntry[] = [];
  readonly #observer = new PerformanceObserver((list) => void this.#collections.push(...list.getEntries()));
  #ended = false;

  constructor() {
    this.#observer.observe({ entryTypes: ["gc"] });
    this.#look(performance.now(), threadTimes(), stoodStillMs());
  }

  #look(start: number, times: ThreadTimes, stood: number): void {
    const end = performance.now();
    const { cpuMs, waitedMs } = threadTimes();
    const standsMs = stoodStillMs();
    const lost = standsMs - stood;
    // Who waits for the CPU of a machine that stands still is told of both: that is one loss, not two.
    const ms = end - start - Math.max(waitedMs - times.waitedMs, lost);
    if (ms > NOTEWORTHY_MS) this.#turns.push({ start, end, ms });
    this.longestCpuMs = Math.max(this.longestCpuMs, cpuMs - times.cpuMs - lost);
    if (!this.#ended) setImmediate(() => this.#look(end, { cpuMs, waitedMs }, standsMs));
  }

  /** No turn counts any more. Resolves with the longest, in milliseconds, without the collections. */
  async end(): Promise<number> {
    this.#ended = true;
    const turns = [...this.#turns];
    await new Promise((resolve) => setTimeout(resolve, TOLD_MS)); // collections are told later
    this.#observer.disconnect();
    const collecting = ({ start, end }: Turn): number =>
      this.#collections
        .filter(({ startTime, duration }) => startTime < end && startTime + duration > start)
        .reduce((sum, { duration }) => sum + duration, 0);
    return Math.max(0, ...turns.map((turn) => turn.ms - collecting(turn)));
  }
}

/** The longest turn of the event loop, in milliseconds, while `work` is under way: by the clock or by what it computed. */
export async function longestTurn(work: () => Promise<unknown>): Promise<number> {
  const turns = new Turns();
  await work();
  const { longestCpuMs } = turns;
  return Math.max(longestCpuMs, await turns.end());
}
