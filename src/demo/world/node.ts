// SPDX-License-Identifier: Apache-2.0
import { WorldError } from "./errors.js";
import { Host } from "./host.js";
import { nodeRules } from "./netfilter.js";
import type { FullWorldOptions, PodOptions } from "./options.js";
import {
  type DualAddress,
  gatewayAddress,
  nodeAddress,
  overlayAddress,
  overlayMac,
  podAddress,
  podSubnet,
  ROUTED_HOST_MAC,
  SWITCH_UNDERLAY,
} from "./plan.js";
import type { Pod } from "./pod.js";
import type { World } from "./world.js";

/** A node: eth0 to the switch, pods on a bridge or on routes, an overlay to the other nodes. */
export class Node extends Host {
  readonly world: World;
  /** 1 for the first node. */
  readonly index: number;
  readonly #pods = new Map<string, Pod>();
  #nextPod = 0;

  constructor(world: World, index: number, netns: string) {
    super(`n${index}`, netns);
    this.world = world;
    this.index = index;
  }

  /** Address of eth0. */
  get address(): DualAddress {
    return nodeAddress(this.index);
  }

  /** Address of cni0. */
  get gateway(): DualAddress {
    return gatewayAddress(this.index);
  }

  /** The node's pods, in the order in which they were made. */
  get pods(): readonly Pod[] {
    return [...this.#pods.values()];
  }

  /** Makes one pod; for several at once {@link World.addPods} is quicker. */
  async addPod(name: string, options: PodOptions = {}): Promise<Pod> {
    const [pod] = await this.world.addPods([{ node: this.index, name, ...options }]);
    return pod as Pod;
  }

  /** Remembers a pod. For the world only. */
  adopt(pod: Pod): void {
    this.#pods.set(pod.name, pod);
  }

  /** Forgets a removed pod. For the pod only. */
  forget(pod: Pod): void {
    this.#pods.delete(pod.name);
  }

  /** The next free pair of pod addresses. For the world only. */
  takeAddress(): DualAddress {
    if (this.#nextPod > 240)
      throw new WorldError("E_WORLD_OPTION", `node ${this.name} has no more pod addresses`);
    return podAddress(this.index, this.#nextPod++);
  }
}

/** Sysctls of a node, to be set before it has any interface. */
export function nodeSysctls(options: FullWorldOptions): Record<string, string | number> {
  const bridge = options.bridgeNetfilter ? 1 : 0;
  return {
    ...hostSysctls(),
    "net/ipv4/ip_forward": 1,
    "net/ipv4/conf/all/rp_filter": options.rpFilter,
    "net/ipv4/conf/default/rp_filter": options.rpFilter,
    "net/ipv6/conf/all/forwarding": 1,
    "net/ipv6/conf/default/forwarding": 1,
    ...(options.flavour === "bridge"
      ? { "net/bridge/bridge-nf-call-iptables": bridge, "net/bridge/bridge-nf-call-ip6tables": bridge }
      : {}),
  };
}

/** Sysctls of every host: IPv6 addresses serve at once (no duplicate detection), and nothing is learnt from routers. */
export function hostSysctls(): Record<string, string | number> {
  return {
    "net/ipv6/conf/all/disable_ipv6": 0,
    "net/ipv6/conf/default/disable_ipv6": 0,
    "net/ipv6/conf/all/accept_dad": 0,
    "net/ipv6/conf/default/accept_dad": 0,
    "net/ipv6/conf/default/accept_ra": 0,
    "net/ipv6/conf/default/router_solicitations": 0,
  };
}

/** Lines of `ip` and of `bridge` which configure a node that has its eth0. */
export function nodeLines(node: Node, options: FullWorldOptions): { ip: string[]; bridge: string[] } {
  const self = node.address;
  const ip = [
    "link set lo up",
    `addr add ${self.ip4}/24 dev eth0`,
    `addr add ${self.ip6}/64 dev eth0 nodad`,
    `link set eth0 mtu ${options.underlayMtu} up`,
    `route add default via ${SWITCH_UNDERLAY.ip4} dev eth0`,
    `route add default via ${SWITCH_UNDERLAY.ip6} dev eth0`,
  ];
  const bridge: string[] = [];
  if (options.flavour === "bridge") ip.push(...bridgeLines(node, options));
  const others = Array.from({ length: options.nodes }, (_, i) => i + 1).filter((n) => n !== node.index);
  if (options.overlay === "vxlan") {
    ip.push(...vxlanLines(node, options), ...others.flatMap((n) => vxlanPeerLines(n)));
    bridge.push(
      ...others.map(
        (n) => `fdb append ${overlayMac(n)} dev flannel.1 dst ${nodeAddress(n).ip4} self permanent`,
      ),
    );
  } else {
    for (const n of others) {
      const [subnet, via] = [podSubnet(n), nodeAddress(n)];
      ip.push(
        `route add ${subnet.ip4} via ${via.ip4} dev eth0`,
        `route add ${subnet.ip6} via ${via.ip6} dev eth0`,
      );
    }
  }
  return { ip, bridge };
}

function bridgeLines(node: Node, options: FullWorldOptions): string[] {
  const { ip4, ip6 } = node.gateway;
  const mac = `0a:58:0a:f4:${node.index.toString(16).padStart(2, "0")}:01`;
  return [
    // A fixed hardware address, as the bridge plug-in gives it: else it would change with each new port.
    `link add cni0 address ${mac} type bridge forward_delay 0`,
    `link set cni0 mtu ${options.podMtu} up`,
    `addr add ${ip4}/24 dev cni0`,
    `addr add ${ip6}/64 dev cni0 nodad`,
  ];
}

function vxlanLines(node: Node, options: FullWorldOptions): string[] {
  const { ip4, ip6 } = overlayAddress(node.index);
  const csum = options.vxlanUdpChecksum ? "udpcsum" : "noudpcsum";
  const vxlan = `type vxlan id 1 local ${node.address.ip4} dev eth0 dstport 8472 nolearning ${csum}`;
  return [
    `link add flannel.1 address ${overlayMac(node.index)} ${vxlan}`,
    `link set flannel.1 mtu ${options.overlayMtu} up`,
    `addr add ${ip4}/32 dev flannel.1`,
    `addr add ${ip6}/128 dev flannel.1 nodad`,
  ];
}

function vxlanPeerLines(n: number): string[] {
  const [peer, subnet, mac] = [overlayAddress(n), podSubnet(n), overlayMac(n)];
  return [
    `neigh add ${peer.ip4} lladdr ${mac} dev flannel.1 nud permanent`,
    `neigh add ${peer.ip6} lladdr ${mac} dev flannel.1 nud permanent`,
    `route add ${subnet.ip4} via ${peer.ip4} dev flannel.1 onlink`,
    `route add ${subnet.ip6} via ${peer.ip6} dev flannel.1 onlink`,
  ];
}

/** Lines of `ip` which connect new pods, whose veths exist, to their node. */
export function attachLines(pods: readonly Pod[], options: FullWorldOptions): string[] {
  if (options.flavour === "bridge") return pods.map((pod) => `link set ${pod.hostVeth} master cni0 up`);
  return pods.flatMap((pod) => [
    `link set ${pod.hostVeth} address ${ROUTED_HOST_MAC} up`,
    `route add ${pod.ip4}/32 dev ${pod.hostVeth} scope link`,
    `route add ${pod.ip6}/128 dev ${pod.hostVeth}`,
  ]);
}

/** Sysctls of the node's ends of routed pods: they answer for the pods' next hop. */
export function attachSysctls(
  pods: readonly Pod[],
  options: FullWorldOptions,
): Record<string, string | number> {
  if (options.flavour === "bridge") return {};
  const entries = pods.flatMap((pod): [string, number][] => [
    [`net/ipv4/conf/${pod.hostVeth}/proxy_arp`, 1],
    [`net/ipv4/neigh/${pod.hostVeth}/proxy_delay`, 0],
    [`net/ipv6/conf/${pod.hostVeth}/proxy_ndp`, 1],
  ]);
  return Object.fromEntries(entries);
}

/** Loads the node's netfilter rules, if any are wanted. */
export async function loadRules(node: Node, options: FullWorldOptions): Promise<void> {
  const subnet = podSubnet(node.index);
  const load = async (tool: string, rules: string | undefined): Promise<void> => {
    if (rules !== undefined) await node.exec([tool, "--noflush"], { input: rules });
  };
  await Promise.all([
    load("iptables-restore", nodeRules(4, subnet.ip4, options)),
    load("ip6tables-restore", nodeRules(6, subnet.ip6, options)),
  ]);
}
