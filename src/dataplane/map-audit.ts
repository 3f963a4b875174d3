// SPDX-License-Identifier: Apache-2.0
/**
 * Looks whether the kernel's maps hold what is believed to be in them, piece by piece, while syncs go on writing. A look at one
 * map is judged when nobody writes, and what was written since the audit began is not judged at all: it is what was written,
 * or somebody has changed it since, which the next audit finds. Of all else, every byte counts.
 */
import { Buffer } from "node:buffer";
import { setTimeout } from "node:timers/promises";
import { MAPS } from "../abi/maps.gen.js";
import { isArrayMap, type KernelReads, type MapDump, type MapWrite } from "../native/kernel.js";
import type { Family } from "../net/ip.js";
import { nextTurn, Pace, type SliceOptions } from "../util/slices.js";
import { withoutHostBits } from "./keys.js";
import type { Mirror } from "./mirror.js";
import type { ServiceMap } from "./service-maps.js";

/** Read at once: well under a millisecond, and so that it need not be left to another thread. */
const HASH_PIECE = 1024;
const ARRAY_PIECE_BYTES = 64 * 1024;
/** A sync that comes waits for a piece or two. */
const BUDGET_MS = 1;

/** While there are syncs, it works a quarter of the time: they want the same thread, and it has half a minute. */
const REST = 3;
const LONGEST_REST_MS = 20;
const WORD_BYTES = 4;

/** What was seen of one map. */
export interface Look {
  readonly map: ServiceMap;
  /** Keys of entries that were not as believed when they were seen. */
  readonly suspects: Set<string>;
  /** The others, of a hash: which were seen tells which are missing. */
  readonly alike: Piece[];
}

interface Piece {
  readonly keys: Buffer;
  /** markOf() each key, or 0: it is a suspect. */
  readonly marks: Uint16Array;
}

export class MapAudit {
  /** What is believed. Syncs change it meanwhile. */
  readonly mirror: Mirror;
  readonly #kernel: KernelReads;
  readonly #pace: Pace;
  readonly #idle: () => Promise<unknown>;
  readonly #written: { readonly writes: readonly MapWrite[]; readonly applied: number }[] = [];

  /**
   * To be made while nobody writes; from then on wrote() is to be told of every transaction. `idle` resolves when the syncs
   * that have been asked for are done: they come before the next piece.
   */
  constructor(kernel: KernelReads, mirror: Mirror, options: SliceOptions, idle: () => Promise<unknown>) {
    this.#kernel = kernel;
    this.#idle = idle;
    this.mirror = mirror;
    this.#pace = new Pace({
      ...options,
      budgetMs: Math.min(BUDGET_MS, options.budgetMs ?? BUDGET_MS),
      turn: (workedMs) => this.#rest(workedMs),
    });
  }

  /** The first `applied` entries of these writes have reached the kernel, whether the mirror has them yet or not. */
  wrote(writes: readonly MapWrite[], applied: number): void {
    this.#written.push({ writes, applied });
  }

  /**
   * Reads a map and compares it. The event loop gets a turn between pieces.
   *
   * @throws when the kernel cannot be read, and what the signal says when it is aborted
   */
  async look(map: ServiceMap, signal?: AbortSignal): Promise<Look> {
    const look: Look = { map, suspects: new Set(), alike: [] };
    const { keySize, valueSize } = this.#kernel.info(map);
    const piece = isArrayMap(map) ? Math.ceil(ARRAY_PIECE_BYTES / (keySize + valueSize)) : HASH_PIECE;
    const see = isArrayMap(map) ? this.#cells(look) : this.#entries(look);
    for await (const dump of this.#kernel.dumpChunks(map, piece, undefined, piece, true)) {
      see(dump);
      await this.#pace.rest();
      signal?.throwIfAborted();
    }
    return look;
  }

  /**
   * Is the map as believed, but for what was written meanwhile? To be asked while nobody writes. No: somebody else has changed
   * it, or it could not be read in one go.
   */
  isAsBelieved({ map, suspects, alike }: Look): boolean {
    const written = this.#keysWritten(map);
    for (const key of suspects) if (!written.has(key)) return false;
    if (isArrayMap(map)) return true;
    const believed = believedEntries(this.mirror, map);
    let untouched = believed.size();
    for (const key of written) if (believed.has(key)) untouched -= 1;
    return countWithout(written, alike) === untouched;
  }

  async #rest(workedMs: number): Promise<void> {
    const restMs = Math.min(REST * workedMs, LONGEST_REST_MS);
    if (this.#written.length === 0 || restMs < 1) await nextTurn();
    else await setTimeout(restMs);
    await this.#idle();
  }

  #keysWritten(map: ServiceMap): Set<string> {
    const keys = new Set<string>();
    for (const { writes, applied } of this.#written) {
      let left = applied;
      for (const write of writes) {
        const count = Math.min(left, write.count);
        left -= count;
        if (write.map === map) for (const key of textsOf(write.keys, write.count, count)) keys.add(key);
      }
    }
    return keys;
  }

  #entries({ map, suspects, alike }: Look): (dump: MapDump) => void {
    const believed = believedEntries(this.mirror, map);
    const { keySize, valueSize } = this.#kernel.info(map);
    const isTrie = MAPS[map].type === "lpm_trie";
    /** Where a trie's last key has gone, the kernel begins anew. */
    const seen = new Set<string>();
    return ({ count, keys: packed, values }) => {
      // Kept until the map is judged, and the next piece is written over this one. A copy begins at a whole word.
      const keys = bufferOf(new Uint8Array(packed));
      const textAt = (i: number): string => keys.toString("latin1", i * keySize, (i + 1) * keySize);
      if (isTrie)
        for (let i = 0; i < count; i += 1) keys.write(withoutHostBits(textAt(i)), i * keySize, "latin1");
      const isSo = believed.compareWith(keys, keySize, bufferOf(values), valueSize);
      const marks = new Uint16Array(count);
      for (let i = 0; i < count; i += 1) {
        if (!isSo(i)) suspects.add(textAt(i));
        else if (!isTrie || !seen.has(textAt(i))) marks[i] = markOf(keys, i * keySize, keySize);
        if (isTrie) seen.add(textAt(i));
      }
      alike.push({ keys, marks });
    };
  }

  #cells({ map, suspects }: Look): (dump: MapDump) => void {
    const believed = believedCells(this.mirror, map);
    const size = this.#kernel.info(map).valueSize;
    let from = 0;
    return ({ count, keys, values }) => {
      const found = bufferOf(values);
      const at = from * size;
      from += count;
      if (found.compare(believed, at, at + count * size, 0, count * size) === 0) return;
      const indexes = textsOf(keys, count, count);
      for (let i = 0; i < count; i += 1) {
        const cell = at + i * size;
        if (found.compare(believed, cell, cell + size, i * size, (i + 1) * size) !== 0)
          suspects.add(indexes[i] as string);
      }
    };
  }
}

/** What a mirror has of a hash or a trie. */
interface BelievedEntries {
  size(): number;
  has(key: string): boolean;
  /** Of packed keys, which begin at a whole word, and their values: is the i-th entry as it should be? */
  compareWith(keys: Buffer, keySize: number, values: Buffer, valueSize: number): (i: number) => boolean;
}

function believedEntries({ names, families }: Mirror, map: ServiceMap): BelievedEntries {
  if (map === "services") {
    const numberAt = (keys: Buffer, size: number) => (i: number) => keys.readUInt32LE(i * size);
    return textEntries(names, (key) => Buffer.from(key, "latin1").readUInt32LE(0), numberAt);
  }
  const { frontends, sourceRanges, serviceNets, addresses } = families[familyOf(map)];
  const same = (key: string): string => key;
  if (map.startsWith("frontends")) return textEntries(frontends, same, partsOf);
  if (map.startsWith("source_ranges")) return textEntries(sourceRanges, same, partsOf);
  if (map.startsWith("service_nets")) return textEntries(serviceNets, same, partsOf);
  return {
    size: () => addresses.present,
    has: (key) => addresses.has(key),
    // There are two for each backend of the cluster: no text of them is made.
    compareWith: (keys, keySize, values, valueSize) => {
      const words = new Uint32Array(keys.buffer, keys.byteOffset, keys.length / WORD_BYTES);
      return (i) => {
        const held = addresses.rawClassesAt(words, (i * keySize) / WORD_BYTES);
        return held !== 0 && held === values.readUInt32LE(i * valueSize);
      };
    },
  };
}

function textEntries<K>(
  entries: ReadonlyMap<K, string>,
  keyOf: (key: string) => K,
  keysOf: (keys: Buffer, size: number) => (i: number) => K,
): BelievedEntries {
  return {
    size: () => entries.size,
    has: (key) => entries.has(keyOf(key)),
    compareWith: (keys, keySize, values, valueSize) => {
      const keyAt = keysOf(keys, keySize);
      const valueAt = partsOf(values, valueSize);
      return (i) => entries.get(keyAt(i)) === valueAt(i);
    },
  };
}

/** One text, and parts of it: that is far cheaper than as many texts. */
function partsOf(packed: Buffer, size: number): (i: number) => string {
  const text = packed.toString("latin1");
  return (i) => text.slice(i * size, (i + 1) * size);
}

function believedCells({ families }: Mirror, map: ServiceMap): Buffer {
  const { cells, slots } = families[familyOf(map)];
  return map.startsWith("backends") ? cells : bufferOf(slots);
}

const familyOf = (map: ServiceMap): Family => (map.endsWith("4") ? 4 : 6);

function bufferOf({ buffer, byteOffset, byteLength }: Uint8Array | Uint32Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** The first `wanted` of `count` packed keys. */
function textsOf(keys: Uint8Array, count: number, wanted: number): string[] {
  const size = keys.length / count;
  const bytes = bufferOf(keys);
  return Array.from({ length: wanted }, (_, i) => bytes.toString("latin1", i * size, (i + 1) * size));
}

const MARKS = 2 ** 16;

/** 1 to 65535: keys with different ones are different. */
function markOf(bytes: Buffer, at: number, size: number): number {
  let mark = 0;
  for (let i = at; i < at + size; i += 1) mark = (Math.imul(mark, 31) + (bytes[i] as number)) | 0;
  return (mark ^ (mark >>> 16)) & (MARKS - 1) || 1;
}

/** How many keys of entries that were as believed are not among these. */
function countWithout(keys: ReadonlySet<string>, pieces: readonly Piece[]): number {
  const marked = new Uint8Array(MARKS);
  for (const key of keys) marked[markOf(Buffer.from(key, "latin1"), 0, key.length)] = 1;
  let count = 0;
  for (const piece of pieces) {
    const size = piece.keys.length / piece.marks.length;
    for (let i = 0; i < piece.marks.length; i += 1) {
      const mark = piece.marks[i] as number;
      if (mark === 0) continue;
      if (marked[mark] === 0 || !keys.has(piece.keys.toString("latin1", i * size, (i + 1) * size)))
        count += 1;
    }
  }
  return count;
}
