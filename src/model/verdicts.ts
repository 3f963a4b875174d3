// SPDX-License-Identifier: Apache-2.0
/**
 * Whether an endpoint is in one of section 4's sets, and why. The decision is the reason: selection asks these functions,
 * and so does whoever explains one.
 */
import type { PortEndpoint } from "./endpoints.js";
import { isFallback, isReady } from "./endpoints.js";
import { countHints, modeOf, passesTopology, type TopologyMode } from "./topology.js";
import type { NodeInfo } from "./types.js";

export type VerdictCode =
  | "ready"
  | "hinted-node"
  | "hinted-zone"
  | "fallback"
  | "node-hint-elsewhere"
  | "zone-hint-elsewhere"
  | "not-local"
  | "terminating"
  | "unready"
  | "not-serving";

/** One of a few values, each made once. */
export interface Verdict {
  readonly used: boolean;
  readonly code: VerdictCode;
  /** Numbers of the rules that say so. */
  readonly rules: readonly string[];
}

const verdict = (used: boolean, code: VerdictCode, ...rules: string[]): Verdict =>
  Object.freeze({ used, code, rules: Object.freeze(rules) });

const CLUSTER_READY: Readonly<Record<TopologyMode, Verdict>> = {
  none: verdict(true, "ready", "3.2", "4.5"),
  node: verdict(true, "hinted-node", "4.3", "4.5"),
  zone: verdict(true, "hinted-zone", "4.3", "4.5"),
};
const CLUSTER_ELSEWHERE: Readonly<Record<TopologyMode, Verdict>> = {
  ...CLUSTER_READY,
  node: verdict(false, "node-hint-elsewhere", "4.3", "4.5"),
  zone: verdict(false, "zone-hint-elsewhere", "4.3", "4.5"),
};
const CLUSTER_FALLBACK = verdict(true, "fallback", "3.2", "4.6");
const CLUSTER_TERMINATING = verdict(false, "terminating", "3.2", "4.6");
const LOCAL_READY = verdict(true, "ready", "3.2", "4.7");
const LOCAL_FALLBACK = verdict(true, "fallback", "3.2", "4.7");
const LOCAL_TERMINATING = verdict(false, "terminating", "3.2", "4.7");
const NOT_LOCAL = verdict(false, "not-local", "3.3", "4.7");
const UNREADY = verdict(false, "unready", "3.2");
const NOT_SERVING = verdict(false, "not-serving", "3.2");

/** What decides about all endpoints of a set together. */
export interface SetRule {
  /** Nobody is Ready: those that serve while they terminate are used. */
  readonly fallback: boolean;
  readonly mode: TopologyMode;
}

const FALLBACK_RULE: SetRule = Object.freeze({ fallback: true, mode: "none" });
const READY_RULES: Readonly<Record<TopologyMode, SetRule>> = {
  none: Object.freeze({ fallback: false, mode: "none" }),
  node: Object.freeze({ fallback: false, mode: "node" }),
  zone: Object.freeze({ fallback: false, mode: "zone" }),
};

/** 4.3, 4.6. */
export function clusterRule(endpoints: readonly PortEndpoint[], node: NodeInfo): SetRule {
  const hints = countHints(endpoints, node);
  return hints.ready === 0 ? FALLBACK_RULE : READY_RULES[modeOf(hints)];
}

/** 4.7: hints never filter the Local set. */
export function localRule(endpoints: readonly PortEndpoint[]): SetRule {
  return endpoints.some((endpoint) => endpoint.local && isReady(endpoint)) ? READY_RULES.none : FALLBACK_RULE;
}

/** 3.2, 4.5, 4.6. */
export function clusterVerdict(endpoint: PortEndpoint, { fallback, mode }: SetRule, node: NodeInfo): Verdict {
  if (isReady(endpoint)) {
    return passesTopology(endpoint, mode, node) ? CLUSTER_READY[mode] : CLUSTER_ELSEWHERE[mode];
  }
  if (isFallback(endpoint)) return fallback ? CLUSTER_FALLBACK : CLUSTER_TERMINATING;
  return endpoint.serving ? UNREADY : NOT_SERVING;
}

/** 3.2, 3.3, 4.7. */
export function localVerdict(endpoint: PortEndpoint, { fallback }: SetRule): Verdict {
  if (!endpoint.local) return NOT_LOCAL;
  if (isReady(endpoint)) return LOCAL_READY;
  if (isFallback(endpoint)) return fallback ? LOCAL_FALLBACK : LOCAL_TERMINATING;
  return endpoint.serving ? UNREADY : NOT_SERVING;
}
