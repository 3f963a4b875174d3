// SPDX-License-Identifier: Apache-2.0
/**
 * Objects of all files to one Snapshot. Two decisions that a cluster does not leave to us are taken here:
 *
 * - The same object twice: the first one counts, in the order of the files and of the documents in them.
 * - Several sources of endpoints for one Service: all EndpointSlices that name it count, and with a selector also what the
 *   selector finds among the Pods. Endpoints objects count for a Service without a selector, as the mirroring controller has
 *   it; with a selector only when the manifests hold neither a slice for the Service nor any Pod in its namespace.
 *   Duplicates among them fall under rule 3.4.
 */
import { originText } from "../model/origin.js";
import { sameNode } from "../model/same-node.js";
import type { EndpointSlice, NodeInfo, Origin, Problem, Service, Snapshot } from "../model/types.js";
import type { Cidr } from "../net/cidr.js";
import { cidrUnion } from "../net/cidr.js";
import { sameTexts } from "../net/ip.js";
import type { Sliced } from "../util/slices.js";
import type { EndpointsObject, PodObject, ServiceObject, SourceObject } from "./objects.js";
import { identityOf } from "./objects.js";
import { PodIndex, slicesOfPods } from "./resolve-pods.js";

export interface Assembled {
  readonly snapshot: Snapshot;
  readonly problems: readonly Problem[];
}

interface Sorted {
  readonly services: Map<string, ServiceObject>;
  /** By the Service that they name. */
  readonly slices: Map<string, EndpointSlice[]>;
  readonly endpoints: Map<string, EndpointsObject>;
  readonly pods: PodObject[];
  node: NodeInfo;
  readonly serviceCIDRs: Cidr[];
  readonly problems: Problem[];
}

interface Derived {
  readonly service: ServiceObject;
  readonly pods: readonly PodObject[];
  readonly slices: readonly EndpointSlice[];
}

const OBJECTS_PER_STEP = 512;
const NONE: readonly never[] = Object.freeze([]);

/** Remembers the last Snapshot, so that what did not change keeps its identity. */
export class Assembler {
  readonly #nodeName: string;
  #derived = new Map<string, Derived>();
  #lists = new Map<string, readonly EndpointSlice[]>();
  #node: NodeInfo | null = null;
  readonly #givenServiceCIDRs: readonly Cidr[];
  #serviceCIDRs: readonly Cidr[] = Object.freeze([]);

  /**
   * `nodeName`: which node this is ("": none in particular). Its Node object may be missing. `serviceCIDRs`: those of
   * --service-cidr, which count beside what the ServiceCIDR objects say.
   */
  constructor(nodeName: string, serviceCIDRs: readonly Cidr[] = []) {
    this.#nodeName = nodeName;
    this.#givenServiceCIDRs = serviceCIDRs;
  }

  *assemble(objects: Iterable<SourceObject>): Sliced<Assembled> {
    const sorted = yield* this.#sort(objects);
    yield;
    const index = new PodIndex(sorted.pods);
    yield;
    const services = new Map<string, Service>();
    const lists = new Map<string, readonly EndpointSlice[]>();
    const derived = new Map<string, Derived>();
    let count = 0;
    for (const [key, object] of sorted.services) {
      if (++count % OBJECTS_PER_STEP === 0) yield;
      services.set(key, object.service);
      const explicit = sorted.slices.get(key) ?? [];
      const fromPods = this.#fromPods(key, object, index);
      if (fromPods !== null) derived.set(key, fromPods);
      const mirrored = endpointsCount(object, explicit, index)
        ? (sorted.endpoints.get(key)?.slices ?? [])
        : [];
      const list = [...explicit, ...(fromPods?.slices ?? []), ...mirrored].sort(byName);
      if (list.length > 0) lists.set(key, this.#keepIdentity(key, list));
    }
    this.#derived = derived;
    this.#lists = lists;
    if (this.#node === null || !sameNode(this.#node, sorted.node)) this.#node = sorted.node;
    const serviceCIDRs = cidrUnion(sorted.serviceCIDRs);
    if (!sameTexts(this.#serviceCIDRs, serviceCIDRs)) this.#serviceCIDRs = Object.freeze(serviceCIDRs);
    return {
      snapshot: Object.freeze({
        services,
        slices: lists,
        node: this.#node,
        serviceCIDRs: this.#serviceCIDRs,
      }),
      problems: sorted.problems,
    };
  }

  *#sort(objects: Iterable<SourceObject>): Sliced<Sorted> {
    const sorted: Sorted = {
      services: new Map(),
      slices: new Map(),
      endpoints: new Map(),
      pods: [],
      node: Object.freeze({ name: this.#nodeName, zone: "", addresses: NONE, podCIDRs: NONE }),
      serviceCIDRs: [...this.#givenServiceCIDRs],
      problems: [],
    };
    const seen = new Map<string, Origin>();
    let count = 0;
    for (const object of objects) {
      if (++count % OBJECTS_PER_STEP === 0) yield;
      const identity = identityOf(object);
      const first = seen.get(identity);
      if (first !== undefined) {
        sorted.problems.push(duplicateProblem(identity, object.origin, first));
        continue;
      }
      seen.set(identity, object.origin);
      this.#place(object, sorted);
    }
    return sorted;
  }

  #place(object: SourceObject, sorted: Sorted): void {
    const key = `${object.namespace}/${object.name}`;
    switch (object.kind) {
      case "Service":
        sorted.services.set(key, object);
        break;
      case "EndpointSlice": {
        const serviceKey = `${object.namespace}/${object.slice.serviceName}`;
        const list = sorted.slices.get(serviceKey);
        if (list === undefined) sorted.slices.set(serviceKey, [object.slice]);
        else list.push(object.slice);
        break;
      }
      case "Endpoints":
        sorted.endpoints.set(key, object);
        break;
      case "Pod":
        sorted.pods.push(object);
        break;
      case "Node":
        if (object.name === this.#nodeName) sorted.node = object.node;
        break;
      case "ServiceCIDR":
        sorted.serviceCIDRs.push(...object.cidrs);
        break;
    }
  }

  #fromPods(key: string, object: ServiceObject, index: PodIndex): Derived | null {
    const { selector, type } = object.service;
    if (selector === null || type === "ExternalName") return null;
    const pods = index.select(object.namespace, selector);
    const before = this.#derived.get(key);
    if (before !== undefined && before.service === object && sameItems(before.pods, pods)) return before;
    return { service: object, pods, slices: slicesOfPods(object, pods) };
  }

  #keepIdentity(key: string, list: readonly EndpointSlice[]): readonly EndpointSlice[] {
    const before = this.#lists.get(key);
    return before !== undefined && sameItems(before, list) ? before : Object.freeze(list);
  }
}

function endpointsCount(object: ServiceObject, explicit: readonly EndpointSlice[], index: PodIndex): boolean {
  if (object.service.selector === null) return true;
  return explicit.length === 0 && !index.hasNamespace(object.namespace);
}

function byName(a: EndpointSlice, b: EndpointSlice): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function sameItems<T>(a: readonly T[], b: readonly T[]): boolean {
  return a.length === b.length && a.every((item, i) => item === b[i]);
}

function duplicateProblem(identity: string, origin: Origin, first: Origin): Problem {
  return {
    severity: "error",
    origin,
    object: identity,
    field: "metadata.name",
    message: `is defined already in ${originText(first)}; this one is left out`,
  };
}
