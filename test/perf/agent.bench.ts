// SPDX-License-Identifier: Apache-2.0
/**
 * The node agent as a process, against an API server in another one, with the kernel's maps, in a network namespace of its
 * own: `make bench-agent [ARGS="10000x10 …"]`. Start-up from exec to the first complete write, memory of the agent and of its
 * maps, and for 10,000 Services with ten endpoints the time from a write in the API server to the maps at 100 changes a second.
 * Writes bench/results/agent.json.
 *
 * The API server has the JSON of each object from when that was made: to a list it adds TLS. What that takes of the two CPUs
 * that a real API server would not be on is told beside.
 */
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, rmdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { removeProblems } from "../../src/daemon/problem-file.js";
import { createWorld, type Node } from "../../src/demo/world/index.js";
import type { ApiMessage, ChangeRequest } from "./support/api-process.js";
import { loadText, ROOT, writeResult } from "./support/machine.js";
import { type MapMemory, mapMemory, totalMiB } from "./support/map-memory.js";
import { mapSizes } from "./support/map-sizes.js";

/** What is shipped (`make bundle`), where it was made; latencies are measured in dist/, whose modules can be reached. */
const BUNDLE = join(ROOT, "build/bundle/dist/cli/main.js");
const DIST = join(ROOT, "dist/cli/main.js");
const SHIPPED = existsSync(BUNDLE) ? BUNDLE : DIST;
const API_PORT = 6443;
const CHANGES: ChangeRequest = { count: 3000, perSecond: 100 };
/** Of its changes no figures are taken: code is compiled, memory grows. */
const WARM_UP: ChangeRequest = { count: 500, perSecond: 100 };
const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
const TARGETS = { p99Ms: 20, startMs: 4_000, rssMiB: 300 };
/** After the first write, and after the changes: until collections are done. */
const SETTLE_MS = 5_000;
/** V8 gives memory back when a program has had little to do for eight seconds, and in several steps. */
const MEMORY_SETTLE_MS = 25_000;

interface Latency {
  readonly changes: number;
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p90Ms: number;
  readonly p99Ms: number;
  readonly maxMs: number;
  /** Of the agent, while the changes came. 1 is a whole CPU. */
  readonly agentCpu: number;
  /** Of the agent, all its threads. On a busy machine it says more than the times do. */
  readonly cpuMsPerChange: number;
  /** Less than changes: those that came while one ran went with the next. */
  readonly syncs: number;
}

interface Result {
  readonly services: number;
  readonly endpoints: number;
  /** From exec of the agent to its line "ready": all is in the kernel. */
  readonly startMs: number;
  /** The same without the start of Node.js and the command line. */
  readonly agentStartMs: number;
  /** CPU time of the agent until then. */
  readonly startCpuMs: number;
  /** CPU time of the API server meanwhile. */
  readonly apiCpuMs: number;
  /** With everything pinned as it should be: nothing is to be written. */
  readonly restartMs: number;
  /** Of an agent that has had nothing to do for a while. */
  readonly rssMiB: number;
  readonly peakRssMiB: number;
  /** What the kernel charges for each map of this agent, and what lies in it. */
  readonly maps: readonly MapMemory[];
  readonly latency: Latency | null;
}

interface LogLine {
  readonly msg?: string;
  readonly level?: string;
  readonly startMs?: number;
}

const round = (value: number): number => Math.round(value * 100) / 100;

/** Of /proc/PID/status, in MiB. */
function memory(pid: number, field: "VmRSS" | "VmHWM"): number {
  const text = readFileSync(`/proc/${pid}/status`, "latin1");
  return round(Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(text)?.[1]) / 1024);
}

/** Milliseconds of CPU time, all threads. */
function cpuMs(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "latin1").split(") ")[1]?.split(" ") ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

class Agent {
  readonly child: ChildProcess;
  readonly started: number = performance.now();
  syncs = 0;
  /** When a change was in the maps, by what its annotation says. */
  readonly committed = new Map<number, bigint>();
  readonly #ready: Promise<LogLine>;

  constructor(node: Node, args: readonly string[], measured: boolean) {
    const preload = measured ? ["--import", join(ROOT, "test/perf/support/measure-latency.mjs")] : [];
    const argv = [process.execPath, ...preload, measured ? DIST : SHIPPED, "agent", ...args];
    const stdio = ["ignore", "inherit", "pipe", ...(measured ? (["ipc"] as const) : [])] as const;
    this.child = node.spawn(argv, { stdio: [...stdio] });
    this.child.on("message", (message) => {
      const { atNs, triggers } = message as { atNs: string; triggers: readonly number[] };
      for (const trigger of triggers)
        if (!this.committed.has(trigger)) this.committed.set(trigger, BigInt(atNs));
    });
    const { stderr } = this.child;
    if (stderr === null) throw new Error("agent without stderr");
    this.#ready = new Promise((resolve, reject) => {
      const last: string[] = [];
      createInterface({ input: stderr }).on("line", (text) => {
        const line = text.startsWith("{") ? (JSON.parse(text) as LogLine) : {};
        if (line.level !== "info") last.push(text);
        if (line.msg === "synced") this.syncs += 1;
        if (line.msg === "ready") resolve(line);
      });
      this.child.on("exit", (code) => reject(new Error(`the agent ended with ${code}\n${last.join("\n")}`)));
    });
    this.#ready.catch(() => undefined);
  }

  get pid(): number {
    return this.child.pid as number;
  }

  async ready(): Promise<{ readonly ms: number; readonly agentMs: number }> {
    const { startMs = Number.NaN } = await this.#ready;
    return { ms: Math.round(performance.now() - this.started), agentMs: startMs };
  }

  async end(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, "exit");
    this.child.kill("SIGTERM");
    await exit;
  }
}

const pause = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

async function message(child: ChildProcess): Promise<ApiMessage> {
  const [value] = (await once(child, "message")) as [ApiMessage];
  return value;
}

async function measure(services: number, endpoints: number): Promise<Result> {
  const world = await createWorld({ nodes: 1 });
  const node = world.node(1);
  const bpfRoot = `/sys/fs/bpf/${world.prefix}${node.name}`;
  const cgroup = CGROUP2.filter((path) => existsSync(`${path}/cgroup.controllers`)).map(
    (path) => `${path}/${world.prefix}cgroup`,
  )[0];
  if (cgroup !== undefined) mkdirSync(cgroup, { recursive: true });
  const agents: Agent[] = [];
  const script = fileURLToPath(new URL("./support/api-process.ts", import.meta.url));
  const facts = [node.name, node.address.ip4, String(API_PORT), String(services), String(endpoints)];
  const api = node.spawn([process.execPath, "--import", "tsx", script, ...facts], {
    stdio: ["ignore", "inherit", "inherit", "ipc"],
    cwd: ROOT,
  });
  try {
    const first = await message(api);
    const kubeconfig = "kubeconfig" in first ? first.kubeconfig : "";
    const args = [
      ...["--kubeconfig", kubeconfig, "--hostname-override", node.name, "--bpf-root", bpfRoot],
      ...["--conntrack-max-per-core", "0", "--conntrack-min", "0"],
      ...(cgroup === undefined ? [] : ["--cgroup-root", cgroup]),
      ...mapSizes(services, endpoints),
    ];
    const start = (measured: boolean): Agent => {
      const agent = new Agent(node, args, measured);
      agents.push(agent);
      return agent;
    };
    const apiCpuBefore = cpuMs(api.pid as number);
    const fresh = start(false);
    const { ms: startMs, agentMs: agentStartMs } = await fresh.ready();
    const startCpuMs = cpuMs(fresh.pid);
    const apiCpuMs = cpuMs(api.pid as number) - apiCpuBefore;
    await pause(MEMORY_SETTLE_MS);
    const [rssMiB, peakRssMiB] = [memory(fresh.pid, "VmRSS"), memory(fresh.pid, "VmHWM")];
    const maps = await mapMemory(node, SHIPPED, bpfRoot);
    await fresh.end();
    const again = start(false);
    const { ms: restartMs } = await again.ready();
    await again.end();
    const latency = endpoints === 10 && services === 10_000 ? await latencies(api, start(true)) : null;
    const times = { startMs, agentStartMs, startCpuMs, apiCpuMs, restartMs };
    return { services, endpoints, ...times, rssMiB, peakRssMiB, maps, latency };
  } finally {
    await Promise.all(agents.map((agent) => agent.end()));
    if (api.connected) api.disconnect();
    await world.close();
    await removeProblems(bpfRoot);
    rmSync(bpfRoot, { recursive: true, force: true });
    if (cgroup !== undefined && existsSync(cgroup)) rmdirSync(cgroup);
  }
}

async function latencies(api: ChildProcess, agent: Agent): Promise<Latency> {
  await agent.ready();
  await pause(SETTLE_MS);
  await changeSlices(api, agent, WARM_UP);
  await pause(SETTLE_MS);
  const cpu = cpuMs(agent.pid);
  const syncs = agent.syncs;
  const began = performance.now();
  const times = await changeSlices(api, agent, CHANGES);
  const agentCpuMs = cpuMs(agent.pid) - cpu;
  const agentCpu = round(agentCpuMs / (performance.now() - began));
  times.sort((a, b) => a - b);
  const at = (share: number): number => round(times[Math.ceil(times.length * share) - 1] ?? Number.NaN);
  return {
    changes: times.length,
    perSecond: CHANGES.perSecond,
    p50Ms: at(0.5),
    p90Ms: at(0.9),
    p99Ms: at(0.99),
    maxMs: at(1),
    agentCpu,
    cpuMsPerChange: round(agentCpuMs / times.length),
    syncs: agent.syncs - syncs,
  };
}

/** Milliseconds from the write in the API server to the maps, of each change. */
async function changeSlices(api: ChildProcess, agent: Agent, request: ChangeRequest): Promise<number[]> {
  const answer = message(api);
  api.send(request);
  const sent = await answer;
  if (!("sentNs" in sent)) throw new Error("the API server's process did not answer");
  const all = (): boolean => sent.sentNs.every((_, i) => agent.committed.has(sent.epoch + i));
  const deadline = performance.now() + 30_000;
  while (!all()) {
    if (performance.now() > deadline) throw new Error("not all changes came to the maps");
    await pause(20);
  }
  return sent.sentNs.map(
    (ns, i) => Number((agent.committed.get(sent.epoch + i) as bigint) - BigInt(ns)) / 1e6,
  );
}

function print({ services, endpoints, latency, ...rest }: Result): void {
  const verdict = (good: boolean): string => (good ? "" : "  MISSED");
  console.log(`\n${services} Services x ${endpoints} endpoints`);
  console.log(
    `  start ${rest.startMs} ms (${rest.startCpuMs} ms of CPU, the API server ${rest.apiCpuMs} ms; restart with nothing to write ${rest.restartMs} ms)` +
      (services === 10_000 && endpoints === 10 ? verdict(rest.startMs < TARGETS.startMs) : ""),
  );
  console.log(
    `  memory ${rest.rssMiB} MiB, at most ${rest.peakRssMiB} MiB` +
      (services === 30_000 ? verdict(rest.rssMiB < TARGETS.rssMiB) : ""),
  );
  console.log(`  the ${rest.maps.length} maps ${totalMiB(rest.maps)} MiB in the kernel`);
  if (latency === null) return;
  const { p50Ms, p90Ms, p99Ms, maxMs, changes, perSecond, agentCpu, cpuMsPerChange, syncs } = latency;
  console.log(
    `  ${changes} changes at ${perSecond}/s to the maps: p50 ${p50Ms} ms, p90 ${p90Ms} ms, p99 ${p99Ms} ms, longest ${maxMs} ms;` +
      ` agent ${agentCpu} CPU, ${cpuMsPerChange} ms a change, in ${syncs} syncs${verdict(p99Ms < TARGETS.p99Ms)}`,
  );
}

const shapes = process.argv.length > 2 ? process.argv.slice(2) : ["1000x4", "10000x4", "10000x10", "30000x4"];
const results: Result[] = [];
for (const shape of shapes) {
  const [services = 0, endpoints = 0] = shape.split("x").map(Number);
  if (!(services > 0 && endpoints > 0)) throw new Error(`not a shape: "${shape}" (write 10000x10)`);
  results.push(await measure(services, endpoints));
  print(results.at(-1) as Result);
}
const file = writeResult("agent", { bundle: SHIPPED === BUNDLE, targets: TARGETS, results });
console.log(`\n${loadText()}; ${file}`);
