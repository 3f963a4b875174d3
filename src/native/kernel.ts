// SPDX-License-Identifier: Apache-2.0
/**
 * What the layers above see of the kernel: maps that are dumped whole and written by ordered transactions. Implemented by
 * `lib.ts` (FFI) and by `memory.ts` (a kernel in memory, for tests and dry runs).
 */
import { MAPS, type MapName } from "../abi/maps.gen.js";

/** Whether a map is an array, whose keys are its indexes: each cell is there, all zero where nothing was written. */
export function isArrayMap(map: MapName): boolean {
  return MAPS[map].type === "array" || MAPS[map].type === "percpu_array";
}

export type OpKind = "update" | "delete";

/** Entries of one map, packed: key i is keys[i*keySize .. (i+1)*keySize). The buffers are the caller's own. */
export interface MapDump {
  readonly count: number;
  readonly keys: Uint8Array;
  /** One value per key; of a per-CPU map the sum over all CPUs (u64 words are added). */
  readonly values: Uint8Array;
}

/**
 * An ordered run of writes to one map. Runs are applied in order and entries within a run in order; deletes have no
 * values. `createOnly` makes an existing key an error (EEXIST). Deleting a missing key is no error.
 */
export interface MapWrite {
  readonly map: MapName;
  readonly kind: OpKind;
  readonly count: number;
  readonly keys: Uint8Array;
  readonly values: Uint8Array;
  /** Of updates only. Left out: false. */
  readonly createOnly?: boolean;
}

export interface ApplyResult {
  /** Entries written or deleted; a delete of a key that was not there counts. */
  readonly applied: number;
  /** Null when everything was applied. The writes before it have been applied, those after it have not. */
  readonly failure: {
    readonly writeIndex: number;
    readonly entryIndex: number;
    readonly map: MapName;
    readonly errno: number;
  } | null;
}

export interface MapInfo {
  readonly name: MapName;
  readonly type: string;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

/** What those see who only read. An archive of `portolan dump` is read by it too. */
export interface KernelReads {
  /** All entries of a hash; of an array the cells [0, limit) (default: all of it). One FFI call. */
  dump(map: MapName, limit?: number): Promise<MapDump>;
  /**
   * The same in pieces of at most `chunk` entries, so that memory stays bounded. One FFI call a piece.
   *
   * @param first room for so many entries in the first piece; it grows from there. Left out: `chunk`
   * @param reuse the next piece may be where this one was: copy what is kept. For whoever reads much and often: memory beside
   * the heap that is used once makes V8 collect the whole heap
   */
  dumpChunks(
    map: MapName,
    chunk: number,
    limit?: number,
    first?: number,
    reuse?: boolean,
  ): AsyncIterable<MapDump>;
  info(map: MapName): MapInfo;
}

export interface KernelMaps extends KernelReads {
  /** One FFI call, whatever the size. Never rejects for a kernel refusal: that is in the result. */
  apply(writes: readonly MapWrite[]): Promise<ApplyResult>;
  /** Exact counts since creation, for metrics and tests. */
  readonly stats: { ffiCalls: number; mapWrites: number };
}

/** Reading entries by their keys. */
export interface KernelLookups {
  /** For each of the packed keys its value, or null when the map has none. Of maps with one value for all CPUs. One FFI call. */
  lookUp(map: MapName, keys: Uint8Array): Promise<readonly (Uint8Array | null)[]>;
}
