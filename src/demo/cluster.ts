// SPDX-License-Identifier: Apache-2.0
/** The demonstration's cluster: a world of two nodes, redis servers in its pods, and one agent on each node. */
import type { ChildProcess } from "node:child_process";
import { rmdirSync, rmSync } from "node:fs";
import { mkdir, mkdtemp, readdir, rename, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Readable } from "node:stream";
import { LineReader } from "./line-reader.js";
import { monotonicMs, type ProbeEvent } from "./probe.js";
import { createWorld, type Host, type Node, type Pod, type World } from "./world/index.js";

/** A line of the agent's log, as far as the demonstration reads it. */
export interface AgentLine {
  readonly msg: string;
  readonly writes?: number;
  readonly ffiCalls?: number;
  readonly durationMs?: number;
  readonly services?: number;
  readonly backends?: number;
}

/** A running agent. */
export interface Agent {
  readonly process: ChildProcess;
  readonly log: LineReader<AgentLine>;
  /** Monotonic milliseconds. */
  readonly startedAt: number;
}

const CGROUP_ROOTS = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
export const REDIS_PORT = 6379;

/** What this demonstration pins is below it. */
const pinDirectory = (): string => `/sys/fs/bpf/portolan-demo-${process.pid}`;

/** Everything that the demonstration makes, and removes again. */
export class Cluster {
  readonly world: World;
  readonly manifests: string;
  readonly #cli: readonly string[];
  readonly #directory: string;
  readonly #agents = new Map<string, Agent>();
  readonly #cgroups: readonly string[];
  readonly #onExit = (): void => this.#removeFiles();

  private constructor(world: World, directory: string, cli: readonly string[], cgroups: readonly string[]) {
    this.world = world;
    this.#directory = directory;
    this.manifests = join(directory, "manifests");
    this.#cli = cli;
    this.#cgroups = cgroups;
    process.on("exit", this.#onExit); // after the world's own, which ends the processes
  }

  /** @param cli program and arguments that run this product's command line */
  static async create(cli: readonly string[]): Promise<Cluster> {
    const directory = await mkdtemp(join(tmpdir(), "portolan-demo-"));
    try {
      const world = await createWorld({ nodes: 2, handleSignals: false });
      const cgroups = await makeCgroups(world);
      const cluster = new Cluster(world, directory, cli, cgroups);
      await mkdir(cluster.manifests);
      return cluster;
    } catch (error) {
      await rm(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Where this node's maps are pinned. */
  bpfRoot(node: Node): string {
    return join(pinDirectory(), node.name);
  }

  /** Starts a redis with the host's name under the key "pod", and waits until it answers. */
  async startRedis(host: Host, timeoutMs = 60_000): Promise<void> {
    const directory = join(this.#directory, host.name);
    await mkdir(directory);
    const options = { port: REDIS_PORT, bind: "* -::*", dir: directory, save: "", appendonly: "no" };
    const argv = Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)]);
    host.spawn(["redis-server", ...argv, "--protected-mode", "no"], { stdio: "ignore" });
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const { code, stdout } = await host.exec(["redis-cli", "set", "pod", host.name], { check: false });
      if (code === 0 && stdout.trim() === "OK") return;
      if (performance.now() > deadline) throw new Error(`redis on ${host.name} does not answer: ${stdout}`);
    }
  }

  /** Writes a manifest as an editor should: the whole file appears at once. @returns when, in monotonic milliseconds */
  async writeManifest(name: string, text: string): Promise<number> {
    const file = join(this.manifests, name);
    const draft = join(this.#directory, `${name}.new`);
    await writeFile(draft, text);
    await rename(draft, file);
    return monotonicMs();
  }

  /** Writes the Pod objects of these pods, and of no others. */
  writePods(pods: readonly Pod[]): Promise<number> {
    const documents = pods.map((pod) => JSON.stringify(pod.manifest(), null, 2));
    return this.writeManifest("pods.yaml", `# ${pods.length} pods\n${documents.join("\n---\n")}\n`);
  }

  /** Arguments of a command of ours on a node. */
  argv(node: Node, args: readonly string[]): string[] {
    return [...this.#cli, ...args, "--bpf-root", this.bpfRoot(node)];
  }

  /** Runs a command of ours on a node, and gives what it printed. */
  async portolan(node: Node, args: readonly string[]): Promise<string> {
    const { stdout } = await node.exec(this.argv(node, args));
    return stdout;
  }

  startAgent(node: Node): Agent {
    const cgroup = this.#cgroups[node.index - 1];
    const argv = this.argv(node, [
      "agent",
      ...["--manifests", this.manifests],
      ...["--hostname-override", node.name],
      ...(cgroup === undefined ? [] : ["--cgroup-root", cgroup]),
    ]);
    const startedAt = monotonicMs();
    const child = node.spawn(argv, { stdio: ["ignore", "ignore", "pipe"] });
    const agent = {
      process: child,
      log: new LineReader<AgentLine>(child, child.stderr as Readable),
      startedAt,
    };
    this.#agents.set(node.name, agent);
    return agent;
  }

  /** The agent which was last started on a node. */
  agent(node: Node): Agent {
    const agent = this.#agents.get(node.name);
    if (agent === undefined) throw new Error(`no agent was started on ${node.name}`);
    return agent;
  }

  /** Ends an agent and waits until it is gone. */
  async stopAgent(node: Node, signal: NodeJS.Signals): Promise<void> {
    const { process: child } = this.agent(node);
    if (child.exitCode !== null || child.signalCode !== null) return;
    const gone = new Promise((resolve) => child.once("exit", resolve));
    child.kill(signal);
    await gone;
  }

  /** Starts the client that never pauses. */
  startProbe(host: Host, address: string, port: number = REDIS_PORT): Probe {
    const file = new URL(import.meta.url.endsWith(".ts") ? "./probe.ts" : "./probe.js", import.meta.url);
    const argv = [process.execPath, ...process.execArgv, file.pathname, address, String(port)];
    return new Probe(host.spawn(argv, { stdio: ["ignore", "pipe", "inherit"] }));
  }

  /** Ends everything and removes it: agents, pins, servers, namespaces, files. */
  async close(): Promise<void> {
    for (const node of this.world.nodes) {
      if (!this.#agents.has(node.name)) continue;
      await this.stopAgent(node, "SIGKILL");
      await node.exec(this.argv(node, ["cleanup"]), { check: false }); // it may have been done by a step
    }
    await this.world.close();
    process.removeListener("exit", this.#onExit);
    this.#removeFiles();
  }

  /** Whatever was made outside of the namespaces. Also when the process is ending and cannot wait. */
  #removeFiles(): void {
    for (const path of [pinDirectory(), this.#directory]) rmSync(path, { recursive: true, force: true });
    for (const cgroup of this.#cgroups) {
      try {
        rmdirSync(cgroup);
      } catch {
        // gone already
      }
    }
  }
}

/** One cgroup (v2) for each node; none where v2 is not mounted or may not be written. */
async function makeCgroups(world: World): Promise<readonly string[]> {
  for (const root of CGROUP_ROOTS) {
    const v2 = await readdir(root).then(
      (names) => names.includes("cgroup.controllers"),
      () => false,
    );
    if (!v2) continue;
    const paths = world.nodes.map((node) => join(root, `${world.prefix}${node.name}`));
    try {
      for (const path of paths) await mkdir(path);
      return paths;
    } catch {
      return []; // a read-only or delegated tree: the agents go without, as sockets are not served here
    }
  }
  return [];
}

/** Outcomes over a span of time. */
export interface ProbeCount {
  readonly answered: number;
  readonly failed: readonly ProbeEvent[];
  /** Answers on the connection that stays open. */
  readonly held: number;
}

/** The client that never pauses. */
export class Probe {
  readonly #process: ChildProcess;
  readonly #lines: LineReader<ProbeEvent>;

  constructor(child: ChildProcess) {
    this.#process = child;
    this.#lines = new LineReader<ProbeEvent>(child, child.stdout as Readable);
  }

  /** Waits for the first connection which began after a moment and fits. */
  next(after: number, fits: (event: ProbeEvent) => boolean, what: string): Promise<ProbeEvent> {
    return this.#lines.next((event) => event.start >= after && fits(event), what, 60_000);
  }

  /** What happened between two moments. */
  count(from: number, to: number): ProbeCount {
    const span = this.#lines.events.filter((event) => event.end >= from && event.end <= to);
    return {
      answered: span.filter((event) => event.kind === "new" && event.answer !== null).length,
      failed: span.filter((event) => event.answer === null),
      held: span.filter((event) => event.kind === "held" && event.answer !== null).length,
    };
  }

  stop(): void {
    this.#process.kill("SIGKILL");
  }
}
