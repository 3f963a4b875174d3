// SPDX-License-Identifier: Apache-2.0
/**
 * What kube-proxy's IPVS mode gives a node, as input of the tools that would write the same: virtual servers with round robin and
 * masquerading, an address for each on a dummy interface, sets of addresses and ports, and rules that look into these sets.
 */
import type { ProxiedPort, RuleNode } from "./kube-proxy-rules.js";

/** Texts for `ipvsadm -R`, `ip -batch`, `ipset restore` and `iptables-restore --noflush`, the rules last; sysctls go first. */
export interface IpvsNode {
  readonly sysctls: Readonly<Record<string, number>>;
  readonly links: string;
  readonly servers: string;
  readonly sets: string;
  readonly rules: string;
}

const MARK = "0x4000/0x4000";
const SETS: Readonly<Record<string, string>> = {
  "KUBE-CLUSTER-IP": "hash:ip,port",
  "KUBE-EXTERNAL-IP": "hash:ip,port",
  "KUBE-EXTERNAL-IP-LOCAL": "hash:ip,port",
  "KUBE-LOAD-BALANCER": "hash:ip,port",
  "KUBE-LOOP-BACK": "hash:ip,port,ip",
  "KUBE-IPVS-IPS": "hash:ip",
};
const MOST_ENTRIES = 65_536;

/** IPv6 sets have names of their own. */
const setName = (name: string, { family }: RuleNode): string =>
  family === 4 ? name : name.replace("KUBE-", "KUBE-6-");

const socketText = (ip: string, port: number): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

function serversOf({ protocol, clusterIP, port, endpoints }: ProxiedPort): string[] {
  const server = `-${protocol === "tcp" ? "t" : "u"} ${socketText(clusterIP, port)}`;
  return [
    `-A ${server} -s rr`,
    ...endpoints.map((endpoint) => `-a ${server} -r ${socketText(endpoint.ip, endpoint.port)} -m -w 1`),
  ];
}

function setsOf(ports: readonly ProxiedPort[], local: ReadonlySet<string>, node: RuleNode): string[] {
  const family = node.family === 4 ? "inet" : "inet6";
  const create = Object.entries(SETS).map(
    ([name, type]) => `create ${setName(name, node)} ${type} family ${family} maxelem ${MOST_ENTRIES}`,
  );
  const add = (name: string, entry: string): string => `add ${setName(name, node)} ${entry}`;
  const entries = ports.flatMap(({ protocol, clusterIP, port, endpoints }) => [
    add("KUBE-CLUSTER-IP", `${clusterIP},${protocol}:${port}`),
    ...endpoints
      .filter(({ ip }) => local.has(ip))
      .map((own) => add("KUBE-LOOP-BACK", `${own.ip},${protocol}:${own.port},${own.ip}`)),
  ]);
  const addresses = [...new Set(ports.map(({ clusterIP }) => clusterIP))];
  return [...create, ...entries, ...addresses.map((address) => add("KUBE-IPVS-IPS", address))];
}

function rulesOf(node: RuleNode): string {
  const inSet = (name: string, fields: string): string =>
    `-m set --match-set ${setName(name, node)} ${fields}`;
  const returns = ["KUBE-LOAD-BALANCER", "KUBE-CLUSTER-IP", "KUBE-EXTERNAL-IP", "KUBE-EXTERNAL-IP-LOCAL"].map(
    (name) => `-A KUBE-IPVS-FILTER ${inSet(name, "dst,dst")} -j RETURN`,
  );
  return [
    "*nat",
    ...["SERVICES", "POSTROUTING", "NODE-PORT", "LOAD-BALANCER", "MARK-MASQ"].map(
      (name) => `:KUBE-${name} - [0:0]`,
    ),
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    "-A KUBE-MARK-MASQ -j MARK --or-mark 0x4000",
    "-A KUBE-LOAD-BALANCER -j KUBE-MARK-MASQ",
    `-A KUBE-POSTROUTING -m comment --comment "hairpin" ${inSet("KUBE-LOOP-BACK", "dst,dst,src")} -j MASQUERADE`,
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARK} -j RETURN`,
    "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
    "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
    `-A KUBE-SERVICES ! -s ${node.clusterCidr} ${inSet("KUBE-CLUSTER-IP", "dst,dst")} -j KUBE-MARK-MASQ`,
    "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODE-PORT",
    `-A KUBE-SERVICES ${inSet("KUBE-CLUSTER-IP", "dst,dst")} -j ACCEPT`,
    "COMMIT",
    "*filter",
    ...["FORWARD", "NODE-PORT", "PROXY-FIREWALL", "IPVS-FILTER"].map((name) => `:KUBE-${name} - [0:0]`),
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    "-A FORWARD -j KUBE-PROXY-FIREWALL",
    "-A INPUT -j KUBE-NODE-PORT",
    "-A INPUT -j KUBE-PROXY-FIREWALL",
    '-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER',
    `-A KUBE-FORWARD -m mark --mark ${MARK} -j ACCEPT`,
    "-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
    ...returns,
    `-A KUBE-IPVS-FILTER -m conntrack --ctstate NEW ${inSet("KUBE-IPVS-IPS", "dst")} -j REJECT`,
    "COMMIT",
    "",
  ].join("\n");
}

/** @param local addresses of this node's own pods: what one of them asks of itself must be masqueraded */
export function ipvsNode(
  ports: readonly ProxiedPort[],
  local: ReadonlySet<string>,
  node: RuleNode,
): IpvsNode {
  const addresses = [...new Set(ports.map(({ clusterIP }) => clusterIP))];
  const bits = node.family === 4 ? "32" : "128 nodad";
  return {
    sysctls: {
      "net/ipv4/vs/conntrack": 1,
      "net/ipv4/vs/expire_nodest_conn": 1,
      "net/ipv4/vs/expire_quiescent_template": 1,
    },
    links: [
      "link add kube-ipvs0 type dummy",
      ...addresses.map((address) => `addr add ${address}/${bits} dev kube-ipvs0`),
      "",
    ].join("\n"),
    servers: [...ports.flatMap(serversOf), ""].join("\n"),
    sets: [...setsOf(ports, local, node), ""].join("\n"),
    rules: rulesOf(node),
  };
}
