// SPDX-License-Identifier: Apache-2.0
/** A contestant's own world: nodes, a client, servers, and the dataplane that is measured. */

import type { Flavour, Node, Overlay, World } from "../../../src/demo/world/index.js";
import { nodeRules } from "../../../src/demo/world/netfilter.js";
import {
  CLIENT,
  CLUSTER_CIDR4,
  CLUSTER_CIDR6,
  podSubnet,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
} from "../../../src/demo/world/plan.js";
import type { Family } from "../../../src/net/ip.js";
import { Cluster } from "../../support/cluster.js";
import { attachForeignXdp } from "../../support/foreign-xdp.js";
import { iptablesEndpointChain, iptablesRules, nftablesRules } from "../../support/kube-proxy-rules.js";
import { nodeObject } from "../../support/manifests.js";
import { mapSizes } from "../support/map-sizes.js";
import { type Kind, type Load, runClient, startServer } from "./load.js";
import type { Dataplane, Path } from "./paths.js";
import {
  byRule,
  byServer,
  CounterReader,
  type CountingRule,
  forgetFlows,
  packetsAt,
  type Received,
  receivedBy,
  since,
  type Tally,
} from "./proof.js";
import {
  clusterIpTarget,
  nodePortTarget,
  type Place,
  proxiedPorts,
  SERVED,
  serviceObjects,
  type Target,
  type Tested,
} from "./services.js";

/** What is the same for all worlds of one run. */
export interface Ground {
  readonly family: Family;
  readonly flavour: Flavour;
  /**
   * Which iptables loads the CNI's rules, in every world, and kube-proxy's. iptables-nft takes minutes for ten thousand
   * Services.
   */
  readonly iptables: "legacy" | "nft";
}

/** One measurement: its figures, or why there are none. */
export type Sample =
  | { readonly failed: string }
  | {
      /** Transactions, or bits, per second. */
      readonly rate: number;
      readonly p50Us: number;
      readonly p99Us: number;
      readonly lost: number;
    };

/** nft sorts ten thousand chains for a minute, and longer on a busy machine. */
const RULES_TIMEOUT_MS = 600_000;

/**
 * More connections than a second has, one after the other: as many source ports as there are, and none of them waits
 * after its connection has ended.
 */
const CLIENT_SYSCTLS = {
  "net/ipv4/ip_local_port_range": "1024 65535",
  "net/ipv4/tcp_max_tw_buckets": 0,
  // Above a minute FIN-WAIT-2 is a state of the socket itself: else the server's FIN would be answered with a reset.
  "net/ipv4/tcp_fin_timeout": 61,
};

const SERVERS: Readonly<Record<Place, string>> = { "same node": "near", "other node": "far" };

/** One world. Paths that need the same one share it. */
export interface Setup {
  readonly dataplane: Dataplane;
  readonly overlay: Overlay;
  readonly xdpUplink: boolean;
  /** How many Services there are, the tested one included. */
  readonly services: number;
  /** Where there are servers. */
  readonly places: readonly Place[];
  /** Whether the tested Service has NodePorts. */
  readonly nodePorts: boolean;
}

export class Arena {
  readonly #setup: Setup;
  readonly #ground: Ground;
  readonly #cluster: Cluster;
  /** Of the servers' processes. */
  readonly #pids = new Map<Place, number>();
  #counters: CounterReader | undefined;

  private constructor(setup: Setup, ground: Ground, cluster: Cluster) {
    this.#setup = setup;
    this.#ground = ground;
    this.#cluster = cluster;
  }

  /** Builds the world. The other node is there only where it is asked: a node's rules for ten thousand Services take a minute. */
  static async start(setup: Setup, ground: Ground): Promise<Arena> {
    const { dataplane, places, services, overlay } = setup;
    const { flavour } = ground;
    const portolan = dataplane.by === "portolan";
    const nodes = places.includes("other node") ? 2 : 1;
    const cluster = await Cluster.start({
      world: { nodes, flavour, overlay, flannelRules: false, dropInvalid: false, handleSignals: false },
      pods: [
        { node: 1, name: "client" },
        ...places.map((place) => ({ node: place === "same node" ? 1 : 2, name: SERVERS[place] })),
      ],
      ...(portolan ? { manifests: (world) => manifests(world, setup, ground.family) } : {}),
      prepare: (world) => prepare(world, setup, ground),
      agentNodes: portolan ? Array.from({ length: nodes }, (_, i) => i + 1) : [],
      agentArgs: portolan ? [...AGENT_ARGS, ...mapSizes(services, 1), ...dataplane.args] : [],
    });
    const arena = new Arena(setup, ground, cluster);
    try {
      for (const place of places) arena.#pids.set(place, await startServer(cluster.pod(SERVERS[place])));
      if (portolan) arena.#counters = new CounterReader(cluster.bpfRoot(arena.#node));
    } catch (error) {
      await arena.close().catch(() => {}); // the first error tells more
      throw error;
    }
    return arena;
  }

  get #node(): Node {
    return this.#cluster.world.node(1);
  }

  /** Measures once. What goes wrong, or went another way, is in the sample. */
  async measure(path: Path, kind: Kind, place: Place, seconds: number): Promise<Sample> {
    const { address, tcp, udp } = this.#target(path, place);
    const port = kind === "udp-rr" ? udp : tcp;
    const cgroup = path.inCgroup ? this.#cluster.cgroup(this.#node) : undefined;
    if (path.inCgroup && cgroup === undefined) return { failed: "this machine has no cgroup v2" };
    const client = path.from === "pod" ? this.#cluster.pod("client") : this.#cluster.world.client;
    try {
      await Promise.all(this.#cluster.world.nodes.map(forgetFlows));
      const before = await this.#look(path, kind, place);
      const ask = { kind, address, port, seconds, ...(cgroup === undefined ? {} : { cgroup }) };
      const load = await runClient(client, ask);
      const after = await this.#look(path, kind, place);
      const wrong =
        this.#otherPath(path, kind, place, load, before, after) ??
        byServer(kind, load, before.received, after.received);
      return wrong === null ? sample(kind, load) : { failed: `not this path: ${wrong}` };
    } catch (error) {
      return { failed: error instanceof Error ? error.message : String(error) };
    }
  }

  /** All that counts what passes. */
  async #look({ proof }: Path, kind: Kind, place: Place): Promise<Look> {
    const { family } = this.#ground;
    const [received, tally, packets] = await Promise.all([
      receivedBy(this.#pids.get(place) as number, family),
      this.#counters?.read(),
      proof === "rules"
        ? packetsAt(this.#node, iptablesTool(this.#ground), this.#rule(kind, place))
        : undefined,
    ]);
    return { received, tally, packets };
  }

  #otherPath(
    { proof }: Path,
    kind: Kind,
    place: Place,
    load: Load,
    before: Look,
    after: Look,
  ): string | null {
    if (proof === "rules")
      return byRule(kind, load, (after.packets ?? 0) - (before.packets ?? 0), this.#rule(kind, place));
    if (before.tally === undefined || after.tally === undefined) return "there are no counters";
    return proof(kind, load, since(before.tally, after.tally));
  }

  /**
   * In iptables mode the rule that translates each flow. nftables mode counts nothing, and nothing is translated on the direct way:
   * there it is the CNI's for all that is forwarded, which says that each packet passed the stack and netfilter; and a Service's
   * packets came to the server because rules have translated them, since nothing else in this world would.
   */
  #rule(kind: Kind, place: Place): CountingRule {
    const { dataplane } = this.#setup;
    if (dataplane.by !== "kube-proxy" || dataplane.mode !== "iptables")
      return { table: "filter", chain: "FORWARD", target: "FLANNEL-FWD" };
    const protocol = kind === "udp-rr" ? "udp" : "tcp";
    const tested = testedIn(this.#cluster.world, this.#setup, this.#ground.family);
    const ports = proxiedPorts(1, { ...tested, servers: new Map([[place, this.#server(place)]]) });
    const port = ports.find((each) => each.protocol === protocol);
    const endpoint = port?.endpoints[0];
    if (port === undefined || endpoint === undefined) throw new Error(`nothing serves ${protocol}`);
    return { table: "nat", chain: iptablesEndpointChain(port, endpoint), target: "DNAT" };
  }

  #server(place: Place): string {
    return addressOf(this.#cluster.pod(SERVERS[place]), this.#ground.family);
  }

  #target({ to }: Path, place: Place): Target {
    const { family } = this.#ground;
    if (to === "server") return { address: this.#server(place), ...SERVED };
    if (to === "cluster-ip") return clusterIpTarget(family, place);
    return nodePortTarget(addressOf(this.#node.address, family), place);
  }

  async close(): Promise<void> {
    await this.#counters?.close();
    await this.#cluster.close();
  }
}

/** Counters at one time. */
interface Look {
  readonly received: Received;
  /** Undefined: no agent counts. */
  readonly tally: Tally | undefined;
  /** Undefined: another proof is asked for. */
  readonly packets: number | undefined;
}

const AGENT_ARGS = [
  ...["--cluster-cidr", `${CLUSTER_CIDR4},${CLUSTER_CIDR6}`],
  ...["--service-cidr", `${SERVICE_CIDR4},${SERVICE_CIDR6}`],
  ...["--conntrack-max-per-core", "0", "--conntrack-min", "0"],
  // Of all the worlds' agents: none of them shall look around while another world is measured.
  ...["--audit-interval", "1h"],
];

function addressOf(host: { readonly ip4: string; readonly ip6: string }, family: Family): string {
  return family === 4 ? host.ip4 : host.ip6;
}

function testedIn(world: World, { places, nodePorts }: Setup, family: Family): Tested {
  const servers = places.map((place) => [place, addressOf(world.pod(SERVERS[place]), family)] as const);
  return { family, servers: new Map(servers), nodePorts };
}

function manifests(world: World, setup: Setup, family: Family): Record<string, object[]> {
  return {
    "nodes.yaml": world.nodes.map(({ name, address }) => nodeObject(name, [address.ip4, address.ip6])),
    "services.yaml": serviceObjects(setup.services, testedIn(world, setup, family)),
  };
}

/** What is there before any agent: the CNI's rules, kube-proxy's where it serves, and clients that may make many connections. */
async function prepare(world: World, setup: Setup, ground: Ground): Promise<void> {
  const { dataplane, services, xdpUplink } = setup;
  const [first, second] = world.nodes;
  await Promise.all([world.client, world.pod("client")].map((client) => client.sysctl(CLIENT_SYSCTLS)));
  if (second !== undefined) await leadThrough(first as Node, second);
  if (xdpUplink) await readyForXdp(world, dataplane);
  await Promise.all(
    world.nodes.map(async (node) => {
      await restore(node, ground, cniRules(node, ground.family));
      await loadProxy(node, dataplane, services, testedIn(world, setup, ground.family), ground);
    }),
  );
}

/**
 * The uplinks' other ends take what XDP sends, and nobody leaves a checksum to a device, which a veth is not; without a dataplane
 * each uplink carries a program that lets all pass.
 */
async function readyForXdp(world: World, dataplane: Dataplane): Promise<void> {
  const wholeChecksums = ["ethtool", "-K", "eth0", "tx", "off"];
  await world.client.exec(wholeChecksums);
  for (const node of world.nodes) {
    await attachForeignXdp(world.switch, node.name);
    await node.exec(wholeChecksums);
    if (dataplane.by === "nothing") await attachForeignXdp(node, "eth0");
  }
}

/** What comes from outside for a pod of the second node passes by the first one, both ways, as it does through a NodePort. */
async function leadThrough(first: Node, second: Node): Promise<void> {
  const pods = podSubnet(second.index);
  const { address, world } = first;
  await first.sysctl({ "net/ipv4/conf/all/send_redirects": 0, "net/ipv4/conf/eth0/send_redirects": 0 });
  await world.switch.ip([
    `route replace ${pods.ip4} via ${address.ip4}`,
    `route replace ${pods.ip6} via ${address.ip6}`,
  ]);
  await second.ip([
    `route add ${CLIENT.ip4}/32 via ${address.ip4}`,
    `route add ${CLIENT.ip6}/128 via ${address.ip6}`,
  ]);
}

/** The tool that loads and lists rules. */
function iptablesTool({ family, iptables }: Ground): string {
  return `${family === 4 ? "iptables" : "ip6tables"}-${iptables}`;
}

function cniRules(node: Node, family: Family): string {
  const rules = nodeRules(family, addressOf(podSubnet(node.index), family), {
    flannelRules: true,
    dropInvalid: true,
  });
  if (rules === undefined) throw new Error("a node without rules");
  return rules;
}

async function restore(node: Node, ground: Ground, rules: string): Promise<void> {
  const argv = [`${iptablesTool(ground)}-restore`, "--noflush"];
  await node.exec(argv, { input: rules, timeoutMs: RULES_TIMEOUT_MS });
}

async function loadProxy(
  node: Node,
  dataplane: Dataplane,
  services: number,
  tested: Tested,
  ground: Ground,
): Promise<void> {
  if (dataplane.by !== "kube-proxy") return;
  const { family } = ground;
  const ports = proxiedPorts(services, tested);
  const about = {
    family,
    clusterCidr: family === 4 ? CLUSTER_CIDR4 : CLUSTER_CIDR6,
    serviceCidr: family === 4 ? SERVICE_CIDR4 : SERVICE_CIDR6,
    nodePortAddresses: [addressOf(node.address, family)],
  };
  if (dataplane.mode === "iptables") return restore(node, ground, iptablesRules(ports, about));
  const input = nftablesRules(ports, about);
  await node.exec(["nft", "-f", "-"], { input, timeoutMs: RULES_TIMEOUT_MS });
}

function sample(kind: Kind, { count, bytes, seconds, p50Ns, p99Ns, lost }: Load): Sample {
  const done = kind === "tcp-stream" ? bytes * 8 : count;
  return { rate: done / seconds, p50Us: p50Ns / 1000, p99Us: p99Ns / 1000, lost };
}
