// SPDX-License-Identifier: Apache-2.0
/**
 * What a packet would miss that goes past the stack: netfilter's rules on the way of forwarded packets, policy routing, IPsec.
 * Whatever cannot be read counts as an obstacle, and so does every rule that is not our own: none is understood here.
 */
import { readText } from "../util/proc.js";
import { FORWARD_CHAIN } from "./forward-rules-text.js";
import { hostTools, type RuleTools, whyFailed } from "./forward-rules-tools.js";
import { field, parseNftList } from "./nft-json.js";

/** Hooks that a forwarded packet passes. */
const HOOKS: ReadonlySet<string> = new Set(["ingress", "prerouting", "forward", "postrouting", "egress"]);

const words = (value: unknown): string =>
  ["family", "table", "chain"].map((name) => String(field(value, name))).join(" ");

/** "ip filter FORWARD" of a chain's own entry, which calls itself name. */
const chainWords = (chain: unknown): string =>
  ["family", "table", "name"].map((name) => String(field(chain, name))).join(" ");

/** A jump to our chain in iptables' FORWARD (8.11). */
function isOurs(rule: unknown): boolean {
  const expressions = field(rule, "expr");
  return (
    Array.isArray(expressions) &&
    expressions.some((each) => field(field(each, "jump"), "target") === FORWARD_CHAIN)
  );
}

/**
 * Reads the output of `nft -j list ruleset`: a line for each base chain on the way of forwarded packets that has a rule or drops
 * by policy. Null: it is no such output.
 */
export function parseObstacles(text: string): readonly string[] | null {
  const list = parseNftList(text);
  if (list === null) return null;
  const rules = new Map<string, number>();
  for (const entry of list) {
    const rule = field(entry, "rule");
    if (rule === undefined || isOurs(rule)) continue;
    rules.set(words(rule), (rules.get(words(rule)) ?? 0) + 1);
  }
  return list.flatMap((entry: unknown) => {
    const chain = field(entry, "chain");
    const hook = field(chain, "hook");
    if (typeof hook !== "string" || !HOOKS.has(hook)) return [];
    const name = chainWords(chain);
    const count = rules.get(name) ?? 0;
    if (count > 0)
      return [`nftables: chain ${name} (${hook}) has ${count === 1 ? "a rule" : `${count} rules`}`];
    return field(chain, "policy") === "drop" ? [`nftables: chain ${name} (${hook}) drops by policy`] : [];
  });
}

async function nftObstacles(tools: RuleTools): Promise<readonly string[]> {
  const result = await tools.run("nft", ["-j", "list", "ruleset"]);
  const found = result?.status === 0 ? parseObstacles(result.stdout) : null;
  return found ?? [`nftables cannot be read: nft: ${result?.status === 0 ? "no JSON" : whyFailed(result)}`];
}

/** The kernel does not tell of changes to legacy tables: one that is there might stop anything at any time. */
function legacyObstacles(tools: RuleTools): readonly string[] {
  return ([4, 6] as const).flatMap((family) => {
    const tables =
      tools
        .legacyTables(family)
        ?.split("\n")
        .filter((name) => name !== "") ?? [];
    const program = family === 4 ? "iptables-legacy" : "ip6tables-legacy";
    return tables.length === 0
      ? []
      : [`${program} has the table${tables.length === 1 ? "" : "s"} ${tables.join(", ")}`];
  });
}

/** Rules that every network namespace has: tables local, main and (IPv4) default. */
const PLAIN_RULE =
  /^(0:\s+from all lookup local|32766:\s+from all lookup main|32767:\s+from all lookup default)\s*$/;

async function routingObstacles(tools: RuleTools): Promise<readonly string[]> {
  const lists = await Promise.all(
    (["-4", "-6"] as const).map(async (family) => {
      const result = await tools.run("ip", [family, "rule", "show"]);
      if (result?.status !== 0) return [`routing rules cannot be read: ip: ${whyFailed(result)}`];
      const other = result.stdout.split("\n").find((line) => line.trim() !== "" && !PLAIN_RULE.test(line));
      return other === undefined
        ? []
        : [`policy routing: ip ${family} rule ${other.trim().replace(/\s+/g, " ")}`];
    }),
  );
  return lists.flat();
}

async function ipsecObstacles(tools: RuleTools): Promise<readonly string[]> {
  const result = await tools.run("ip", ["xfrm", "policy", "count"]);
  if (result?.status !== 0) return []; // the kernel has no IPsec
  const counts = [...result.stdout.matchAll(/\b(?:IN|OUT|FWD)\s+(\d+)/g)].map(([, count]) => Number(count));
  return counts.some((count) => count > 0) ? ["IPsec policies are there (ip xfrm policy)"] : [];
}

/** ebtables of the legacy kind can be seen by its modules alone. */
function bridgeObstacles(): readonly string[] {
  const loaded = /^(ebtable_(?:filter|nat|broute)) /m.exec(readText("/proc/modules") ?? "");
  return loaded === null ? [] : [`bridges are filtered by ebtables (module ${loaded[1]})`];
}

/**
 * What is in the way of the shortcut on this host, in words; none: nothing would be missed. Changes nothing, never rejects.
 */
export async function readObstacles(tools: RuleTools = hostTools): Promise<readonly string[]> {
  const [nft, routing, ipsec] = await Promise.all([
    nftObstacles(tools),
    routingObstacles(tools),
    ipsecObstacles(tools),
  ]);
  return [...nft, ...legacyObstacles(tools), ...routing, ...ipsec, ...bridgeObstacles()];
}
