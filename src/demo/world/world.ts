// SPDX-License-Identifier: Apache-2.0
import { randomBytes } from "node:crypto";
import { existsSync } from "node:fs";
import { WorldError } from "./errors.js";
import { endProcesses, Host } from "./host.js";
import { attachLines, attachSysctls, hostSysctls, loadRules, Node, nodeLines, nodeSysctls } from "./node.js";
import { type FullWorldOptions, type PodOptions, type WorldOptions, withDefaults } from "./options.js";
import {
  CLIENT,
  type DualAddress,
  nodeAddress,
  podSubnet,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
  SWITCH_OUTSIDE,
  SWITCH_UNDERLAY,
} from "./plan.js";
import { Pod, podLines } from "./pod.js";
import { NETNS_DIR, register, removeNow, unregister } from "./registry.js";
import { run } from "./run.js";

/** A pod to make: its node's number, its name, and what differs from the defaults. */
export interface PodRequest extends PodOptions {
  readonly node: number;
  readonly name: string;
}

/** A small cluster of test hosts, all of them network namespaces of this machine. */
export class World {
  readonly options: FullWorldOptions;
  /** What the names of all its namespaces begin with. */
  readonly prefix: string;
  /** Router between the nodes' wire and the outside. */
  readonly switch: Host;
  /** A host outside of the cluster, one hop away from the nodes. Its address is {@link clientAddress}. */
  readonly client: Host;
  readonly nodes: readonly Node[];
  readonly #namespaces = new Set<string>();
  #closing: Promise<void> | undefined;

  /** For {@link createWorld} only: names the hosts, builds nothing. */
  constructor(options: FullWorldOptions) {
    this.options = options;
    this.prefix = `ptl-${process.pid}-${randomBytes(3).toString("hex")}-`;
    this.switch = new Host("switch", `${this.prefix}switch`);
    this.client = new Host("outside", `${this.prefix}outside`);
    this.nodes = Array.from(
      { length: options.nodes },
      (_, i) => new Node(this, i + 1, `${this.prefix}n${i + 1}`),
    );
  }

  get clientAddress(): DualAddress {
    return CLIENT;
  }

  get handleSignals(): boolean {
    return this.options.handleSignals;
  }

  /** Names of the network namespaces that exist for this world. */
  namespaces(): readonly string[] {
    return [...this.#namespaces];
  }

  /** Pids of programs which were started on its hosts. */
  processes(): readonly number[] {
    return this.hosts().flatMap((host) => host.pids());
  }

  /** All hosts: switch, client, nodes, pods. */
  hosts(): readonly Host[] {
    return [this.switch, this.client, ...this.nodes, ...this.nodes.flatMap((node) => node.pods)];
  }

  /**
   * The node of this number, counted from 1.
   *
   * @throws WorldError E_WORLD_OPTION when there is no such node
   */
  node(index: number): Node {
    const node = this.nodes[index - 1];
    if (node === undefined)
      throw new WorldError("E_WORLD_OPTION", `there is no node ${index} of ${this.nodes.length}`);
    return node;
  }

  /**
   * The pod of this name, on whichever node.
   *
   * @throws WorldError E_WORLD_OPTION when there is no such pod
   */
  pod(name: string): Pod {
    const pod = this.nodes.flatMap((node) => node.pods).find((candidate) => candidate.name === name);
    if (pod === undefined) throw new WorldError("E_WORLD_OPTION", `there is no pod ${name}`);
    return pod;
  }

  /**
   * Makes pods, several at once. When one cannot be made, none of them is there afterwards.
   *
   * @throws WorldError E_WORLD_OPTION for a name which is taken or malformed, E_WORLD_COMMAND when a tool fails
   */
  async addPods(requests: readonly PodRequest[]): Promise<Pod[]> {
    this.#mustBeOpen();
    const pods = requests.map((request) => this.#planPod(request));
    const twice = pods.find((pod, index) => pods.findIndex((other) => other.name === pod.name) !== index);
    if (twice !== undefined)
      throw new WorldError("E_WORLD_OPTION", `two pods are to be called ${twice.name}`);
    for (const pod of pods) pod.node.adopt(pod);
    try {
      await this.#addNamespaces(pods);
      await Promise.all(pods.map((pod) => pod.sysctl(hostSysctls())));
      await ipBatch(
        pods.map(
          (pod) =>
            `link add name eth0 netns ${pod.netns} mtu ${pod.mtu} type veth ` +
            `peer name ${pod.hostVeth} netns ${pod.node.netns} mtu ${pod.mtu}`,
        ),
      );
      const nodes = [...new Set(pods.map((pod) => pod.node))];
      await Promise.all([
        ...pods.map((pod) => pod.ip(podLines(pod, this.options.flavour))),
        ...nodes.map((node) => this.#attach(node, pods)),
      ]);
    } catch (error) {
      for (const pod of pods) pod.node.forget(pod);
      removeNow(
        pods.map((pod) => pod.netns),
        [],
      );
      for (const pod of pods) this.#namespaces.delete(pod.netns);
      throw error;
    }
    return pods;
  }

  /** Ends all its processes and removes all its namespaces. May be called more than once. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #close(): Promise<void> {
    await endProcesses(this.hosts());
    const names = this.namespaces().filter((name) => existsSync(`${NETNS_DIR}/${name}`));
    await ipBatch(names.map((name) => `netns del ${name}`));
    this.#namespaces.clear();
    unregister(this);
  }

  /** Builds switch, client and nodes. For {@link createWorld} only. */
  async build(): Promise<void> {
    register(this);
    const { options } = this;
    await this.#addNamespaces([this.switch, this.client, ...this.nodes]);
    await Promise.all([
      this.switch.sysctl({ ...hostSysctls(), "net/ipv4/ip_forward": 1, "net/ipv6/conf/all/forwarding": 1 }),
      this.client.sysctl(hostSysctls()),
      ...this.nodes.map((node) => node.sysctl(nodeSysctls(options))),
    ]);
    await ipBatch([
      `link add name eth0 netns ${this.client.netns} type veth peer name outside netns ${this.switch.netns}`,
      ...this.nodes.map(
        (node) =>
          `link add name eth0 netns ${node.netns} type veth peer name ${node.name} netns ${this.switch.netns}`,
      ),
    ]);
    await Promise.all([
      this.switch.ip(switchLines(options)),
      this.client.ip(clientLines()),
      ...this.nodes.map((node) => buildNode(node, options)),
    ]);
  }

  async #attach(node: Node, pods: readonly Pod[]): Promise<void> {
    const own = pods.filter((pod) => pod.node === node);
    await node.sysctl(attachSysctls(own, this.options));
    await node.ip(attachLines(own, this.options));
  }

  async #addNamespaces(hosts: readonly Host[]): Promise<void> {
    for (const host of hosts) this.#namespaces.add(host.netns); // first: what is half made must be removed too
    await ipBatch(hosts.map((host) => `netns add ${host.netns}`));
  }

  #planPod(request: PodRequest): Pod {
    const { name } = request;
    // A Kubernetes name without dots, as it becomes part of a file name; and no word of ours.
    if (!/^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/.test(name) || /^(n\d|switch|outside)$/.test(name)) {
      throw new WorldError("E_WORLD_OPTION", `"${name}" cannot be the name of a pod`);
    }
    const node = this.node(request.node);
    const netns = `${this.prefix}${name}`;
    if (this.hosts().some((host) => host.name === name) || existsSync(`${NETNS_DIR}/${netns}`)) {
      throw new WorldError("E_WORLD_OPTION", `there is a pod ${name} already`);
    }
    const free = request.ip4 === undefined || request.ip6 === undefined ? node.takeAddress() : undefined;
    return new Pod(node, netns, this.options.flavour, {
      name,
      namespace: request.namespace ?? "default",
      labels: request.labels ?? {},
      ip4: request.ip4 ?? (free as DualAddress).ip4,
      ip6: request.ip6 ?? (free as DualAddress).ip6,
      mtu: request.mtu ?? this.options.podMtu,
    });
  }

  #mustBeOpen(): void {
    if (this.#closing !== undefined) throw new WorldError("E_WORLD_CLOSED", "the world was already closed");
  }
}

/**
 * Builds a world of nodes, a switch and an outside client.
 *
 * @returns the world; close it, or it is removed when this process ends
 * @throws WorldError E_WORLD_ROOT, E_WORLD_OPTION, E_WORLD_TOOL_MISSING or E_WORLD_COMMAND; nothing is left then
 * @example
 * const world = await createWorld({ nodes: 2 });
 * const [web] = await world.addPods([{ node: 1, name: "web", labels: { app: "web" } }]);
 * await web?.exec(["ip", "-brief", "address"]);
 * await world.close();
 */
export async function createWorld(options: WorldOptions = {}): Promise<World> {
  if (process.getuid?.() !== 0) {
    throw new WorldError("E_WORLD_ROOT", "network namespaces need root: run this with sudo");
  }
  const full = withDefaults(options);
  if (!Number.isInteger(full.nodes) || full.nodes < 1 || full.nodes > 9) {
    throw new WorldError("E_WORLD_OPTION", `nodes must be 1 to 9, not ${full.nodes}`);
  }
  if (full.flavour === "bridge") await needBridgeNetfilter(full.bridgeNetfilter);
  const world = new World(full);
  try {
    await world.build();
  } catch (error) {
    await world.close().catch(() => {}); // the first error tells more
    throw error;
  }
  return world;
}

async function needBridgeNetfilter(wanted: boolean): Promise<void> {
  if (existsSync("/proc/sys/net/bridge/bridge-nf-call-iptables")) return;
  try {
    await run(["modprobe", "br_netfilter"]);
  } catch (cause) {
    if (!wanted) return;
    throw new WorldError("E_WORLD_OPTION", "the kernel has no br_netfilter, and modprobe could not load it", {
      cause,
    });
  }
}

async function ipBatch(lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run(["ip", "-batch", "-"], { input: `${lines.join("\n")}\n` });
}

async function buildNode(node: Node, options: FullWorldOptions): Promise<void> {
  const rules = loadRules(node, options);
  const lines = nodeLines(node, options);
  await Promise.all([rules, node.ip(lines.ip).then(() => node.bridge(lines.bridge))]);
}

function switchLines(options: FullWorldOptions): string[] {
  const indices = Array.from({ length: options.nodes }, (_, i) => i + 1);
  const first = nodeAddress(1);
  return [
    "link set lo up",
    "link add br0 type bridge forward_delay 0",
    `link set br0 mtu ${options.underlayMtu} up`,
    ...indices.map((n) => `link set n${n} mtu ${options.underlayMtu} master br0 up`),
    `addr add ${SWITCH_UNDERLAY.ip4}/24 dev br0`,
    `addr add ${SWITCH_UNDERLAY.ip6}/64 dev br0 nodad`,
    `addr add ${SWITCH_OUTSIDE.ip4}/24 dev outside`,
    `addr add ${SWITCH_OUTSIDE.ip6}/64 dev outside nodad`,
    "link set outside up",
    ...indices.flatMap((n) => {
      const [subnet, via] = [podSubnet(n), nodeAddress(n)];
      return [`route add ${subnet.ip4} via ${via.ip4}`, `route add ${subnet.ip6} via ${via.ip6}`];
    }),
    `route add ${SERVICE_CIDR4} via ${first.ip4}`,
    `route add ${SERVICE_CIDR6} via ${first.ip6}`,
  ];
}

function clientLines(): string[] {
  return [
    "link set lo up",
    `addr add ${CLIENT.ip4}/24 dev eth0`,
    `addr add ${CLIENT.ip6}/64 dev eth0 nodad`,
    "link set eth0 up",
    `route add default via ${SWITCH_OUTSIDE.ip4}`,
    `route add default via ${SWITCH_OUTSIDE.ip6}`,
  ];
}
