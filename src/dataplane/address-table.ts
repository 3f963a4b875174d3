// SPDX-License-Identifier: Apache-2.0
/**
 * `addresses4/6`: which classes the kernel holds for a key, and what gives a reason for them: frontends, backends, the node.
 * Purely derived: when a transaction is made, the keys where the two disagree are put right. One number per key, in a
 * PackedMap, since there are two for each backend of the cluster: classes (6 bits), backends (24), ClusterIP frontends (18: every port of
 * every protocol), and one bit each for "frontends of other kinds", which are few and counted apart, and "of this node".
 */
import { AddressClass } from "../abi/enums.gen.js";
import type { Family } from "../net/ip.js";
import { PackedMap } from "../util/packed-map.js";
import type { Sliced } from "../util/slices.js";
import { LAYOUTS } from "./keys.js";

const CLASSES = 64;
/** Stands for whatever the kernel holds that is no class of ours: never wanted, so it is written over. */
const FOREIGN = 32;
const STRIDE = 1024;
/** More suspects than this are not kept by name: all keys are looked at instead, which a first sync does once. */
const MOST_SUSPECTS = 4096;
const BACKENDS = 2 ** 24;
const CLUSTER_IPS = 2 ** 18;
const ONE_BACKEND = CLASSES;
const ONE_CLUSTER_IP = ONE_BACKEND * BACKENDS;
const EXTERNAL = ONE_CLUSTER_IP * CLUSTER_IPS;
const NODE = EXTERNAL * 2;

export class AddressTable {
  readonly #entries: PackedMap;
  /** Bytes of an address, with which each key begins, and where a key has its protocol. */
  readonly #addressBytes: number;
  readonly #protocolAt: number;
  /** Every key that is wrong, and others that have been; null: too many. */
  #suspects: string[] | null = [];
  /** Keys that are wrong, exactly. */
  #wrongKeys = 0;
  /** Frontends of externalIPs and load balancers, by the key of their address. */
  readonly #externals: Map<string, number> = new Map();
  #present = 0;
  #missing = 0;

  constructor(family: Family) {
    const { key, address, protocol } = LAYOUTS[family];
    this.#addressBytes = address;
    this.#protocolAt = protocol;
    this.#entries = new PackedMap(key);
  }

  /** Keys that the kernel holds. */
  get present(): number {
    return this.#present;
  }

  /** Keys that the kernel must hold and does not. */
  get missing(): number {
    return this.#missing;
  }

  /** Keys whose classes in the kernel are not those they should have, each once. The table must not be changed meanwhile. */
  *wrong(): IterableIterator<string> {
    if (this.#suspects === null) {
      const wrong: string[] = [];
      const few = this.#wrongKeys <= MOST_SUSPECTS;
      for (const [key, packed] of this.#entries) {
        if (packed % CLASSES === this.#wantedOf(key, packed)) continue;
        if (few) wrong.push(key);
        yield key;
      }
      if (few) this.#suspects = wrong;
      return;
    }
    if (this.#wrongKeys < this.#suspects.length) {
      const wrong = this.#suspects.filter((key) => this.#isWrong(key));
      this.#suspects = wrong.length === this.#wrongKeys ? wrong : [...new Set(wrong)];
    }
    yield* this.#suspects;
  }

  #isWrong(key: string): boolean {
    const packed = this.#entries.get(key);
    return packed % CLASSES !== this.#wantedOf(key, packed);
  }

  /** Every key that the kernel holds, with its classes, in the form of rawClasses(). */
  *inKernel(): IterableIterator<[key: string, classes: number]> {
    for (const [key, packed] of this.#entries) if (packed % CLASSES !== 0) yield [key, packed % CLASSES];
  }

  /** The classes that the kernel holds and whether there is more in the value; undefined when it does not hold the key. */
  rawClasses(key: string): number | undefined {
    return this.#entries.get(key) % CLASSES || undefined;
  }

  /** Does the kernel hold this key, with whatever classes? */
  has(key: string): boolean {
    return this.#entries.get(key) % CLASSES !== 0;
  }

  /** The classes that the kernel holds; 0 when it does not hold the key. */
  classes(key: string): number {
    return this.#entries.get(key) % FOREIGN;
  }

  /** Does the kernel hold something for this key that is no class of ours? */
  isForeign(key: string): boolean {
    return this.#entries.get(key) % CLASSES >= FOREIGN;
  }

  /** The classes that the kernel should hold. */
  wanted(key: string): number {
    return this.#wantedOf(key, this.#entries.get(key));
  }

  /** The kernel now holds this value for the key. */
  setClasses(key: string, value: number): void {
    const packed = this.#entries.get(key);
    const classes = value > 0 && value < FOREIGN ? value : (value % FOREIGN) + FOREIGN;
    this.#put(key, packed, packed - (packed % CLASSES) + classes);
  }

  /** The kernel no longer holds the key. */
  setAbsent(key: string): void {
    const packed = this.#entries.get(key);
    this.#put(key, packed, packed - (packed % CLASSES));
  }

  /** A frontend at this address which makes it `classes`: VIP, with or without CLUSTER_IP; 0 is no reason for anything. */
  addVip(key: string, classes: number, change: 1 | -1): void {
    if (classes === 0) return;
    const packed = this.#entries.get(key);
    if (classes & AddressClass.CLASS_CLUSTER_IP) this.#put(key, packed, packed + change * ONE_CLUSTER_IP);
    else {
      const before = this.#externals.get(key) ?? 0;
      const after = before + change;
      if (after === 0) this.#externals.delete(key);
      else this.#externals.set(key, after);
      const difference = Number(after > 0) - Number(before > 0);
      if (difference !== 0) this.#put(key, packed, packed + difference * EXTERNAL);
    }
  }

  /** NodePorts are served on this address, or not any more. To be called once for each change. */
  setNode(key: string, isNode: boolean): void {
    const packed = this.#entries.get(key);
    this.#put(key, packed, packed + (isNode ? NODE : -NODE));
  }

  /** A backend with this address, port and protocol: a reason for that key, and for the key of its address. */
  addBackend(key: string, change: 1 | -1): void {
    for (const length of [key.length, this.#addressBytes]) {
      const packed = this.#entries.get(key, length);
      this.#put(key, packed, packed + change * ONE_BACKEND, length);
    }
  }

  /** Forgets every reason; what the kernel holds stays known. */
  *clearReasons(): Sliced<void> {
    this.#externals.clear();
    let seen = 0;
    for (const [key, packed] of this.#entries) {
      if (packed >= CLASSES) this.#put(key, packed, packed % CLASSES);
      seen += 1;
      if (seen % STRIDE === 0) yield;
    }
  }

  /** `length`: the characters of the key from there on count as \0. */
  #wantedOf(key: string, packed: number, length: number = key.length): number {
    if (packed < CLASSES) return 0;
    if (this.#protocolAt < length && key.charCodeAt(this.#protocolAt) !== 0)
      return AddressClass.CLASS_BACKEND_PORT;
    let wanted = packed >= NODE ? AddressClass.CLASS_NODE : 0;
    if (Math.floor(packed / EXTERNAL) % 2 > 0) wanted |= AddressClass.CLASS_VIP;
    if (Math.floor(packed / ONE_CLUSTER_IP) % CLUSTER_IPS > 0)
      wanted |= AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP;
    if (Math.floor(packed / ONE_BACKEND) % BACKENDS > 0) wanted |= AddressClass.CLASS_BACKEND;
    return wanted;
  }

  #put(key: string, before: number, after: number, length: number = key.length): void {
    const had = before % CLASSES;
    const has = after % CLASSES;
    const wantedBefore = this.#wantedOf(key, before, length);
    const wanted = this.#wantedOf(key, after, length);
    this.#present += Number(has !== 0) - Number(had !== 0);
    this.#missing += Number(has === 0 && wanted !== 0) - Number(had === 0 && wantedBefore !== 0);
    this.#entries.set(key, after, length);
    if (had === wantedBefore && has !== wanted) {
      this.#wrongKeys += 1;
      this.#suspect(key, length);
    } else if (had !== wantedBefore && has === wanted) {
      this.#wrongKeys -= 1;
      if (this.#wrongKeys === 0) this.#suspects = [];
    }
  }

  #suspect(key: string, length: number): void {
    if (this.#suspects === null) return;
    if (this.#suspects.length >= MOST_SUSPECTS) this.#suspects = null;
    else this.#suspects.push(key.slice(0, length).padEnd(key.length, "\0"));
  }
}
