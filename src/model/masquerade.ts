// SPDX-License-Identifier: Apache-2.0
/** Whose flows get an address of the node as their source (section 8). Hairpin always does, whatever is said here (8.7). */
import type { Family } from "../net/ip.js";
import type { ProxyConfig } from "./types.js";

/** "outsiders": all senders but local pods, by the family's local detector. */
export type Masquerade = "never" | "outsiders" | "always";

/** 8.2, 8.8. Without a detector nobody can be told from an outsider, and nobody is masqueraded. */
export function clusterMasquerade(config: ProxyConfig, family: Family): Masquerade {
  if (config.masqueradeAll) return "always";
  return config.localDetector[family] ? "outsiders" : "never";
}

/**
 * To a NodePort, externalIP or load-balancer address: everybody, pods too, with policy Cluster (8.4), for the reply must
 * come back through this node; nobody with policy Local (8.5, 8.6). This node's own processes have an address of the node
 * in any case, which is what 8.5 wants for them.
 */
export function externalMasquerade(externalLocal: boolean): Masquerade {
  return externalLocal ? "never" : "always";
}
