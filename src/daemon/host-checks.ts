// SPDX-License-Identifier: Apache-2.0
/**
 * What this host and kernel can do, what degrades, and how to mend it. Facts are gathered elsewhere (`host-facts.ts`), so
 * that every verdict here can be tested without such a host.
 */
import type { ForwardPolicy } from "./forward-rules.js";
import type { DroppingChain } from "./forward-rules-nft.js";
import { decideForwarding, type ForwardingDecision } from "./forwarding.js";
import { type PortRange, rangeText, takenPorts, usablePorts } from "./snat-ports.js";

export type CheckStatus = "ok" | "warn" | "fail";

/** One line of `portolan doctor`. */
export interface Check {
  /** Stable name, such as "br_netfilter". */
  readonly name: string;
  readonly status: CheckStatus;
  readonly detail: string;
  /** What a person can do about it; null when there is nothing to do. */
  readonly fix: string | null;
}

/** What the checks look at. `null`: it could not be read, or does not exist here. */
export interface HostFacts {
  readonly kernelRelease: string;
  /** Kernel features that were tried and are missing; null: they could not be tried. */
  readonly missingFeatures: readonly string[] | null;
  /** CapEff of /proc/self/status. */
  readonly capabilities: bigint | null;
  /** Kernel and library agree with this program's layouts; the text of the error when they do not. */
  readonly nativeError: string | null;
  /** Mount point of the first bpffs. */
  readonly bpffs: string | null;
  readonly cgroup2: string | null;
  readonly kernelBtf: boolean;
  readonly jit: string | null;
  /** Bridges of this network namespace that have ports. */
  readonly bridges: readonly string[];
  readonly bridgeCallIptables: string | null;
  readonly bridgeCallIp6tables: string | null;
  /** Rules that drop what conntrack calls INVALID; null: no tool could list the rules. */
  readonly invalidDrops: readonly string[] | null;
  readonly ipForward: string | null;
  readonly ip6Forward: string | null;
  readonly hasRoutableIp6: boolean;
  readonly rpFilter: string | null;
  /** Interfaces with an `ingress` qdisc, which excludes clsact; null: tc could not be asked. */
  readonly ingressQdiscs: readonly string[] | null;
  readonly localPorts: PortRange | null;
  readonly snatRanges: readonly PortRange[];
  /** What each backend and family of iptables does to forwarded packets. */
  readonly forwardPolicies: readonly ForwardPolicy[];
  /** Base chains of nft that drop what they do not know; null: nft could not be asked. */
  readonly droppingChains: readonly DroppingChain[] | null;
  /** An agent's pins are there: its rules should be, too. */
  readonly agentPinned: boolean;
  /** What a running agent has decided; null: none runs, or it does not say. */
  readonly forwarding: ForwardingDecision | null;
  /** What --forwarding auto would find in the way; null: an agent has decided, or nobody has asked. */
  readonly obstacles: readonly string[] | null;
  readonly routeLocalnet: string | null;
  /** Interfaces with an XDP program; null: nobody could look. */
  readonly xdp: readonly XdpFact[] | null;
}

export interface XdpFact {
  readonly interface: string;
  readonly mode: string;
  readonly program: string;
  readonly ours: boolean;
}

const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
const CAP_BPF = 39n;

/** "6.18.5-foo" -> [6, 18]; [0, 0] when it is no version. */
export function kernelVersion(release: string): readonly [number, number] {
  const match = /^(\d+)\.(\d+)/.exec(release);
  return match ? [Number(match[1]), Number(match[2])] : [0, 0];
}

function atLeast(release: string, major: number, minor: number): boolean {
  const [a, b] = kernelVersion(release);
  return a > major || (a === major && b >= minor);
}

/** Whether the kernel has tcx links (6.6); older ones carry the programs on a clsact qdisc. */
export function hasTcx(release: string): boolean {
  return atLeast(release, 6, 6);
}

const ok = (name: string, detail: string): Check => ({ name, status: "ok", detail, fix: null });
const warn = (name: string, detail: string, fix: string | null = null): Check => ({
  name,
  status: "warn",
  detail,
  fix,
});
const fail = (name: string, detail: string, fix: string): Check => ({ name, status: "fail", detail, fix });

function checkKernel({ kernelRelease }: HostFacts): Check {
  if (atLeast(kernelRelease, 5, 10)) return ok("kernel", kernelRelease);
  return fail("kernel", `${kernelRelease} is older than 5.10`, "use Linux 5.10 or later");
}

function checkCapabilities({ capabilities }: HostFacts): Check {
  if (capabilities === null) return warn("privileges", "/proc/self/status could not be read");
  const has = (bit: bigint): boolean => ((capabilities >> bit) & 1n) === 1n;
  const missing = [
    ...(has(CAP_NET_ADMIN) ? [] : ["CAP_NET_ADMIN"]),
    ...(has(CAP_BPF) || has(CAP_SYS_ADMIN) ? [] : ["CAP_BPF"]),
  ];
  if (missing.length === 0) return ok("privileges", "may load programs and attach them");
  return fail("privileges", `without ${missing.join(" and ")}`, "run it as root");
}

function checkNative({ nativeError }: HostFacts): Check {
  if (nativeError === null) return ok("library", "libportolan.so and portolan.bpf.o fit this program");
  return fail("library", nativeError, "build them anew: make");
}

function checkBpffs({ bpffs }: HostFacts): Check {
  if (bpffs !== null) return ok("bpffs", `mounted at ${bpffs}`);
  return fail(
    "bpffs",
    "not mounted: the agent does not start without it",
    "mount -t bpf bpf /sys/fs/bpf, or portolan agent --init-only",
  );
}

function checkBtf({ kernelBtf }: HostFacts): Check {
  if (kernelBtf) return ok("btf", "/sys/kernel/btf/vmlinux");
  return warn("btf", "the kernel has no BTF: map dumps of other tools show bytes only");
}

function checkJit({ jit }: HostFacts): Check {
  if (jit === null) return ok("jit", "not shown in this network namespace");
  if (jit !== "0") return ok("jit", jit === "2" ? "on, with debugging" : "on");
  return warn(
    "jit",
    "off: programs are interpreted, several times slower",
    "sysctl -w net.core.bpf_jit_enable=1",
  );
}

/** Batch commands on maps: without them the native library goes entry by entry. */
function checkBatch({ missingFeatures }: HostFacts): Check {
  const missing = missingFeatures?.filter((name) => name.startsWith("batch_"));
  if (missing === undefined) return warn("batch", "not tried: the kernel's features could not be asked for");
  if (missing.length === 0) return ok("batch", "maps are read and written in batches");
  return warn("batch", `without ${missing.join(", ")}: large changes take longer, and nothing else`);
}

function checkHooks({ kernelRelease, missingFeatures, ingressQdiscs }: HostFacts): Check {
  const tcx = missingFeatures === null ? hasTcx(kernelRelease) : !missingFeatures.includes("tcx");
  const inTheWay = ingressQdiscs ?? [];
  if (inTheWay.length === 0) return ok("hooks", tcx ? "tcx" : "clsact (tcx comes with 6.6)");
  const where = `an ingress qdisc on ${inTheWay.join(", ")}`;
  if (tcx) return ok("hooks", `tcx; ${where} would be in the way of --attach clsact`);
  const first = inTheWay[0] as string;
  return fail(
    "hooks",
    `${where} excludes clsact`,
    `tc qdisc del dev ${first} ingress, and let its owner use clsact`,
  );
}

function checkCgroup2({ cgroup2, missingFeatures }: HostFacts): Check {
  if (cgroup2 === null)
    return warn(
      "cgroup2",
      "not mounted: programs on the host cannot be served at their sockets",
      "mount -t cgroup2 none /sys/fs/cgroup/unified",
    );
  if (missingFeatures?.includes("cgroup_sockets"))
    return warn("cgroup2", `mounted at ${cgroup2}, but the kernel has not all socket hooks (Linux 5.8)`);
  return ok("cgroup2", `mounted at ${cgroup2}`);
}

/** What programs of the host see of it when a Service has no endpoint, or loses one. */
function checkSockets({ missingFeatures }: HostFacts): readonly Check[] {
  if (missingFeatures === null)
    return ["set_retval", "socket_destroy"].map((name) =>
      warn(name, "not tried: the kernel's features could not be asked for"),
    );
  return [
    missingFeatures.includes("set_retval")
      ? warn(
          "set_retval",
          "connect(2) to a Service without endpoints fails with EPERM (ECONNREFUSED from 5.18)",
        )
      : ok("set_retval", "connect(2) to a Service without endpoints fails with ECONNREFUSED"),
    missingFeatures.includes("udp_destroy")
      ? warn(
          "socket_destroy",
          "connected UDP sockets of this host keep a backend that is gone (needs CONFIG_INET_DIAG_DESTROY)",
          "--socket-lb off, or a kernel with CONFIG_INET_DIAG_DESTROY and CONFIG_INET_UDP_DIAG",
        )
      : ok("socket_destroy", "connected UDP sockets of removed backends are ended"),
  ];
}

/** 8.11: what is forwarded must get through, whatever the host's firewall is. */
function checkForward({ forwardPolicies, droppingChains, agentPinned }: HostFacts): Check {
  const where = ({ backend, family }: ForwardPolicy): string =>
    `${family === 4 ? "iptables" : "ip6tables"}-${backend}`;
  const [chain] = droppingChains ?? [];
  if (chain !== undefined) {
    const detail = `nft's chain ${chain.text} drops what it does not know, and no rule elsewhere can help`;
    return warn("forward_policy", detail, "accept packets with our mark there (--forward-mark-bit)");
  }
  const needed = forwardPolicies.filter((each) => each.state === "known" && each.needed);
  const lacking = needed.filter((each) => each.state === "known" && each.policy === "DROP" && !each.inPlace);
  if (lacking.length > 0) {
    const detail = `${lacking.map(where).join(", ")}: FORWARD drops by policy, and our rules are not there`;
    if (agentPinned) return fail("forward_policy", detail, "run the agent, with --forward-rules=true");
    return ok("forward_policy", `${detail}; the agent puts them in`);
  }
  const unknown = forwardPolicies.filter((each) => each.state === "unknown");
  if (unknown.length > 0)
    return ok("forward_policy", `not known of ${unknown.map(where).join(", ")}: iptables cannot be asked`);
  if (needed.length === 0) return ok("forward_policy", "FORWARD stops nothing");
  return ok("forward_policy", `${needed.map(where).join(", ")}: FORWARD has rules; ours stand before them`);
}

/** Which way translated packets go on, and why. Either is right: it is said, not judged. */
function checkForwardingWay({ forwarding, obstacles }: HostFacts): readonly Check[] {
  const words = { stack: "through the stack", shortcut: "past the stack" } as const;
  if (forwarding !== null) {
    const { setting, way, why } = forwarding;
    return [ok("forwarding", `${setting}: new flows of pods go ${words[way]}: ${why}`)];
  }
  if (obstacles === null) return [];
  const { way, why } = decideForwarding("auto", obstacles);
  return [ok("forwarding", `no agent says; auto would send new flows of pods ${words[way]}: ${why}`)];
}

/** 6.5, 6.6: the socket hooks serve loopback NodePorts, so no packet has to leave 127.0.0.0/8. */
function checkRouteLocalnet({ routeLocalnet }: HostFacts): Check {
  if (routeLocalnet === "1")
    return ok(
      "route_localnet",
      "on, which nothing of ours needs: NodePorts on 127.0.0.1 are served at the sockets",
    );
  return ok("route_localnet", "off: NodePorts on 127.0.0.1 are served at the sockets, which is enough");
}

/** Same-bridge flows are seen by conntrack in one direction only when bridged frames do not pass it. */
export function checkBridgeNetfilter(
  facts: Pick<HostFacts, "bridges" | "bridgeCallIptables" | "bridgeCallIp6tables" | "invalidDrops">,
): Check {
  const { bridges, bridgeCallIptables, bridgeCallIp6tables, invalidDrops } = facts;
  if (bridges.length === 0) return ok("br_netfilter", "no bridge with ports here");
  const names = bridges.join(", ");
  const off = [
    ...(bridgeCallIptables === "1" ? [] : ["net.bridge.bridge-nf-call-iptables"]),
    ...(bridgeCallIp6tables === "1" ? [] : ["net.bridge.bridge-nf-call-ip6tables"]),
  ];
  if (off.length === 0) return ok("br_netfilter", `on for ${names}`);
  const loaded = bridgeCallIptables !== null;
  const why =
    invalidDrops === null || invalidDrops.length === 0
      ? "a rule that drops INVALID breaks TCP between pods of one bridge"
      : `TCP between pods of one bridge breaks: "${invalidDrops[0]}" drops its packets`;
  const fix = `${loaded ? "" : "modprobe br_netfilter && "}sysctl -w ${off.map((name) => `${name}=1`).join(" ")}`;
  return fail("br_netfilter", `off for bridge ${names}; ${why}`, fix);
}

function checkForwarding({ ipForward, ip6Forward, hasRoutableIp6 }: HostFacts): readonly Check[] {
  const v4 =
    ipForward === "1"
      ? ok("ip_forward", "on")
      : fail("ip_forward", "off: pods reach nothing but their own node", "sysctl -w net.ipv4.ip_forward=1");
  if (ip6Forward === null || !hasRoutableIp6) return [v4, ok("ip6_forwarding", "no IPv6 in use here")];
  const v6 =
    ip6Forward === "1"
      ? ok("ip6_forwarding", "on")
      : warn(
          "ip6_forwarding",
          "off: pods reach nothing over IPv6",
          "sysctl -w net.ipv6.conf.all.forwarding=1",
        );
  return [v4, v6];
}

function checkRpFilter({ rpFilter }: HostFacts): Check {
  const words: Readonly<Record<string, string>> = { "0": "off", "1": "strict", "2": "loose" };
  return ok(
    "rp_filter",
    rpFilter === null ? "not readable" : `${words[rpFilter] ?? rpFilter}: every setting works`,
  );
}

function checkSnatPorts({ snatRanges, localPorts }: HostFacts): Check {
  const { ranges, conflicts } = usablePorts(snatRanges, takenPorts(localPorts));
  const shown = ranges.map(rangeText).join(", ");
  const [conflict] = conflicts;
  if (conflict === undefined) return ok("snat_ports", shown);
  const detail = `${rangeText(conflict.range)} overlaps ${conflict.by} (${rangeText(conflict.taken)})`;
  const fix = "choose other --snat-ports, or another net.ipv4.ip_local_port_range";
  if (ranges.length === 0) return fail("snat_ports", `${detail}, and nothing is left of it`, fix);
  return warn("snat_ports", `${detail}; ${shown} is left`, fix);
}

/** Nothing is said where no interface has an XDP program. */
function checkXdpHooks({ xdp }: HostFacts): readonly Check[] {
  if (xdp === null || xdp.length === 0) return [];
  const text = (list: readonly XdpFact[]): string =>
    list.map(({ interface: name, mode, program }) => `${program} at ${name} (${mode})`).join(", ");
  const others = xdp.filter(({ ours }) => !ours);
  if (others.length === 0) return [ok("xdp", text(xdp))];
  return [
    warn(
      "xdp",
      `${text(others)}: an interface has room for one XDP program, and what comes in there is served by tc alone`,
      "take it off if --xdp is to serve the interface, as its owner would; else nothing is to be done",
    ),
  ];
}

/** All checks, in the order in which they are shown. */
export function checkHost(facts: HostFacts): readonly Check[] {
  return [
    checkKernel(facts),
    checkCapabilities(facts),
    checkNative(facts),
    checkBpffs(facts),
    checkBtf(facts),
    checkJit(facts),
    checkBatch(facts),
    checkHooks(facts),
    ...checkXdpHooks(facts),
    checkCgroup2(facts),
    ...checkSockets(facts),
    checkBridgeNetfilter(facts),
    ...checkForwarding(facts),
    checkRpFilter(facts),
    checkForward(facts),
    ...checkForwardingWay(facts),
    checkRouteLocalnet(facts),
    checkSnatPorts(facts),
  ];
}
