// SPDX-License-Identifier: Apache-2.0
/**
 * The Snapshot as it grows: what did not change is the same object in the next one, lists of slices and whole maps too. A
 * new one costs what has changed; earlier ones stay as they were for whoever still works on them.
 */
import type { EndpointSlice, NodeInfo, Service, Snapshot } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import { cidrUnion } from "../../net/cidr.js";
import { sameTexts } from "../../net/ip.js";
import { VersionedMap } from "../../util/versioned-map.js";

type SliceList = readonly EndpointSlice[];

export class SnapshotBuilder {
  #services = VersionedMap.of<string, Service>();
  /** By the Service that they name; in order by name. */
  #slices = VersionedMap.of<string, SliceList>();
  /** Since the last Snapshot; undefined: gone. */
  #newServices = new Map<string, Service | undefined>();
  #newSlices = new Map<string, SliceList | undefined>();
  readonly #ranges = new Map<string, readonly Cidr[]>();
  readonly #given: readonly Cidr[];
  #node: NodeInfo;
  #last: Snapshot | null = null;
  #rangesChanged = true;

  /** `given`: the ranges of --service-cidr, which count beside what ServiceCIDR objects say. */
  constructor(node: NodeInfo, given: readonly Cidr[]) {
    this.#node = node;
    this.#given = given;
  }

  setService(key: string, service: Service | null): void {
    this.#newServices.set(key, service ?? undefined);
  }

  /** A slice may also have moved from one Service to another. */
  setSlice(before: EndpointSlice | null, after: EndpointSlice | null): void {
    const [from, to] = [serviceKey(before), serviceKey(after)];
    if (before !== null && from !== to) this.#replace(from, before, null);
    if (after !== null) this.#replace(to, before, after);
  }

  setNode(node: NodeInfo): void {
    this.#node = node;
  }

  setRanges(name: string, ranges: readonly Cidr[] | null): void {
    this.#rangesChanged = true;
    if (ranges === null) this.#ranges.delete(name);
    else this.#ranges.set(name, ranges);
  }

  /** The Snapshot of now; the one before when nothing is different. */
  build(): Snapshot {
    const last = this.#last;
    const node = this.#node;
    const services = this.#services.with(this.#newServices);
    const slices = this.#slices.with(this.#newSlices);
    const serviceCIDRs = last === null || this.#rangesChanged ? this.#union(last) : last.serviceCIDRs;
    if (this.#newServices.size > 0) this.#newServices = new Map();
    if (this.#newSlices.size > 0) this.#newSlices = new Map();
    this.#services = services;
    this.#slices = slices;
    this.#rangesChanged = false;
    const same = last?.services === services && last.slices === slices && last.serviceCIDRs === serviceCIDRs;
    if (last !== null && same && last.node === node) return last;
    this.#last = Object.freeze({ services, slices, node, serviceCIDRs });
    return this.#last;
  }

  #union(last: Snapshot | null): readonly Cidr[] {
    const union = cidrUnion([...this.#given, ...Array.from(this.#ranges.values()).flat()]);
    return last !== null && sameTexts(last.serviceCIDRs, union) ? last.serviceCIDRs : Object.freeze(union);
  }

  /** Lists are short, but there are Services with thousands of endpoints: one copy, no sorting. */
  #replace(key: string, before: EndpointSlice | null, after: EndpointSlice | null): void {
    const held = this.#newSlices.has(key) ? this.#newSlices.get(key) : this.#slices.get(key);
    if (held === undefined && after !== null) {
      this.#newSlices.set(key, Object.freeze([after]));
      return;
    }
    const list = (held ?? []).filter((slice) => slice !== before);
    if (after !== null) {
      const at = list.findIndex(({ name }) => name > after.name);
      list.splice(at < 0 ? list.length : at, 0, after);
    }
    this.#newSlices.set(key, list.length === 0 ? undefined : Object.freeze(list));
  }
}

const serviceKey = (slice: EndpointSlice | null): string =>
  slice === null ? "" : `${slice.namespace}/${slice.serviceName}`;
