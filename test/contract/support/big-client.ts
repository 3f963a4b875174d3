// SPDX-License-Identifier: Apache-2.0
/** A process with a source alone: KUBECONFIG. Prints, as JSON, what reading everything costs, and then reading it again. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { KubeSource } from "../../../src/source/kube/kube-source.js";
import { loadKubeConnection } from "../../../src/source/kube/kubeconfig.js";
import { createTransport } from "../../../src/source/kube/transport.js";
import { silentLogger } from "../../../src/util/log.js";
import { systemTimers } from "../../../src/util/timers.js";

const [kubeconfig = ""] = process.argv.slice(2);
const timers = systemTimers;
const mega = (bytes: number): number => Math.round(bytes / 1e5) / 10;
const collect = (): void => (globalThis as { gc?: () => void }).gc?.();

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
// What each turn costs in processor time, all threads: so much it would take on a machine that has nothing else to do.
let longestCpuMs = 0;
let turning = true;
const turn = (last: NodeJS.CpuUsage): void => {
  const now = process.cpuUsage();
  longestCpuMs = Math.max(longestCpuMs, (now.user + now.system - last.user - last.system) / 1000);
  if (turning) setImmediate(turn, now);
};
turn(process.cpuUsage());
const delay = monitorEventLoopDelay({ resolution: 1 });
delay.enable();
const began = performance.now();
await source.start(new AbortController().signal);
const listMs = Math.round(performance.now() - began);
delay.disable();
turning = false;
const peakRss = process.memoryUsage().rss;
const longestMs = Math.round(delay.max / 1e5) / 10;
const p99Ms = Math.round(delay.percentile(99) / 1e5) / 10;
collect();
const after = process.memoryUsage();
let endpoints = 0;
for (const list of source.snapshot?.slices.values() ?? [])
  for (const slice of list) endpoints += slice.endpoints.length;
console.log(
  JSON.stringify({
    services: source.snapshot?.services.size,
    endpoints,
    listed,
    listMs,
    longestMs,
    longestCpuMs: Math.round(longestCpuMs * 10) / 10,
    p99Ms,
    rssBeforeMB: mega(before.rss),
    rssMB: mega(peakRss),
    rssAfterGcMB: mega(after.rss),
    heapBeforeMB: mega(before.heapUsed),
    heapMB: mega(after.heapUsed + after.arrayBuffers),
  }),
);
// Then everything again, on demand: nothing has changed, so nothing is to be heard.
process.stdin.once("data", () => {
  const again = monitorEventLoopDelay({ resolution: 1 });
  again.enable();
  const lists = listed.length;
  const first = source.snapshot;
  const timer = setInterval(() => {
    if (listed.length < lists + 4) return;
    clearInterval(timer);
    again.disable();
    collect();
    const memory = process.memoryUsage();
    const result = {
      longestMs: Math.round(again.max / 1e5) / 10,
      same: source.snapshot === first,
      heapMB: mega(memory.heapUsed + memory.arrayBuffers),
      rssMB: mega(memory.rss),
    };
    console.log(JSON.stringify(result));
    void source.close().then(() => process.exit(0));
  }, 20);
});
process.stdin.once("end", () => void source.close().then(() => process.exit(0)));
