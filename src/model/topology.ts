// SPDX-License-Identifier: Apache-2.0
/** Topology hints (4.3 to 4.5). Only hints in slices count; trafficDistribution and annotations are never read (2.20). */
import type { PortEndpoint } from "./endpoints.js";
import type { NodeInfo } from "./types.js";

export type TopologyMode = "none" | "node" | "zone";

/**
 * 4.3, over the Ready endpoints only: node hints when every endpoint has one and some name this node; else zone hints when
 * every endpoint has one and some name this zone; else none. So hints that are missing on one endpoint, or that would leave
 * this node without any, are ignored as a whole and never make a black hole (4.4, 4.16).
 */
export function topologyMode(ready: readonly PortEndpoint[], node: NodeInfo): TopologyMode {
  if (ready.length === 0) return "none";
  if (ready.every((e) => e.nodeHints.length > 0) && ready.some((e) => e.nodeHints.includes(node.name))) {
    return "node";
  }
  // 4.4: a node without a zone matches no hint, not even an empty one.
  if (node.zone === "") return "none";
  return ready.every((e) => e.zoneHints.length > 0) && ready.some((e) => e.zoneHints.includes(node.zone))
    ? "zone"
    : "none";
}

/** 4.5. */
export function passesTopology(endpoint: PortEndpoint, mode: TopologyMode, node: NodeInfo): boolean {
  switch (mode) {
    case "node":
      return endpoint.nodeHints.includes(node.name);
    case "zone":
      return endpoint.zoneHints.includes(node.zone);
    case "none":
      return true;
  }
}
