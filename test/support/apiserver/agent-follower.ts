// SPDX-License-Identifier: Apache-2.0
/** A real agent on a node of the test's own, as a follower of an API server: what its kernel maps say. */
import { existsSync, mkdirSync, rmdirSync, rmSync } from "node:fs";
import { removeProblems } from "../../../src/daemon/problem-file.js";
import { createWorld, type Node, type World } from "../../../src/demo/world/index.js";
import { NodeAgent } from "../cluster.js";
import { agentOf, type HostAgent } from "../host-agent.js";
import { BPFFS, cliCommand, mountBpffs } from "../product.js";
import type { ApiBackend } from "./backend.js";
import { type Follower, type Row, rowsOfMaps } from "./follower.js";
import type { Gate } from "./gate.js";

const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/** Of the API server, as the node sees it. */
const PORT = 6443;
const SERVED_PORT = 8080;

/** A world of one node with two pods: "web" serves TCP on 8080, "caller" calls. */
export async function oneNode(): Promise<World> {
  const world = await createWorld({ nodes: 1 });
  const [web] = await world.addPods([
    { node: 1, name: "web" },
    { node: 1, name: "caller" },
  ]);
  if (web === undefined) throw new Error("a world without pods");
  await (await agentOf(web)).serve("tcp", SERVED_PORT);
  return world;
}

export class AgentFollower implements Follower {
  readonly world: World;
  readonly node: Node;
  readonly agent: NodeAgent;
  readonly #root: string;
  readonly #cgroup: string | undefined;

  private constructor(world: World, agent: NodeAgent, root: string, cgroup: string | undefined) {
    this.world = world;
    this.node = world.node(1);
    this.agent = agent;
    this.#root = root;
    this.#cgroup = cgroup;
  }

  /** Starts the agent with `--kubeconfig` behind the gate, and waits until it is ready. The world is closed with it. */
  static async start(
    world: World,
    backend: ApiBackend,
    gate: Gate,
    more: readonly string[] = [],
  ): Promise<AgentFollower> {
    const node = world.node(1);
    mountBpffs();
    await gate.reachFrom((argv) => node.spawn(argv, { stdio: ["ignore", "pipe", "inherit"] }), PORT);
    const root = `${BPFFS}/${world.prefix}${node.name}`;
    const cgroup = CGROUP2.filter((path) => existsSync(`${path}/cgroup.controllers`)).map(
      (path) => `${path}/${world.prefix}cgroup`,
    )[0];
    if (cgroup !== undefined) mkdirSync(cgroup, { recursive: true });
    const agent = new NodeAgent(node, [
      ...cliCommand(),
      "agent",
      ...["--kubeconfig", backend.kubeconfig(`https://127.0.0.1:${PORT}`)],
      ...["--hostname-override", node.name],
      ...["--bpf-root", root],
      ...(cgroup === undefined ? [] : ["--cgroup-root", cgroup]),
      // The size of the table is the machine's, not the namespace's: it is left alone.
      ...["--conntrack-max-per-core", "0", "--conntrack-min", "0"],
      ...more,
    ]);
    const follower = new AgentFollower(world, agent, root, cgroup);
    try {
      await agent.ready();
    } catch (error) {
      await follower.close();
      throw error;
    }
    return follower;
  }

  async rows(): Promise<readonly Row[]> {
    const argv = [...cliCommand(), "services", "-o", "json", "--bpf-root", this.#root];
    const { stdout } = await this.node.exec(argv, { timeoutMs: 180_000 });
    return rowsOfMaps(stdout);
  }

  /** The host agent of the pod that calls. */
  get caller(): Promise<HostAgent> {
    return agentOf(this.world.pod("caller"));
  }

  check(): void {
    if (!this.agent.running) throw new Error(`the agent has ended\n${this.agent.tail()}`);
    const errors = this.agent.lines.filter(
      ({ level }) => level === undefined || level === "error" || Number(level) >= 50,
    );
    if (errors.length > 0)
      throw new Error(`errors were logged:\n${errors.map((line) => JSON.stringify(line)).join("\n")}`);
  }

  async close(): Promise<void> {
    await this.agent.end("SIGTERM");
    await this.world.close();
    await removeProblems(this.#root);
    rmSync(this.#root, { recursive: true, force: true });
    if (this.#cgroup !== undefined && existsSync(this.#cgroup)) rmdirSync(this.#cgroup);
  }
}
