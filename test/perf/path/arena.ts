// SPDX-License-Identifier: Apache-2.0
/** A contestant's own world: nodes, a client, servers, and the dataplane that is measured. */

import type { Flavour, Host, Node, World } from "../../../src/demo/world/index.js";
import { nodeRules } from "../../../src/demo/world/netfilter.js";
import {
  CLUSTER_CIDR4,
  CLUSTER_CIDR6,
  podSubnet,
  SERVICE_CIDR4,
  SERVICE_CIDR6,
} from "../../../src/demo/world/plan.js";
import type { Family } from "../../../src/net/ip.js";
import { Cluster } from "../../support/cluster.js";
import { iptablesRules, nftablesRules } from "../../support/kube-proxy-rules.js";
import { nodeObject } from "../../support/manifests.js";
import { mapSizes } from "../support/map-sizes.js";
import { type Kind, type Load, runClient, startServer } from "./load.js";
import type { Path } from "./paths.js";
import { byConntrack, CounterReader, forgetFlows, since, trackedFlows } from "./proof.js";
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

export class Arena {
  readonly path: Path;
  /** How many Services there are, the tested one included. */
  readonly services: number;
  readonly #ground: Ground;
  readonly #cluster: Cluster;
  #counters: CounterReader | undefined;

  private constructor(path: Path, services: number, ground: Ground, cluster: Cluster) {
    this.path = path;
    this.services = services;
    this.#ground = ground;
    this.#cluster = cluster;
  }

  /** Builds the world. The other node is there only where it is asked: a node's rules for ten thousand Services take a minute. */
  static async start(path: Path, services: number, places: readonly Place[], ground: Ground): Promise<Arena> {
    const { dataplane } = path;
    const { flavour, family } = ground;
    const portolan = dataplane.by === "portolan";
    const nodes = places.includes("other node") ? 2 : 1;
    const cluster = await Cluster.start({
      world: { nodes, flavour, flannelRules: false, dropInvalid: false, handleSignals: false },
      pods: [
        { node: 1, name: "client" },
        ...places.map((place) => ({ node: place === "same node" ? 1 : 2, name: SERVERS[place] })),
      ],
      ...(portolan ? { manifests: (world) => manifests(world, path, services, places, family) } : {}),
      prepare: (world) => prepare(world, path, services, places, ground),
      agentNodes: portolan ? Array.from({ length: nodes }, (_, i) => i + 1) : [],
      agentArgs: portolan ? [...AGENT_ARGS, ...mapSizes(services, 1), ...dataplane.args] : [],
    });
    const arena = new Arena(path, services, ground, cluster);
    try {
      await Promise.all(places.map((place) => startServer(cluster.pod(SERVERS[place]))));
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

  get #client(): Host {
    return this.path.from === "pod" ? this.#cluster.pod("client") : this.#cluster.world.client;
  }

  /** Measures once. What goes wrong, or went another way, is in the sample. */
  async measure(kind: Kind, place: Place, seconds: number): Promise<Sample> {
    const { address, tcp, udp } = this.#target(place);
    const port = kind === "udp-rr" ? udp : tcp;
    const cgroup = this.path.inCgroup ? this.#cluster.cgroup(this.#node) : undefined;
    if (this.path.inCgroup && cgroup === undefined) return { failed: "this machine has no cgroup v2" };
    try {
      await Promise.all(this.#cluster.world.nodes.map(forgetFlows));
      const before = await this.#counters?.read();
      const ask = { kind, address, port, seconds, ...(cgroup === undefined ? {} : { cgroup }) };
      const load = await runClient(this.#client, ask);
      const after = await this.#counters?.read();
      const tally = before && after && since(before, after);
      const wrong = await this.#otherPath(kind, place, load, tally);
      return wrong === null ? sample(kind, load) : { failed: `not this path: ${wrong}` };
    } catch (error) {
      return { failed: error instanceof Error ? error.message : String(error) };
    }
  }

  async #otherPath(
    kind: Kind,
    place: Place,
    load: Load,
    tally: ReturnType<typeof since> | undefined,
  ): Promise<string | null> {
    const { proof } = this.path;
    if (proof !== "conntrack") {
      return tally === undefined ? "there are no counters" : proof(kind, load, tally);
    }
    const { address, tcp, udp } = this.#target(place);
    const port = kind === "udp-rr" ? udp : tcp;
    // What asks for the server itself need not pass by the first node.
    const node = this.path.to === "server" ? this.#cluster.pod(SERVERS[place]).node : this.#node;
    const flows = await trackedFlows(node, this.#ground.family, kind);
    return byConntrack(load, flows, { to: address, port, by: this.#server(place) });
  }

  #server(place: Place): string {
    return addressOf(this.#cluster.pod(SERVERS[place]), this.#ground.family);
  }

  #target(place: Place): Target {
    const { family } = this.#ground;
    if (this.path.to === "server") return { address: this.#server(place), ...SERVED };
    if (this.path.to === "cluster-ip") return clusterIpTarget(family, place);
    return nodePortTarget(addressOf(this.#node.address, family), place);
  }

  async close(): Promise<void> {
    await this.#counters?.close();
    await this.#cluster.close();
  }
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

function testedIn(world: World, path: Path, places: readonly Place[], family: Family): Tested {
  const servers = places.map((place) => [place, addressOf(world.pod(SERVERS[place]), family)] as const);
  return { family, servers: new Map(servers), nodePorts: path.to === "node-port" };
}

function manifests(
  world: World,
  path: Path,
  services: number,
  places: readonly Place[],
  family: Family,
): Record<string, object[]> {
  return {
    "nodes.yaml": world.nodes.map(({ name, address }) => nodeObject(name, [address.ip4, address.ip6])),
    "services.yaml": serviceObjects(services, testedIn(world, path, places, family)),
  };
}

/** What is there before any agent: the CNI's rules, kube-proxy's where it serves, and clients that may make many connections. */
async function prepare(
  world: World,
  path: Path,
  services: number,
  places: readonly Place[],
  ground: Ground,
): Promise<void> {
  await Promise.all([world.client, world.pod("client")].map((client) => client.sysctl(CLIENT_SYSCTLS)));
  await Promise.all(
    world.nodes.map(async (node) => {
      await restore(node, ground, cniRules(node, ground.family));
      await loadProxy(node, path, services, testedIn(world, path, places, ground.family), ground);
    }),
  );
}

function cniRules(node: Node, family: Family): string {
  const rules = nodeRules(family, addressOf(podSubnet(node.index), family), {
    flannelRules: true,
    dropInvalid: true,
  });
  if (rules === undefined) throw new Error("a node without rules");
  return rules;
}

async function restore(node: Node, { family, iptables }: Ground, rules: string): Promise<void> {
  const tool = `${family === 4 ? "iptables" : "ip6tables"}-${iptables}-restore`;
  await node.exec([tool, "--noflush"], { input: rules, timeoutMs: RULES_TIMEOUT_MS });
}

async function loadProxy(
  node: Node,
  { dataplane }: Path,
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
  await node.exec(["nft", "-f", "-"], {
    input: nftablesRules(ports, about),
    timeoutMs: RULES_TIMEOUT_MS,
  });
}

function sample(kind: Kind, { count, bytes, seconds, p50Ns, p99Ns, lost }: Load): Sample {
  const done = kind === "tcp-stream" ? bytes * 8 : count;
  return { rate: done / seconds, p50Us: p50Ns / 1000, p99Us: p99Ns / 1000, lost };
}
