// SPDX-License-Identifier: Apache-2.0
/** A process with a source alone: KUBECONFIG. Prints, as JSON, what reading everything costs, and then reading it again. */
import { type PerformanceEntry, PerformanceObserver, performance } from "node:perf_hooks";
import { KubeSource } from "../../../src/source/kube/kube-source.js";
import { loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import { createTransport } from "../../../src/source/kube/transport.js";
import { silentLogger } from "../../../src/util/log.js";
import { systemTimers } from "../../../src/util/timers.js";
import { watchStandstills } from "../../support/standstill-thread.js";
import { type ThreadTimes, threadTimes } from "../../support/thread-cpu.js";

const [kubeconfig = ""] = process.argv.slice(2);
const timers = systemTimers;
const stoodStillMs = watchStandstills();
/** The heap is at rest when it has not become smaller for so many looks. */
const REST_ROUNDS = 4;
const MOST_ROUNDS = 100;
const REST_MS = 200;
const mega = (bytes: number): number => Math.round(bytes / 1e5) / 10;
const tenth = (ms: number): number => Math.round(ms * 10) / 10;
const collect = (): void => (globalThis as { gc?: () => void }).gc?.();
const heap = (): number => {
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return mega(heapUsed + arrayBuffers);
};

/** What is held in the end: what is under way, and buffers that are freed a turn after they were collected, are not. */
async function heapAtRest(): Promise<number> {
  let least = Number.POSITIVE_INFINITY;
  for (let same = 0, rounds = 0; same < REST_ROUNDS && rounds < MOST_ROUNDS; rounds += 1) {
    await new Promise((resolve) => setTimeout(resolve, REST_MS));
    collect();
    const now = heap();
    same = now < least - 1 ? 0 : same + 1;
    least = Math.min(least, now);
  }
  return heap();
}

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
class Turns {
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
    const ms = end - start - (waitedMs - times.waitedMs) - lost;
    if (ms > NOTEWORTHY_MS) this.#turns.push({ start, end, ms });
    this.longestCpuMs = Math.max(this.longestCpuMs, cpuMs - times.cpuMs - lost);
    if (!this.#ended) setImmediate(() => this.#look(end, { cpuMs, waitedMs }, standsMs));
  }

  /** No turn counts any more. Resolves with the longest, in milliseconds, without the collections. */
  async end(): Promise<number> {
    this.#ended = true;
    const turns = [...this.#turns];
    await new Promise((resolve) => setTimeout(resolve, REST_MS)); // collections are told later
    this.#observer.disconnect();
    const collecting = ({ start, end }: Turn): number =>
      this.#collections
        .filter(({ startTime, duration }) => startTime < end && startTime + duration > start)
        .reduce((sum, { duration }) => sum + duration, 0);
    return Math.max(0, ...turns.map((turn) => turn.ms - collecting(turn)));
  }
}

const connection = await loadKubeConnection({ kubeconfig, master: "" }, { logger: silentLogger, timers });
const listed: string[] = [];
const source = new KubeSource(
  { nodeName: "node-a" },
  {
    transport: createTransport(connection, { version: "0.1.0", timers }),
    logger: silentLogger,
    observer: { listed: (resource, mode) => void listed.push(`${resource} ${mode}`) },
  },
);
collect();
const before = process.memoryUsage();
const first = new Turns();
const began = performance.now();
await source.start(new AbortController().signal);
const listMs = Math.round(performance.now() - began);
const { longestCpuMs } = first;
const ended = first.end();
const peakRss = process.memoryUsage().rss;
collect();
const after = process.memoryUsage();
const longestMs = await ended;
const heapMB = await heapAtRest();
let endpoints = 0;
for (const list of source.snapshot?.slices.values() ?? [])
  for (const slice of list) endpoints += slice.endpoints.length;
console.log(
  JSON.stringify({
    services: source.snapshot?.services.size,
    endpoints,
    listed,
    listMs,
    longestMs: tenth(longestMs),
    longestCpuMs: tenth(longestCpuMs),
    rssBeforeMB: mega(before.rss),
    rssMB: mega(peakRss),
    rssAfterGcMB: mega(after.rss),
    heapBeforeMB: mega(before.heapUsed),
    heapMB,
  }),
);
// Then everything again, on demand: nothing has changed, so nothing is to be heard.
process.stdin.once("data", () => {
  const again = new Turns();
  const lists = listed.length;
  const before = source.snapshot;
  const timer = setInterval(async () => {
    if (listed.length < lists + 4) return;
    clearInterval(timer);
    const longestMs = await again.end();
    const heapMB = await heapAtRest();
    const result = {
      longestMs: tenth(longestMs),
      same: source.snapshot === before,
      heapMB,
      rssMB: mega(process.memoryUsage().rss),
    };
    console.log(JSON.stringify(result));
    void source.close().then(() => process.exit(0));
  }, 20);
});
process.stdin.once("end", () => void source.close().then(() => process.exit(0)));
