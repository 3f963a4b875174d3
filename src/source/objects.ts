// SPDX-License-Identifier: Apache-2.0
/** What a manifest's objects are projected to before they are joined into a Snapshot. Frozen. */
import type { EndpointSlice, NodeInfo, Origin, Problem, Service } from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import type { IpAddress, Protocol } from "../net/ip.js";

/** A Service, with what only the resolution of its selector needs. */
export interface ServiceObject {
  readonly kind: "Service";
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  readonly service: Service;
  /** Per entry of service.ports: number or name of the pod's port; null means the Service's own number. */
  readonly targetPorts: readonly (number | string | null)[];
  readonly publishNotReadyAddresses: boolean;
}

export interface SliceObject {
  readonly kind: "EndpointSlice";
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  readonly slice: EndpointSlice;
}

/** A v1 Endpoints object, already in the form that the mirroring controller would give it. */
export interface EndpointsObject {
  readonly kind: "Endpoints";
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  readonly slices: readonly EndpointSlice[];
}

export interface PodPort {
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
}

export interface PodObject {
  readonly kind: "Pod";
  readonly namespace: string;
  readonly name: string;
  readonly origin: Origin;
  readonly labels: Readonly<Record<string, string>>;
  readonly nodeName: string | null;
  /** One per family at most. */
  readonly addresses: readonly IpAddress[];
  readonly ready: boolean;
  readonly terminating: boolean;
  /** Succeeded or Failed: never an endpoint again. */
  readonly finished: boolean;
  /** Named container ports. */
  readonly ports: readonly PodPort[];
}

export interface NodeObject {
  readonly kind: "Node";
  readonly namespace: "";
  readonly name: string;
  readonly origin: Origin;
  readonly node: NodeInfo;
}

export interface ServiceCidrObject {
  readonly kind: "ServiceCIDR";
  readonly namespace: "";
  readonly name: string;
  readonly origin: Origin;
  readonly cidrs: readonly Cidr[];
}

export type SourceObject =
  | ServiceObject
  | SliceObject
  | EndpointsObject
  | PodObject
  | NodeObject
  | ServiceCidrObject;

/** An object that was left out on purpose: another kind, another proxy's Service. Worth a debug line, no more. */
export interface Ignored {
  readonly origin: Origin;
  readonly object: string;
  readonly reason: string;
}

/** What one untyped object came to. */
export interface Projected {
  readonly object: SourceObject | null;
  readonly problems: readonly Problem[];
  readonly ignored: Ignored | null;
  /** "Service default/web": also of a broken object, as far as its name could be read; null when it could not. */
  readonly identity: string | null;
}

/** "Service default/web", "Node node-a". */
export function identityOf(object: SourceObject): string {
  return object.namespace === ""
    ? `${object.kind} ${object.name}`
    : `${object.kind} ${object.namespace}/${object.name}`;
}
