// SPDX-License-Identifier: Apache-2.0
/** The Snapshot as it grows: what did not change is the same object in the next one, lists of slices and whole maps too. */
import type { EndpointSlice, NodeInfo, Service, Snapshot } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import { cidrUnion } from "../../net/cidr.js";

export class SnapshotBuilder {
  readonly #services = new Map<string, Service>();
  /** By the Service that they name; in order by name. */
  readonly #slices = new Map<string, readonly EndpointSlice[]>();
  readonly #ranges = new Map<string, readonly Cidr[]>();
  readonly #given: readonly Cidr[];
  #node: NodeInfo;
  #last: Snapshot | null = null;
  #servicesChanged = true;
  #slicesChanged = true;
  #rangesChanged = true;

  /** `given`: the ranges of --service-cidr, which count beside what ServiceCIDR objects say. */
  constructor(node: NodeInfo, given: readonly Cidr[]) {
    this.#node = node;
    this.#given = given;
  }

  setService(key: string, service: Service | null): void {
    this.#servicesChanged = true;
    if (service === null) this.#services.delete(key);
    else this.#services.set(key, service);
  }

  /** A slice may also have moved from one Service to another. */
  setSlice(before: EndpointSlice | null, after: EndpointSlice | null): void {
    this.#slicesChanged = true;
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
    if (last !== null && last.node === node && !this.#changed()) return last;
    // Copies: whoever works on an earlier one still reads it.
    const services = last === null || this.#servicesChanged ? new Map(this.#services) : last.services;
    const slices = last === null || this.#slicesChanged ? new Map(this.#slices) : last.slices;
    const serviceCIDRs = last === null || this.#rangesChanged ? this.#union(last) : last.serviceCIDRs;
    this.#servicesChanged = false;
    this.#slicesChanged = false;
    this.#rangesChanged = false;
    const same = last?.services === services && last.slices === slices && last.serviceCIDRs === serviceCIDRs;
    if (last !== null && same && last.node === node) return last;
    this.#last = Object.freeze({ services, slices, node, serviceCIDRs });
    return this.#last;
  }

  #changed(): boolean {
    return this.#servicesChanged || this.#slicesChanged || this.#rangesChanged;
  }

  #union(last: Snapshot | null): readonly Cidr[] {
    const union = cidrUnion([...this.#given, ...Array.from(this.#ranges.values()).flat()]);
    const before = last?.serviceCIDRs;
    const same = before?.length === union.length && before.every(({ text }, i) => text === union[i]?.text);
    return same ? before : Object.freeze(union);
  }

  /** Lists are short, but there are Services with thousands of endpoints: one copy, no sorting. */
  #replace(key: string, before: EndpointSlice | null, after: EndpointSlice | null): void {
    const list = (this.#slices.get(key) ?? []).filter((slice) => slice !== before);
    if (after !== null) {
      const at = list.findIndex(({ name }) => name > after.name);
      list.splice(at < 0 ? list.length : at, 0, after);
    }
    if (list.length === 0) this.#slices.delete(key);
    else this.#slices.set(key, Object.freeze(list));
  }
}

const serviceKey = (slice: EndpointSlice | null): string =>
  slice === null ? "" : `${slice.namespace}/${slice.serviceName}`;
