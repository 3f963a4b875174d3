// SPDX-License-Identifier: Apache-2.0
/** What kube-proxy refuses to start with (12.9, 12.10), and what it only warns of (12.11). */
import { type Cidr, parseCidr } from "../net/cidr.js";
import { parseIp } from "../net/ip.js";
import { DETECT_LOCAL_MODES, interfaceTextProblem } from "./detect-local.js";
import { formatDuration } from "./duration.js";
import { parseHostPort } from "./host-port.js";
import type { KubeProxyConfiguration, ProxyMode } from "./kube-proxy-configuration.js";

/** Takes a field's path and what is wrong with its value. */
export type Complain = (field: string, message: string) => void;

export const PROXY_MODES: readonly ProxyMode[] = ["iptables", "ipvs", "nftables"];
/** "": rr. */
const SCHEDULERS = ["", "rr", "wrr", "lc", "wlc", "lblc", "lblcr", "sh", "dh", "sed", "nq"];

const quoted = (text: string): string => JSON.stringify(text);

/** What is fatal. */
export function validate(config: KubeProxyConfiguration, complain: Complain): void {
  oneOf("mode", config.mode, PROXY_MODES, complain);
  addresses(config, complain);
  periods(config, complain);
  conntrack(config, complain);
  detectLocal(config, complain);
  clusterCIDR(config.clusterCIDR, complain);
  nodePortAddresses(config.nodePortAddresses, complain);
  if (config.mode === "ipvs") ipvs(config, complain);
  bounds("oomScoreAdj", config.oomScoreAdj, -1000, 1000, complain);
  bounds("iptables.masqueradeBit", config.iptables.masqueradeBit, 0, 31, complain);
  bounds("nftables.masqueradeBit", config.nftables.masqueradeBit, 0, 31, complain);
  notNegative("clientConnection.burst", config.clientConnection.burst, complain);
  rest(config, complain);
}

/** What is likely not what is wanted (12.11). */
export function advise({ nodePortAddresses, clusterCIDR }: KubeProxyConfiguration, complain: Complain): void {
  if (nodePortAddresses.length === 0) {
    complain(
      "nodePortAddresses",
      'is not set: NodePorts are served on all local addresses; "primary" would serve those of the Node object',
    );
    return;
  }
  const families = familiesOf(nodePortAddresses);
  if (families.length === 1 && familiesOf(words(clusterCIDR)).length === 2) {
    complain(
      "nodePortAddresses",
      `has IPv${families[0]} ranges only, and the cluster seems to be dual-stack: NodePorts of the other family are served on all its local addresses`,
    );
  }
}

/** The families of those texts that are ranges. */
export function familiesOf(texts: readonly string[]): readonly (4 | 6)[] {
  const ranges = texts.map(parseCidr).filter((range): range is Cidr => range !== null);
  return Array.from(new Set(ranges.map(({ family }) => family)));
}

export function words(text: string): readonly string[] {
  return text === "" ? [] : text.split(",").map((word) => word.trim());
}

function addresses(config: KubeProxyConfiguration, complain: Complain): void {
  if (parseIp(config.bindAddress) === null) {
    complain("bindAddress", `must be an IP address, not ${quoted(config.bindAddress)}`);
  }
  for (const field of ["healthzBindAddress", "metricsBindAddress"] as const) {
    const text = config[field];
    if (text !== "" && parseHostPort(text) === null) {
      complain(field, `must be an IP address with a port from 1 to 65535, not ${quoted(text)}`);
    }
  }
}

/** Of the mode alone, as in kube-proxy. */
function periods(config: KubeProxyConfiguration, complain: Complain): void {
  const mode = PROXY_MODES.includes(config.mode) ? config.mode : "iptables";
  const { syncPeriod, minSyncPeriod } = config[mode];
  if (syncPeriod <= 0) complain(`${mode}.syncPeriod`, "must be more than 0");
  if (minSyncPeriod < 0) complain(`${mode}.minSyncPeriod`, "must not be negative");
  else if (syncPeriod > 0 && minSyncPeriod > syncPeriod) {
    const least = formatDuration(minSyncPeriod);
    complain(`${mode}.syncPeriod`, `must not be less than minSyncPeriod, which is ${least}`);
  }
  if (config.configSyncPeriod <= 0) complain("configSyncPeriod", "must be more than 0");
}

function conntrack({ conntrack: values }: KubeProxyConfiguration, complain: Complain): void {
  const { tcpBeLiberal: _, ...numbers } = values;
  for (const [name, value] of Object.entries(numbers)) notNegative(`conntrack.${name}`, value, complain);
}

function detectLocal(
  { detectLocalMode: mode, detectLocal: by }: KubeProxyConfiguration,
  complain: Complain,
): void {
  oneOf("detectLocalMode", mode, DETECT_LOCAL_MODES, complain);
  const field =
    mode === "BridgeInterface"
      ? "bridgeInterface"
      : mode === "InterfaceNamePrefix"
        ? "interfaceNamePrefix"
        : null;
  if (field === null) return;
  const text = by[field].trim();
  const problem = text === "" ? `must be set for detectLocalMode ${mode}` : interfaceTextProblem(text);
  if (problem !== null) complain(`detectLocal.${field}`, problem);
}

function clusterCIDR(text: string, complain: Complain): void {
  const parts = words(text);
  const bad = parts.find((part) => parseCidr(part) === null);
  if (bad !== undefined) {
    complain("clusterCIDR", `${quoted(bad)} is no address range such as 10.0.0.0/8`);
  } else if (parts.length > 2 || (parts.length === 2 && familiesOf(parts).length !== 2)) {
    complain("clusterCIDR", `must be one range, or one of each family, not ${quoted(text)}`);
  }
}

function nodePortAddresses(list: readonly string[], complain: Complain): void {
  if (list.includes("primary")) {
    if (list.length > 1) complain("nodePortAddresses", "primary cannot stand beside others");
    return;
  }
  for (const text of list) {
    if (parseCidr(text) !== null) continue;
    complain("nodePortAddresses", `${quoted(text)} is no address range such as 10.0.0.0/8`);
  }
}

function ipvs({ ipvs: values }: KubeProxyConfiguration, complain: Complain): void {
  for (const name of ["tcpTimeout", "tcpFinTimeout", "udpTimeout"] as const) {
    notNegative(`ipvs.${name}`, values[name], complain);
  }
  if (!SCHEDULERS.includes(values.scheduler)) {
    const known = SCHEDULERS.slice(1).join(", ");
    complain("ipvs.scheduler", `must be one of ${known}, not ${quoted(values.scheduler)}`);
  }
  for (const text of values.excludeCIDRs) {
    if (parseCidr(text) === null) complain("ipvs.excludeCIDRs", `${quoted(text)} is no address range`);
  }
}

function rest(
  { logging, portRange, showHiddenMetricsForVersion }: KubeProxyConfiguration,
  complain: Complain,
): void {
  oneOf("logging.format", logging.format, ["text", "json"], complain);
  notNegative("logging.verbosity", logging.verbosity, complain);
  if (logging.vmodule.length > 0 && logging.format !== "text") {
    complain("logging.vmodule", "is possible with logging.format text only");
  }
  if (portRange !== "" && !/^\d{1,5}(?:[-+]\d{1,5})?$/.test(portRange)) {
    complain("portRange", `must be a range of ports such as 300-2000, not ${quoted(portRange)}`);
  }
  if (showHiddenMetricsForVersion !== "" && !/^\d+\.\d+$/.test(showHiddenMetricsForVersion)) {
    complain(
      "showHiddenMetricsForVersion",
      `must be a version such as 1.33, not ${quoted(showHiddenMetricsForVersion)}`,
    );
  }
}

/** A whole number between two others, both included. */
export function bounds(field: string, value: number, min: number, max: number, complain: Complain): void {
  if (value < min || value > max) complain(field, `must be from ${min} to ${max}, not ${value}`);
}

/** One of a few words. */
export function oneOf(field: string, text: string, allowed: readonly string[], complain: Complain): void {
  if (!allowed.includes(text)) complain(field, `must be one of ${allowed.join(", ")}, not ${quoted(text)}`);
}

function notNegative(field: string, value: number, complain: Complain): void {
  if (value < 0) complain(field, "must not be negative");
}
