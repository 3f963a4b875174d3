// SPDX-License-Identifier: Apache-2.0
/**
 * Rules in the shape that kube-proxy 1.34 to 1.36 gives them, in iptables and in nftables mode, for tests that live beside
 * it and benchmarks that measure it: whole, and as what it writes when the endpoints of one service port have changed.
 */
import { createHash } from "node:crypto";
import { nthAddress, PODS_PER_PORT } from "./big-image.js";

/** A service port with a ClusterIP and perhaps a NodePort, of one family. */
export interface ProxiedPort {
  /** "default/web:http". */
  readonly name: string;
  readonly protocol: "tcp" | "udp";
  readonly clusterIP: string;
  readonly port: number;
  readonly nodePort?: number;
  readonly endpoints: readonly { readonly ip: string; readonly port: number }[];
}

export interface RuleNode {
  readonly family: 4 | 6;
  readonly clusterCidr: string;
  /** Whose unused addresses are dropped, in nftables mode (6.13). @default none are */
  readonly serviceCidr?: string;
  /** Where NodePorts are served, in nftables mode (6.1). @default all local addresses but loopback */
  readonly nodePortAddresses?: readonly string[];
}

/** Service ports with so many endpoints each: names and addresses are those of {@link bigPort}. */
export function manyPorts(services: number, endpoints: number, family: 4 | 6 = 4): ProxiedPort[] {
  return Array.from({ length: services }, (_, i) => ({
    ...{
      name: `default/service-${i}:http`,
      protocol: "tcp",
      clusterIP: nthAddress(family, 11, i).text,
      port: 80,
    },
    endpoints: Array.from({ length: endpoints }, (_, pod) => ({
      ip: nthAddress(family, 10, i * PODS_PER_PORT + pod).text,
      port: 8080,
    })),
  }));
}

const MARK = "0x4000";

/** The first sixteen characters of a hash in base 32, as kube-proxy names its chains. */
function id(text: string): string {
  const bytes = createHash("sha256").update(text).digest();
  return Array.from(bytes.subarray(0, 16), (byte) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[byte % 32]).join("");
}

const target = ({ ip, port }: { ip: string; port: number }): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

/** From so many endpoints on kube-proxy leaves out the comments of its per-service rules, and old chains where they are. */
const LARGE_CLUSTER_ENDPOINTS = 1000;

const isLarge = (ports: readonly ProxiedPort[]): boolean =>
  ports.reduce((sum, { endpoints }) => sum + endpoints.length, 0) > LARGE_CLUSTER_ENDPOINTS;

/** The chain that translates to one endpoint, in iptables mode: its DNAT rule counts each flow. */
export function iptablesEndpointChain(
  { name }: ProxiedPort,
  endpoint: ProxiedPort["endpoints"][number],
): string {
  return `KUBE-SEP-${id(`${name} ${target(endpoint)}`)}`;
}

const isServed = ({ endpoints }: ProxiedPort): boolean => endpoints.length > 0;

/** Declarations, which also empty a chain, and rules of one table. */
interface TableText {
  readonly chains: string[];
  readonly rules: string[];
}

/**
 * Input of `iptables-restore --noflush` (or `ip6tables-restore`) on a host that has none of it yet: what kube-proxy and
 * kubelet put into the three tables.
 */
export function iptablesRules(ports: readonly ProxiedPort[], node: RuleNode): string {
  const large = isLarge(ports);
  const { chains, rules } = topChains(ports, node);
  for (const port of ports.filter(isServed)) {
    const own = portChains(port, node, large);
    chains.push(...own.chains);
    rules.push(...own.rules);
  }
  chains.push(":KUBE-PROXY-CANARY - [0:0]", ":KUBE-KUBELET-CANARY - [0:0]");
  const nat = ["*nat", ...chains, ...natJumps(), ...rules, "COMMIT"];
  return [...nat, ...filterTable(ports, node), ...mangleTable(), ""].join("\n");
}

/**
 * Input of `iptables-restore --noflush` with which kube-proxy follows when one service port has other endpoints than
 * before: that port's own chains, and beside them what it always writes, the rule of each service port among it.
 *
 * @param ports as they are now
 * @param before the changed one, which is found by its name, as it was
 * @throws when `ports` has none of that name
 */
export function iptablesChange(ports: readonly ProxiedPort[], before: ProxiedPort, node: RuleNode): string {
  const large = isLarge(ports);
  const { chains, rules } = topChains(ports, node);
  const now = changedPort(ports, before);
  const none = { chains: [], rules: [] };
  const own = isServed(now) ? portChains(now, node, large) : none;
  const gone = large
    ? []
    : portChains(before, node, large).chains.filter((line) => !own.chains.includes(line));
  return [
    ...["*filter", ...FILTER_CHAINS.map(declare), ...FORWARD_RULES, ...rejects(ports, node), "COMMIT"],
    ...["*nat", ...chains, ...own.chains, ...gone, ...rules, ...own.rules],
    ...gone.map((line) => `-X ${line.slice(1, line.indexOf(" "))}`),
    ...["COMMIT", ""],
  ].join("\n");
}

function changedPort(ports: readonly ProxiedPort[], { name }: ProxiedPort): ProxiedPort {
  const port = ports.find((candidate) => candidate.name === name);
  if (port === undefined) throw new Error(`no service port is called ${name}`);
  return port;
}

const declare = (name: string): string => `:KUBE-${name} - [0:0]`;

function natJumps(): string[] {
  return [
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
  ];
}

/** The chains of the nat table that are written anew each time. */
function topChains(ports: readonly ProxiedPort[], node: RuleNode): TableText {
  const rules = [
    `-A KUBE-MARK-MASQ -j MARK --set-xmark ${MARK}/${MARK}`,
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARK}/${MARK} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --set-xmark ${MARK}/0x0`,
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
  ];
  for (const port of ports.filter(isServed)) {
    const hash = id(port.name);
    rules.push(`-A KUBE-SERVICES ${toClusterIP(port, node)} -j KUBE-SVC-${hash}`);
    if (port.nodePort === undefined) continue;
    const match = `-p ${port.protocol} -m comment --comment "${port.name}" -m ${port.protocol}`;
    rules.push(`-A KUBE-NODEPORTS ${match} --dport ${port.nodePort} -j KUBE-EXT-${hash}`);
  }
  rules.push(
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
  );
  return { chains: ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ"].map(declare), rules };
}

const bitsOf = ({ family }: RuleNode): number => (family === 4 ? 32 : 128);

function toClusterIP({ name, protocol, clusterIP, port }: ProxiedPort, node: RuleNode): string {
  return `-d ${clusterIP}/${bitsOf(node)} -p ${protocol} -m comment --comment "${name} cluster IP" -m ${protocol} --dport ${port}`;
}

/** What belongs to one service port alone. */
function portChains(port: ProxiedPort, node: RuleNode, large: boolean): TableText {
  const hash = id(port.name);
  const [service, external] = [`KUBE-SVC-${hash}`, `KUBE-EXT-${hash}`];
  const comment = (text: string): string => (large ? "" : ` -m comment --comment "${text}"`);
  const chains = [declare(`SVC-${hash}`)];
  const rules = [`-A ${service} ! -s ${node.clusterCidr} ${toClusterIP(port, node)} -j KUBE-MARK-MASQ`];
  if (port.nodePort !== undefined) {
    chains.push(declare(`EXT-${hash}`));
    rules.push(
      `-A ${external} -m comment --comment "masquerade traffic for ${port.name} external destinations" -j KUBE-MARK-MASQ`,
      `-A ${external} -j ${service}`,
    );
  }
  for (const [i, endpoint] of port.endpoints.entries()) {
    const sep = iptablesEndpointChain(port, endpoint);
    const left = port.endpoints.length - i;
    const chance = left === 1 ? "" : ` -m statistic --mode random --probability ${(1 / left).toFixed(11)}`;
    chains.push(`:${sep} - [0:0]`);
    rules.push(
      `-A ${service}${comment(`${port.name} -> ${target(endpoint)}`)}${chance} -j ${sep}`,
      `-A ${sep} -s ${endpoint.ip}/${bitsOf(node)}${comment(port.name)} -j KUBE-MARK-MASQ`,
      `-A ${sep} -p ${port.protocol}${comment(port.name)} -m ${port.protocol} -j DNAT --to-destination ${target(endpoint)}`,
    );
  }
  return { chains, rules };
}

const FILTER_CHAINS = ["EXTERNAL-SERVICES", "FORWARD", "NODEPORTS", "SERVICES", "PROXY-FIREWALL"];
const FORWARD_RULES = [
  "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
  `-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
  '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
];

/** The rules of service ports without endpoints (7.1, 7.6). */
function rejects(ports: readonly ProxiedPort[], node: RuleNode): string[] {
  return ports
    .filter((port) => !isServed(port))
    .flatMap((port) => {
      const { name, protocol, nodePort } = port;
      const why = `-p ${protocol} -m comment --comment "${name} has no endpoints" -m ${protocol}`;
      return [
        `-A KUBE-SERVICES -d ${port.clusterIP}/${bitsOf(node)} ${why} --dport ${port.port} -j REJECT`,
        ...(nodePort === undefined
          ? []
          : [`-A KUBE-EXTERNAL-SERVICES -m addrtype --dst-type LOCAL ${why} --dport ${nodePort} -j REJECT`]),
      ];
    });
}

function filterTable(ports: readonly ProxiedPort[], node: RuleNode): string[] {
  const chains = [...FILTER_CHAINS, "PROXY-CANARY", "FIREWALL", "KUBELET-CANARY"];
  const fresh = "-m conntrack --ctstate NEW -m comment --comment";
  return [
    "*filter",
    ...chains.map(declare),
    `-A INPUT ${fresh} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`,
    '-A INPUT -m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS',
    `-A INPUT ${fresh} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`,
    "-A INPUT -j KUBE-FIREWALL",
    `-A FORWARD ${fresh} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`,
    '-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD',
    `-A FORWARD ${fresh} "kubernetes service portals" -j KUBE-SERVICES`,
    `-A FORWARD ${fresh} "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES`,
    `-A OUTPUT ${fresh} "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL`,
    `-A OUTPUT ${fresh} "kubernetes service portals" -j KUBE-SERVICES`,
    "-A OUTPUT -j KUBE-FIREWALL",
    ...FORWARD_RULES,
    ...rejects(ports, node),
    "COMMIT",
  ];
}

function mangleTable(): string[] {
  return ["*mangle", ...["PROXY-CANARY", "KUBELET-CANARY", "IPTABLES-HINT"].map(declare), "COMMIT"];
}

/** A chain of nftables mode; with `hook` one at which packets enter. */
interface NftChain {
  readonly name: string;
  readonly hook?: string;
  readonly rules: readonly string[];
}

/** A set, or a map from what is matched to a chain. */
interface NftSet {
  readonly kind: "set" | "map";
  readonly name: string;
  readonly type: string;
  readonly elements: string[];
}

/**
 * Input of `nft -f`: the table of nftables mode as one block. The kernel holds the same after it as after
 * {@link nftablesTransaction}, and it is there sooner.
 */
export function nftablesRules(ports: readonly ProxiedPort[], node: RuleNode): string {
  const block = (head: string, lines: readonly string[]): string =>
    `  ${head} {\n${lines.map((line) => `    ${line}\n`).join("")}  }`;
  return [
    `table ${tableOf(node)} {`,
    '  comment "rules for kube-proxy"',
    ...nftChains(ports, node).map(({ name, hook, rules }) =>
      block(`chain ${name}`, hook === undefined ? rules : [hook, ...rules]),
    ),
    ...nftSets(ports, node).map(({ kind, name, type, elements }) =>
      block(`${kind} ${name}`, [
        `type ${type}`,
        ...(elements.length === 0 ? [] : [`elements = { ${elements.join(", ")} }`]),
      ]),
    ),
    "}",
    "",
  ].join("\n");
}

/** The same as kube-proxy writes it: one command a line. */
export function nftablesTransaction(ports: readonly ProxiedPort[], node: RuleNode): string {
  const table = tableOf(node);
  const sets = nftSets(ports, node);
  return [
    `add table ${table} { comment "rules for kube-proxy" ; }`,
    ...sets.map(({ kind, name, type }) => `add ${kind} ${table} ${name} { type ${type} ; }`),
    ...chainCommands(nftChains(ports, node), table),
    ...sets.flatMap(({ name, elements }) =>
      elements.map((element) => `add element ${table} ${name} { ${element} }`),
    ),
    "",
  ].join("\n");
}

/**
 * Input of `nft -f` with which kube-proxy follows when one service port has other endpoints than before.
 *
 * @param ports as they are now
 * @param before the changed one, which is found by its name, as it was
 * @throws when `ports` has none of that name
 */
export function nftablesChange(ports: readonly ProxiedPort[], before: ProxiedPort, node: RuleNode): string {
  const table = tableOf(node);
  const now = nftPortChains(changedPort(ports, before), node);
  const names = new Set(now.map(({ name }) => name));
  const gone = nftPortChains(before, node).filter(({ name }) => !names.has(name));
  // Emptied now, deleted a second later: a map's elements may still name it while this transaction runs.
  const emptied = gone.map(({ name }) => `flush chain ${table} ${name}`);
  return [...chainCommands(now, table), ...emptied, ""].join("\n");
}

function chainCommands(chains: readonly NftChain[], table: string): string[] {
  return [
    ...chains.flatMap(({ name, hook }) => [
      `add chain ${table} ${name}${hook === undefined ? "" : ` { ${hook} }`}`,
      `flush chain ${table} ${name}`,
    ]),
    ...chains.flatMap(({ name, rules }) => rules.map((rule) => `add rule ${table} ${name} ${rule}`)),
  ];
}

const ipOf = ({ family }: RuleNode): "ip" | "ip6" => (family === 4 ? "ip" : "ip6");
const tableOf = (node: RuleNode): string => `${ipOf(node)} kube-proxy`;

/** "default/web/tcp/http" behind the beginning of its hash: with this kube-proxy names its chains. */
function nftName(kind: string, { name, protocol }: ProxiedPort, endpoint = ""): string {
  const [service, port = ""] = name.split(":");
  const whole = `${service}/${protocol}/${port}${endpoint && `__${endpoint}`}`;
  return `${kind}-${id(whole).slice(0, 8)}-${whole.replaceAll(":", ".")}`;
}

function nftPortChains(port: ProxiedPort, node: RuleNode): NftChain[] {
  const ip = ipOf(node);
  const endpoints = port.endpoints.map((endpoint) => ({
    name: nftName("endpoint", port, `${endpoint.ip}/${endpoint.port}`),
    rules: [
      `${ip} saddr ${endpoint.ip} jump mark-for-masquerade`,
      `meta l4proto ${port.protocol} dnat to ${target(endpoint)}`,
    ],
  }));
  const service = nftName("service", port);
  const choice = endpoints.map(({ name }, i) => `${i} : goto ${name}`).join(", ");
  const rules = [
    `${ip} daddr ${port.clusterIP} ${ip} saddr != ${node.clusterCidr} jump mark-for-masquerade`,
    `numgen random mod ${endpoints.length} vmap { ${choice} }`,
  ];
  const external = {
    name: nftName("external", port),
    rules: ["jump mark-for-masquerade", `goto ${service}`],
  };
  if (!isServed(port)) return [];
  const chains = [{ name: service, rules }, ...endpoints];
  return port.nodePort === undefined ? chains : [...chains, external];
}

function nftChains(ports: readonly ProxiedPort[], node: RuleNode): NftChain[] {
  const ip = ipOf(node);
  const to = `${ip} daddr . meta l4proto . th dport`;
  const atNode =
    node.nodePortAddresses === undefined
      ? `fib daddr type local ${ip} daddr != ${node.family === 4 ? "127.0.0.0/8" : "::1"}`
      : `${ip} daddr @nodeport-ips`;
  const hooked = (
    name: string,
    type: string,
    hook: string,
    priority: number,
    ...rules: string[]
  ): NftChain => ({
    name,
    hook: `type ${type} hook ${hook} priority ${priority} ;`,
    rules,
  });
  const ifNew = (chain: string): string => `ct state new jump ${chain}`;
  const unused = node.serviceCidr === undefined ? [] : [`${ip} daddr { ${node.serviceCidr} } drop`];
  return [
    { name: "mark-for-masquerade", rules: [`mark set mark or ${MARK}`] },
    {
      name: "masquerading",
      rules: [`mark and ${MARK} == 0 return`, `mark set mark xor ${MARK}`, "masquerade fully-random"],
    },
    { name: "reject-chain", rules: ["reject"] },
    ...ports.flatMap((port) => nftPortChains(port, node)),
    {
      name: "services",
      rules: [`${to} vmap @service-ips`, `${atNode} meta l4proto . th dport vmap @service-nodeports`],
    },
    { name: "firewall-check", rules: [`${to} vmap @firewall-ips`] },
    { name: "service-endpoints-check", rules: [`${to} vmap @no-endpoint-services`] },
    {
      name: "nodeport-endpoints-check",
      rules: [`${atNode} meta l4proto . th dport vmap @no-endpoint-nodeports`],
    },
    { name: "cluster-ips-check", rules: [`${ip} daddr @cluster-ips reject`, ...unused] },
    hooked("filter-prerouting-pre-dnat", "filter", "prerouting", -110, ifNew("firewall-check")),
    hooked("filter-output-pre-dnat", "filter", "output", -110, ifNew("firewall-check")),
    ...["forward", "output"].map((hook) =>
      hooked(
        `filter-${hook}`,
        "filter",
        hook,
        0,
        ifNew("service-endpoints-check"),
        ifNew("cluster-ips-check"),
      ),
    ),
    hooked(
      "filter-input",
      "filter",
      "input",
      0,
      ifNew("nodeport-endpoints-check"),
      ifNew("service-endpoints-check"),
    ),
    hooked("nat-prerouting", "nat", "prerouting", -100, "jump services"),
    hooked("nat-output", "nat", "output", -100, "jump services"),
    hooked("nat-postrouting", "nat", "postrouting", 100, "jump masquerading"),
  ];
}

function nftSets(ports: readonly ProxiedPort[], node: RuleNode): NftSet[] {
  const address = node.family === 4 ? "ipv4_addr" : "ipv6_addr";
  const service = `${address} . inet_proto . inet_service : verdict`;
  const nodePort = "inet_proto . inet_service : verdict";
  const served = ports.filter(isServed);
  const starved = ports.filter((port) => !isServed(port));
  const atAddress = (all: readonly ProxiedPort[], to: (port: ProxiedPort) => string): string[] =>
    all.map((port) => `${port.clusterIP} . ${port.protocol} . ${port.port} : goto ${to(port)}`);
  const atNode = (all: readonly ProxiedPort[], to: (port: ProxiedPort) => string): string[] =>
    all
      .filter((port) => port.nodePort !== undefined)
      .map((port) => `${port.protocol} . ${port.nodePort} : goto ${to(port)}`);
  const rejecting = (): string => "reject-chain";
  const map = (name: string, type: string, elements: string[]): NftSet => ({
    kind: "map",
    name,
    type,
    elements,
  });
  return [
    {
      kind: "set",
      name: "cluster-ips",
      type: address,
      elements: [...new Set(ports.map((port) => port.clusterIP))],
    },
    { kind: "set", name: "nodeport-ips", type: address, elements: [...(node.nodePortAddresses ?? [])] },
    map(
      "service-ips",
      service,
      atAddress(served, (port) => nftName("service", port)),
    ),
    map(
      "service-nodeports",
      nodePort,
      atNode(served, (port) => nftName("external", port)),
    ),
    map("firewall-ips", service, []),
    map("no-endpoint-services", service, atAddress(starved, rejecting)),
    map("no-endpoint-nodeports", nodePort, atNode(starved, rejecting)),
  ];
}
