// SPDX-License-Identifier: Apache-2.0
/**
 * `addresses4/6`: which classes the kernel holds for a key, and how many frontends and backends give a reason for them.
 * Purely derived: when a transaction is made, the keys where the two disagree are put right. One number per key, since
 * there are two for each backend of the cluster: classes (4 bits), backends (24 bits), VIPs (the rest of 53 bits).
 */
import { AddressClass } from "../abi/enums.gen.js";
import type { Family } from "../net/ip.js";
import { ShardedMap } from "../util/sharded-map.js";
import type { Sliced } from "../util/slices.js";
import { LAYOUTS } from "./keys.js";

const CLASSES = 16;
/** Stands for whatever the kernel holds that is no class of ours: never wanted, so it is written over. */
const FOREIGN = 8;
const STRIDE = 1024;
const ONE_BACKEND = CLASSES;
const ONE_VIP = CLASSES * 2 ** 24;

export class AddressTable {
  readonly #entries: ShardedMap<number>;
  readonly #protocolAt: number;
  readonly #wrong: ShardedMap<true>;
  #present = 0;
  #missing = 0;

  constructor(family: Family) {
    this.#protocolAt = LAYOUTS[family].protocol;
    this.#entries = new ShardedMap(LAYOUTS[family].address - 1);
    this.#wrong = new ShardedMap(LAYOUTS[family].address - 1);
  }

  /** Keys that the kernel holds. */
  get present(): number {
    return this.#present;
  }

  /** Keys that the kernel must hold and does not. */
  get missing(): number {
    return this.#missing;
  }

  /** Keys whose classes in the kernel are not those they should have. */
  *wrong(): IterableIterator<string> {
    for (const [key] of this.#wrong) yield key;
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

  addVip(key: string, change: 1 | -1): void {
    const packed = this.#entries.get(key) ?? 0;
    this.#put(key, packed, packed + change * ONE_VIP);
  }

  /** For the key of an address and for the key with port and protocol alike. */
  addBackend(key: string, change: 1 | -1): void {
    const packed = this.#entries.get(key) ?? 0;
    this.#put(key, packed, packed + change * ONE_BACKEND);
  }

  /** Forgets every reason; what the kernel holds stays known. */
  *clearReasons(): Sliced<void> {
    let seen = 0;
    for (const [key, packed] of this.#entries) {
      if (packed >= CLASSES) this.#put(key, packed, packed % CLASSES);
      seen += 1;
      if (seen % STRIDE === 0) yield;
    }
  }

  #wantedOf(key: string, packed: number): number {
    const reasons = Math.floor(packed / CLASSES);
    if (reasons === 0) return 0;
    if (key.charCodeAt(this.#protocolAt) !== 0) return AddressClass.CLASS_BACKEND_PORT;
    const backends = reasons % 2 ** 24 > 0 ? AddressClass.CLASS_BACKEND : 0;
    return (packed >= ONE_VIP ? AddressClass.CLASS_VIP : 0) | backends;
  }

  #put(key: string, before: number, after: number): void {
    const had = before % CLASSES;
    const has = after % CLASSES;
    const wanted = this.#wantedOf(key, after);
    this.#present += Number(has !== 0) - Number(had !== 0);
    this.#missing +=
      Number(has === 0 && wanted !== 0) - Number(had === 0 && this.#wantedOf(key, before) !== 0);
    if (after === 0) this.#entries.delete(key);
    else this.#entries.set(key, after);
    if (has === wanted) this.#wrong.delete(key);
    else this.#wrong.set(key, true);
  }
}
