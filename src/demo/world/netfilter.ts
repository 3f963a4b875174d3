// SPDX-License-Identifier: Apache-2.0
import { CLUSTER_CIDR4, CLUSTER_CIDR6 } from "./plan.js";

/** Which of the host's usual rules a node gets. */
export interface RuleChoice {
  readonly flannelRules: boolean;
  readonly dropInvalid: boolean;
}

/**
 * Input of `iptables-restore` (or `ip6tables-restore`) for one node.
 *
 * @param family address family of the rules
 * @param podSubnet the node's own pods
 * @returns the text, or undefined when no rule is wanted (so that conntrack stays off too)
 */
export function nodeRules(family: 4 | 6, podSubnet: string, choice: RuleChoice): string | undefined {
  const cluster = family === 4 ? CLUSTER_CIDR4 : CLUSTER_CIDR6;
  const multicast = family === 4 ? "224.0.0.0/4" : "ff00::/8";
  const lines: string[] = [];
  if (choice.flannelRules) {
    lines.push(
      "*nat",
      ":FLANNEL-POSTRTG - [0:0]",
      "-A POSTROUTING -j FLANNEL-POSTRTG",
      "-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN",
      `-A FLANNEL-POSTRTG -s ${cluster} -d ${cluster} -j RETURN`,
      `-A FLANNEL-POSTRTG -s ${cluster} ! -d ${multicast} -j MASQUERADE --random-fully`,
      `-A FLANNEL-POSTRTG ! -s ${cluster} -d ${podSubnet} -j RETURN`,
      `-A FLANNEL-POSTRTG ! -s ${cluster} -d ${cluster} -j MASQUERADE --random-fully`,
      "COMMIT",
    );
  }
  const forward: string[] = [];
  if (choice.dropInvalid) forward.push("-A FORWARD -m conntrack --ctstate INVALID -j DROP");
  if (choice.flannelRules) {
    forward.push(
      ":FLANNEL-FWD - [0:0]",
      "-A FORWARD -j FLANNEL-FWD",
      `-A FLANNEL-FWD -s ${cluster} -j ACCEPT`,
      `-A FLANNEL-FWD -d ${cluster} -j ACCEPT`,
    );
  }
  if (forward.length > 0) {
    const chains = forward.filter((line) => line.startsWith(":"));
    lines.push("*filter", ...chains, ...forward.filter((line) => !line.startsWith(":")), "COMMIT");
  }
  return lines.length === 0 ? undefined : `${lines.join("\n")}\n`;
}
