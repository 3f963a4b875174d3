// SPDX-License-Identifier: Apache-2.0
/**
 * Firewalls that are written with nft itself: base chains that drop forwarded packets and are not iptables' own. No rule of
 * ours helps there, since each base chain decides for itself; their owner must accept the mark.
 */
import { hostTools, type RuleTools } from "./forward-rules-tools.js";
import { field, parseNftList } from "./nft-json.js";

/** A base chain at the forward hook whose policy is drop. */
export interface DroppingChain {
  readonly family: "ip" | "ip6" | "inet";
  readonly table: string;
  readonly chain: string;
  /** As nft's commands have it: "inet filter forward". */
  readonly text: string;
}

/**
 * Those of this network namespace, iptables' own FORWARD chains left out. Never rejects.
 *
 * @returns null when nft is not there or does not answer in JSON
 */
export async function readDroppingChains(
  tools: RuleTools = hostTools,
): Promise<readonly DroppingChain[] | null> {
  const result = await tools.run("nft", ["-j", "list", "chains"]);
  return result?.status === 0 ? parseDroppingChains(result.stdout) : null;
}

/** Reads the output of `nft -j list chains`; null when it is none. */
export function parseDroppingChains(text: string): readonly DroppingChain[] | null {
  const list = parseNftList(text);
  if (list === null) return null;
  return list.flatMap((entry: unknown) => {
    const chain = field(entry, "chain");
    const [family, table, name] = [field(chain, "family"), field(chain, "table"), field(chain, "name")];
    if (field(chain, "hook") !== "forward" || field(chain, "policy") !== "drop") return [];
    if (family !== "ip" && family !== "ip6" && family !== "inet") return [];
    if (typeof table !== "string" || typeof name !== "string") return [];
    const ofIptables = family !== "inet" && table === "filter" && name === "FORWARD";
    return ofIptables ? [] : [{ family, table, chain: name, text: `${family} ${table} ${name}` }];
  });
}
