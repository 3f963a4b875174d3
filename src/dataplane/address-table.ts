// SPDX-License-Identifier: Apache-2.0
/**
 * `addresses4/6`: which classes the kernel holds for a key, and what gives a reason for them: frontends, backends, the node.
 * Purely derived: when a transaction is made, the keys where the two disagree are put right. One number per key, in a
 * PackedMap, since there are two for each backend of the cluster: classes (6 bits), backends (24), ClusterIP frontends (18: every port of
 * every protocol), and one bit each for "frontends of other kinds", which are few and counted apart, and "of this node".
 */
import { Buffer } from "node:buffer";
import { AddressClass } from "../abi/enums.gen.js";
import type { Family } from "../net/ip.js";
import { PackedMap } from "../util/packed-map.js";
import type { Sliced } from "../util/slices.js";
import { LAYOUTS } from "./keys.js";

const CLASSES = 64;
const CLASS_BITS = 6;
/** Stands for whatever the kernel holds that is no class of ours: never wanted, so it is written over. */
const FOREIGN = 32;
const STRIDE = 1024;
/** More suspects than this are not kept by name: all keys are looked at instead, which a first sync does once. */
const MOST_SUSPECTS = 4096;
const BACKENDS = 2 ** 24;
const CLUSTER_IP_BITS = 18;
const CLUSTER_IPS = 2 ** CLUSTER_IP_BITS;
const ONE_BACKEND = CLASSES;
const ONE_CLUSTER_IP = ONE_BACKEND * BACKENDS;
const EXTERNAL = ONE_CLUSTER_IP * CLUSTER_IPS;
const NODE = EXTERNAL * 2;
const WORD_BYTES = 4;

/**
 * The classes of a packed number: `&` takes the low 32 bits of any whole number, and costs a fraction of what `%` costs for one
 * that is no small integer.
 */
const classesOf = (packed: number): number => packed & (CLASSES - 1);

/**
 * Hears of a key whose classes in the kernel are not those it should have: its words begin at `words[at]`, to be read at once.
 * `held` is what rawClasses() says, 0 for nothing.
 */
export type WrongVisitor = (words: Uint32Array, at: number, held: number, wanted: number) => void;

/** What of rawClasses() are classes of ours. */
export const knownClasses = (raw: number): number => raw & (FOREIGN - 1);

export class AddressTable {
  readonly #entries: PackedMap;
  /** Of an address, with which each key begins: bytes and words. */
  readonly #addressBytes: number;
  readonly #addressWords: number;
  readonly #keyBytes: number;
  /** Where a key has its protocol: a word, and how far in it. */
  readonly #protocolWord: number;
  readonly #protocolShift: number;
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
    this.#addressWords = address / WORD_BYTES;
    this.#keyBytes = key;
    this.#protocolWord = Math.floor(protocol / WORD_BYTES);
    this.#protocolShift = 8 * (protocol % WORD_BYTES);
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

  /** Tells of each key whose classes in the kernel are wrong, once. The table must not be changed meanwhile. */
  *eachWrong(visit: WrongVisitor): Sliced<void> {
    const suspects = this.#suspects;
    if (suspects === null) {
      yield* this.#eachWrongOfAll(visit);
      return;
    }
    if (this.#wrongKeys < suspects.length) {
      const wrong = suspects.filter((key) => this.#isWrong(key));
      this.#suspects = wrong.length === this.#wrongKeys ? wrong : [...new Set(wrong)];
    }
    let seen = 0;
    for (const key of this.#suspects ?? []) {
      const packed = this.#entries.get(key);
      visit(this.#entries.key, 0, classesOf(packed), this.#wantedOf(packed));
      seen += 1;
      if (seen % STRIDE === 0) yield;
    }
  }

  *#eachWrongOfAll(visit: WrongVisitor): Sliced<void> {
    const few = this.#wrongKeys <= MOST_SUSPECTS;
    const wrong: string[] = [];
    const words = this.#keyBytes / WORD_BYTES;
    for (const { keys, values } of this.#entries.tables()) {
      for (let place = 0; place < values.length; place += 1) {
        if (place % STRIDE === 0) yield;
        const packed = values[place] as number;
        if (packed === 0) continue;
        const at = place * words;
        const wanted = this.#wantedAt(keys, at, packed);
        if (classesOf(packed) === wanted) continue;
        if (few) wrong.push(textOf(keys, at, words));
        visit(keys, at, classesOf(packed), wanted);
      }
    }
    if (few) this.#suspects = wrong;
  }

  #isWrong(key: string): boolean {
    const packed = this.#entries.get(key);
    return classesOf(packed) !== this.#wantedOf(packed);
  }

  /** Every key that the kernel holds, with its classes, in the form of rawClasses(). */
  *inKernel(): IterableIterator<[key: string, classes: number]> {
    for (const [key, packed] of this.#entries) if (classesOf(packed) !== 0) yield [key, classesOf(packed)];
  }

  /** The classes that the kernel holds and whether there is more in the value; undefined when it does not hold the key. */
  rawClasses(key: string): number | undefined {
    return classesOf(this.#entries.get(key)) || undefined;
  }

  /** Does the kernel hold this key, with whatever classes? */
  has(key: string): boolean {
    return classesOf(this.#entries.get(key)) !== 0;
  }

  /** The kernel now holds this value for the key that begins at `words[at]`. */
  setClasses(words: Uint32Array, at: number, value: number): void {
    this.#entries.seekWords(words, at);
    const packed = this.#entries.held;
    const classes = value > 0 && value < FOREIGN ? value : (value % FOREIGN) + FOREIGN;
    this.#put(packed, packed - classesOf(packed) + classes);
  }

  /** The kernel no longer holds the key that begins at `words[at]`. */
  setAbsent(words: Uint32Array, at: number): void {
    this.#entries.seekWords(words, at);
    const packed = this.#entries.held;
    this.#put(packed, packed - classesOf(packed));
  }

  /**
   * A frontend at this address, with which the key begins, makes it `classes`: VIP, with or without CLUSTER_IP; 0 is no reason
   * for anything.
   */
  addVip(key: string, classes: number, change: 1 | -1): void {
    if (classes === 0) return;
    this.#entries.seek(key, this.#addressBytes);
    const packed = this.#entries.held;
    if (classes & AddressClass.CLASS_CLUSTER_IP) {
      this.#put(packed, packed + change * ONE_CLUSTER_IP);
      return;
    }
    const address = key.slice(0, this.#addressBytes);
    const before = this.#externals.get(address) ?? 0;
    const after = before + change;
    if (after === 0) this.#externals.delete(address);
    else this.#externals.set(address, after);
    const difference = Number(after > 0) - Number(before > 0);
    if (difference !== 0) this.#put(packed, packed + difference * EXTERNAL);
  }

  /** NodePorts are served on this address, or not any more. To be called once for each change. */
  setNode(key: string, isNode: boolean): void {
    const packed = this.#entries.get(key);
    this.#put(packed, packed + (isNode ? NODE : -NODE));
  }

  /** A backend with this address, port and protocol: a reason for that key, and for the key of its address. */
  addBackend(key: Uint32Array, change: 1 | -1): void {
    const entries = this.#entries;
    entries.seekWords(key, 0);
    this.#put(entries.held, entries.held + change * ONE_BACKEND);
    entries.seekWords(key, 0, this.#addressWords);
    this.#put(entries.held, entries.held + change * ONE_BACKEND);
  }

  /** Forgets every reason; what the kernel holds stays known. */
  *clearReasons(): Sliced<void> {
    this.#externals.clear();
    let seen = 0;
    for (const [key, packed] of this.#entries) {
      if (packed >= CLASSES) {
        this.#entries.seek(key);
        this.#put(packed, classesOf(packed));
      }
      seen += 1;
      if (seen % STRIDE === 0) yield;
    }
  }

  /** Of the key that was sought. */
  #wantedOf(packed: number): number {
    return this.#wantedAt(this.#entries.key, 0, packed);
  }

  #wantedAt(words: Uint32Array, at: number, packed: number): number {
    if (packed < CLASSES) return 0;
    if ((((words[at + this.#protocolWord] as number) >>> this.#protocolShift) & 0xff) !== 0)
      return AddressClass.CLASS_BACKEND_PORT;
    let wanted = ((packed >>> CLASS_BITS) & (BACKENDS - 1)) > 0 ? AddressClass.CLASS_BACKEND : 0;
    if (packed < ONE_CLUSTER_IP) return wanted;
    if (packed >= NODE) wanted |= AddressClass.CLASS_NODE;
    const high = Math.floor(packed / ONE_CLUSTER_IP);
    if (((high >>> CLUSTER_IP_BITS) & 1) > 0) wanted |= AddressClass.CLASS_VIP;
    if ((high & (CLUSTER_IPS - 1)) > 0) wanted |= AddressClass.CLASS_VIP | AddressClass.CLASS_CLUSTER_IP;
    return wanted;
  }

  /** The key that was sought. */
  #put(before: number, after: number): void {
    const had = classesOf(before);
    const has = classesOf(after);
    const wantedBefore = this.#wantedOf(before);
    const wanted = this.#wantedOf(after);
    this.#present += Number(has !== 0) - Number(had !== 0);
    this.#missing += Number(has === 0 && wanted !== 0) - Number(had === 0 && wantedBefore !== 0);
    this.#entries.put(after);
    if (had === wantedBefore && has !== wanted) {
      this.#wrongKeys += 1;
      this.#suspect();
    } else if (had !== wantedBefore && has === wanted) {
      this.#wrongKeys -= 1;
      if (this.#wrongKeys === 0) this.#suspects = [];
    }
  }

  #suspect(): void {
    if (this.#suspects === null) return;
    const { key } = this.#entries;
    if (this.#suspects.length >= MOST_SUSPECTS) this.#suspects = null;
    else this.#suspects.push(textOf(key, 0, key.length));
  }
}

function textOf(words: Uint32Array, at: number, count: number): string {
  const from = words.byteOffset + at * WORD_BYTES;
  return Buffer.from(words.buffer, from, count * WORD_BYTES).toString("latin1");
}
