// SPDX-License-Identifier: Apache-2.0
/** Endpoint selection (section 4 of the rules) and what an empty set means (section 7). Pure. */
import type { PortEndpoint } from "./endpoints.js";
import { isFallback, isReady } from "./endpoints.js";
import type { TrafficPolicy } from "./traffic-policy.js";
import type { NodeInfo } from "./types.js";
import { clusterRule, clusterVerdict, localRule, localVerdict } from "./verdicts.js";

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
  /** Numbers of the rules that say so. */
  readonly rules: readonly string[];
}

/** 4.5, 4.6: the Ready ones that pass the hints; without any Ready one all fallback ones, whatever their hints. */
export function clusterSet(endpoints: readonly PortEndpoint[], node: NodeInfo): readonly PortEndpoint[] {
  const rule = clusterRule(endpoints, node);
  return endpoints.filter((endpoint) => clusterVerdict(endpoint, rule, node).used);
}

/** 4.7: local Ready ones, else local fallback ones. Hints never filter it. */
export function localSet(endpoints: readonly PortEndpoint[]): readonly PortEndpoint[] {
  const rule = localRule(endpoints);
  return endpoints.filter((endpoint) => localVerdict(endpoint, rule).used);
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

const CLUSTER_TO_CLUSTER_IP = rules("4.10");
const LOCAL_TO_CLUSTER_IP = rules("2.17", "4.10");
const CLUSTER_FROM_OUTSIDE = rules("4.11");
const LOCAL_FROM_OUTSIDE = rules("2.16", "4.12");
const SHORT_CIRCUIT = rules("4.11", "4.12");
const NOTHING_ANYWHERE = rules("7.1");
const NOTHING_LOCAL_INSIDE = rules("4.10", "7.2");
const NOTHING_LOCAL_OUTSIDE = rules("4.12", "7.3");

function rules(...numbers: string[]): readonly string[] {
  return Object.freeze(numbers);
}

/** 4.10, 4.13: traffic to the ClusterIP, from any sender. */
export function internalChoice({ cluster, local, hasAny }: Selection, policy: TrafficPolicy): Choice {
  if (policy.internalLocal) return choice(local, hasAny, LOCAL_TO_CLUSTER_IP, NOTHING_LOCAL_INSIDE);
  return choice(cluster, hasAny, CLUSTER_TO_CLUSTER_IP, NOTHING_ANYWHERE);
}

/** 4.11, 4.12: traffic to a NodePort, externalIP or load-balancer VIP from senders outside this node. */
export function externalChoice({ cluster, local, hasAny }: Selection, policy: TrafficPolicy): Choice {
  if (policy.externalLocal) return choice(local, hasAny, LOCAL_FROM_OUTSIDE, NOTHING_LOCAL_OUTSIDE);
  return choice(cluster, hasAny, CLUSTER_FROM_OUTSIDE, NOTHING_ANYWHERE);
}

/** 4.12: the same from this node's pods and from the node itself, who are short-circuited to the cluster set. */
export function shortCircuitChoice({ cluster, hasAny }: Selection): Choice {
  return choice(cluster, hasAny, SHORT_CIRCUIT, NOTHING_ANYWHERE);
}

/** 7.1, 7.2, 7.3: nothing anywhere is refused at once; something elsewhere that the policy forbids is silence. */
function choice(
  endpoints: readonly PortEndpoint[],
  hasAny: boolean,
  why: readonly string[],
  whyDropped: readonly string[],
): Choice {
  if (endpoints.length > 0) return { endpoints, whenEmpty: "reject", rules: why };
  return hasAny
    ? { endpoints, whenEmpty: "drop", rules: whyDropped }
    : { endpoints, whenEmpty: "reject", rules: NOTHING_ANYWHERE };
}
