// SPDX-License-Identifier: Apache-2.0
/**
 * `addresses4/6`: which classes the kernel holds for a key, and what gives a reason for them: frontends, backends, the node.
 * Purely derived: when a transaction is made, the keys where the two disagree are put right. One number per key, since
 * there are two for each backend of the cluster: classes (6 bits), backends (24), ClusterIP frontends (18: every port of
 * every protocol), and one bit each for "frontends of other kinds", which are few and counted apart, and "of this node".
 */
import { AddressClass } from "../abi/enums.gen.js";
import type { Family } from "../net/ip.js";
import { ShardedMap } from "../util/sharded-map.js";
import type { Sliced } from "../util/slices.js";
import { LAYOUTS } from "./keys.js";

const CLASSES = 64;
/** Stands for whatever the kernel holds that is no class of ours: never wanted, so it is written over. */
const FOREIGN = 32;
const STRIDE = 1024;
const BACKENDS = 2 ** 24;
const CLUSTER_IPS = 2 ** 18;
const ONE_BACKEND = CLASSES;
const ONE_CLUSTER_IP = ONE_BACKEND * BACKENDS;
const EXTERNAL = ONE_CLUSTER_IP * CLUSTER_IPS;
const NODE = EXTERNAL * 2;

export class AddressTable {
  readonly #entries: ShardedMap<number>;
  readonly #protocolAt: number;
  /** Every key that is wrong, and others that have been: a list is cheaper by far than a set of a hundred thousand texts. */
  #suspects: string[] = [];
  /** Keys that are wrong, exactly. */
  #wrongKeys = 0;
  /** Frontends of externalIPs and load balancers, by the key of their address. */
  readonly #externals: Map<string, number> = new Map();
  #present = 0;
  #missing = 0;

  constructor(family: Family) {
    this.#protocolAt = LAYOUTS[family].protocol;
    this.#entries = new ShardedMap(LAYOUTS[family].address - 1);
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
    if (this.#wrongKeys < this.#suspects.length) {
      const wrong = this.#suspects.filter((key) => this.#isWrong(key));
      this.#suspects = wrong.length === this.#wrongKeys ? wrong : [...new Set(wrong)];
    }
    yield* this.#suspects;
  }

  #isWrong(key: string): boolean {
    const packed = this.#entries.get(key) ?? 0;
    return packed % CLASSES !== this.#wantedOf(key, packed);
  }

  /** Every key that the kernel holds, with its classes, in the form of rawClasses(). */
  *inKernel(): IterableIterator<[key: string, classes: number]> {
    for (const [key, packed] of this.#entries) if (packed % CLASSES !== 0) yield [key, packed % CLASSES];
  }

  /** The classes that the kernel holds and whether there is more in the value; undefined when it does not hold the key. */
  rawClasses(key: string): number | undefined {
    return (this.#entries.get(key) ?? 0) % CLASSES || undefined;
  }

  /** Does the kernel hold this key, with whatever classes? */
  has(key: string): boolean {
    return (this.#entries.get(key) ?? 0) % CLASSES !== 0;
  }

  /** The classes that the kernel holds; 0 when it does not hold the key. */
  classes(key: string): number {
    return (this.#entries.get(key) ?? 0) % FOREIGN;
  }

  /** Does the kernel hold something for this key that is no class of ours? */
  isForeign(key: string): boolean {
    return (this.#entries.get(key) ?? 0) % CLASSES >= FOREIGN;
  }

  /** The classes that the kernel should hold. */
  wanted(key: string): number {
    return this.#wantedOf(key, this.#entries.get(key) ?? 0);
  }

  /** The kernel now holds this value for the key. */
  setClasses(key: string, value: number): void {
    const packed = this.#entries.get(key) ?? 0;
    const classes = value > 0 && value < FOREIGN ? value : (value % FOREIGN) + FOREIGN;
    this.#put(key, packed, packed - (packed % CLASSES) + classes);
  }

  /** The kernel no longer holds the key. */
  setAbsent(key: string): void {
    const packed = this.#entries.get(key) ?? 0;
    this.#put(key, packed, packed - (packed % CLASSES));
  }

  /** A frontend at this address which makes it `classes`: VIP, with or without CLUSTER_IP; 0 is no reason for anything. */
  addVip(key: string, classes: number, change: 1 | -1): void {
    if (classes === 0) return;
    const packed = this.#entries.get(key) ?? 0;
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
    const packed = this.#entries.get(key) ?? 0;
    this.#put(key, packed, packed + (isNode ? NODE : -NODE));
  }

  /** For the key of an address and for the key with port and protocol alike. */
  addBackend(key: string, change: 1 | -1): void {
    const packed = this.#entries.get(key) ?? 0;
    this.#put(key, packed, packed + change * ONE_BACKEND);
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

  #wantedOf(key: string, packed: number): number {
    if (packed < CLASSES) return 0;
    if (key.charCodeAt(this.#protocolAt) !== 0) return AddressClass.CLASS_BACKEND_PORT;
    let wanted = packed >= NODE ? AddressClass.CLASS_NODE : 0;
    if (Math.floor(packed / EXTERNAL) % 2 > 0) wanted |= AddressClass.CLASS_VIP;
    if (Math.floor(packed / ONE_CLUSTER_IP) % CLUSTER_IPS > 0)
      wanted |= AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP;
    if (Math.floor(packed / ONE_BACKEND) % BACKENDS > 0) wanted |= AddressClass.CLASS_BACKEND;
    return wanted;
  }

  #put(key: string, before: number, after: number): void {
    const had = before % CLASSES;
    const has = after % CLASSES;
    const wantedBefore = this.#wantedOf(key, before);
    const wanted = this.#wantedOf(key, after);
    this.#present += Number(has !== 0) - Number(had !== 0);
    this.#missing += Number(has === 0 && wanted !== 0) - Number(had === 0 && wantedBefore !== 0);
    if (after === 0) this.#entries.delete(key);
    else this.#entries.set(key, after);
    if (had === wantedBefore && has !== wanted) {
      this.#wrongKeys += 1;
      this.#suspects.push(key);
    } else if (had !== wantedBefore && has === wanted) {
      this.#wrongKeys -= 1;
      if (this.#wrongKeys === 0) this.#suspects = [];
    }
  }
}
