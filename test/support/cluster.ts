// SPDX-License-Identifier: Apache-2.0
import type { ChildProcess } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { createInterface } from "node:readline";
import { removeProblems } from "../../src/daemon/problem-file.js";
import {
  createWorld,
  type Host,
  type Node,
  type Pod,
  type PodRequest,
  type World,
  type WorldOptions,
} from "../../src/demo/world/index.js";
import { agentOf, type HostAgent } from "./host-agent.js";
import { manifestText } from "./manifests.js";
import { BPFFS, cliCommand, mountBpffs } from "./product.js";

const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

/** Only so that a test which waits in vain says for what: no machine is so slow. */
const PATIENCE_MS = 180_000;

/** One line of the agent's log. */
export interface LogLine {
  readonly level?: number | string;
  readonly msg?: string;
  readonly [field: string]: unknown;
}

/** A running `portolan agent` of one node. */
export class NodeAgent {
  readonly node: Node;
  readonly process: ChildProcess;
  /** All it logged, oldest first. */
  readonly lines: LogLine[] = [];
  readonly #events = new EventEmitter();
  #ended: string | undefined;

  constructor(node: Node, argv: readonly string[]) {
    this.node = node;
    this.#events.setMaxListeners(0);
    this.process = node.spawn(argv, { stdio: ["ignore", "inherit", "pipe"] });
    if (this.process.stderr === null) throw new Error("agent without stderr");
    createInterface({ input: this.process.stderr }).on("line", (text) => {
      this.lines.push(parseLine(text));
      this.#events.emit("change");
    });
    this.process.on("error", (error) => this.#end(error.message));
    this.process.on("exit", (code, signal) => this.#end(`${signal ?? `status ${code}`}`));
  }

  get pid(): number {
    return this.process.pid as number;
  }

  get running(): boolean {
    return this.#ended === undefined;
  }

  /** The number of lines so far: a place to wait from. */
  mark(): number {
    return this.lines.length;
  }

  /**
   * Waits for a line.
   *
   * @param wanted decides
   * @param from only lines from this place on count
   * @throws when the agent ends first, or none came in time; with the end of the log
   */
  async line(
    wanted: (line: LogLine) => boolean,
    from = 0,
    timeoutMs: number = PATIENCE_MS,
  ): Promise<LogLine> {
    const deadline = AbortSignal.timeout(timeoutMs);
    for (;;) {
      const found = this.lines.slice(from).find(wanted);
      if (found !== undefined) return found;
      if (this.#ended !== undefined)
        throw new Error(`agent of ${this.node.name} ended (${this.#ended})\n${this.tail()}`);
      try {
        await once(this.#events, "change", { signal: deadline });
      } catch {
        throw new Error(`agent of ${this.node.name} did not log that in ${timeoutMs} ms\n${this.tail()}`);
      }
    }
  }

  /** Waits for the end of the first synchronisation. */
  ready(): Promise<LogLine> {
    return this.line((line) => line.msg === "ready");
  }

  /** The last lines, for messages. */
  tail(): string {
    return this.lines
      .slice(-15)
      .map((line) => `  ${JSON.stringify(line)}`)
      .join("\n");
  }

  /** Sends a signal and waits for the end. */
  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.#ended !== undefined) return;
    const exit = once(this.process, "exit");
    this.process.kill(signal);
    await exit;
  }

  #end(how: string): void {
    this.#ended ??= how;
    this.#events.emit("change");
  }
}

function parseLine(text: string): LogLine {
  try {
    return JSON.parse(text) as LogLine;
  } catch {
    return { msg: text }; // not JSON: a stack trace, for instance
  }
}

/** Options of a cluster: those of its world, its pods, and what the manifests hold at the start. */
export interface ClusterOptions {
  readonly world?: WorldOptions;
  readonly pods: readonly PodRequest[];
  /** Contents of the manifest directory: file name to objects. */
  readonly manifests?: (world: World) => Readonly<Record<string, readonly object[]>>;
  /** Called when world and pods are there and no agent runs yet. */
  readonly prepare?: (world: World) => Promise<void>;
  /** TCP port on which each pod serves. @default 8080 */
  readonly tcpPort?: number;
  /** UDP port on which each pod serves. @default 5353 */
  readonly udpPort?: number;
  /** Numbers of the nodes that get an agent. @default all */
  readonly agentNodes?: readonly number[];
  /** More arguments for the agents. */
  readonly agentArgs?: readonly string[];
}

/** A world with servers in its pods and a real agent on each node. */
export class Cluster {
  readonly world: World;
  readonly directory: string;
  readonly #args: readonly string[];
  readonly #agents = new Map<string, NodeAgent>();
  readonly #texts = new Map<string, string>();
  /** Where cgroup v2 is mounted. */
  readonly #cgroup2: string | undefined;
  /** When the test process ends early: the world removes itself, and this the rest. */
  readonly #removeNow = (): void => this.#removeFiles();

  private constructor(world: World, args: readonly string[]) {
    this.world = world;
    this.#args = args;
    this.directory = mkdtempSync(`${tmpdir()}/portolan-net-`);
    mkdirSync(`${this.directory}/manifests`);
    this.#cgroup2 = CGROUP2.find((root) => existsSync(`${root}/cgroup.controllers`));
    process.once("exit", this.#removeNow);
  }

  /** Builds the world, starts servers and agents, and waits until the agents have written their maps. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    mountBpffs();
    const cluster = new Cluster(await createWorld(options.world), options.agentArgs ?? []);
    try {
      await cluster.#build(options);
    } catch (error) {
      await cluster.close().catch(() => {}); // the first error tells more
      throw error;
    }
    return cluster;
  }

  async #build(options: ClusterOptions): Promise<void> {
    const { world } = this;
    const pods = await world.addPods(options.pods);
    await Promise.all(pods.map((pod) => servePod(pod, options)));
    for (const [file, objects] of Object.entries(options.manifests?.(world) ?? {})) this.write(file, objects);
    await options.prepare?.(world);
    for (const node of world.nodes) {
      const cgroup = this.cgroup(node);
      if (cgroup !== undefined) mkdirSync(cgroup, { recursive: true });
    }
    const wanted = options.agentNodes ?? world.nodes.map((node) => node.index);
    await Promise.all(wanted.map((index) => this.startAgent(world.node(index))));
  }

  /** The host agent of a pod (or of any host). */
  at(host: string | Host): Promise<HostAgent> {
    return agentOf(typeof host === "string" ? this.world.pod(host) : host);
  }

  pod(name: string): Pod {
    return this.world.pod(name);
  }

  /** Where a node's maps are pinned. */
  bpfRoot(node: Node): string {
    return `${BPFFS}/${this.world.prefix}${node.name}`;
  }

  /** What stands for the root cgroup of a node: its agent serves the sockets of whoever is in it. None without cgroup v2. */
  cgroup(node: Node): string | undefined {
    return this.#cgroup2 === undefined ? undefined : `${this.#cgroup2}/${this.world.prefix}${node.name}`;
  }

  /** The host agent of a node or of a pod, moved into its node's cgroup: from now on the sockets that it makes are served. */
  async inCgroup(host: Node | Pod): Promise<HostAgent> {
    const agent = await agentOf(host);
    const cgroup = this.cgroup("node" in host ? host.node : host);
    if (cgroup === undefined) throw new Error("this machine has no cgroup v2");
    writeFileSync(`${cgroup}/cgroup.procs`, `${agent.pid}`);
    return agent;
  }

  /** The agent that runs on a node. */
  agent(node: Node): NodeAgent {
    const agent = this.#agents.get(node.name);
    if (agent === undefined) throw new Error(`no agent on ${node.name}`);
    return agent;
  }

  /** Starts a node's agent (again), with `more` arguments, and waits until it is ready. */
  async startAgent(node: Node, more: readonly string[] = []): Promise<NodeAgent> {
    const cgroup = this.cgroup(node);
    const agent = new NodeAgent(node, [
      ...cliCommand(),
      "agent",
      ...["--manifests", `${this.directory}/manifests`],
      ...["--hostname-override", node.name],
      ...["--bpf-root", this.bpfRoot(node)],
      ...(cgroup === undefined ? [] : ["--cgroup-root", cgroup]),
      ...this.#args,
      ...more,
    ]);
    this.#agents.set(node.name, agent);
    await agent.ready();
    return agent;
  }

  /** Runs a command of the CLI on a node. */
  async cli(
    node: Node,
    args: readonly string[],
  ): Promise<{ code: number | null; stdout: string; stderr: string }> {
    const argv = [...cliCommand(), ...args, "--bpf-root", this.bpfRoot(node)];
    return node.exec(argv, { check: false, timeoutMs: PATIENCE_MS });
  }

  /** How many packets of a node met each of the reasons (bpf/include/reasons.h), by name. */
  async reasons(node: Node): Promise<ReadonlyMap<string, number>> {
    const { code, stdout, stderr } = await this.cli(node, ["maps", "dump", "counters", "-o", "json"]);
    if (code !== 0) throw new Error(`maps dump counters on ${node.name}: ${stderr}`);
    const lines = stdout.split("\n").filter((line) => line !== "");
    const cells = lines.map((line) => JSON.parse(line) as { reason?: string; value: { packets: number } });
    return new Map(cells.map(({ reason, value }) => [reason ?? "", value.packets]));
  }

  /**
   * Replaces a manifest file at once, as a careful editor does. Does not wait for the agents.
   *
   * @returns false when it says what it said before: then no agent has anything to do
   */
  write(file: string, objects: readonly object[]): boolean {
    const text = manifestText(objects);
    if (this.#texts.get(file) === text) return false;
    this.#texts.set(file, text);
    const draft = `${this.directory}/${file}.draft`;
    writeFileSync(draft, text);
    renameSync(draft, `${this.directory}/manifests/${file}`);
    return true;
  }

  /** Replaces a manifest file and waits until every running agent has the change in its kernel maps. */
  async apply(file: string, objects: readonly object[]): Promise<void> {
    const running = [...this.#agents.values()].filter((agent) => agent.running);
    const marks = running.map((agent) => agent.mark());
    if (!this.write(file, objects)) return;
    await Promise.all(running.map((agent, i) => agent.line((line) => line.msg === "synced", marks[i])));
  }

  /** Ends agents, removes pins, cgroup, files and the world. */
  async close(): Promise<void> {
    await Promise.all([...this.#agents.values()].map((agent) => agent.end("SIGTERM")));
    await this.world.close();
    for (const node of this.world.nodes) await removeProblems(this.bpfRoot(node));
    this.#removeFiles();
    process.removeListener("exit", this.#removeNow);
  }

  #removeFiles(): void {
    for (const node of this.world.nodes) rmSync(this.bpfRoot(node), { recursive: true, force: true });
    for (const node of this.world.nodes) {
      const cgroup = this.cgroup(node);
      if (cgroup !== undefined && existsSync(cgroup)) rmdirSync(cgroup);
    }
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** Lines of all agents that tell of an error (level 50 of the log, or a stack trace). */
  errors(): LogLine[] {
    const lines = [...this.#agents.values()].flatMap((agent) => agent.lines);
    return lines.filter(
      (line) => line.level === undefined || line.level === "error" || Number(line.level) >= 50,
    );
  }
}

async function servePod(pod: Pod, options: ClusterOptions): Promise<void> {
  const agent = await agentOf(pod);
  await Promise.all([
    agent.serve("tcp", options.tcpPort ?? 8080),
    agent.serve("udp", options.udpPort ?? 5353),
  ]);
}

/** Waits until a condition holds; for what no event tells. Asks every 20 ms. */
export async function eventually<T>(
  what: string,
  probe: () => Promise<T | undefined>,
  timeoutMs: number = PATIENCE_MS,
): Promise<T> {
  const end = performance.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined) return value;
    if (performance.now() > end) throw new Error(`${what}: not within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
