// SPDX-License-Identifier: Apache-2.0
/** One service port: its backends, and its frontends with what each scope of senders is offered. Pure. */
import type { PortEndpoint } from "../model/endpoints.js";
import { endpointsOfPort, isServing } from "../model/endpoints.js";
import { clusterMasquerade, externalMasquerade } from "../model/masquerade.js";
import type { Choice, Selection } from "../model/selection.js";
import { externalChoice, internalChoice, selectEndpoints, shortCircuitChoice } from "../model/selection.js";
import { sourceRangesOf } from "../model/source-ranges.js";
import { trafficPolicy } from "../model/traffic-policy.js";
import type { EndpointSlice, NodeInfo, ProxyConfig, Service, ServicePortSpec } from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import { cidrUnion } from "../net/cidr.js";
import type { Family, IpAddress } from "../net/ip.js";
import { compareIp, ipFromBytes, sameTexts } from "../net/ip.js";
import { frozenList } from "../util/frozen-list.js";
import type { BackendImage, ChoiceImage, FrontendImage, FrontendKind, ServicePortImage } from "./types.js";

const ANY_ADDRESS: Readonly<Record<Family, IpAddress>> = {
  4: ipFromBytes(new Uint8Array(4)),
  6: ipFromBytes(new Uint8Array(16)),
};
const NOBODY: ReadonlySet<PortEndpoint> = new Set();
const NO_RANGES: readonly Cidr[] = Object.freeze([]);

/** The identity of rule 2.4 as text. */
export function servicePortKey(service: Service, port: ServicePortSpec): string {
  return `${service.namespace}/${service.name}:${port.name}/${port.protocol}`;
}

/**
 * Compiles one port, as if it were alone in the world. `clusterIPs` are the Service's addresses that may be used on this
 * node, one per family at most; of a family without one nothing exists (2.3). `slices` must be in slice order.
 */
export function compileServicePort(
  service: Service,
  port: ServicePortSpec,
  clusterIPs: readonly IpAddress[],
  slices: readonly EndpointSlice[],
  node: NodeInfo,
  config: ProxyConfig,
): ServicePortImage {
  const served = asConfigured(service, config);
  const backends: BackendImage[] = [];
  const frontends: FrontendImage[] = [];
  const ranges: Cidr[] = [];
  for (const clusterIP of inFamilyOrder(clusterIPs)) {
    const { family } = clusterIP;
    const endpoints = endpointsOfPort(slices, family, port.name, port.protocol, node.name);
    const policy = trafficPolicy(served, port, family);
    const selection = selectEndpoints(endpoints, policy, node);
    const placed = addBackends(backends, endpoints, service.sessionAffinitySeconds > 0 ? selection : null);
    // 4.10: to a ClusterIP the sender makes no difference.
    const everyone = choiceImage(
      internalChoice(selection, policy),
      policy.internalLocal ? "local" : "cluster",
      placed,
    );
    const masquerade = clusterMasquerade(config, family);
    frontends.push(
      Object.freeze({
        kind: "ClusterIP",
        address: clusterIP,
        port: port.port,
        internal: everyone,
        external: everyone,
        masquerade,
        sourceRanged: false,
      }),
    );
    const addresses = externalAddresses(served, port, clusterIP);
    if (addresses.length === 0) continue;
    const balanced = addresses.some(({ kind }) => kind === "LoadBalancer");
    const familyRanges = balanced ? sourceRangesOf(served, family, node) : NO_RANGES;
    ranges.push(...familyRanges);
    // 4.12, 4.11, 4.13.
    const internal = choiceImage(shortCircuitChoice(selection), "cluster", placed);
    const external = policy.externalLocal
      ? choiceImage(externalChoice(selection, policy), "local", placed)
      : internal;
    for (const { kind, address, number } of addresses) {
      frontends.push(
        Object.freeze({
          kind,
          address,
          port: number,
          internal,
          external,
          masquerade: externalMasquerade(policy.externalLocal),
          // 6.9, 6.19.
          sourceRanged: kind === "LoadBalancer" && familyRanges.length > 0,
        }),
      );
    }
  }
  return Object.freeze({
    key: servicePortKey(service, port),
    namespace: service.namespace,
    name: service.name,
    portName: port.name,
    protocol: port.protocol,
    backends: frozenList(backends),
    frontends: frozenList(frontends),
    affinitySeconds: service.sessionAffinitySeconds,
    sourceRanges: ranges.length === 0 ? NO_RANGES : Object.freeze(cidrUnion(ranges)),
  });
}

/** 2.23: without externalIPs as if the field were empty, also where it decides what externalTrafficPolicy means (2.16). */
export function asConfigured(service: Service, { externalIPs }: ProxyConfig): Service {
  if (externalIPs || service.externalIPs.length === 0) return service;
  return {
    ...service,
    externalIPs: [],
    externalTrafficPolicyLocal: service.externalTrafficPolicyLocal && service.type !== "ClusterIP",
  };
}

/** Families in ascending order, so that backends come out sorted by family. */
function inFamilyOrder(addresses: readonly IpAddress[]): readonly IpAddress[] {
  return addresses.length < 2 ? addresses : [...addresses].sort((a, b) => a.family - b.family);
}

interface ExternalAddress {
  readonly kind: FrontendKind;
  readonly address: IpAddress;
  readonly number: number;
}

/**
 * Everything in the ClusterIP's family that leads to the port from outside. An address that is named twice comes once: as
 * the ClusterIP, whose rules go first, or as the load balancer's rather than as an externalIP, lest its source ranges be
 * got round.
 */
function externalAddresses(
  service: Service,
  port: ServicePortSpec,
  clusterIP: IpAddress,
): readonly ExternalAddress[] {
  const found: ExternalAddress[] = [];
  const add = (kind: FrontendKind, list: readonly IpAddress[]): void => {
    for (const address of list) {
      if (address.family !== clusterIP.family || address.text === clusterIP.text) continue;
      if (found.some((other) => other.address.text === address.text)) continue;
      found.push({ kind, address, number: port.port });
    }
  };
  add("LoadBalancer", service.loadBalancerIPs);
  add("ExternalIP", service.externalIPs);
  // 2.15.
  if (port.nodePort !== 0) {
    found.push({ kind: "NodePort", address: ANY_ADDRESS[clusterIP.family], number: port.nodePort });
  }
  return found;
}

/** Where the endpoints of one family are among the backends: from `base` on, in this order. */
interface Placed {
  readonly base: number;
  readonly endpoints: readonly PortEndpoint[];
}

/** Appends all, sorted. `affine`: the sets of a port with session affinity, whose members are marked (5.3). */
function addBackends(
  backends: BackendImage[],
  endpoints: readonly PortEndpoint[],
  affine: Selection | null,
): Placed {
  const base = backends.length;
  const sorted = inOrder(endpoints);
  const cluster = affine === null ? NOBODY : new Set(affine.cluster);
  const local = affine === null ? NOBODY : new Set(affine.local);
  for (const endpoint of sorted) {
    backends.push({
      address: endpoint.address,
      port: endpoint.port,
      local: endpoint.local,
      serving: isServing(endpoint),
      clusterSet: cluster.has(endpoint),
      localSet: local.has(endpoint),
    });
  }
  return { base, endpoints: sorted };
}

/** By address and port; nearly always they come so. */
function inOrder(endpoints: readonly PortEndpoint[]): readonly PortEndpoint[] {
  const compare = (a: PortEndpoint, b: PortEndpoint): number =>
    compareIp(a.address, b.address) || a.port - b.port;
  for (let i = 1; i < endpoints.length; i += 1)
    if (compare(endpoints[i - 1] as PortEndpoint, endpoints[i] as PortEndpoint) > 0)
      return [...endpoints].sort(compare);
  return endpoints;
}

function choiceImage(choice: Choice, set: ChoiceImage["set"], { base, endpoints }: Placed): ChoiceImage {
  const indexes: number[] = [];
  // As long as the list, it is the list; which is nearly always so, and needs no Set.
  const all = choice.endpoints.length === endpoints.length;
  const chosen = all || choice.endpoints.length === 0 ? null : new Set(choice.endpoints);
  if (all || chosen !== null) {
    for (let i = 0; i < endpoints.length; i += 1) {
      if (chosen === null || chosen.has(endpoints[i] as PortEndpoint)) indexes.push(base + i);
    }
  }
  return Object.freeze({ backends: frozenList(indexes), whenEmpty: choice.whenEmpty, set });
}

/** Equal in everything that the maps would hold: then the earlier one is kept, and nobody has work to do. */
export function sameServicePort(a: ServicePortImage, b: ServicePortImage): boolean {
  return (
    a.key === b.key &&
    a.affinitySeconds === b.affinitySeconds &&
    sameList(a.backends, b.backends, sameBackend) &&
    sameList(a.frontends, b.frontends, sameFrontend) &&
    sameTexts(a.sourceRanges, b.sourceRanges)
  );
}

function sameBackend(a: BackendImage, b: BackendImage): boolean {
  return (
    a.port === b.port &&
    a.local === b.local &&
    a.serving === b.serving &&
    a.clusterSet === b.clusterSet &&
    a.localSet === b.localSet &&
    a.address.text === b.address.text
  );
}

function sameFrontend(a: FrontendImage, b: FrontendImage): boolean {
  return (
    a.kind === b.kind &&
    a.port === b.port &&
    a.address.text === b.address.text &&
    a.masquerade === b.masquerade &&
    a.sourceRanged === b.sourceRanged &&
    sameChoice(a.internal, b.internal) &&
    sameChoice(a.external, b.external)
  );
}

function sameChoice(a: ChoiceImage, b: ChoiceImage): boolean {
  return a.whenEmpty === b.whenEmpty && a.set === b.set && sameList(a.backends, b.backends, Object.is);
}

function sameList<T>(a: readonly T[], b: readonly T[], same: (a: T, b: T) => boolean): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) {
    if (!same(a[i] as T, b[i] as T)) return false;
  }
  return true;
}
