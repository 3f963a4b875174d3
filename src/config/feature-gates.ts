// SPDX-License-Identifier: Apache-2.0
/** Feature gates: the one that is looked at here, those of kube-proxy whose stage is known, and what was configured. */

/** As kubernetes_feature_enabled has it: "" is GA. */
export type GateStage = "" | "ALPHA" | "BETA" | "DEPRECATED";

export interface FeatureGate {
  readonly name: string;
  readonly stage: GateStage;
  readonly enabled: boolean;
}

/** ServiceCIDR objects are watched (1.6). */
export const SERVICE_CIDR_GATE = "MultiCIDRServiceAllocator";

/** Stage and default in Kubernetes 1.36 of the gates that bear on what a Service proxy does or logs. */
const KNOWN: Readonly<Record<string, readonly [stage: GateStage, fallback: boolean]>> = {
  AllAlpha: ["ALPHA", false],
  AllBeta: ["BETA", false],
  LoggingAlphaOptions: ["ALPHA", false],
  LoggingBetaOptions: ["BETA", true],
  [SERVICE_CIDR_GATE]: ["", true],
  NFTablesProxyMode: ["", true],
  PreferSameTrafficDistribution: ["", true],
  ServiceTrafficDistribution: ["", true],
  TopologyAwareHints: ["", true],
};

/**
 * Every known gate with the value that it has, and every other one that was configured. AllAlpha and AllBeta hold for the
 * known gates of that stage that are not named themselves. Of a gate that is not known the stage is not either: it is "".
 */
export function featureGates(configured: Readonly<Record<string, boolean>>): readonly FeatureGate[] {
  const groups: Readonly<Record<string, boolean | undefined>> = {
    ALPHA: configured.AllAlpha,
    BETA: configured.AllBeta,
  };
  const names = [...new Set([...Object.keys(KNOWN), ...Object.keys(configured)])].sort();
  return names.map((name) => {
    const [stage, fallback] = Object.hasOwn(KNOWN, name) ? (KNOWN[name] ?? UNKNOWN) : UNKNOWN;
    return { name, stage, enabled: configured[name] ?? groups[stage] ?? fallback };
  });
}

const UNKNOWN: readonly [GateStage, boolean] = ["", false];
