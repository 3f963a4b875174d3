// SPDX-License-Identifier: Apache-2.0
/**
 * The endpoints of one service port in one family, out of its Service's slices (sections 2 and 3 of the rules): the set E
 * that selection starts from.
 */
import type { Family, IpAddress, Protocol } from "../net/ip.js";
import type { Endpoint, EndpointSlice } from "./types.js";

/** An endpoint with the port number of one service port. */
export interface PortEndpoint {
  readonly address: IpAddress;
  /** The slice's number, never the Service's targetPort (2.6). */
  readonly port: number;
  /** On this node (3.3). */
  readonly local: boolean;
  readonly ready: boolean;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly zoneHints: readonly string[];
  readonly nodeHints: readonly string[];
}

/** Why a slice gives nothing to a service port. */
export type SliceSkip =
  /** 1.14: it is of another family. */
  | "other-family"
  /** 2.6: it has no port of this name and protocol. */
  | "no-such-port"
  /** 2.7: the port has no number. */
  | "no-number";

/** Hears why the endpoints of a port are what they are: for explanations. Nobody listens in the ordinary way. */
export interface EndpointListener {
  skipped(slice: EndpointSlice, why: SliceSkip): void;
  /** `slice.endpoints[index]` became `made`, which a later entry of the same address and port may override (3.4). */
  made(made: PortEndpoint, slice: EndpointSlice, index: number): void;
  /** It is another's duplicate (3.4). */
  duplicate(slice: EndpointSlice, index: number, port: number): void;
}

/** 3.2: gets new flows in the ordinary way. */
export function isReady(endpoint: PortEndpoint): boolean {
  return endpoint.ready;
}

/** 3.2: gets new flows when nobody is ready. Serving but neither ready nor terminating is never used. */
export function isFallback(endpoint: PortEndpoint): boolean {
  return !endpoint.ready && endpoint.serving && endpoint.terminating;
}

/**
 * 9.3, 9.6: keeps the UDP flows that it has, whatever its other conditions, policy and topology say of new ones. What is
 * ready serves: it may be chosen.
 */
export function isServing(endpoint: PortEndpoint): boolean {
  return endpoint.ready || endpoint.serving;
}

/** 3.3: an endpoint without a node name is never local. */
export function isLocal(endpoint: Endpoint, nodeName: string): boolean {
  return endpoint.nodeName !== null && endpoint.nodeName === nodeName;
}

/** Slices in the order in which duplicates are decided: by name, whatever order they came in. */
export function inSliceOrder(slices: readonly EndpointSlice[]): readonly EndpointSlice[] {
  for (let i = 1; i < slices.length; i += 1) {
    const before = slices[i - 1];
    const here = slices[i];
    if (before !== undefined && here !== undefined && before.name > here.name) {
      return [...slices].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
    }
  }
  return slices;
}

/**
 * The endpoints of the service port of this name and protocol (2.6: the number is the slice's, and may differ from slice
 * to slice) in one family (1.14). `slices` must be in slice order. Of two entries with one address and port a
 * non-terminating one overrides, otherwise the first seen stays (3.4).
 */
export function endpointsOfPort(
  slices: readonly EndpointSlice[],
  family: Family,
  portName: string,
  protocol: Protocol,
  nodeName: string,
  listener?: EndpointListener,
): readonly PortEndpoint[] {
  const matches = matchingPorts(slices, family, portName, protocol, listener);
  const [first] = matches;
  if (first === undefined) return [];
  if (matches.length === 1 && first.slice.endpoints.length <= FEW)
    return deduplicateFew(first, nodeName, listener);
  const byKey = new Map<string, PortEndpoint>();
  // With one number only, which is nearly always, the address alone is the key.
  const oneNumber = matches.every((match) => match.port === first.port);
  for (const { slice, port } of matches) {
    let index = -1;
    for (const endpoint of slice.endpoints) {
      index += 1;
      const key = oneNumber ? endpoint.address.text : `${endpoint.address.text} ${port}`;
      if (endpoint.terminating && byKey.has(key)) {
        listener?.duplicate(slice, index, port);
        continue;
      }
      const made = atPort(endpoint, port, nodeName);
      byKey.set(key, made);
      listener?.made(made, slice, index);
    }
  }
  return Array.from(byKey.values());
}

/** Up to here comparing each with each costs less than a Map, of which a big cluster would need one per service port. */
const FEW = 16;

function deduplicateFew(
  { slice, port }: PortMatch,
  nodeName: string,
  listener: EndpointListener | undefined,
): readonly PortEndpoint[] {
  const kept: PortEndpoint[] = [];
  let index = -1;
  for (const endpoint of slice.endpoints) {
    index += 1;
    const { text } = endpoint.address;
    let at = 0;
    while (at < kept.length && kept[at]?.address.text !== text) at += 1;
    if (at < kept.length && endpoint.terminating) {
      listener?.duplicate(slice, index, port);
      continue;
    }
    const made = atPort(endpoint, port, nodeName);
    kept[at] = made;
    listener?.made(made, slice, index);
  }
  return kept;
}

interface PortMatch {
  readonly slice: EndpointSlice;
  readonly port: number;
}

function matchingPorts(
  slices: readonly EndpointSlice[],
  family: Family,
  portName: string,
  protocol: Protocol,
  listener: EndpointListener | undefined,
): readonly PortMatch[] {
  const matches: PortMatch[] = [];
  for (const slice of slices) {
    if (slice.family !== family) {
      listener?.skipped(slice, "other-family");
      continue;
    }
    const before = matches.length;
    let skip: SliceSkip = "no-such-port";
    for (const port of slice.ports) {
      if (port.name !== portName || port.protocol !== protocol) continue;
      // 2.7: a port without a number is no port.
      if (port.port === 0) skip = "no-number";
      else matches.push({ slice, port: port.port });
    }
    if (matches.length === before) listener?.skipped(slice, skip);
  }
  return matches;
}

function atPort(endpoint: Endpoint, port: number, nodeName: string): PortEndpoint {
  return {
    address: endpoint.address,
    port,
    local: isLocal(endpoint, nodeName),
    ready: endpoint.ready,
    serving: endpoint.serving,
    terminating: endpoint.terminating,
    zoneHints: endpoint.zoneHints,
    nodeHints: endpoint.nodeHints,
  };
}
