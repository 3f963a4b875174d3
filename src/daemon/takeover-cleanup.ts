// SPDX-License-Identifier: Apache-2.0
/**
 * Removes what a kube-proxy that does not run any more has left in this network namespace: chains and rules of iptables (of both
 * backends and families), its nftables tables, and what ipvs mode makes (12.5, 12.6). Nothing of anybody else, and nothing of ours.
 */
import { existsSync } from "node:fs";
import { FAMILIES, type Family } from "../net/ip.js";
import { parseFilterTable } from "./forward-rules-text.js";
import {
  applyTable,
  type Backend,
  hostTools,
  type RuleTools,
  readTable,
  type TableName,
  whyFailed,
} from "./forward-rules-tools.js";
import { findLeftovers, isKubeProxySet, parseVirtualServers, removalSteps } from "./takeover-chains.js";

export interface LeftoverTools extends RuleTools {
  /** Whether there is an interface with this name. */
  hasInterface(name: string): boolean;
  /** Whether the kernel's conntrack translates some flow of this family now. */
  hasTranslatedFlows(): Promise<boolean>;
}

export const hostLeftoverTools: Omit<LeftoverTools, "hasTranslatedFlows"> = {
  ...hostTools,
  hasInterface: (name) => existsSync(`/sys/class/net/${name}`),
};

export interface RemovedChains {
  readonly backend: Backend;
  readonly family: Family;
  readonly table: TableName;
  readonly chains: number;
  /** Rules of built-in chains that led there. */
  readonly jumps: number;
  /** Chains that somebody else's rules need. */
  readonly kept: readonly string[];
}

export interface RemovedLeftovers {
  readonly iptables: readonly RemovedChains[];
  /** "ip kube-proxy". */
  readonly nftables: readonly string[];
  /** "ip portolan": put in the place of the last NAT chain, as long as flows need it. */
  readonly natKept: readonly string[];
  readonly virtualServers: number;
  readonly sets: readonly string[];
  readonly interfaces: readonly string[];
  /** What could not be removed, and why. */
  readonly failures: readonly string[];
}

/** The empty table of ours that keeps the kernel's NAT at work when kube-proxy's chains were the only ones. */
export const NAT_TABLE = "portolan";
const KUBE_PROXY_TABLE = "kube-proxy";
const DUMMY = "kube-ipvs0";
const TABLES: readonly TableName[] = ["filter", "nat", "mangle"];
const BACKENDS: readonly Backend[] = ["legacy", "nft"];
const NFT_FAMILY = { 4: "ip", 6: "ip6" } as const;

/**
 * Removes it, or with `dryRun` only says what it would remove. Idempotent: what is not there, or has no tool here, is no failure.
 * Never rejects.
 */
export async function removeLeftovers(tools: LeftoverTools, dryRun: boolean): Promise<RemovedLeftovers> {
  const failures: string[] = [];
  const nft = await removeNft(tools, dryRun, failures);
  const iptables: RemovedChains[] = [];
  for (const backend of BACKENDS)
    for (const family of FAMILIES)
      for (const table of TABLES) {
        const removed = await removeChains(tools, { backend, family, table }, dryRun, failures);
        if (removed !== null) iptables.push(removed);
      }
  // The chains of ipvs mode name its sets, so those are the last.
  const ipvs = await removeIpvs(tools, dryRun, failures);
  return { iptables, ...nft, ...ipvs, failures };
}

interface Place {
  readonly backend: Backend;
  readonly family: Family;
  readonly table: TableName;
}

async function removeChains(
  tools: RuleTools,
  { backend, family, table }: Place,
  dryRun: boolean,
  failures: string[],
): Promise<RemovedChains | null> {
  const found = await readTable(tools, backend, family, table);
  if (found.state === "unused" || (found.state === "unknown" && found.code === "tool_missing")) return null;
  if (found.state === "unknown") {
    failures.push(found.reason);
    return null;
  }
  const leftovers = findLeftovers(table, parseFilterTable(found.text));
  const { jumps, chains, kept } = leftovers;
  if (jumps.length + chains.length + kept.length === 0) return null;
  for (const lines of dryRun ? [] : removalSteps(leftovers)) {
    const reason = await applyTable(tools, found.program, table, lines);
    if (reason === null) continue;
    failures.push(`table ${table}: ${reason}`);
    break;
  }
  return { backend, family, table, chains: chains.length, jumps: jumps.length, kept };
}

async function removeNft(
  tools: LeftoverTools,
  dryRun: boolean,
  failures: string[],
): Promise<{ nftables: readonly string[]; natKept: readonly string[] }> {
  const listed = await tools.run("nft", ["-j", "list", "tables"]);
  if (listed === null) return { nftables: [], natKept: [] };
  const chains = await tools.run("nft", ["-j", "list", "chains"]);
  if (listed.status !== 0 || chains?.status !== 0) {
    failures.push(`nft: ${whyFailed(listed.status === 0 ? chains : listed)}`);
    return { nftables: [], natKept: [] };
  }
  const tables = members(listed.stdout, "table").map(({ family, name }) => `${family} ${name}`);
  const nat = members(chains.stdout, "chain").filter(({ type }) => type === "nat");
  const nftables: string[] = [];
  const natKept: string[] = [];
  const lines: string[] = [];
  for (const family of FAMILIES) {
    const name = NFT_FAMILY[family];
    const theirs = `${name} ${KUBE_PROXY_TABLE}`;
    const ours = `${name} ${NAT_TABLE}`;
    const others =
      nat.some(
        (chain) =>
          (chain.family === name || chain.family === "inet") &&
          chain.table !== KUBE_PROXY_TABLE &&
          chain.table !== NAT_TABLE,
      ) ||
      (tools.legacyTables(family)?.split("\n").includes("nat") ?? false);
    const there = tables.includes(theirs);
    const needed = !others && (there || tables.includes(ours)) && (await tools.hasTranslatedFlows());
    if (needed) natKept.push(ours);
    // First: between the two the kernel would stop translating the flows that it translates.
    if (needed && !tables.includes(ours)) lines.push(...natTable(ours));
    if (there) lines.push(`delete table ${theirs}`);
    if (there) nftables.push(theirs);
    if (!needed && tables.includes(ours)) lines.push(`delete table ${ours}`);
  }
  if (lines.length > 0 && !dryRun) {
    const result = await tools.run("nft", ["-f", "-"], `${lines.join("\n")}\n`);
    if (result?.status !== 0) failures.push(`nft: ${whyFailed(result)}`);
  }
  return { nftables, natKept };
}

const natTable = (name: string): readonly string[] => [
  `add table ${name}`,
  `add chain ${name} translated-flows { type nat hook postrouting priority 100; policy accept; }`,
  // A chain alone keeps the kernel's NAT at work; a rule with conntrack in it keeps that.
  `add rule ${name} translated-flows ct status dnat accept`,
];

/** Takes our own empty NAT tables away, for `portolan cleanup`. How many; null: nft failed. */
export async function removeNatTables(tools: RuleTools = hostTools): Promise<number | null> {
  const listed = await tools.run("nft", ["-j", "list", "tables"]);
  if (listed?.status !== 0) return 0;
  const ours = members(listed.stdout, "table").filter(
    ({ family, name }) => name === NAT_TABLE && (family === "ip" || family === "ip6"),
  );
  if (ours.length === 0) return 0;
  const lines = ours.map(({ family, name }) => `delete table ${family} ${name}\n`);
  const result = await tools.run("nft", ["-f", "-"], lines.join(""));
  return result?.status === 0 ? ours.length : null;
}

/** Only where kube-proxy's own interface tells that it was in ipvs mode: others use IPVS, too. */
async function removeIpvs(
  tools: LeftoverTools,
  dryRun: boolean,
  failures: string[],
): Promise<{ virtualServers: number; sets: readonly string[]; interfaces: readonly string[] }> {
  const run = async (program: string, args: readonly string[], input?: string): Promise<boolean> => {
    if (dryRun) return true;
    const result = await tools.run(program, args, input);
    if (result?.status === 0) return true;
    failures.push(`${program}: ${whyFailed(result)}`);
    return false;
  };
  let virtualServers = 0;
  const interfaces: string[] = [];
  if (tools.hasInterface(DUMMY)) {
    const listed = await tools.run("ipvsadm", ["-Ln"]);
    const servers = parseVirtualServers(listed?.status === 0 ? listed.stdout : "");
    if (listed === null) failures.push("ipvsadm: there is no such program, virtual servers may be left");
    const lines = servers.map(({ protocol, address }) => `-D ${IPVS_OPTION[protocol]} ${address}\n`);
    if (lines.length === 0 || (await run("ipvsadm", ["-R"], lines.join("")))) virtualServers = servers.length;
    if (await run("ip", ["link", "delete", DUMMY])) interfaces.push(DUMMY);
  }
  const listed = await tools.run("ipset", ["list", "-n"]);
  const sets: string[] = [];
  for (const name of (listed?.status === 0 ? listed.stdout : "").split("\n").filter(isKubeProxySet))
    if (await run("ipset", ["destroy", name])) sets.push(name);
  return { virtualServers, sets, interfaces };
}

const IPVS_OPTION = { TCP: "-t", UDP: "-u", SCTP: "--sctp-service" } as const;

/** The objects of one kind in nft's JSON, as far as their members are text. */
function members(text: string, kind: "table" | "chain"): readonly Readonly<Record<string, string>>[] {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return [];
  }
  const list = (parsed as { nftables?: unknown } | null)?.nftables;
  if (!Array.isArray(list)) return [];
  return list.flatMap((entry: unknown) => {
    const value = (entry as Record<string, unknown> | null)?.[kind];
    return typeof value === "object" && value !== null ? [value as Readonly<Record<string, string>>] : [];
  });
}

/** The families for which kube-proxy's NAT rules are in this network namespace. */
export async function familiesOfKubeProxy(tools: RuleTools = hostTools): Promise<readonly Family[]> {
  const listed = await tools.run("nft", ["-j", "list", "tables"]);
  const tables = listed?.status === 0 ? members(listed.stdout, "table") : [];
  const found: Family[] = [];
  for (const family of FAMILIES) {
    let there = tables.some(({ family: of, name }) => of === NFT_FAMILY[family] && name === KUBE_PROXY_TABLE);
    for (const backend of there ? [] : BACKENDS) {
      const nat = await readTable(tools, backend, family, "nat");
      there ||= nat.state === "read" && parseFilterTable(nat.text).has("KUBE-SERVICES");
    }
    if (there) found.push(family);
  }
  return found;
}
