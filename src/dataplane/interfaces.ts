// SPDX-License-Identifier: Apache-2.0
/**
 * Which interfaces carry our programs, in which role, and with which addresses they masquerade. A pure function of what
 * the kernel says about links and addresses: calling it again after any change gives the whole answer anew.
 */
import { type IpAddress, specialUse } from "../net/ip.js";

/** A network interface as rtnetlink shows it. */
export interface Link {
  readonly ifindex: number;
  readonly name: string;
  /** IFLA_INFO_KIND: "veth", "bridge", "vxlan" …; "" for hardware. */
  readonly kind: string;
  /** ARPHRD_*: 1 is Ethernet. */
  readonly hardwareType: number;
  /** ifindex of the bridge, bond or VRF it belongs to; 0: none. */
  readonly master: number;
  /** Its peer or lower device lives in another network namespace (IFLA_LINK_NETNSID). */
  readonly peerElsewhere: boolean;
  /** Bytes; left out: not known. */
  readonly mtu?: number;
  /** At its root; left out: not known. */
  readonly qdisc?: string;
}

export interface LinkAddress {
  readonly ifindex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
}

export type InterfaceRole = "pod" | "uplink" | "overlay" | "bridge";

/** An interface that the dataplane knows. */
export interface InterfacePlan {
  readonly ifindex: number;
  readonly name: string;
  readonly role: InterfaceRole;
  /** Whether it carries our programs; a bridge is only known for its address. */
  readonly attach: boolean;
  /** The source address for flows that are masqueraded here; null: none of that family. */
  readonly masquerade4: IpAddress | null;
  readonly masquerade6: IpAddress | null;
  /** What comes in here is a local pod's: detectors BridgeInterface and InterfaceNamePrefix (8.3). */
  readonly localPods: boolean;
  /** Bytes from the network header on; 0: not known. */
  readonly mtu: number;
  /** A veth into another network namespace: what is sent to its other end need not pass it (bpf_redirect_peer). */
  readonly peer: boolean;
}

/** An interface that looks like ours to serve, and cannot be. */
export interface RefusedInterface {
  readonly ifindex: number;
  readonly name: string;
  readonly reason: string;
}

export interface InterfaceOptions {
  /** Names or globs of uplinks, in place of detection; empty: detect. */
  readonly devices: readonly string[];
  /** Names or globs of the node's ends of pods' interfaces, in place of detection; empty: detect. */
  readonly podInterfaces: readonly string[];
  /** Whose packets are local pods' (8.3); left out: that is not told by interfaces. */
  readonly localPods?: LocalPods;
}

/** An interface by its exact name (BridgeInterface), or all whose name begins so (InterfaceNamePrefix). */
export type LocalPods = { readonly bridge: string } | { readonly prefix: string };

/** The addresses that this node's own processes are taken to have; null: none of that family. */
export interface NodeAddresses {
  readonly masquerade4: IpAddress | null;
  readonly masquerade6: IpAddress | null;
}

export interface Interfaces {
  /** By ifindex, ascending. */
  readonly plans: readonly InterfacePlan[];
  readonly refused: readonly RefusedInterface[];
  readonly node: NodeAddresses;
}

const ARPHRD_ETHER = 1;
/** What a packet can say of its length. */
const MOST_MTU = 65_535;
const ARPHRD_LOOPBACK = 772;
const OVERLAY_KINDS: ReadonlySet<string> = new Set([
  "vxlan",
  "geneve",
  "gre",
  "gretap",
  "ip6gre",
  "ip6gretap",
  "ipip",
  "ip6tnl",
  "sit",
  "wireguard",
]);
/** Kinds which stand in for a network card. */
const UPLINK_KINDS: ReadonlySet<string> = new Set([
  "",
  "veth",
  "bond",
  "team",
  "vlan",
  "macvlan",
  "ipvlan",
  "virt_wifi",
]);
/** Pairs whose other end may be a pod's eth0; a tap is a virtual machine's. */
const POD_KINDS: ReadonlySet<string> = new Set(["veth", "netkit", "tun"]);

/** Matches an interface name against a name or a glob of `*` and `?`. */
export function matchesName(pattern: string, name: string): boolean {
  const source = pattern
    .replace(/[.+^${}()|[\]\\]/g, "\\$&")
    .replaceAll("*", ".*")
    .replaceAll("?", ".");
  return new RegExp(`^${source}$`).test(name);
}

/** An address which other hosts can answer to. */
const isRoutable = ({ address }: LinkAddress): boolean => specialUse(address) === null;

/** An address with a network behind it. The ptp plug-in gives a pod's veth the gateway's address as a single host. */
function hasNetwork({ address: { family }, prefixLength }: LinkAddress): boolean {
  return prefixLength < (family === 4 ? 32 : 128);
}

class Detection {
  readonly #links: ReadonlyMap<number, Link>;
  readonly #addresses: ReadonlyMap<number, readonly LinkAddress[]>;
  readonly #defaultRoutes: ReadonlySet<number>;
  readonly #options: InterfaceOptions;

  constructor(
    links: readonly Link[],
    addresses: readonly LinkAddress[],
    defaultRoutes: ReadonlySet<number>,
    options: InterfaceOptions,
  ) {
    this.#links = new Map(links.map((link) => [link.ifindex, link]));
    const byLink = new Map<number, LinkAddress[]>();
    for (const address of addresses.filter(isRoutable)) {
      const list = byLink.get(address.ifindex);
      if (list) list.push(address);
      else byLink.set(address.ifindex, [address]);
    }
    this.#addresses = byLink;
    this.#defaultRoutes = defaultRoutes;
    this.#options = options;
  }

  role(link: Link): InterfaceRole | null {
    if (link.hardwareType === ARPHRD_LOOPBACK || link.name === "lo") return null;
    const { devices, podInterfaces } = this.#options;
    if (podInterfaces.some((pattern) => matchesName(pattern, link.name))) return "pod";
    if (devices.some((pattern) => matchesName(pattern, link.name))) {
      return OVERLAY_KINDS.has(link.kind) ? "overlay" : "uplink";
    }
    if (link.kind === "bridge") return "bridge";
    if (OVERLAY_KINDS.has(link.kind)) return "overlay";
    const masterKind = this.#links.get(link.master)?.kind;
    if (masterKind === "bridge") return podInterfaces.length === 0 && POD_KINDS.has(link.kind) ? "pod" : null;
    if (masterKind === "bond" || masterKind === "team") return null; // its master is the uplink
    if (devices.length === 0 && this.#leadsOut(link)) return "uplink";
    if (podInterfaces.length > 0) return null;
    return POD_KINDS.has(link.kind) && link.peerElsewhere && !this.#leadsOut(link) ? "pod" : null;
  }

  #leadsOut(link: Link): boolean {
    if (!UPLINK_KINDS.has(link.kind)) return false;
    if (this.#defaultRoutes.has(link.ifindex)) return true;
    const own = this.#addresses.get(link.ifindex) ?? [];
    return link.kind === "veth" ? own.some(hasNetwork) : own.length > 0;
  }

  /** The first address of a family that the kernel lists for a link, or for the bridge it is a port of. */
  address(link: Link, family: 4 | 6): IpAddress | null {
    const of = (ifindex: number): IpAddress | null =>
      this.#addresses.get(ifindex)?.find(({ address }) => address.family === family)?.address ?? null;
    return of(link.ifindex) ?? (link.master === 0 ? null : of(link.master));
  }

  /** Somebody gave it an address, or named it to us. */
  isInUse(link: Link): boolean {
    const { devices, podInterfaces } = this.#options;
    const named = [...devices, ...podInterfaces].some((pattern) => matchesName(pattern, link.name));
    return named || this.#addresses.has(link.ifindex);
  }

  leadsToDefault(link: Link): boolean {
    return this.#defaultRoutes.has(link.ifindex);
  }

  /** Some interface has this very address. */
  isLocal({ text }: IpAddress): boolean {
    for (const list of this.#addresses.values())
      if (list.some(({ address }) => address.text === text)) return true;
    return false;
  }

  /**
   * Whether what comes in by this link is a local pod's. kube-proxy sees packets after the bridge; our programs sit on its
   * ports, so a port counts as its bridge does.
   */
  bringsLocalPods(link: Link): boolean {
    const { localPods } = this.#options;
    if (localPods === undefined) return false;
    const master = this.#links.get(link.master);
    const names = [link.name, ...(master?.kind === "bridge" ? [master.name] : [])];
    if ("bridge" in localPods) return names.includes(localPods.bridge);
    return names.some((name) => name.startsWith(localPods.prefix));
  }
}

/**
 * Decides the role and the masquerade addresses of each interface.
 *
 * - `lo` is never ours; a bridge is known for its address only.
 * - Patterns (`--pod-interfaces`, `--devices`) replace detection of that role.
 * - vxlan and its like are overlays.
 * - A port of a bridge that has a peer (veth, netkit, tap) is a pod's.
 * - What has the default route or an address with a network behind it is an uplink, also when it is a veth, as a node that
 *   is itself a container has.
 * - Any other veth whose peer is in another namespace is a pod's (routed, as Calico does).
 *
 * @param addresses in the kernel's order: the first of a family is the primary one
 * The node's own address is the first preferred one that is here, else that of the uplink with the default route, else of
 * any uplink.
 *
 * @param defaultRoutes ifindexes which a default route uses
 * @param preferred addresses by which the cluster knows this node, the primary one of each family first (13.1)
 */
export function planInterfaces(
  links: readonly Link[],
  addresses: readonly LinkAddress[],
  defaultRoutes: ReadonlySet<number>,
  options: InterfaceOptions,
  preferred: readonly IpAddress[] = [],
): Interfaces {
  const detection = new Detection(links, addresses, defaultRoutes, options);
  const roles = [...links]
    .sort((a, b) => a.ifindex - b.ifindex)
    .flatMap((link) => {
      const role = detection.role(link);
      return role === null ? [] : [{ link, role }];
    });
  const uplinks = roles.filter(({ role }) => role === "uplink").map(({ link }) => link);
  uplinks.sort((a, b) => Number(detection.leadsToDefault(b)) - Number(detection.leadsToDefault(a)));
  const nodeAddress = (family: 4 | 6): IpAddress | null =>
    preferred.find((address) => address.family === family && detection.isLocal(address)) ??
    uplinks.map((link) => detection.address(link, family)).find((address) => address !== null) ??
    null;
  const [node4, node6] = [nodeAddress(4), nodeAddress(6)];

  const plans: InterfacePlan[] = [];
  const refused: RefusedInterface[] = [];
  for (const { link, role } of roles) {
    const { ifindex, name } = link;
    if (link.hardwareType !== ARPHRD_ETHER) {
      // tunl0, sit0 and the like are there on every host that has the module: nothing to speak of unless it is used.
      if (!detection.isInUse(link)) continue;
      const reason = `it has no Ethernet header (hardware type ${link.hardwareType}), which the programs need`;
      refused.push({ ifindex, name, reason });
      continue;
    }
    const masquerade4 = detection.address(link, 4) ?? node4;
    const masquerade6 = detection.address(link, 6) ?? node6;
    const localPods = detection.bringsLocalPods(link);
    const attach = role !== "bridge";
    const mtu = Math.min(link.mtu ?? 0, MOST_MTU);
    const peer = role === "pod" && link.kind === "veth" && link.peerElsewhere && link.master === 0;
    plans.push(
      Object.freeze({ ifindex, name, role, attach, masquerade4, masquerade6, localPods, mtu, peer }),
    );
  }
  return { plans, refused, node: { masquerade4: node4, masquerade6: node6 } };
}
