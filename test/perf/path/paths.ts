// SPDX-License-Identifier: Apache-2.0
/**
 * The contestants. One more is one more object here: its name, what serves its world, who asks, what is asked for, and how it
 * is proved. Another way through our programs is another dataplane argument and another proof.
 */
import { KINDS, type Kind } from "./load.js";
import { byShortcut, bySockets, byTc, type CounterProof } from "./proof.js";
import type { Place } from "./services.js";

/** What turns a Service's address into a server's. */
export type Dataplane =
  /** Nothing does. */
  | { readonly by: "nothing" }
  /** The agent on each node, with these arguments beside the usual ones. */
  | { readonly by: "portolan"; readonly args: readonly string[] }
  | { readonly by: "kube-proxy"; readonly mode: "iptables" | "nftables" };

export type Ratios = Readonly<Partial<Record<Kind, number>>>;

export interface Path {
  readonly name: string;
  readonly dataplane: Dataplane;
  /** A pod of the first node, or the host outside of the cluster. */
  readonly from: "pod" | "outside";
  /** The server's own address, or the Service's: its ClusterIP, or its NodePort at the first node. */
  readonly to: "server" | "cluster-ip" | "node-port";
  /** How it is proved that a measurement took this path: by our counters at the first node, or by the kernel's tracked flows. */
  readonly proof: CounterProof | "conntrack";
  /** Whether the client's sockets are made in the cgroup of its node's agent. */
  readonly inCgroup: boolean;
  readonly kinds: readonly Kind[];
  readonly places: readonly Place[];
  /** It is measured up to so many Services. */
  readonly mostServices: number;
  /** The path without a Service from the same client. */
  readonly baseline: string;
  /** Least ratios to the baseline (the benchmark tells who misses them). */
  readonly targets: Readonly<Partial<Record<Place, Ratios>>>;
  /** Those which it must be faster than, at each number of Services, in transactions over TCP. */
  readonly faster: readonly string[];
}

const BOTH: readonly Place[] = ["same node", "other node"];
const atBoth = (ratios: Ratios): Path["targets"] => ({ "same node": ratios, "other node": ratios });
const FROM_POD = {
  from: "pod",
  to: "cluster-ip",
  inCgroup: false,
  kinds: KINDS,
  places: BOTH,
  baseline: "direct",
  targets: {},
  faster: [],
} as const;
const FROM_OUTSIDE = { ...FROM_POD, from: "outside", to: "node-port", baseline: "outside-direct" } as const;

/** kube-proxy's iptables rules are walked one after the other, and nft takes minutes for more. */
const PROXY_RULES = { proof: "conntrack", mostServices: 10_000 } as const;
const TC = {
  dataplane: { by: "portolan", args: ["--socket-lb", "off"] },
  proof: byTc,
  mostServices: 100_000,
} as const;

/** In the order in which they are measured and told. */
export const PATHS: readonly Path[] = [
  {
    ...FROM_POD,
    name: "direct",
    dataplane: { by: "nothing" },
    to: "server",
    proof: "conntrack",
    mostServices: 1,
  },
  {
    ...FROM_POD,
    ...TC,
    name: "portolan-tc",
    targets: atBoth({ "tcp-rr": 0.92, "tcp-crr": 0.93 }),
    faster: ["iptables", "nftables"],
  },
  {
    ...FROM_POD,
    name: "portolan-shortcut",
    dataplane: { by: "portolan", args: ["--socket-lb", "off", "--forwarding", "redirect"] },
    proof: byShortcut,
    mostServices: 1,
    targets: {
      "same node": { "tcp-rr": 1.04, "tcp-crr": 0.99, "tcp-stream": 1.05 },
      "other node": { "tcp-rr": 1, "tcp-stream": 1 },
    },
  },
  {
    ...FROM_POD,
    name: "portolan-sockets",
    dataplane: { by: "portolan", args: ["--socket-lb", "full"] },
    proof: bySockets,
    inCgroup: true,
    // UDP of pods stays with tc in every mode.
    kinds: ["tcp-rr", "tcp-crr", "tcp-stream"],
    mostServices: 100_000,
    targets: atBoth({ "tcp-rr": 0.98, "tcp-crr": 0.96, "tcp-stream": 0.98 }),
  },
  { ...FROM_POD, ...PROXY_RULES, name: "iptables", dataplane: { by: "kube-proxy", mode: "iptables" } },
  { ...FROM_POD, ...PROXY_RULES, name: "nftables", dataplane: { by: "kube-proxy", mode: "nftables" } },
  {
    ...FROM_OUTSIDE,
    name: "outside-direct",
    dataplane: { by: "nothing" },
    to: "server",
    proof: "conntrack",
    mostServices: 1,
  },
  { ...FROM_OUTSIDE, ...TC, name: "outside-portolan-tc", faster: ["outside-iptables", "outside-nftables"] },
  {
    ...FROM_OUTSIDE,
    ...PROXY_RULES,
    name: "outside-iptables",
    dataplane: { by: "kube-proxy", mode: "iptables" },
  },
  {
    ...FROM_OUTSIDE,
    ...PROXY_RULES,
    name: "outside-nftables",
    dataplane: { by: "kube-proxy", mode: "nftables" },
  },
];

/** What is measured unless it is said otherwise: clients that are pods. */
export const USUAL: readonly string[] = PATHS.filter(({ from }) => from === "pod").map(({ name }) => name);
