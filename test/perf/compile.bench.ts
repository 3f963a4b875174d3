// SPDX-License-Identifier: Apache-2.0
/**
 * Manifests to kernel maps, stage by stage: `make bench-compile [ARGS="1000x10 …"]`. Each shape runs in a process of its own,
 * so that its peak memory is its own. As root the maps are the kernel's (private ones that vanish with the process), otherwise
 * they are in memory; the result says which. Writes bench/results/compile.json.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { MapName } from "../../src/abi/maps.gen.js";
import { Reconciler, type SyncResult } from "../../src/dataplane/reconciler.js";
import { createCompiler } from "../../src/image/compile.js";
import type { Snapshot } from "../../src/model/types.js";
import type { KernelMaps } from "../../src/native/kernel.js";
import { readManifests } from "../../src/source/file/read-manifests.js";
import { loadYaml } from "../../src/source/file/yaml.js";
import { inSlices } from "../../src/util/slices.js";
import { threadTimes } from "../support/thread-cpu.js";
import { manifests, type Shape } from "./manifests.js";
import { loadText, ROOT, writeResult } from "./support/machine.js";

const TURN_LIMIT_MS = 50;

interface Stage {
  /** By the wall clock. */
  readonly ms: number;
  /** CPU time of all threads of the process: garbage collection and compilation beside the event loop count, too. */
  readonly cpuMs: number;
  /** CPU time of the thread that the event loop is on. */
  readonly threadCpuMs: number;
  /** The longest time between two turns of the event loop, by the wall clock: other processes' work counts, too. */
  readonly longestTurnMs: number;
  /** The same by the CPU time of the thread that the event loop is on: what the limit is about. */
  readonly longestTurnCpuMs: number;
  /** The same by the CPU time of the process: other threads that work beside the event loop (GC, FFI) count, too. */
  readonly longestTurnProcessCpuMs: number;
}

interface ShapeResult extends Shape {
  readonly maps: "kernel" | "memory";
  readonly manifestBytes: number;
  readonly stages: Readonly<Record<string, Stage>>;
  /** Of the first load, the change of one endpoint, and the restart. */
  readonly writes: { readonly load: number; readonly change: number; readonly restart: number };
  readonly ffiCalls: { readonly load: number; readonly change: number; readonly restart: number };
  readonly planMs: number;
  readonly applyMs: number;
  readonly peakRssMiB: number;
  readonly rssWithoutServicesMiB: number;
}

async function openKernel(shape: Shape): Promise<{ kernel: KernelMaps; maps: "kernel" | "memory" }> {
  const backends = shape.services * shape.endpoints;
  const maxEntries: Partial<Record<MapName, number>> = {};
  if (backends > 100_000) {
    for (const map of ["backends4", "backend_stats4"] as const) maxEntries[map] = 2 * backends;
    for (const map of ["slots4", "addresses4"] as const) maxEntries[map] = 3 * backends;
  }
  if (process.getuid?.() !== 0) {
    const { MemoryKernel } = await import("../../src/native/memory.js");
    return { kernel: new MemoryKernel({ maxEntries }), maps: "memory" };
  }
  const { NativeLibrary } = await import("../../src/native/lib.js");
  return { kernel: await new NativeLibrary().open({ pins: "", maxEntries }), maps: "kernel" };
}

/** Wakes up in every turn of the event loop and looks how long ago the last one was. */
class TurnMeter {
  readonly #timer: NodeJS.Timeout;
  #wall = performance.now();
  #thread = threadTimes().cpuMs;
  #process = process.cpuUsage();
  longestTurnMs = 0;
  longestTurnCpuMs = 0;
  longestTurnProcessCpuMs = 0;

  constructor() {
    this.#timer = setInterval(() => this.#look(), 1);
  }

  #look(): void {
    const wall = performance.now();
    const thread = threadTimes().cpuMs;
    const { user, system } = process.cpuUsage(this.#process);
    this.longestTurnMs = Math.max(this.longestTurnMs, wall - this.#wall);
    this.longestTurnCpuMs = Math.max(this.longestTurnCpuMs, thread - this.#thread);
    this.longestTurnProcessCpuMs = Math.max(this.longestTurnProcessCpuMs, (user + system) / 1000);
    this.#wall = wall;
    this.#thread = thread;
    this.#process = process.cpuUsage();
  }

  stop(): void {
    this.#look();
    clearInterval(this.#timer);
  }
}

class Stopwatch {
  readonly stages: Record<string, Stage> = {};

  async time<T>(name: string, work: () => Promise<T>): Promise<T> {
    globalThis.gc?.();
    await new Promise((resolve) => setTimeout(resolve, 20));
    const meter = new TurnMeter();
    const started = performance.now();
    const cpu = process.cpuUsage();
    const thread = threadTimes().cpuMs;
    const result = await work();
    const ms = performance.now() - started;
    const threadMs = threadTimes().cpuMs - thread;
    const { user, system } = process.cpuUsage(cpu);
    await new Promise((resolve) => setImmediate(resolve));
    meter.stop();
    this.stages[name] = {
      ms: round(ms),
      cpuMs: round((user + system) / 1000),
      threadCpuMs: round(threadMs),
      longestTurnMs: round(meter.longestTurnMs),
      longestTurnCpuMs: round(meter.longestTurnCpuMs),
      longestTurnProcessCpuMs: round(meter.longestTurnProcessCpuMs),
    };
    return result;
  }
}

function round(value: number): number {
  return Math.round(value * 100) / 100;
}

function checked(result: SyncResult): SyncResult {
  if (result.failure || result.refused.length > 0)
    throw new Error(`sync failed: ${JSON.stringify(result.failure ?? result.refused[0])}`);
  return result;
}

async function runShape(shape: Shape): Promise<ShapeResult> {
  const directory = mkdtempSync(join(tmpdir(), "portolan-bench-"));
  try {
    return await measure(shape, directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function measure(shape: Shape, directory: string): Promise<ShapeResult> {
  const before = join(directory, "before.yaml");
  const after = join(directory, "after.yaml");
  const manifestBytes = writeManifests(before, manifests(shape));
  writeManifests(after, manifests(shape, Math.floor(shape.services / 2)));
  const { kernel, maps } = await openKernel(shape);
  const watch = new Stopwatch();
  const rssWithoutServicesMiB = mebibytes(process.memoryUsage.rss());
  const read = (path: string) => readManifests([path], { nodeName: "node-0" });
  const compiler = createCompiler();
  const reconciler = new Reconciler({ kernel });
  await loadYaml(); // a module that an agent loads once, before it reads anything

  const { snapshot, problems } = await watch.time("parse", () => read(before));
  if (problems.length > 0) throw new Error(`manifests: ${problems[0]?.message}`);
  const image = await watch.time("compile", () => inSlices(compiler.compileSliced(snapshot)));
  const load = checked(await watch.time("load", () => reconciler.sync(image)));
  const restart = checked(await watch.time("restart", () => new Reconciler({ kernel }).sync(image)));
  const changed = changeOne(snapshot, (await read(after)).snapshot, shape);
  const change = checked(
    await watch.time("change", async () => reconciler.sync(await inSlices(compiler.compileSliced(changed)))),
  );
  return {
    ...shape,
    maps,
    manifestBytes,
    stages: watch.stages,
    writes: { load: load.writes, change: change.writes, restart: restart.writes },
    ffiCalls: { load: load.ffiCalls, change: change.ffiCalls, restart: restart.ffiCalls },
    planMs: round(load.planMs),
    applyMs: round(load.applyMs),
    peakRssMiB: round(process.resourceUsage().maxRSS / 1024),
    rssWithoutServicesMiB,
  };
}

/** The snapshot with the slices of the one Service that the second set of manifests changes; all else keeps its identity. */
function changeOne(before: Snapshot, after: Snapshot, { services }: Shape): Snapshot {
  const i = Math.floor(services / 2);
  const key = `team-${i % 100}/service-${i}`;
  const slices = after.slices.get(key);
  if (!slices) throw new Error(`no slices for ${key}`);
  return { ...before, slices: new Map(before.slices).set(key, slices) };
}

function writeManifests(path: string, text: string): number {
  writeFileSync(path, text);
  return Buffer.byteLength(text);
}

function mebibytes(bytes: number): number {
  return round(bytes / 2 ** 20);
}

function parseShape(text: string): Shape {
  const [services = 0, endpoints = 0] = text.split("x").map(Number);
  if (!(services > 0 && endpoints > 0)) throw new Error(`not a shape: "${text}" (write 10000x10)`);
  return { services, endpoints };
}

function columns(name: string, ...cells: readonly string[]): string {
  return `${name.padEnd(10)}${cells.map((cell) => cell.padStart(17)).join("")}`;
}

function print(results: readonly ShapeResult[]): void {
  for (const { services, endpoints, maps, stages, writes, ffiCalls, ...rest } of results) {
    console.log(
      `\n${services} Services x ${endpoints} endpoints, maps: ${maps}, ${mebibytes(rest.manifestBytes)} MiB of manifests`,
    );
    console.log(
      `  ${columns("stage", "ms", "CPU ms", "of it the loop's", "longest turn ms", "of it CPU ms")}`,
    );
    for (const [name, { ms, cpuMs, threadCpuMs, longestTurnMs, longestTurnCpuMs }] of Object.entries(
      stages,
    )) {
      const mark = longestTurnCpuMs > TURN_LIMIT_MS ? "  over the limit" : "";
      console.log(
        `  ${columns(name, ...[ms, cpuMs, threadCpuMs, longestTurnMs, longestTurnCpuMs].map((each) => each.toFixed(1)))}${mark}`,
      );
    }
    console.log(
      `  load = read and plan ${rest.planMs} ms + apply ${rest.applyMs} ms, and keeping the account of it`,
    );
    console.log(`  writes: load ${writes.load}, one endpoint ${writes.change}, restart ${writes.restart}`);
    console.log(
      `  FFI calls: load ${ffiCalls.load}, one endpoint ${ffiCalls.change}, restart ${ffiCalls.restart}`,
    );
    console.log(
      `  memory: peak ${rest.peakRssMiB} MiB (${rest.rssWithoutServicesMiB} MiB before the first manifest)`,
    );
  }
}

function runAll(shapes: readonly string[]): void {
  const results = shapes.map((shape): ShapeResult => {
    const argv = ["--expose-gc", "--import", "tsx", fileURLToPath(import.meta.url), "--one", shape];
    const output = execFileSync(process.execPath, argv, {
      encoding: "utf8",
      cwd: ROOT,
      stdio: ["ignore", "pipe", "inherit"],
    });
    return JSON.parse(output) as ShapeResult;
  });
  print(results);
  const file = writeResult("compile", { turnLimitMs: TURN_LIMIT_MS, results });
  console.log(`\n${loadText()}; ${file}`);
}

const [first = "10000x10", ...others] = process.argv.slice(2);
if (first === "--one") console.log(JSON.stringify(await runShape(parseShape(others[0] ?? ""))));
else runAll(process.argv.length > 2 ? [first, ...others] : ["10000x10", "5000x50"]);
