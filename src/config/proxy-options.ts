// SPDX-License-Identifier: Apache-2.0
/**
 * kube-proxy's options by their flags' names, from text to what a compile and the kernel programs take. Pure: what the Node
 * object says comes in as a value, so that `portolan compile` and the agent read the same flags the same way.
 */
import type { NodeInfo, ProxyConfig } from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import { cidrOf, overlapping, parseCidr } from "../net/cidr.js";
import type { Family } from "../net/ip.js";
import { ipFromBytes } from "../net/ip.js";
import { UserError } from "../util/errors.js";
import { DETECT_LOCAL_MODES, interfaceTextProblem } from "./detect-local.js";

/** As given on the command line; absent and "" are the same, as in kube-proxy. */
export interface ProxyOptionTexts {
  /** --cluster-cidr */
  readonly clusterCidr?: string | undefined;
  /** --detect-local-mode */
  readonly detectLocalMode?: string | undefined;
  /** --pod-bridge-interface */
  readonly podBridgeInterface?: string | undefined;
  /** --pod-interface-name-prefix */
  readonly podInterfaceNamePrefix?: string | undefined;
  /** --masquerade-all */
  readonly masqueradeAll?: string | boolean | undefined;
  /** --nodeport-addresses */
  readonly nodeportAddresses?: string | undefined;
  /** --proxy-mode: decides only what --nodeport-addresses is when it is not given (6.1). */
  readonly proxyMode?: string | undefined;
  /** --iptables-localhost-nodeports */
  readonly iptablesLocalhostNodeports?: string | boolean | undefined;
  /** --service-cidr */
  readonly serviceCidr?: string | undefined;
  /** --external-ips */
  readonly externalIps?: string | boolean | undefined;
}

/** 8.3. */
export type DetectLocal =
  /** The first range of each family; a family without one has no detector. */
  | { readonly mode: "ClusterCIDR"; readonly ranges: readonly Cidr[] }
  /** The Node's podCIDR of the family. */
  | { readonly mode: "NodeCIDR" }
  | { readonly mode: "BridgeInterface"; readonly name: string }
  | { readonly mode: "InterfaceNamePrefix"; readonly prefix: string };

export interface ProxyOptions {
  readonly detectLocal: DetectLocal;
  readonly masqueradeAll: boolean;
  readonly nodePortAddresses: "primary" | readonly Cidr[];
  /** Whether IPv4 NodePorts answer on loopback addresses (6.5): asked for, and among the NodePort addresses. */
  readonly loopbackNodePorts: boolean;
  /** To be joined with what the ServiceCIDR objects say. */
  readonly serviceCIDRs: readonly Cidr[];
  readonly externalIPs: boolean;
  /** What was read but has no effect, one sentence each that names the flag. */
  readonly warnings: readonly string[];
}

/** Who is a local pod in one family: nobody, whoever comes in by a certain interface, or the senders in a range. */
export type LocalDetector = "none" | "interface" | Cidr;

const PROXY_MODES = ["iptables", "nftables"] as const;

/** @throws UserError that names the flag and what is wrong with it */
export function parseProxyOptions(texts: ProxyOptionTexts): ProxyOptions {
  const warnings: string[] = [];
  const detectLocal = detectLocalOf(texts, warnings);
  const mode = oneOf("--proxy-mode", texts.proxyMode, PROXY_MODES, "iptables");
  const nodePortAddresses = nodePortAddressesOf(texts.nodeportAddresses, mode);
  const localhost = flag("--iptables-localhost-nodeports", texts.iptablesLocalhostNodeports, true);
  return Object.freeze({
    detectLocal,
    masqueradeAll: flag("--masquerade-all", texts.masqueradeAll, false),
    nodePortAddresses,
    loopbackNodePorts: localhost && coversLoopback(nodePortAddresses),
    serviceCIDRs: ranges("--service-cidr", texts.serviceCidr),
    externalIPs: flag("--external-ips", texts.externalIps, true),
    warnings: Object.freeze(warnings),
  });
}

/** The detector of each family (8.3). `node`: whose podCIDRs NodeCIDR takes. */
export function localDetectors(
  detectLocal: DetectLocal,
  node: Pick<NodeInfo, "podCIDRs">,
): Readonly<Record<Family, LocalDetector>> {
  switch (detectLocal.mode) {
    case "ClusterCIDR":
      return { 4: firstOf(detectLocal.ranges, 4), 6: firstOf(detectLocal.ranges, 6) };
    case "NodeCIDR":
      return { 4: firstOf(node.podCIDRs, 4), 6: firstOf(node.podCIDRs, 6) };
    case "BridgeInterface":
    case "InterfaceNamePrefix":
      return { 4: "interface", 6: "interface" };
  }
}

/** What a compile needs of the options. */
export function proxyConfig(options: ProxyOptions, node: Pick<NodeInfo, "podCIDRs">): ProxyConfig {
  const detectors = localDetectors(options.detectLocal, node);
  return Object.freeze({
    masqueradeAll: options.masqueradeAll,
    localDetector: Object.freeze({ 4: detectors[4] !== "none", 6: detectors[6] !== "none" }),
    nodePortAddresses: options.nodePortAddresses,
    externalIPs: options.externalIPs,
  });
}

function firstOf(list: readonly Cidr[], family: Family): LocalDetector {
  return list.find((range) => range.family === family) ?? "none";
}

function detectLocalOf(texts: ProxyOptionTexts, warnings: string[]): DetectLocal {
  const mode = oneOf("--detect-local-mode", texts.detectLocalMode, DETECT_LOCAL_MODES, "ClusterCIDR");
  const clusterRanges = ranges("--cluster-cidr", texts.clusterCidr);
  switch (mode) {
    case "ClusterCIDR":
      warnAboutSpareRanges(clusterRanges, warnings);
      return { mode, ranges: clusterRanges };
    case "NodeCIDR":
      return { mode };
    case "BridgeInterface":
      return { mode, name: interfaceText(mode, "--pod-bridge-interface", texts.podBridgeInterface) };
    case "InterfaceNamePrefix":
      return {
        mode,
        prefix: interfaceText(mode, "--pod-interface-name-prefix", texts.podInterfaceNamePrefix),
      };
  }
}

/** 8.3. */
function warnAboutSpareRanges(list: readonly Cidr[], warnings: string[]): void {
  for (const [index, range] of list.entries()) {
    const first = list.find(({ family }) => family === range.family);
    if (first === undefined || list.indexOf(first) === index) continue;
    warnings.push(
      `--cluster-cidr: ${range.text} has no effect; only the first IPv${range.family} range, ${first.text}, counts`,
    );
  }
}

function interfaceText(mode: string, name: string, given: string | undefined): string {
  const text = (given ?? "").trim();
  if (text === "") throw new UserError(`--detect-local-mode ${mode} needs ${name}`);
  const problem = interfaceTextProblem(text);
  if (problem !== null) throw new UserError(`${name}: ${problem}`);
  return text;
}

/** 6.1, 6.2, 6.4; 12.9: "primary" stands alone. */
function nodePortAddressesOf(
  given: string | undefined,
  mode: (typeof PROXY_MODES)[number],
): "primary" | readonly Cidr[] {
  const words = list(given);
  if (words.length === 0) return mode === "nftables" ? "primary" : [];
  if (!words.includes("primary")) return ranges("--nodeport-addresses", given);
  if (words.some((word) => word !== "primary")) {
    throw new UserError("--nodeport-addresses: primary cannot stand beside address ranges");
  }
  return "primary";
}

const LOOPBACK: Cidr = cidrOf(ipFromBytes(Uint8Array.of(127, 0, 0, 0)), 8);

/** 6.2, 6.5: without an IPv4 range every IPv4 address is one. */
function coversLoopback(addresses: "primary" | readonly Cidr[]): boolean {
  if (addresses === "primary") return false;
  const four = addresses.filter(({ family }) => family === 4);
  return four.length === 0 || four.some((range) => overlapping(range, LOOPBACK));
}

function list(given: string | undefined): readonly string[] {
  return (given ?? "")
    .split(",")
    .map((word) => word.trim())
    .filter((word, _, words) => word !== "" || words.length > 1);
}

function ranges(name: string, given: string | undefined): readonly Cidr[] {
  const found = list(given).map((text) => {
    const range = parseCidr(text);
    if (range !== null) return range;
    throw new UserError(`${name}: ${JSON.stringify(text)} is no address range such as 10.0.0.0/8`);
  });
  return Object.freeze(found.filter((range, i) => found.findIndex(({ text }) => text === range.text) === i));
}

function oneOf<T extends string>(
  name: string,
  given: string | undefined,
  allowed: readonly T[],
  fallback: T,
): T {
  const text = (given ?? "").trim();
  if (text === "") return fallback;
  const found = allowed.find((value) => value === text);
  if (found !== undefined) return found;
  throw new UserError(`${name}: must be one of ${allowed.join(", ")}, not ${JSON.stringify(text)}`);
}

/** A flag without a value is true, as in kube-proxy. */
function flag(name: string, given: string | boolean | undefined, fallback: boolean): boolean {
  if (given === undefined || given === "") return fallback;
  if (typeof given === "boolean") return given;
  if (given === "true" || given === "false") return given === "true";
  throw new UserError(`${name}: must be true or false, not ${JSON.stringify(given)}`);
}
