// SPDX-License-Identifier: Apache-2.0
/** A process with a source alone: KUBECONFIG. Prints, as JSON, what reading everything costs, and then reading it again. */
import { performance } from "node:perf_hooks";
import { KubeSource } from "../../../src/source/kube/kube-source.js";
import { loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import { createTransport } from "../../../src/source/kube/transport.js";
import { silentLogger } from "../../../src/util/log.js";
import { systemTimers } from "../../../src/util/timers.js";
import { Turns } from "../../support/turns.js";

const [kubeconfig = ""] = process.argv.slice(2);
const timers = systemTimers;
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
    const { longestCpuMs } = again;
    const longestMs = await again.end();
    const heapMB = await heapAtRest();
    const result = {
      longestMs: tenth(longestMs),
      longestCpuMs: tenth(longestCpuMs),
      same: source.snapshot === before,
      heapMB,
      rssMB: mega(process.memoryUsage().rss),
    };
    console.log(JSON.stringify(result));
    void source.close().then(() => process.exit(0));
  }, 20);
});
process.stdin.once("end", () => void source.close().then(() => process.exit(0)));
