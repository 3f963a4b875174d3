// SPDX-License-Identifier: Apache-2.0
/**
 * The contestants. One more is one more object here: its name, what serves its world, who asks, what is asked for, and how it
 * is proved. Another way through our programs is another dataplane argument and another proof.
 */
import type { Overlay } from "../../../src/demo/world/index.js";
import { KINDS, type Kind } from "./load.js";
import { byNeither, byShortcut, bySockets, byTc, byXdp, type CounterProof } from "./proof.js";
import type { Place } from "./services.js";

/** What turns a Service's address into a server's. */
export type Dataplane =
  /** Nothing does. `copy`: a world of its own beside the other one, which is built in the same way. */
  | { readonly by: "nothing"; readonly copy?: number }
  /** The agent on each node, with these arguments beside the usual ones. */
  | { readonly by: "portolan"; readonly args: readonly string[] }
  | { readonly by: "kube-proxy"; readonly mode: "iptables" | "nftables" };

export type Ratios = Readonly<Partial<Record<Kind, number>>>;

export interface Path {
  readonly name: string;
  readonly dataplane: Dataplane;
  /** How the nodes' pods reach each other. */
  readonly overlay: Overlay;
  /**
   * Whether both ends of the nodes' uplinks carry an XDP program: the far one lets all pass, without which a veth takes nothing
   * that XDP sends; the node's own is the dataplane's, or lets all pass as well. Such a veth has no offloads: what is measured
   * there is compared with what is measured there.
   */
  readonly xdpUplink: boolean;
  /** A pod of the first node, or the host outside of the cluster. */
  readonly from: "pod" | "outside";
  /** The server's own address, or the Service's: its ClusterIP, or its NodePort at the first node. */
  readonly to: "server" | "cluster-ip" | "node-port";
  /** How it is proved that a measurement took this path: by our counters, or by the kernel's rules, at the first node. */
  readonly proof: CounterProof | "rules";
  /** Whether the client's sockets are made in the cgroup of its node's agent. */
  readonly inCgroup: boolean;
  readonly kinds: readonly Kind[];
  readonly places: readonly Place[];
  /** Where the server is when there are more Services than one. */
  readonly placesOfMany: readonly Place[];
  /** It is measured up to so many Services. */
  readonly mostServices: number;
  /** The path without a Service from the same client. */
  readonly baseline: string;
  /** Least ratios to the baseline (the benchmark tells who misses them). */
  readonly targets: Readonly<Partial<Record<Place, Ratios>>>;
  /** Those which it must be faster than, at each number of Services, in transactions over TCP. */
  readonly faster: readonly string[];
  /** Others that it is compared with, for which nothing is promised. */
  readonly beside: readonly string[];
  /** Measured only when it is asked for by name: it says what a part of a path costs, and nobody would choose it. */
  readonly part: boolean;
}

const BOTH: readonly Place[] = ["same node", "other node"];
const atBoth = (ratios: Ratios): Path["targets"] => ({ "same node": ratios, "other node": ratios });
const FROM_POD = {
  overlay: "host-gw",
  xdpUplink: false,
  from: "pod",
  to: "cluster-ip",
  inCgroup: false,
  kinds: KINDS,
  places: BOTH,
  // A node's rules for ten thousand Services take long: with the server on the client's node no other needs them.
  placesOfMany: ["same node"],
  baseline: "direct",
  targets: {},
  faster: [],
  beside: [],
  part: false,
} as const;
const OVER_VXLAN = {
  ...FROM_POD,
  overlay: "vxlan",
  kinds: ["tcp-rr", "tcp-crr", "tcp-stream"],
  places: ["other node"],
  mostServices: 1,
  baseline: "vxlan-direct",
} as const;
const FROM_OUTSIDE = {
  ...FROM_POD,
  from: "outside",
  to: "node-port",
  places: ["other node"],
  placesOfMany: ["other node"],
  baseline: "outside-direct",
} as const;

const NOTHING = { dataplane: { by: "nothing" }, to: "server", proof: "rules", mostServices: 1 } as const;
const IPTABLES = {
  dataplane: { by: "kube-proxy", mode: "iptables" },
  proof: "rules",
  mostServices: 10_000,
} as const;
/** nft takes minutes for more. */
const NFTABLES = { ...IPTABLES, dataplane: { by: "kube-proxy", mode: "nftables" } } as const;
const TC = { dataplane: { by: "portolan", args: ["--socket-lb", "off"] }, proof: byTc } as const;
const SHORTCUT = {
  dataplane: { by: "portolan", args: ["--socket-lb", "off", "--forwarding", "redirect"] },
  proof: byShortcut,
} as const;
const SOCKETS = { by: "portolan", args: ["--socket-lb", "full"] } as const;
const MOST = 100_000;
/** Asks for the server itself in a world where a dataplane stands: what a path pays before a Service is asked for. */
const UNUSED = { ...FROM_POD, to: "server", part: true, mostServices: MOST, places: ["same node"] } as const;
const TO_OTHER_NODE: Ratios = { "tcp-rr": 1, "tcp-stream": 1 };

/** In the order in which they are measured and told. */
export const PATHS: readonly Path[] = [
  { ...FROM_POD, ...NOTHING, name: "direct" },
  {
    ...FROM_POD,
    ...TC,
    name: "portolan-tc",
    mostServices: MOST,
    targets: atBoth({ "tcp-rr": 0.92, "tcp-crr": 0.93 }),
    faster: ["iptables", "nftables"],
  },
  {
    ...FROM_POD,
    ...SHORTCUT,
    name: "portolan-shortcut",
    mostServices: MOST,
    targets: {
      "same node": { "tcp-rr": 1.04, "tcp-crr": 0.99, "tcp-stream": 1.05 },
      "other node": TO_OTHER_NODE,
    },
  },
  {
    ...FROM_POD,
    name: "portolan-sockets",
    dataplane: SOCKETS,
    proof: bySockets,
    inCgroup: true,
    // UDP of pods stays with tc in every mode.
    kinds: ["tcp-rr", "tcp-crr", "tcp-stream"],
    mostServices: MOST,
    targets: atBoth({ "tcp-rr": 0.98, "tcp-crr": 0.96, "tcp-stream": 0.98 }),
  },
  { ...FROM_POD, ...IPTABLES, name: "iptables" },
  { ...FROM_POD, ...NFTABLES, name: "nftables" },
  { ...OVER_VXLAN, ...NOTHING, name: "vxlan-direct" },
  { ...OVER_VXLAN, ...TC, name: "vxlan-portolan-tc" },
  {
    ...OVER_VXLAN,
    ...SHORTCUT,
    name: "vxlan-portolan-shortcut",
    targets: { "other node": TO_OTHER_NODE },
  },
  { ...FROM_OUTSIDE, ...NOTHING, name: "outside-direct" },
  { ...FROM_OUTSIDE, ...NOTHING, name: "outside-xdp-pass", xdpUplink: true },
  {
    ...FROM_OUTSIDE,
    name: "outside-portolan-xdp",
    dataplane: { by: "portolan", args: ["--socket-lb", "off", "--xdp", "native"] },
    xdpUplink: true,
    proof: byXdp,
    mostServices: 10_000,
    baseline: "outside-xdp-pass",
    beside: ["outside-direct", "outside-portolan-tc", "outside-iptables", "outside-nftables"],
  },
  {
    ...FROM_OUTSIDE,
    ...TC,
    name: "outside-portolan-tc",
    mostServices: 10_000,
    faster: ["outside-iptables", "outside-nftables"],
  },
  { ...FROM_OUTSIDE, ...IPTABLES, name: "outside-iptables" },
  // With ten thousand, nft would take minutes more: both nodes need the rules.
  { ...FROM_OUTSIDE, ...NFTABLES, name: "outside-nftables", mostServices: 1_000 },
  // What the parts of a path cost (docs/design/path-cost.md). The copy says what two worlds that are the same differ by.
  { ...UNUSED, ...NOTHING, name: "direct-copy", dataplane: { by: "nothing", copy: 1 } },
  { ...UNUSED, name: "tc-unused", dataplane: TC.dataplane, proof: byNeither },
  { ...UNUSED, name: "sockets-unused", dataplane: SOCKETS, proof: byNeither, inCgroup: true },
  { ...UNUSED, name: "sockets-outside-cgroup", dataplane: SOCKETS, proof: byNeither },
];
