// SPDX-License-Identifier: Apache-2.0
/**
 * What `portolan maps dump --all -o json` prints, to be read back: JSON lines.
 *
 *   the first   MapsDumpHead: as meta.json of an archive, with another `format` and what --limit was
 *   then        an entry a line, {"map", "key", "value"}; cells of arrays that hold nothing are left out
 *   the last    MapsDumpEnd: how many entries of each map there are. Without it the dump is not whole
 */
import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { MAPS, type MapName } from "../../abi/maps.gen.js";
import { isArrayMap } from "../../native/kernel.js";
import { AppError, errorMessage, UserError } from "../../util/errors.js";
import { encoderOf } from "../commands/maps/encode.js";
import type { OpenMaps } from "../open-maps.js";
import {
  type ArchiveEnd,
  damaged,
  type Form,
  type Head,
  type Meta,
  type Part,
  readEnd,
  readHead,
} from "./format.js";
import { ArchiveMaps } from "./read.js";

export const MAPS_DUMP = "portolan-maps-dump";

const FORM: Form = {
  format: MAPS_DUMP,
  version: 1,
  noun: "dump",
  command: "portolan maps dump --all -o json > FILE",
  head: "its first line",
  end: "its last line",
};

export interface MapsDumpHead extends Head {
  /** At most so many entries of each map; null: all of them. */
  readonly limit: number | null;
}

export interface MapsDumpEnd extends ArchiveEnd {
  readonly end: typeof MAPS_DUMP;
}

export function mapsDumpHead(meta: Meta, limit: number | null): MapsDumpHead {
  const { noMaps: _, ...head } = meta;
  return { ...head, format: MAPS_DUMP, version: FORM.version, limit };
}

/**
 * Opens a dump in the place of a kernel. Its entries are in memory, as the kernel packs them.
 *
 * @throws AppError E_ARCHIVE or E_OTHER_LAYOUT; UserError for a dump that --limit has cut short
 */
export async function openMapsDump(file: string): Promise<OpenMaps> {
  const { head, parts } = await readMapsDump(file);
  const now = BigInt(head.monotonicNs);
  const { limit: _, ...meta } = head;
  return {
    maps: new ArchiveMaps(file, head.maps, parts),
    source: file,
    nowNs: () => now,
    interfaces: () => [],
    attachments: async () => [],
    xdp: async () => [],
    forwarding: async () => null,
    problems: async () => ({ problems: [], problemsFrom: null }),
    meta: async () => ({ ...meta, format: "portolan-dump", noMaps: null }),
  };
}

interface Read {
  readonly head: MapsDumpHead;
  readonly parts: ReadonlyMap<MapName, readonly Part[]>;
}

async function readMapsDump(file: string): Promise<Read> {
  const reader = new Reader(file);
  const lines = createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY });
  try {
    for await (const line of lines) reader.line(line);
  } catch (error) {
    if (error instanceof AppError) throw error;
    throw damaged(file, errorMessage(error), error, FORM);
  } finally {
    lines.close();
  }
  return reader.end();
}

/** Takes a dump line by line. */
class Reader {
  readonly #file: string;
  readonly #maps = new Map<MapName, Packed>();
  #head: MapsDumpHead | null = null;
  #end: ArchiveEnd | null = null;
  #number = 0;

  constructor(file: string) {
    this.#file = file;
  }

  line(text: string): void {
    this.#number += 1;
    const value = this.#parse(text);
    if (this.#head === null) this.#begin(value);
    else if (this.#end !== null) throw this.#wrong("it goes on behind its end");
    else if (value.end === MAPS_DUMP) this.#end = readEnd(value, this.#file, FORM);
    else this.#entry(value);
  }

  end(): Read {
    if (this.#head === null) throw damaged(this.#file, "it is empty", undefined, FORM);
    if (this.#end === null) throw damaged(this.#file, "its end is missing", undefined, FORM);
    const { entries } = this.#end;
    for (const [name, { count }] of this.#maps)
      if ((entries[name] ?? 0) !== count)
        throw damaged(this.#file, `entries of map ${name} are missing`, undefined, FORM);
    const parts = Array.from(this.#maps, ([name, packed]) => [name, packed.parts()] as const);
    return { head: this.#head, parts: new Map(parts) };
  }

  #begin(value: Readonly<Record<string, unknown>>): void {
    const head = readHead(value, this.#file, FORM) as MapsDumpHead;
    if (typeof head.limit === "number")
      throw new UserError(`${this.#file} has at most ${head.limit} entries of each map: --limit was given`, {
        hint: `Make one with all of them: ${FORM.command}.`,
      });
    for (const { name, maxEntries } of head.maps)
      if (Object.hasOwn(MAPS, name)) this.#maps.set(name, new Packed(name, maxEntries));
    this.#head = head;
  }

  #entry({ map, key, value }: Readonly<Record<string, unknown>>): void {
    const packed = this.#maps.get(map as MapName);
    if (packed === undefined) throw this.#wrong(`there is no map ${JSON.stringify(map ?? null)} in its head`);
    try {
      packed.add(key, value);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      throw this.#wrong(error.message, error);
    }
  }

  #parse(text: string): Readonly<Record<string, unknown>> {
    let value: unknown;
    try {
      value = JSON.parse(text);
    } catch (error) {
      throw this.#wrong("it is no JSON", error);
    }
    if (typeof value === "object" && value !== null && !Array.isArray(value))
      return value as Readonly<Record<string, unknown>>;
    throw this.#wrong("it is no object");
  }

  #wrong(what: string, cause?: unknown): Error {
    return damaged(this.#file, `line ${this.#number}: ${what}`, cause, FORM);
  }
}

const FIRST_BYTES = 4096;

/** The entries of one map, packed as the kernel's dumps are. */
class Packed {
  /** Entries that were added. */
  count = 0;
  readonly #isArray: boolean;
  readonly #sizes: { readonly key: number; readonly value: number; readonly cells: number };
  readonly #key: (value: unknown) => Uint8Array;
  readonly #value: (value: unknown) => Uint8Array;
  #keys: Uint8Array = new Uint8Array(FIRST_BYTES);
  #values: Uint8Array = new Uint8Array(FIRST_BYTES);
  /** Bytes of values that are in use. */
  #used = 0;

  constructor(map: MapName, maxEntries: number) {
    const { key, value, keySize, valueSize } = MAPS[map];
    this.#isArray = isArrayMap(map);
    this.#sizes = { key: keySize, value: valueSize, cells: maxEntries };
    [this.#key, this.#value] = [encoderOf(key), encoderOf(value)];
  }

  /** @throws RangeError for what is no key or value of this map */
  add(key: unknown, value: unknown): void {
    const { key: keySize, value: valueSize, cells } = this.#sizes;
    const [keyBytes, valueBytes] = [this.#key(key), this.#value(value)];
    const index = this.#isArray ? (key as number) : this.count;
    if (index >= cells) throw new RangeError(`there are no more than ${cells} entries`);
    this.#values = withRoom(this.#values, (index + 1) * valueSize);
    this.#values.set(valueBytes, index * valueSize);
    this.#used = Math.max(this.#used, (index + 1) * valueSize);
    if (!this.#isArray) {
      this.#keys = withRoom(this.#keys, (index + 1) * keySize);
      this.#keys.set(keyBytes, index * keySize);
    }
    this.count += 1;
  }

  parts(): readonly Part[] {
    const { key, value } = this.#sizes;
    if (this.#used === 0) return [];
    const count = this.#used / value;
    const keys = this.#isArray ? new Uint8Array(0) : this.#keys.subarray(0, count * key);
    return [{ first: 0, count, keys, values: this.#values.subarray(0, this.#used) }];
  }
}

/** The same bytes, with room for at least so many. */
function withRoom(bytes: Uint8Array, wanted: number): Uint8Array {
  if (wanted <= bytes.length) return bytes;
  const larger = new Uint8Array(Math.max(wanted, 2 * bytes.length));
  larger.set(bytes);
  return larger;
}
