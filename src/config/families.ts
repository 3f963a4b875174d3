// SPDX-License-Identifier: Apache-2.0
/** Settings against the address families of this host and node (12.11, 12.12). Pure: the facts come in as values. */
import type { Cidr } from "../net/cidr.js";
import type { Family } from "../net/ip.js";
import { KUBE_PROXY_FIELDS } from "./kube-proxy-settings.js";
import type { SettingProblem } from "./problem.js";
import type { ProxySettings } from "./proxy-settings.js";
import { familiesOf, words } from "./validate.js";

export interface HostFamilies {
  /** Those that the host supports (13.4). */
  readonly families: readonly Family[];
  /** Of the node's primary address (13.2). */
  readonly primary: Family;
  readonly podCIDRs: readonly Cidr[];
}

/** Errors are fatal, as in kube-proxy; on a host with both families nothing but the primary one's absence is. */
export function familyProblems(
  settings: Pick<ProxySettings, "kubeProxy" | "configFile">,
  { families, primary, podCIDRs }: HostFamilies,
): readonly SettingProblem[] {
  const problems: SettingProblem[] = [];
  const { kubeProxy } = settings;
  const add = (severity: SettingProblem["severity"], field: string, message: string): void => {
    const code = severity === "error" ? "invalid" : "advice";
    problems.push({ severity, code, name: settingName(settings, field), line: null, message });
  };
  if (!families.includes(primary)) {
    add(
      "error",
      "bindAddress",
      `the node's primary address is IPv${primary}, which this host does not support`,
    );
  }
  const lacksPrimary = (found: readonly Family[]): boolean => found.length > 0 && !found.includes(primary);
  const fatal = families.length > 1 ? "warning" : "error";
  const only = `only IPv${primary === 4 ? 6 : 4} ranges, and the node's primary address is IPv${primary}`;
  const { detectLocalMode: mode, nodePortAddresses } = kubeProxy;
  if (lacksPrimary(familiesOf(words(kubeProxy.clusterCIDR)))) {
    add(mode === "ClusterCIDR" ? fatal : "warning", "clusterCIDR", `has ${only}`);
  }
  if (mode === "NodeCIDR" && lacksPrimary(podCIDRs.map(({ family }) => family))) {
    add(fatal, "detectLocalMode", `NodeCIDR: the Node's podCIDRs have ${only}`);
  }
  const nodePorts = familiesOf(nodePortAddresses);
  const twoPodRanges = new Set(podCIDRs.map(({ family }) => family)).size === 2;
  if (lacksPrimary(nodePorts)) add("warning", "nodePortAddresses", `has ${only}`);
  else if (nodePorts.length === 1 && twoPodRanges && familiesOf(words(kubeProxy.clusterCIDR)).length < 2) {
    add(
      "warning",
      "nodePortAddresses",
      `has IPv${nodePorts[0]} ranges only, and the cluster seems to be dual-stack`,
    );
  }
  return problems;
}

/** As the operator would say it: by its field in the file, or by its flag where there is none. */
export function settingName({ configFile }: Pick<ProxySettings, "configFile">, field: string): string {
  const flag = KUBE_PROXY_FIELDS.find((setting) => setting.field === field)?.flag ?? null;
  return configFile !== null || flag === null ? field : `--${flag}`;
}
