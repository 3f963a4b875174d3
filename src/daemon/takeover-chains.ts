// SPDX-License-Identifier: Apache-2.0
/**
 * Which chains and rules of a table are kube-proxy's, in iptables and in ipvs mode (12.5, 12.6), and the lines that remove them. Pure.
 *
 * Kubelet's own stay: KUBE-FIREWALL, KUBE-KUBELET-CANARY, KUBE-MARK-DROP.
 */
import type { TableName } from "./forward-rules-tools.js";

export interface RuleChain {
  /** Null of all but built-in chains. */
  readonly policy: string | null;
  readonly rules: readonly string[];
}

const NAMES: Readonly<Record<TableName, ReadonlySet<string>>> = {
  filter: new Set([
    "KUBE-SERVICES",
    "KUBE-EXTERNAL-SERVICES",
    "KUBE-FORWARD",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
    "KUBE-PROXY-CANARY",
  ]),
  nat: new Set([
    "KUBE-SERVICES",
    "KUBE-NODEPORTS",
    "KUBE-NODE-PORT",
    "KUBE-POSTROUTING",
    "KUBE-LOAD-BALANCER",
    "KUBE-MARK-MASQ",
    "KUBE-PROXY-CANARY",
  ]),
  mangle: new Set(["KUBE-PROXY-CANARY"]),
  raw: new Set(),
};

/** Chains of one service port or endpoint, in `nat`. KUBE-XLB: before 1.24. */
const PREFIXES: readonly string[] = [
  "KUBE-SVC-",
  "KUBE-SVL-",
  "KUBE-SEP-",
  "KUBE-EXT-",
  "KUBE-FW-",
  "KUBE-XLB-",
];

/** Chains that others may send packets to: kubelet's older releases and the portmap plug-in use them. */
const SHARED: ReadonlySet<string> = new Set(["KUBE-MARK-MASQ", "KUBE-POSTROUTING"]);

export interface Leftovers {
  /** Rules of other chains that lead into the chains below, as "CHAIN rule". */
  readonly jumps: readonly (readonly [chain: string, rule: string])[];
  readonly chains: readonly string[];
  /** Chains that stay because somebody else's chain leads to them. */
  readonly kept: readonly string[];
}

const target = (rule: string): string | null => /(?:^|\s)(?:-j|-g) (\S+)/.exec(rule)?.[1] ?? null;

function isKubeProxys(table: TableName, chain: string): boolean {
  return NAMES[table].has(chain) || (table === "nat" && PREFIXES.some((prefix) => chain.startsWith(prefix)));
}

/** What of a table is kube-proxy's. */
export function findLeftovers(table: TableName, chains: ReadonlyMap<string, RuleChain>): Leftovers {
  const own = new Set([...chains.keys()].filter((name) => isKubeProxys(table, name)));
  const kept = new Set<string>();
  // Only built-in chains are kube-proxy's to lead from; what any other chain leads to is needed there.
  const keep = (name: string): void => {
    if (!own.delete(name)) return;
    kept.add(name);
    for (const rule of chains.get(name)?.rules ?? []) keep(target(rule) ?? "");
  };
  for (const [name, { policy, rules }] of chains) {
    if (policy !== null || isKubeProxys(table, name)) continue;
    for (const rule of rules) {
      const to = target(rule);
      if (to !== null && SHARED.has(to)) keep(to);
    }
  }
  const jumps: (readonly [string, string])[] = [];
  for (const [name, { rules }] of chains) {
    if (own.has(name)) continue;
    for (const rule of rules) if (own.has(target(rule) ?? "")) jumps.push([name, rule]);
  }
  return { jumps, chains: [...own], kept: [...kept] };
}

/** Lines of one transaction at most: iptables-nft takes seconds for tens of thousands. */
const CHUNK = 4096;

/**
 * Transactions for `iptables-restore --noflush`. With the first no packet enters these chains any more; the rest may follow at
 * leisure: all are emptied before the first is deleted, since they lead to each other.
 */
export function removalSteps({ jumps, chains }: Leftovers): readonly (readonly string[])[] {
  return [
    ...chunks(jumps.map(([chain, rule]) => `-D ${chain} ${rule}`)),
    ...chunks(chains.map((chain) => `:${chain} - [0:0]`)),
    ...chunks(chains.map((chain) => `-X ${chain}`)),
  ];
}

function chunks(lines: readonly string[]): string[][] {
  const count = Math.ceil(lines.length / CHUNK);
  return Array.from({ length: count }, (_, i) => lines.slice(i * CHUNK, (i + 1) * CHUNK));
}

/** Names of the sets of ipvs mode; those of IPv6 begin with KUBE-6-. */
const SETS: ReadonlySet<string> = new Set([
  "KUBE-LOOP-BACK",
  "KUBE-CLUSTER-IP",
  "KUBE-EXTERNAL-IP",
  "KUBE-EXTERNAL-IP-LOCAL",
  "KUBE-LOAD-BALANCER",
  "KUBE-LOAD-BALANCER-LOCAL",
  "KUBE-LOAD-BALANCER-FW",
  "KUBE-LOAD-BALANCER-SOURCE-IP",
  "KUBE-LOAD-BALANCER-SOURCE-CIDR",
  "KUBE-NODE-PORT-TCP",
  "KUBE-NODE-PORT-LOCAL-TCP",
  "KUBE-NODE-PORT-UDP",
  "KUBE-NODE-PORT-LOCAL-UDP",
  "KUBE-NODE-PORT-SCTP-HASH",
  "KUBE-NODE-PORT-LOCAL-SCTP-HASH",
  "KUBE-HEALTH-CHECK-NODE-PORT",
  "KUBE-IPVS-IPS",
]);

/** Whether an ipset is one of kube-proxy's. */
export function isKubeProxySet(name: string): boolean {
  return SETS.has(name) || (name.startsWith("KUBE-6-") && SETS.has(name.replace("KUBE-6-", "KUBE-")));
}

/** A virtual server of IPVS. */
export interface VirtualServer {
  readonly protocol: "TCP" | "UDP" | "SCTP";
  /** "10.96.0.1:443", "[fd00::1]:443". */
  readonly address: string;
}

/** Reads `ipvsadm -Ln`. Virtual servers by firewall mark are not kube-proxy's. */
export function parseVirtualServers(text: string): readonly VirtualServer[] {
  return [...text.matchAll(/^(TCP|UDP|SCTP)\s+(\S+:\d+)\s/gm)].map(([, protocol, address]) => ({
    protocol: protocol as VirtualServer["protocol"],
    address: address as string,
  }));
}
