// SPDX-License-Identifier: Apache-2.0
/** Gathers what `host-checks.ts` judges. Changes nothing; what cannot be read is null. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { release } from "node:os";
import type { Link, LinkAddress } from "../dataplane/interfaces.js";
import { findCgroup2 } from "../native/paths.js";
import { specialUse } from "../net/ip.js";
import { mountPoint, readText, sysctl } from "../util/proc.js";
import { readForwardPolicy } from "./forward-rules.js";
import { readDroppingChains } from "./forward-rules-nft.js";
import { readForwarding } from "./forwarding-file.js";
import type { HostFacts } from "./host-checks.js";
import { readObstacles } from "./netfilter-obstacles.js";
import { type PortRange, parseLocalPortRange } from "./snat-ports.js";

export interface FactSources {
  readonly links: readonly Link[];
  readonly addresses: readonly LinkAddress[];
  readonly missingFeatures: readonly string[] | null;
  /** Why the native library could not be used, or null. */
  readonly nativeError: string | null;
  readonly snatRanges: readonly PortRange[];
  /** Of the packet mark: --forward-mark-bit. */
  readonly markBit?: number;
  readonly agentPinned: boolean;
  /** What is at the XDP hooks of interfaces; left out: nobody has looked. */
  readonly xdp?: HostFacts["xdp"];
  /** Whose agent is asked which way flows go; left out: nobody is, and nobody looks. */
  readonly bpfRoot?: string;
}

/** A tool that hangs must not hold up the start for ever; one that a busy machine lets wait for seconds does its work. */
const TOOL_TIMEOUT_MS = 15_000;

/** A tool's output; null when it is not installed or fails. */
function output(program: string, args: readonly string[]): Promise<string | null> {
  return new Promise((resolve) => {
    const options = { timeout: TOOL_TIMEOUT_MS, maxBuffer: 64 << 20 };
    execFile(program, [...args], options, (error, stdout) => resolve(error === null ? stdout : null));
  });
}

function capabilities(): bigint | null {
  const match = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText("/proc/self/status") ?? "");
  return match ? BigInt(`0x${match[1]}`) : null;
}

/**
 * Rules that drop packets which conntrack calls INVALID, from every rule set that the installed tools can list.
 *
 * @returns null when no tool could be run
 */
export async function findInvalidDrops(): Promise<readonly string[] | null> {
  const lists = await Promise.all([
    output("iptables-nft-save", ["-t", "filter"]),
    output("iptables-legacy-save", []), // without -t: naming a table would create it
    output("nft", ["list", "ruleset"]),
  ]);
  const read = lists.filter((text) => text !== null);
  if (read.length === 0) return null;
  const rules = read
    .flatMap((text) => text.split("\n"))
    .map((line) => line.trim())
    .filter((line) =>
      /\b(ct|--ct)state [A-Z,]*INVALID\b.*-j DROP|\bct state .*\binvalid\b.*\bdrop\b/.test(line),
    );
  return [...new Set(rules)];
}

/** Interfaces with an `ingress` qdisc; null when `tc` is not there. */
async function findIngressQdiscs(): Promise<readonly string[] | null> {
  const text = await output("tc", ["qdisc", "show"]);
  if (text === null) return null;
  return [...text.matchAll(/^qdisc ingress \S+ dev (\S+)/gm)].map((match) => match[1] as string);
}

/** Bridges that have ports. */
export function bridgesWithPorts(links: readonly Link[]): readonly string[] {
  const masters = new Set(links.map((link) => link.master));
  return links
    .filter(({ kind, ifindex }) => kind === "bridge" && masters.has(ifindex))
    .map(({ name }) => name);
}

export function bridgeNetfilter(): Pick<HostFacts, "bridgeCallIptables" | "bridgeCallIp6tables"> {
  return {
    bridgeCallIptables: sysctl("net/bridge/bridge-nf-call-iptables"),
    bridgeCallIp6tables: sysctl("net/bridge/bridge-nf-call-ip6tables"),
  };
}

export function localPortRange(): PortRange | null {
  return parseLocalPortRange(sysctl("net/ipv4/ip_local_port_range") ?? "");
}

/** The rules of a host may be very many: they are read only when no agent says what it made of them. */
async function wayOf(bpfRoot: string | undefined): Promise<Pick<HostFacts, "forwarding" | "obstacles">> {
  if (bpfRoot === undefined) return { forwarding: null, obstacles: null };
  const forwarding = (await readForwarding(bpfRoot))?.decision ?? null;
  return { forwarding, obstacles: forwarding === null ? await readObstacles() : null };
}

export async function gatherFacts(sources: FactSources): Promise<HostFacts> {
  const { links, addresses, missingFeatures, nativeError, snatRanges, markBit, agentPinned, bpfRoot } =
    sources;
  const [invalidDrops, ingressQdiscs, forwardPolicies, droppingChains, way] = await Promise.all([
    findInvalidDrops(),
    findIngressQdiscs(),
    readForwardPolicy(markBit),
    readDroppingChains(),
    wayOf(bpfRoot),
  ]);
  return {
    kernelRelease: release(),
    missingFeatures,
    capabilities: capabilities(),
    nativeError,
    bpffs: mountPoint("bpf"),
    cgroup2: findCgroup2(),
    kernelBtf: existsSync("/sys/kernel/btf/vmlinux"),
    jit: sysctl("net/core/bpf_jit_enable"),
    bridges: bridgesWithPorts(links),
    ...bridgeNetfilter(),
    invalidDrops,
    ipForward: sysctl("net/ipv4/ip_forward"),
    ip6Forward: sysctl("net/ipv6/conf/all/forwarding"),
    hasRoutableIp6: addresses.some(({ address }) => address.family === 6 && specialUse(address) === null),
    rpFilter: sysctl("net/ipv4/conf/all/rp_filter"),
    ingressQdiscs,
    localPorts: localPortRange(),
    snatRanges,
    forwardPolicies,
    droppingChains,
    agentPinned,
    xdp: sources.xdp ?? null,
    ...way,
    routeLocalnet: sysctl("net/ipv4/conf/all/route_localnet"),
  };
}
