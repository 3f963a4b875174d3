// SPDX-License-Identifier: Apache-2.0
/**
 * A kernel in memory: the map semantics of Linux that the layers above rely on, for tests and dry runs. Hash maps refuse a
 * new key when they are full (E2BIG), LPM tries too (ENOSPC), LRU maps evict, arrays refuse an index outside (E2BIG) and any
 * delete (EINVAL). Two keys of an LPM trie that differ only behind their prefix are one.
 */
import { MAP_NAMES, MAPS, type MapName, type MapSpec } from "../abi/maps.gen.js";
import {
  type ApplyResult,
  isArrayMap,
  type KernelLookups,
  type KernelMaps,
  type MapDump,
  type MapInfo,
  type MapWrite,
  type OpKind,
} from "./kernel.js";

const E2BIG = 7;
const EEXIST = 17;
const EINVAL = 22;
const ENOSPC = 28;

/** What `crashAfter` throws: the process is gone; what was written until then stays. */
export class SimulatedCrash extends Error {
  override readonly name = "SimulatedCrash";
}

/** One entry as it reaches the kernel. The arrays are views: copy what you keep. */
export interface EntryWrite {
  readonly map: MapName;
  readonly kind: OpKind;
  readonly key: Uint8Array;
  /** Empty for a delete. */
  readonly value: Uint8Array;
}

interface MemoryMap {
  readonly info: MapInfo;
  readonly spec: MapSpec;
  readonly isArray: boolean;
  /** Hashes: key bytes as latin1 text. The Map's order is the age, oldest first. */
  readonly entries: Map<string, Uint8Array>;
  /** Arrays: grows to the highest cell written; beyond it all is zero. */
  cells: Uint8Array;
}

export interface MemoryKernelOptions {
  /** max_entries where it differs from the default. */
  readonly maxEntries?: Readonly<Partial<Record<MapName, number>>>;
  /** Called after each entry that was written or deleted, for checks after every prefix. What it throws, `apply` rejects with. */
  readonly afterWrite?: (write: EntryWrite, kernel: MemoryKernel) => void;
}

export class MemoryKernel implements KernelMaps, KernelLookups {
  readonly stats: { ffiCalls: number; mapWrites: number } = { ffiCalls: 0, mapWrites: 0 };
  /** As the option of the same name; may be changed at any time. */
  afterWrite: ((write: EntryWrite, kernel: MemoryKernel) => void) | null;
  readonly #maps = new Map<MapName, MemoryMap>();
  #crashAfter = Number.POSITIVE_INFINITY;
  #refusal: { after: number; errno: number } | null = null;

  constructor(options: MemoryKernelOptions = {}) {
    this.afterWrite = options.afterWrite ?? null;
    for (const name of MAP_NAMES) {
      const spec = MAPS[name];
      const maxEntries = options.maxEntries?.[name] ?? spec.maxEntries;
      const { type, keySize, valueSize } = spec;
      this.#maps.set(name, {
        info: { name, type, keySize, valueSize, maxEntries },
        spec,
        isArray: isArrayMap(name),
        entries: new Map(),
        cells: new Uint8Array(0),
      });
    }
  }

  /** After `writes` more entries, `apply` rejects with SimulatedCrash and writes nothing more until this is called again. */
  crashAfter(writes: number): void {
    this.#crashAfter = writes;
  }

  /** The entry after the next `writes` ones is refused with `errno`, once. */
  refuseAfter(writes: number, errno: number): void {
    this.#refusal = { after: writes, errno };
  }

  apply(writes: readonly MapWrite[]): Promise<ApplyResult> {
    // A throw of the hook or a simulated crash becomes a rejection, as with the real one.
    return new Promise((resolve) => resolve(this.#apply(writes)));
  }

  #apply(writes: readonly MapWrite[]): ApplyResult {
    for (const write of writes) assertShape(write);
    if (writes.every((write) => write.count === 0)) return { applied: 0, failure: null };
    this.stats.ffiCalls++;
    let applied = 0;
    for (const [writeIndex, write] of writes.entries()) {
      const { keySize, valueSize } = MAPS[write.map];
      const isUpdate = write.kind === "update";
      for (let entryIndex = 0; entryIndex < write.count; entryIndex++) {
        if (this.#crashAfter <= 0) throw new SimulatedCrash("Stopped at the write that was asked for");
        const key = write.keys.subarray(entryIndex * keySize, (entryIndex + 1) * keySize);
        const value = isUpdate
          ? write.values.subarray(entryIndex * valueSize, (entryIndex + 1) * valueSize)
          : new Uint8Array(0);
        const errno = this.#takeRefusal() || this.#write(write, key, value);
        if (errno !== 0) return { applied, failure: { writeIndex, entryIndex, map: write.map, errno } };
        applied++;
        this.stats.mapWrites++;
        this.#crashAfter--;
        this.afterWrite?.({ map: write.map, kind: write.kind, key, value }, this);
      }
    }
    return { applied, failure: null };
  }

  #takeRefusal(): number {
    if (!this.#refusal || this.#refusal.after-- > 0) return 0;
    const { errno } = this.#refusal;
    this.#refusal = null;
    return errno;
  }

  /** 0 or an errno, as the kernel decides it. */
  #write(write: MapWrite, key: Uint8Array, value: Uint8Array): number {
    const map = this.#map(write.map);
    if (map.isArray) return writeCell(map, write, key, value);
    const id = map.spec.type === "lpm_trie" ? prefixOf(key) : latin1(key);
    if (write.kind === "delete") {
      map.entries.delete(id);
      return 0;
    }
    const exists = map.entries.has(id);
    if (exists && write.createOnly) return EEXIST;
    if (!exists && map.entries.size >= map.info.maxEntries) {
      if (map.spec.type === "lpm_trie") return ENOSPC;
      if (map.spec.type !== "lru_hash") return E2BIG;
      for (const oldest of map.entries.keys()) {
        map.entries.delete(oldest);
        break;
      }
    }
    if (map.spec.type === "lru_hash") map.entries.delete(id);
    map.entries.set(id, value.slice());
    return 0;
  }

  dump(name: MapName, limit?: number): Promise<MapDump> {
    this.stats.ffiCalls++;
    const map = this.#map(name);
    return Promise.resolve(map.isArray ? dumpCells(map, limit) : dumpEntries(map));
  }

  /** As the kernel: each piece is what is there when it is asked for. */
  async *dumpChunks(
    name: MapName,
    chunk: number,
    limit?: number,
    first: number = chunk,
  ): AsyncGenerator<MapDump> {
    const map = this.#map(name);
    const end = map.isArray ? Math.min(limit ?? map.info.maxEntries, map.info.maxEntries) : Infinity;
    const left = map.entries[Symbol.iterator]();
    let capacity = Math.min(first, chunk);
    for (let at = 0, isLast = false; !isLast && at < end; ) {
      this.stats.ffiCalls++;
      const dump = map.isArray
        ? dumpCells(map, Math.min(at + capacity, end), at)
        : dumpEntries(map, take(left, capacity));
      isLast = dump.count < capacity;
      at += dump.count;
      capacity = Math.min(4 * capacity, chunk);
      if (dump.count > 0) yield dump;
    }
  }

  lookUp(name: MapName, keys: Uint8Array): Promise<readonly (Uint8Array | null)[]> {
    this.stats.ffiCalls++;
    const { keySize } = this.#map(name).info;
    const one = (_: unknown, i: number) => this.get(name, keys.subarray(i * keySize, (i + 1) * keySize));
    return Promise.resolve(Array.from({ length: keys.length / keySize }, one));
  }

  info(name: MapName): MapInfo {
    return this.#map(name).info;
  }

  /** A copy of one value; null when a hash has no such key or an index is outside. No FFI call is counted. */
  get(name: MapName, key: Uint8Array): Uint8Array | null {
    const map = this.#map(name);
    if (!map.isArray) return map.entries.get(latin1(key))?.slice() ?? null;
    const index = indexOf(key);
    if (index >= map.info.maxEntries) return null;
    const size = map.info.valueSize;
    const value = new Uint8Array(size);
    value.set(map.cells.subarray(index * size, (index + 1) * size));
    return value;
  }

  /** Number of entries of a hash; of an array its max_entries. */
  size(name: MapName): number {
    const map = this.#map(name);
    return map.isArray ? map.info.maxEntries : map.entries.size;
  }

  /** Every [key, value] of a hash; of an array those up to the highest cell ever written. Copies. */
  *entries(name: MapName): Generator<readonly [key: Uint8Array, value: Uint8Array]> {
    const map = this.#map(name);
    const { keySize, valueSize } = map.info;
    const used = map.cells.length / valueSize;
    const { keys, values, count } = map.isArray ? dumpCells(map, used) : dumpEntries(map);
    for (let i = 0; i < count; i++)
      yield [keys.slice(i * keySize, (i + 1) * keySize), values.slice(i * valueSize, (i + 1) * valueSize)];
  }

  /** What a new process finds: the same contents, no hooks, counters at zero. */
  clone(): MemoryKernel {
    const maxEntries = Object.fromEntries([...this.#maps].map(([name, map]) => [name, map.info.maxEntries]));
    const copy = new MemoryKernel({ maxEntries });
    for (const [name, from] of this.#maps) {
      const to = copy.#map(name);
      for (const [key, value] of from.entries) to.entries.set(key, value);
      to.cells = from.cells.slice();
    }
    return copy;
  }

  #map(name: MapName): MemoryMap {
    const map = this.#maps.get(name);
    if (!map) throw new RangeError(`Unknown map "${name}"`);
    return map;
  }
}

/** The buffers of a write are as long as its count says; anything else is a mistake of the caller. */
export function assertShape(write: MapWrite): void {
  const { keySize, valueSize } = MAPS[write.map];
  const values = write.kind === "update" ? write.count * valueSize : 0;
  if (write.keys.length !== write.count * keySize)
    throw new RangeError(
      `Cannot write ${write.count} entries to ${write.map}: ${write.keys.length} bytes of keys`,
    );
  if (write.values.length !== values)
    throw new RangeError(
      `Cannot write ${write.count} entries to ${write.map}: ${write.values.length} bytes of values`,
    );
}

function latin1(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("latin1");
}

/** A key of an LPM trie without the bits that do not count. The kernel's dumps have them as they were written. */
function prefixOf(key: Uint8Array): string {
  const bytes = Buffer.from(key);
  const length = bytes.readUInt32LE(0);
  for (let i = 4; i < bytes.length; i++) {
    const bits = Math.min(8, Math.max(0, length - (i - 4) * 8));
    bytes.writeUInt8(bytes.readUInt8(i) & ((0xff << (8 - bits)) & 0xff), i);
  }
  return latin1(bytes);
}

function indexOf(key: Uint8Array): number {
  return new DataView(key.buffer, key.byteOffset, key.byteLength).getUint32(0, true);
}

function writeCell(map: MemoryMap, write: MapWrite, key: Uint8Array, value: Uint8Array): number {
  if (write.kind === "delete") return EINVAL;
  const index = indexOf(key);
  if (index >= map.info.maxEntries) return E2BIG;
  if (write.createOnly) return EEXIST;
  const size = map.info.valueSize;
  const end = (index + 1) * size;
  if (end > map.cells.length) {
    const grown = new Uint8Array(Math.min(map.info.maxEntries * size, Math.max(end, map.cells.length * 2)));
    grown.set(map.cells);
    map.cells = grown;
  }
  map.cells.set(value, index * size);
  return 0;
}

function dumpCells(map: MemoryMap, limit: number = map.info.maxEntries, from = 0): MapDump {
  const count = Math.min(limit, map.info.maxEntries) - from;
  const keys = Uint32Array.from({ length: count }, (_, i) => from + i);
  const size = map.info.valueSize;
  const values = new Uint8Array(count * size);
  values.set(map.cells.subarray(from * size, (from + count) * size));
  return { count, keys: new Uint8Array(keys.buffer), values };
}

function take<T>(from: Iterator<T>, most: number): T[] {
  const taken: T[] = [];
  while (taken.length < most) {
    const next = from.next();
    if (next.done) break;
    taken.push(next.value);
  }
  return taken;
}

function dumpEntries(map: MemoryMap, entries: readonly [string, Uint8Array][] = [...map.entries]): MapDump {
  const { keySize, valueSize } = map.info;
  const count = entries.length;
  const keys = Buffer.alloc(count * keySize);
  const values = new Uint8Array(count * valueSize);
  for (const [i, [key, value]] of entries.entries()) {
    keys.write(key, i * keySize, "latin1");
    values.set(value, i * valueSize);
  }
  return { count, keys, values };
}
