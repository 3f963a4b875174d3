// SPDX-License-Identifier: Apache-2.0
/** Topology hints (4.3 to 4.5). Only hints in slices count; trafficDistribution and annotations are never read (2.20). */
import type { PortEndpoint } from "./endpoints.js";
import { isReady } from "./endpoints.js";
import type { NodeInfo } from "./types.js";

export type TopologyMode = "none" | "node" | "zone";

/** What the hints of a port's Ready endpoints amount to on one node. */
export interface HintCount {
  /** Ready endpoints; no others are looked at. */
  ready: number;
  /** Those of them with a node hint at all, and with this node's. */
  nodeHinted: number;
  thisNode: number;
  /** The same of zone hints. */
  zoneHinted: number;
  thisZone: number;
}

export function countHints(endpoints: readonly PortEndpoint[], node: NodeInfo): HintCount {
  const count: HintCount = { ready: 0, nodeHinted: 0, thisNode: 0, zoneHinted: 0, thisZone: 0 };
  for (const endpoint of endpoints) {
    if (!isReady(endpoint)) continue;
    count.ready += 1;
    if (endpoint.nodeHints.length > 0) {
      count.nodeHinted += 1;
      if (passesTopology(endpoint, "node", node)) count.thisNode += 1;
    }
    if (endpoint.zoneHints.length > 0) {
      count.zoneHinted += 1;
      if (passesTopology(endpoint, "zone", node)) count.thisZone += 1;
    }
  }
  return count;
}

/**
 * 4.3, over the Ready endpoints only: node hints when every endpoint has one and some name this node; else zone hints when
 * every endpoint has one and some name this zone; else none. So hints that are missing on one endpoint, or that would leave
 * this node without any, are ignored as a whole and never make a black hole (4.4, 4.16).
 */
export function modeOf({ ready, nodeHinted, thisNode, zoneHinted, thisZone }: HintCount): TopologyMode {
  if (nodeHinted === ready && thisNode > 0) return "node";
  return zoneHinted === ready && thisZone > 0 ? "zone" : "none";
}

/** 4.5. A node without a zone matches no zone hint, not even an empty one (4.4). */
export function passesTopology(endpoint: PortEndpoint, mode: TopologyMode, node: NodeInfo): boolean {
  switch (mode) {
    case "node":
      return endpoint.nodeHints.includes(node.name);
    case "zone":
      return node.zone !== "" && endpoint.zoneHints.includes(node.zone);
    case "none":
      return true;
  }
}
