// SPDX-License-Identifier: Apache-2.0
/** Rules in the shape that kube-proxy gives them, in iptables and in nftables mode, for tests that live beside it. */
import { createHash } from "node:crypto";

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
}

const MARK = "0x4000";

/** The first sixteen characters of a hash in base 32, as kube-proxy names its chains. */
function id(text: string): string {
  const bytes = createHash("sha256").update(text).digest();
  return Array.from(bytes.subarray(0, 16), (byte) => "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[byte % 32]).join("");
}

const target = ({ ip, port }: { ip: string; port: number }): string =>
  ip.includes(":") ? `[${ip}]:${port}` : `${ip}:${port}`;

/** Input of `iptables-restore --noflush` (or `ip6tables-restore`): what kube-proxy and kubelet put into the three tables. */
export function iptablesRules(ports: readonly ProxiedPort[], node: RuleNode): string {
  return [...natTable(ports, node), ...filterTable(), ...mangleTable(), ""].join("\n");
}

function natTable(ports: readonly ProxiedPort[], { family, clusterCidr }: RuleNode): string[] {
  const bits = family === 4 ? 32 : 128;
  const chains = ["SERVICES", "NODEPORTS", "POSTROUTING", "MARK-MASQ", "PROXY-CANARY", "KUBELET-CANARY"];
  const rules = [
    '-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES',
    '-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING',
    `-A KUBE-MARK-MASQ -j MARK --set-xmark ${MARK}/${MARK}`,
    `-A KUBE-POSTROUTING -m mark ! --mark ${MARK}/${MARK} -j RETURN`,
    `-A KUBE-POSTROUTING -j MARK --set-xmark ${MARK}/0x0`,
    '-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully',
  ];
  for (const port of ports) {
    const hash = id(port.name);
    const [service, external] = [`KUBE-SVC-${hash}`, `KUBE-EXT-${hash}`];
    const match = `-p ${port.protocol} -m comment --comment "${port.name}`;
    const to = `-d ${port.clusterIP}/${bits} ${match} cluster IP" -m ${port.protocol} --dport ${port.port}`;
    chains.push(`SVC-${hash}`);
    rules.push(
      `-A KUBE-SERVICES ${to} -j ${service}`,
      `-A ${service} ! -s ${clusterCidr} ${to} -j KUBE-MARK-MASQ`,
    );
    if (port.nodePort !== undefined) {
      chains.push(`EXT-${hash}`);
      rules.push(
        `-A KUBE-NODEPORTS ${match}" -m ${port.protocol} --dport ${port.nodePort} -j ${external}`,
        `-A ${external} -m comment --comment "masquerade traffic for ${port.name} external destinations" -j KUBE-MARK-MASQ`,
        `-A ${external} -j ${service}`,
      );
    }
    for (const [i, endpoint] of port.endpoints.entries()) {
      const sep = `SEP-${id(`${port.name} ${target(endpoint)}`)}`;
      const left = port.endpoints.length - i;
      const chance = left === 1 ? "" : `-m statistic --mode random --probability ${(1 / left).toFixed(11)} `;
      chains.push(sep);
      rules.push(
        `-A ${service} -m comment --comment "${port.name} -> ${target(endpoint)}" ${chance}-j KUBE-${sep}`,
        `-A KUBE-${sep} -s ${endpoint.ip}/${bits} -m comment --comment "${port.name}" -j KUBE-MARK-MASQ`,
        `-A KUBE-${sep} ${match}" -m ${port.protocol} -j DNAT --to-destination ${target(endpoint)}`,
      );
    }
  }
  rules.push(
    '-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS',
  );
  return ["*nat", ...chains.map((name) => `:KUBE-${name} - [0:0]`), ...rules, "COMMIT"];
}

function filterTable(): string[] {
  const chains = [
    ...["EXTERNAL-SERVICES", "FORWARD", "NODEPORTS", "SERVICES", "PROXY-FIREWALL", "PROXY-CANARY"],
    ...["FIREWALL", "KUBELET-CANARY"],
  ];
  const fresh = "-m conntrack --ctstate NEW -m comment --comment";
  return [
    "*filter",
    ...chains.map((name) => `:KUBE-${name} - [0:0]`),
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
    "-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP",
    `-A KUBE-FORWARD -m comment --comment "kubernetes forwarding rules" -m mark --mark ${MARK}/${MARK} -j ACCEPT`,
    '-A KUBE-FORWARD -m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT',
    "COMMIT",
  ];
}

function mangleTable(): string[] {
  const chains = ["PROXY-CANARY", "KUBELET-CANARY", "IPTABLES-HINT"];
  return ["*mangle", ...chains.map((name) => `:KUBE-${name} - [0:0]`), "COMMIT"];
}

/** Input of `nft -f`: the table of nftables mode. */
export function nftablesRules(ports: readonly ProxiedPort[], { family, clusterCidr }: RuleNode): string {
  const ip = family === 4 ? "ip" : "ip6";
  const address = family === 4 ? "ipv4_addr" : "ipv6_addr";
  const chains: string[] = [];
  const services: string[] = [];
  const nodePorts: string[] = [];
  for (const { name, protocol, clusterIP, port, nodePort, endpoints } of ports) {
    const [service, external] = [`service-${id(name)}`, `external-${id(name)}`];
    services.push(`${clusterIP} . ${protocol} . ${port} : goto ${service}`);
    const targets = endpoints.map((endpoint, i) => {
      const chain = `endpoint-${id(`${name} ${target(endpoint)}`)}`;
      chains.push(
        `chain ${chain} { ${ip} saddr ${endpoint.ip} jump mark-for-masquerade; meta l4proto ${protocol} dnat to ${target(endpoint)}; }`,
      );
      return `${i} : goto ${chain}`;
    });
    const choose = `numgen random mod ${endpoints.length} vmap { ${targets.join(", ")} }`;
    const outsiders = `${ip} daddr ${clusterIP} ${protocol} dport ${port} ${ip} saddr != ${clusterCidr} jump mark-for-masquerade`;
    chains.push(`chain ${service} { ${outsiders}; ${choose}; }`);
    if (nodePort === undefined) continue;
    nodePorts.push(`${protocol} . ${nodePort} : goto ${external}`);
    chains.push(`chain ${external} { jump mark-for-masquerade; goto ${service}; }`);
  }
  return `
table ${ip} kube-proxy {
  comment "rules for kube-proxy"
  chain mark-for-masquerade { mark set mark or ${MARK}; }
  chain masquerading { mark and ${MARK} == 0 return; mark set mark xor ${MARK}; masquerade fully-random; }
  ${chains.join("\n  ")}
  map service-ips { type ${address} . inet_proto . inet_service : verdict; elements = { ${services.join(", ")} } }
  map service-nodeports { type inet_proto . inet_service : verdict; elements = { ${nodePorts.join(", ")} } }
  chain services {
    ${ip} daddr . meta l4proto . th dport vmap @service-ips
    fib daddr type local meta l4proto . th dport vmap @service-nodeports
  }
  chain nat-prerouting { type nat hook prerouting priority -100; jump services; }
  chain nat-output { type nat hook output priority -100; jump services; }
  chain nat-postrouting { type nat hook postrouting priority 100; jump masquerading; }
  chain filter-forward { type filter hook forward priority -110; ct state new accept; }
}
`;
}
