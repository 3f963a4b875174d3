// SPDX-License-Identifier: Apache-2.0
/**
 * KernelMaps over the native library. Transactions and dumps of a handle run one after the other, in the order in which
 * they were asked for. Small ones run at once; what could take longer than a few milliseconds runs on a pool thread.
 */
import { MAP_NAMES, MAPS, type MapName, type MapType } from "../abi/maps.gen.js";
import { verifyMaps } from "../abi/verify.js";
import { NativeError } from "./errors.js";
import type { Ffi } from "./ffi.js";
import {
  type ApplyResult,
  isArrayMap,
  type KernelLookups,
  type KernelMaps,
  type MapDump,
  type MapInfo,
  type MapWrite,
} from "./kernel.js";
import { assertShape } from "./memory.js";
import {
  CursorState,
  type PtlMapInfo,
  ptlApplyResultCodec,
  ptlCursorCodec,
  ptlMapInfoCodec,
  ptlRunCodec,
  RunKind,
} from "./portolan.gen.js";
import { Ring } from "./ring.js";

/** About half a microsecond an entry: below this many the event loop does not notice. */
const SYNC_ENTRIES = 512;
const SYNC_DUMP_BYTES = 256 * 1024;
const MAX_MAPS = 64;

/** A map as the kernel has it. */
export interface NativeMapInfo extends MapInfo {
  readonly id: number;
  readonly flags: number;
  /** Memory that the kernel charges for it. */
  readonly bytes: number;
  /** Entries of a hash, when asked for; null otherwise. */
  readonly used: number | null;
}

const TYPE_NAMES: ReadonlyMap<number, MapType> = new Map(
  Object.values(MAPS).map((spec) => [spec.typeId, spec.type]),
);

const isMapName = (name: string): name is MapName => Object.hasOwn(MAPS, name);
const pad8 = (size: number): number => (size + 7) & ~7;

export class NativeMaps implements KernelMaps, KernelLookups {
  readonly stats: { ffiCalls: number; mapWrites: number } = { ffiCalls: 0, mapWrites: 0 };
  /** System calls that transactions made; with batch commands far fewer than entries. */
  systemCalls = 0;
  /** False: one system call an entry, as on a kernel without batch commands. For comparison. */
  batch = true;
  protected readonly ffi: Ffi;
  protected readonly handle: number;
  readonly #where: string;
  readonly #infos = new Map<MapName, MapInfo>();
  readonly #indexes = new Map<MapName, number>();
  #tail: Promise<unknown> = Promise.resolve();
  #pending = 0;
  #closed = false;

  /** Takes over the handle; closes it when the maps are not ours. */
  constructor(ffi: Ffi, handle: number, where: string) {
    this.ffi = ffi;
    this.handle = handle;
    this.#where = where;
    try {
      const infos = this.#readInfos(false);
      verifyMaps(
        infos.map((info) => ({ ...info, typeId: info.type })),
        where,
      );
      for (const info of infos) {
        if (!isMapName(info.name)) continue;
        this.#indexes.set(info.name, info.index);
        this.#infos.set(info.name, toInfo(info.name, info));
      }
    } catch (error) {
      ffi.callRaw("ptl_close", handle);
      throw error;
    }
    this.stats.ffiCalls = 0;
  }

  /** Names of the maps that are there, in the order of MAP_NAMES. */
  get names(): readonly MapName[] {
    return MAP_NAMES.filter((name) => this.#infos.has(name));
  }

  info(map: MapName): MapInfo {
    const info = this.#infos.get(map);
    if (!info) throw missingMap(map, this.#where);
    return info;
  }

  /** Fresh from the kernel. `countEntries` reads every hash once and holds up the event loop: for commands. One FFI call. */
  infos(countEntries = false): readonly NativeMapInfo[] {
    return toNativeInfos(this.#readInfos(countEntries));
  }

  /** The same with the entries of hashes counted on a pool thread: for the agent. One FFI call. */
  async usage(): Promise<readonly NativeMapInfo[]> {
    this.assertOpen();
    this.stats.ffiCalls++;
    const out = Buffer.alloc(MAX_MAPS * ptlMapInfoCodec.size);
    const count = await this.ffi.callAsync("ptl_map_infos", this.handle, 1, out, MAX_MAPS);
    return toNativeInfos(decodeInfos(out, count));
  }

  async apply(writes: readonly MapWrite[]): Promise<ApplyResult> {
    for (const write of writes) assertShape(write);
    const runs = writes.map((write, index) => ({ write, index })).filter(({ write }) => write.count > 0);
    if (runs.length === 0) return { applied: 0, failure: null };
    const buffer = this.#pack(runs.map(({ write }) => write));
    const entries = runs.reduce((sum, { write }) => sum + write.count, 0);
    const out = Buffer.alloc(ptlApplyResultCodec.size);
    await this.#inTurn(entries <= SYNC_ENTRIES, "ptl_apply", buffer, buffer.length, this.batch ? 1 : 0, out);
    const result = ptlApplyResultCodec.decode(out);
    const applied = Number(result.applied);
    this.stats.mapWrites += applied;
    this.systemCalls += Number(result.systemCalls);
    if (result.error === 0) return { applied, failure: null };
    const failed = runs[result.failedRun] as (typeof runs)[number];
    return {
      applied,
      failure: {
        writeIndex: failed.index,
        entryIndex: result.failedEntry,
        map: failed.write.map,
        errno: result.error,
      },
    };
  }

  async dump(map: MapName, limit?: number): Promise<MapDump> {
    const { keySize, valueSize, maxEntries } = this.info(map);
    const cells = Math.min(limit ?? maxEntries, maxEntries);
    // Entries may come and go while a hash is read, so that more than max_entries are seen in the end.
    const capacity = isArrayMap(map) ? cells : maxEntries + 1024;
    const dumps: MapDump[] = [];
    for await (const dump of this.dumpChunks(map, capacity, cells)) dumps.push(dump);
    const [first] = dumps;
    if (first && dumps.length === 1) return first;
    return {
      count: dumps.reduce((sum, dump) => sum + dump.count, 0),
      keys: concat(
        dumps.map((dump) => dump.keys),
        keySize,
      ),
      values: concat(
        dumps.map((dump) => dump.values),
        valueSize,
      ),
    };
  }

  async lookUp(map: MapName, keys: Uint8Array): Promise<readonly (Uint8Array | null)[]> {
    const { keySize, valueSize } = this.info(map);
    const count = keys.length / keySize;
    if (count === 0) return [];
    const values = Buffer.alloc(count * valueSize);
    const found = Buffer.alloc(count);
    const packed = Buffer.from(keys.buffer, keys.byteOffset, keys.length);
    const index = this.#indexes.get(map) as number;
    await this.#inTurn(count <= SYNC_ENTRIES, "ptl_look_up", index, packed, count, values, found);
    return Array.from(found, (hit, i) =>
      hit === 0 ? null : values.subarray(i * valueSize, (i + 1) * valueSize),
    );
  }

  /**
   * A dump in pieces of at most `chunk` entries, so that memory stays bounded. One FFI call a piece. The first piece has room
   * for `first` entries and each one for four times as many as the one before: most maps are nearly empty, and room costs.
   */
  async *dumpChunks(
    map: MapName,
    chunk: number,
    limit?: number,
    first: number = chunk,
    reuse = false,
  ): AsyncGenerator<MapDump> {
    if (MAPS[map].type === "ringbuf") return; // it has no entries: records pass through it
    const { keySize, valueSize, maxEntries } = this.info(map);
    const cursor = Buffer.alloc(ptlCursorCodec.size);
    // A trie is read key after key. When the key that was read last is deleted, it begins anew: each entry is told once.
    const seen = MAPS[map].type === "lpm_trie" ? new Set<string>() : null;
    let capacity = Math.min(first, chunk);
    let room: Room | null = null;
    while (ptlCursorCodec.decode(cursor).state !== CursorState.CURSOR_DONE) {
      if (!reuse || room?.capacity !== capacity) room = roomFor(capacity, keySize, valueSize);
      const { keys, values } = room;
      const sync = capacity * (keySize + valueSize) <= SYNC_DUMP_BYTES;
      const index = this.#indexes.get(map) as number;
      const cells = limit ?? maxEntries;
      let count: number;
      try {
        count = await this.#inTurn(
          sync,
          "ptl_dump",
          index,
          cells,
          this.batch ? 1 : 0,
          cursor,
          keys,
          values,
          capacity,
        );
      } catch (error) {
        // The next bucket alone is larger than a small chunk.
        if (!(error instanceof NativeError && error.errno === ENOSPC) || capacity > maxEntries) throw error;
        capacity *= 2;
        continue;
      }
      const part = reuse ? front : fit;
      const piece = { count, keys: part(keys, count * keySize), values: part(values, count * valueSize) };
      yield seen === null ? piece : onlyNew(piece, keySize, valueSize, seen);
      capacity = Math.max(capacity, Math.min(4 * capacity, chunk));
    }
  }

  /**
   * Opens a ring buffer for reading. The handle must be writable, and nobody else may read the ring: records go to
   * whoever takes them first.
   *
   * @throws NativeError E_NATIVE_PINS when there is no such map
   */
  openRing(map: MapName, recordSize: number): Ring {
    this.assertOpen();
    const index = this.#indexes.get(map);
    if (index === undefined) throw missingMap(map, this.#where);
    return new Ring(this.ffi, this.ffi.call("ptl_ring_open", this.handle, index), recordSize);
  }

  /** Waits for what is under way, then lets go of the maps. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#tail;
    this.ffi.callRaw("ptl_close", this.handle);
  }

  protected assertOpen(): void {
    if (!this.#closed) return;
    const details = { errno: 9, op: "use", object: "handle", verifierLog: null };
    throw new NativeError("E_NATIVE_ARGUMENT", "The maps have been closed", details);
  }

  /** Calls with this handle, after everything that was asked for before. */
  #inTurn(
    sync: boolean,
    symbol: "ptl_apply" | "ptl_dump" | "ptl_look_up",
    ...args: (number | Buffer)[]
  ): Promise<number> {
    this.assertOpen();
    this.stats.ffiCalls++;
    if (sync && this.#pending === 0) return Promise.resolve(this.ffi.call(symbol, this.handle, ...args));
    this.#pending++;
    const turn = this.#tail.then(() => this.ffi.callAsync(symbol, this.handle, ...args));
    this.#tail = turn.then(
      () => this.#pending--,
      () => this.#pending--,
    );
    return turn;
  }

  #pack(writes: readonly MapWrite[]): Buffer {
    const size = writes.reduce(
      (sum, write) => sum + ptlRunCodec.size + pad8(write.keys.length) + pad8(write.values.length),
      0,
    );
    const buffer = Buffer.alloc(size);
    const view = new DataView(buffer.buffer, buffer.byteOffset, buffer.length);
    let at = 0;
    for (const write of writes) {
      const map = this.#indexes.get(write.map);
      if (map === undefined) throw missingMap(write.map, this.#where);
      ptlRunCodec.encodeInto(view, at, { map, kind: runKind(write), count: write.count });
      at += ptlRunCodec.size;
      buffer.set(write.keys, at);
      at += pad8(write.keys.length);
      buffer.set(write.values, at);
      at += pad8(write.values.length);
    }
    return buffer;
  }

  #readInfos(countEntries: boolean): PtlMapInfo[] {
    this.assertOpen();
    this.stats.ffiCalls++;
    const out = Buffer.alloc(MAX_MAPS * ptlMapInfoCodec.size);
    const count = this.ffi.call("ptl_map_infos", this.handle, countEntries ? 1 : 0, out, MAX_MAPS);
    return decodeInfos(out, count);
  }
}

const ENOSPC = 28;

function missingMap(map: MapName, where: string): NativeError {
  const details = { errno: 2, op: "use", object: map, verifierLog: null };
  return new NativeError("E_NATIVE_PINS", `map ${map} is not pinned in ${where}`, details);
}

function toInfo(name: MapName, info: PtlMapInfo): MapInfo {
  const { keySize, valueSize, maxEntries } = info;
  return { name, type: TYPE_NAMES.get(info.type) ?? `${info.type}`, keySize, valueSize, maxEntries };
}

function decodeInfos(bytes: Uint8Array, count: number): PtlMapInfo[] {
  return Array.from({ length: count }, (_, i) => ptlMapInfoCodec.decode(bytes, i * ptlMapInfoCodec.size));
}

/** Maps of other names than ours are left out. */
function toNativeInfos(infos: readonly PtlMapInfo[]): NativeMapInfo[] {
  return infos.flatMap((info) => {
    if (!isMapName(info.name)) return [];
    const used = info.used < 0n ? null : Number(info.used);
    return [{ ...toInfo(info.name, info), id: info.id, flags: info.flags, bytes: Number(info.bytes), used }];
  });
}

function runKind(write: MapWrite): number {
  if (write.kind === "delete") return RunKind.RUN_DELETE;
  return write.createOnly ? RunKind.RUN_CREATE : RunKind.RUN_UPDATE;
}

/** Where a piece of a dump is put. */
interface Room {
  readonly capacity: number;
  readonly keys: Buffer;
  readonly values: Buffer;
}

/** Not zeroed, so that room which is not used costs no memory either: the kernel fills what is returned. */
function roomFor(capacity: number, keySize: number, valueSize: number): Room {
  const keys = Buffer.allocUnsafeSlow(capacity * keySize);
  return { capacity, keys, values: Buffer.allocUnsafeSlow(capacity * valueSize) };
}

/** The used front of a buffer. */
function front(buffer: Buffer, used: number): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, used);
}

/** The used front of a buffer; a copy when the rest would waste more than it holds. */
function fit(buffer: Buffer, used: number): Uint8Array {
  return used * 2 < buffer.length ? front(buffer, used).slice() : front(buffer, used);
}

/** The entries whose keys were not seen before. Tries are small. */
function onlyNew(piece: MapDump, keySize: number, valueSize: number, seen: Set<string>): MapDump {
  const [keys, values]: [Uint8Array[], Uint8Array[]] = [[], []];
  for (let i = 0; i < piece.count; i++) {
    const key = piece.keys.subarray(i * keySize, (i + 1) * keySize);
    const text = Buffer.from(key).toString("latin1");
    if (seen.has(text)) continue;
    seen.add(text);
    keys.push(key);
    values.push(piece.values.subarray(i * valueSize, (i + 1) * valueSize));
  }
  if (keys.length === piece.count) return piece;
  return { count: keys.length, keys: concat(keys, keySize), values: concat(values, valueSize) };
}

function concat(parts: readonly Uint8Array[], size: number): Uint8Array {
  const all = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return size === 0 ? new Uint8Array(0) : all;
}
