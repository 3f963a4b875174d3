// SPDX-License-Identifier: Apache-2.0
/** A node of the test's own with two pods, an API server behind a gate, and agents that are started and ended at will. */

import { once } from "node:events";
import { existsSync, mkdirSync, rmdirSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { removeProblems } from "../../../src/daemon/problem-file.js";
import { createWorld, type Node, type Pod, type World } from "../../../src/demo/world/index.js";
import { FakeApi } from "../../support/apiserver/fake-api.js";
import { type Row, rowsOfMaps } from "../../support/apiserver/follower.js";
import { Gate } from "../../support/apiserver/gate.js";
import { eventually, NodeAgent } from "../../support/cluster.js";
import { agentOf, type HostAgent } from "../../support/host-agent.js";
import { endpointSlice, type KubeObject, service } from "../../support/manifests.js";
import { BPFFS, mountBpffs } from "../../support/product.js";

const MAIN = fileURLToPath(new URL("../../../dist/cli/main.js", import.meta.url));
const CGROUP2 = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/** Of the API server, as the node sees it. */
const API_PORT = 6443;

export const VIP = "10.96.7.10";
export const SERVED_PORT = 8080;
const PORTS = [{ name: "http", port: 80 }];

/** Only so that a test which waits in vain says for what: no machine is so slow. */
const PATIENCE_MS = 180_000;

/** An answer over HTTP; status 0: no connection. */
export interface HttpAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: string;
}

/** Runs on the node. Argument: a URL. */
const GET = `
fetch(process.argv[1], { signal: AbortSignal.timeout(120000) }).then(
  async (answer) => ({ status: answer.status, headers: Object.fromEntries(answer.headers), body: await answer.text() }),
  () => ({ status: 0, headers: {}, body: "" }),
).then((answer) => process.stdout.write(JSON.stringify(answer)));
`;

export class Rig {
  readonly world: World;
  readonly node: Node;
  readonly web: Pod;
  readonly api: FakeApi;
  readonly gate: Gate;
  readonly bpfRoot: string;
  readonly #cgroup: string | undefined;
  readonly #agents: NodeAgent[] = [];

  private constructor(world: World, web: Pod, api: FakeApi, gate: Gate) {
    this.world = world;
    this.node = world.node(1);
    this.web = web;
    this.api = api;
    this.gate = gate;
    this.bpfRoot = `${BPFFS}/${world.prefix}${this.node.name}`;
    this.#cgroup = CGROUP2.filter((path) => existsSync(`${path}/cgroup.controllers`)).map(
      (path) => `${path}/${world.prefix}cgroup`,
    )[0];
  }

  /** The API server holds the Node, and a Service "web" with one endpoint that answers. No agent runs yet. */
  static async start(): Promise<Rig> {
    if (!existsSync(MAIN)) throw new Error(`${MAIN} is missing: run make first`);
    mountBpffs();
    const world = await createWorld({ nodes: 1 });
    const [web] = await world.addPods([
      { node: 1, name: "web" },
      { node: 1, name: "caller" },
    ]);
    if (web === undefined) throw new Error("a world without pods");
    await (await agentOf(web)).serve("tcp", SERVED_PORT);
    const api = await FakeApi.start();
    const gate = new Gate({ host: "127.0.0.1", port: api.port }, `${api.directory}/gate`);
    await gate.open();
    const rig = new Rig(world, web, api, gate);
    await gate.reachFrom((argv) => rig.node.spawn(argv, { stdio: ["ignore", "pipe", "inherit"] }), API_PORT);
    if (rig.#cgroup !== undefined) mkdirSync(rig.#cgroup, { recursive: true });
    api.create(rig.nodeObject());
    api.create(service("web", [VIP], PORTS));
    api.create(rig.slice("web"));
    return rig;
  }

  /** The endpoint that answers does so over UDP, too. */
  async serveUdp(port: number): Promise<void> {
    await (await agentOf(this.web)).serve("udp", port);
  }

  /** The Node as kubelet registers it, or otherwise. */
  nodeObject({
    address = this.node.address.ip4,
    spec = {},
  }: {
    address?: string;
    spec?: object;
  } = {}): KubeObject {
    const { name } = this.node;
    const object = {
      apiVersion: "v1",
      kind: "Node",
      metadata: { name, labels: { "topology.kubernetes.io/zone": "zone-a" } },
      spec,
      status: { addresses: [{ type: "InternalIP", address }] },
    };
    return object as KubeObject;
  }

  /** A slice with the endpoint that answers. */
  slice(serviceName: string, nodeName?: string): KubeObject {
    const slice = endpointSlice(
      serviceName,
      [this.web.ip4],
      [{ name: "http", port: SERVED_PORT, protocol: "TCP" }],
    );
    const { endpoints } = slice as unknown as { endpoints: readonly object[] };
    if (nodeName === undefined) return slice;
    return { ...slice, ...{ endpoints: endpoints.map((each) => ({ ...each, nodeName })) } };
  }

  /** The arguments of an agent that follows the API server, with `more`. */
  args(more: readonly string[] = []): string[] {
    return [
      ...(more.includes("--config")
        ? []
        : ["--kubeconfig", this.kubeconfig(), "--conntrack-max-per-core", "0", "--conntrack-min", "0"]),
      ...["--hostname-override", this.node.name],
      ...["--bpf-root", this.bpfRoot],
      ...(this.#cgroup === undefined ? [] : ["--cgroup-root", this.#cgroup]),
      ...more,
    ];
  }

  kubeconfig(): string {
    return this.api.kubeconfig({ tokenFile: true, server: `https://127.0.0.1:${API_PORT}` });
  }

  /** Starts an agent; what becomes of it is for the test to see. */
  spawn(more: readonly string[] = []): NodeAgent {
    return this.spawnBy((argv) => argv, this.args(more));
  }

  /** Starts an agent by an argument vector that is made of its own: with other mounts, another environment. */
  spawnBy(make: (agent: readonly string[]) => readonly string[], args: readonly string[]): NodeAgent {
    const agent = new NodeAgent(this.node, make([process.execPath, MAIN, "agent", ...args]));
    this.#agents.push(agent);
    return agent;
  }

  /** Starts an agent and waits until it has written its maps. */
  async ready(more: readonly string[] = []): Promise<NodeAgent> {
    const agent = this.spawn(more);
    await agent.ready();
    return agent;
  }

  /** What the kernel's maps say, as other programs see it. */
  async rows(): Promise<readonly Row[]> {
    const argv = [process.execPath, MAIN, "services", "-o", "json", "--bpf-root", this.bpfRoot];
    const { stdout } = await this.node.exec(argv, { timeoutMs: PATIENCE_MS });
    return rowsOfMaps(stdout);
  }

  /** The host agent of the pod that calls. */
  get caller(): Promise<HostAgent> {
    return agentOf(this.world.pod("caller"));
  }

  /** Whether a new connection to the Service is answered. */
  async answers(dst: string = VIP): Promise<boolean> {
    return (await (await this.caller).connect({ dst, port: 80, timeout: 2000 })).ok;
  }

  /** GET, on the node. */
  async get(url: string): Promise<HttpAnswer> {
    const { stdout } = await this.node.exec([process.execPath, "-e", GET, url], { timeoutMs: PATIENCE_MS });
    return JSON.parse(stdout) as HttpAnswer;
  }

  /** Waits for an answer with this status. */
  async status(url: string, status: number, timeoutMs?: number): Promise<HttpAnswer> {
    return await eventually(
      `${url} answers ${status}`,
      async () => {
        const answer = await this.get(url);
        return answer.status === status ? answer : undefined;
      },
      timeoutMs,
    );
  }

  async close(): Promise<void> {
    await Promise.all(this.#agents.map((agent) => agent.end("SIGKILL")));
    await this.gate.close();
    await this.world.close();
    await this.api.close();
    await removeProblems(this.bpfRoot);
    rmSync(this.bpfRoot, { recursive: true, force: true });
    if (this.#cgroup !== undefined && existsSync(this.#cgroup)) rmdirSync(this.#cgroup);
  }
}

/** Waits until a process has ended by itself. Its exit status; the signal's name when one ended it. */
export async function ended({ process: child }: NodeAgent): Promise<number | string | null> {
  if (child.exitCode === null && child.signalCode === null)
    await once(child, "exit", { signal: AbortSignal.timeout(PATIENCE_MS) });
  return child.exitCode ?? child.signalCode;
}
