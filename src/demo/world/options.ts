// SPDX-License-Identifier: Apache-2.0

/** How pods hang on their node. */
export type Flavour =
  /** Ports of the bridge cni0 (flannel and most simple plug-ins). */
  | "bridge"
  /** One host route for each pod's veth, proxy ARP as next hop (Calico). */
  | "routed";

/** How the nodes' pod subnets reach each other. */
export type Overlay =
  /** flannel.1 with static neighbour and forwarding entries. */
  | "vxlan"
  /** Plain routes via the other node. */
  | "host-gw";

/** Options of a world. Everything has the default of a real flannel node. */
export interface WorldOptions {
  /** Number of nodes, 1 to 9. @default 2 */
  readonly nodes?: number;
  /** @default "bridge" */
  readonly flavour?: Flavour;
  /** @default "vxlan" for bridge, "host-gw" for routed */
  readonly overlay?: Overlay;
  /** MTU of the wire between the nodes, in bytes. @default 1500 */
  readonly underlayMtu?: number;
  /** MTU of flannel.1, in bytes. @default 1450 */
  readonly overlayMtu?: number;
  /** MTU of pods and of cni0, in bytes. A test of path MTU errors makes it larger than the overlay's. @default 1450 */
  readonly podMtu?: number;
  /** rp_filter of the nodes: 0 off, 1 strict, 2 loose. @default 1 */
  readonly rpFilter?: 0 | 1 | 2;
  /** Whether bridged frames pass iptables (br_netfilter), on the nodes. @default true */
  readonly bridgeNetfilter?: boolean;
  /** flannel's POSTROUTING and FORWARD rules on the nodes. @default true */
  readonly flannelRules?: boolean;
  /** `FORWARD -m conntrack --ctstate INVALID -j DROP`, which kube-proxy has too. @default true */
  readonly dropInvalid?: boolean;
  /** UDP checksums of the vxlan's outer packets: with them, inner packets come as CHECKSUM_COMPLETE. @default false */
  readonly vxlanUdpChecksum?: boolean;
  /** Whether SIGINT, SIGTERM and SIGHUP remove the world at once. A program with handlers of its own says false. @default true */
  readonly handleSignals?: boolean;
}

/** Options of a pod. */
export interface PodOptions {
  /** Labels of the manifest that {@link Pod.manifest} gives. */
  readonly labels?: Readonly<Record<string, string>>;
  /** Namespace of the manifest. @default "default" */
  readonly namespace?: string;
  /** MTU of the pod's interface, in bytes. @default the world's podMtu */
  readonly mtu?: number;
  /** IPv4 address, within the node's pod subnet. @default the next free one */
  readonly ip4?: string;
  /** IPv6 address, within the node's pod subnet. @default the next free one */
  readonly ip6?: string;
}

/** {@link WorldOptions} with all defaults filled in. */
export type FullWorldOptions = Required<WorldOptions>;

/** Fills in the defaults. */
export function withDefaults(options: WorldOptions): FullWorldOptions {
  const flavour = options.flavour ?? "bridge";
  return {
    nodes: options.nodes ?? 2,
    flavour,
    overlay: options.overlay ?? (flavour === "bridge" ? "vxlan" : "host-gw"),
    underlayMtu: options.underlayMtu ?? 1500,
    overlayMtu: options.overlayMtu ?? 1450,
    podMtu: options.podMtu ?? 1450,
    rpFilter: options.rpFilter ?? 1,
    bridgeNetfilter: options.bridgeNetfilter ?? true,
    flannelRules: options.flannelRules ?? true,
    dropInvalid: options.dropInvalid ?? true,
    vxlanUdpChecksum: options.vxlanUdpChecksum ?? false,
    handleSignals: options.handleSignals ?? true,
  };
}
