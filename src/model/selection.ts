// SPDX-License-Identifier: Apache-2.0
/** Endpoint selection (section 4 of the rules) and what an empty set means (section 7). Pure. */
import type { PortEndpoint } from "./endpoints.js";
import { isFallback, isReady } from "./endpoints.js";
import { passesTopology, topologyMode } from "./topology.js";
import type { TrafficPolicy } from "./traffic-policy.js";
import type { NodeInfo } from "./types.js";

export interface Selection {
  /** Empty when the policy needs no cluster set. */
  readonly cluster: readonly PortEndpoint[];
  /** Empty when the policy needs no local set. */
  readonly local: readonly PortEndpoint[];
  /** 4.9: decides REJECT or DROP where a set is empty. */
  readonly hasAny: boolean;
}

/** What new flows of one kind of sender are offered. */
export interface Choice {
  readonly endpoints: readonly PortEndpoint[];
  /** "reject" when there are endpoints. */
  readonly whenEmpty: "reject" | "drop";
}

/** 4.5, 4.6: the Ready ones that pass the hints; without any Ready one all fallback ones, whatever their hints. */
export function clusterSet(endpoints: readonly PortEndpoint[], node: NodeInfo): readonly PortEndpoint[] {
  const ready = endpoints.filter(isReady);
  if (ready.length === 0) return endpoints.filter(isFallback);
  const mode = topologyMode(ready, node);
  return mode === "none" ? ready : ready.filter((endpoint) => passesTopology(endpoint, mode, node));
}

/** 4.7: local Ready ones, else local fallback ones. Hints never filter it. */
export function localSet(endpoints: readonly PortEndpoint[]): readonly PortEndpoint[] {
  const local = endpoints.filter((endpoint) => endpoint.local);
  const ready = local.filter(isReady);
  return ready.length > 0 ? ready : local.filter(isFallback);
}

/** Both sets, as far as the policy uses them; each falls back by itself (4.8). `endpoints` are free of duplicates (3.4). */
export function selectEndpoints(
  endpoints: readonly PortEndpoint[],
  policy: TrafficPolicy,
  node: NodeInfo,
): Selection {
  const cluster = policy.usesCluster ? clusterSet(endpoints, node) : [];
  const local = policy.usesLocal ? localSet(endpoints) : [];
  const hasAny =
    cluster.length > 0 || (policy.usesLocal && endpoints.some((e) => isReady(e) || isFallback(e)));
  return { cluster, local, hasAny };
}

/** 7.1, 7.2, 7.3: nothing anywhere is refused at once; something elsewhere that the policy forbids is silence. */
function choice(endpoints: readonly PortEndpoint[], hasAny: boolean): Choice {
  return { endpoints, whenEmpty: endpoints.length === 0 && hasAny ? "drop" : "reject" };
}

/** 4.10, 4.13: traffic to the ClusterIP, from any sender. */
export function internalChoice(selection: Selection, policy: TrafficPolicy): Choice {
  return choice(policy.internalLocal ? selection.local : selection.cluster, selection.hasAny);
}

/** 4.11, 4.12: traffic to a NodePort, externalIP or load-balancer VIP from senders outside this node. */
export function externalChoice(selection: Selection, policy: TrafficPolicy): Choice {
  return choice(policy.externalLocal ? selection.local : selection.cluster, selection.hasAny);
}

/** 4.12: the same from this node's pods and from the node itself, who are short-circuited to the cluster set. */
export function shortCircuitChoice(selection: Selection): Choice {
  return choice(selection.cluster, selection.hasAny);
}
