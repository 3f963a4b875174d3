// SPDX-License-Identifier: Apache-2.0
/** One service port: its backends, and its frontends with what each scope of senders is offered. Pure. */
import type { PortEndpoint } from "../model/endpoints.js";
import { endpointsOfPort, isServing } from "../model/endpoints.js";
import type { Choice } from "../model/selection.js";
import { internalChoice, selectEndpoints } from "../model/selection.js";
import { trafficPolicy } from "../model/traffic-policy.js";
import type { EndpointSlice, NodeInfo, Service, ServicePortSpec } from "../model/types.js";
import type { IpAddress } from "../net/ip.js";
import { compareIp } from "../net/ip.js";
import type { BackendImage, ChoiceImage, FrontendImage, ServicePortImage } from "./types.js";

/** The identity of rule 2.4 as text. */
export function servicePortKey(service: Service, port: ServicePortSpec): string {
  return `${service.namespace}/${service.name}:${port.name}/${port.protocol}`;
}

/**
 * Compiles one port. `clusterIPs` are the Service's addresses that may be used on this node, one per family at most; a
 * family without one does not exist (2.3). `slices` must be in slice order.
 */
export function compileServicePort(
  service: Service,
  port: ServicePortSpec,
  clusterIPs: readonly IpAddress[],
  slices: readonly EndpointSlice[],
  node: NodeInfo,
): ServicePortImage {
  const backends: BackendImage[] = [];
  const frontends: FrontendImage[] = [];
  for (const clusterIP of inFamilyOrder(clusterIPs)) {
    const endpoints = endpointsOfPort(slices, clusterIP.family, port.name, port.protocol, node.name);
    const placed = addBackends(backends, endpoints);
    const policy = trafficPolicy(service, port, clusterIP.family);
    const selection = selectEndpoints(endpoints, policy, node);
    // 4.10: to a ClusterIP the sender makes no difference.
    const everyone = choiceImage(internalChoice(selection, policy), placed);
    frontends.push({
      kind: "ClusterIP",
      address: clusterIP,
      port: port.port,
      internal: everyone,
      external: everyone,
    });
  }
  return Object.freeze({
    key: servicePortKey(service, port),
    namespace: service.namespace,
    name: service.name,
    portName: port.name,
    protocol: port.protocol,
    backends: Object.freeze(backends),
    frontends: Object.freeze(frontends),
    affinitySeconds: service.sessionAffinitySeconds,
  });
}

/** Families in ascending order, so that backends come out sorted by family. */
function inFamilyOrder(addresses: readonly IpAddress[]): readonly IpAddress[] {
  return addresses.length < 2 ? addresses : [...addresses].sort((a, b) => a.family - b.family);
}

/** Where the serving endpoints of one family are among the backends: from `base` on, in this order. */
interface Placed {
  readonly base: number;
  readonly serving: readonly PortEndpoint[];
}

/** Appends what serves (9.3), sorted. */
function addBackends(backends: BackendImage[], endpoints: readonly PortEndpoint[]): Placed {
  const base = backends.length;
  const serving = endpoints
    .filter(isServing)
    .sort((a, b) => compareIp(a.address, b.address) || a.port - b.port);
  for (const { address, port, local } of serving) backends.push({ address, port, local });
  return { base, serving };
}

/** Whatever is chosen serves, so a choice as long as the list is the list. */
function choiceImage(choice: Choice, { base, serving }: Placed): ChoiceImage {
  const indexes: number[] = [];
  const all = choice.endpoints.length === serving.length;
  const chosen = all || choice.endpoints.length === 0 ? null : new Set(choice.endpoints);
  if (all || chosen !== null) {
    for (let i = 0; i < serving.length; i += 1) {
      if (chosen === null || chosen.has(serving[i] as PortEndpoint)) indexes.push(base + i);
    }
  }
  return Object.freeze({ backends: Object.freeze(indexes), whenEmpty: choice.whenEmpty });
}

/** Equal in everything that the maps would hold: then the earlier one is kept, and nobody has work to do. */
export function sameServicePort(a: ServicePortImage, b: ServicePortImage): boolean {
  return (
    a.key === b.key &&
    a.affinitySeconds === b.affinitySeconds &&
    sameList(a.backends, b.backends, sameBackend) &&
    sameList(a.frontends, b.frontends, sameFrontend)
  );
}

function sameBackend(a: BackendImage, b: BackendImage): boolean {
  return a.port === b.port && a.local === b.local && a.address.text === b.address.text;
}

function sameFrontend(a: FrontendImage, b: FrontendImage): boolean {
  return (
    a.kind === b.kind &&
    a.port === b.port &&
    a.address.text === b.address.text &&
    sameChoice(a.internal, b.internal) &&
    sameChoice(a.external, b.external)
  );
}

function sameChoice(a: ChoiceImage, b: ChoiceImage): boolean {
  return a.whenEmpty === b.whenEmpty && sameList(a.backends, b.backends, Object.is);
}

function sameList<T>(a: readonly T[], b: readonly T[], same: (a: T, b: T) => boolean): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i += 1) {
    if (!same(a[i] as T, b[i] as T)) return false;
  }
  return true;
}
