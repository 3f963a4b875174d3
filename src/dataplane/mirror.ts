// SPDX-License-Identifier: Apache-2.0
/**
 * What the kernel's maps are believed to hold, entry by entry: read from dumps once, kept by applying each transaction's
 * writes to it. Nothing here is interpreted; see restore.ts for that.
 */
import { Buffer } from "node:buffer";
import type { MapName } from "../abi/maps.gen.js";
import type { KernelReads, MapDump, MapWrite, OpKind } from "../native/kernel.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { inSlices, type Sliced, type SliceOptions } from "../util/slices.js";
import { AddressTable } from "./address-table.js";
import { LAYOUTS, PREFIX_LAYOUTS, withoutHostBits } from "./keys.js";

export interface FamilyMirror {
  readonly family: Family;
  /** Every cell of `backends`, packed. */
  readonly cells: Buffer;
  readonly slots: Uint32Array;
  /** struct frontend by struct addr_port. */
  readonly frontends: Map<string, string>;
  readonly addresses: AddressTable;
  /** Values by struct source_range and struct network, without host bits. */
  readonly sourceRanges: Map<string, string>;
  readonly serviceNets: Map<string, string>;
  /** max_entries. */
  readonly capacity: Readonly<
    Record<"cells" | "frontends" | "addresses" | "sourceRanges" | "serviceNets", number>
  >;
}

export interface Mirror {
  /** struct service_name by service index. */
  readonly names: Map<number, string>;
  readonly families: Readonly<Record<Family, FamilyMirror>>;
  /** max_entries. */
  readonly capacity: { readonly services: number; readonly counters: number };
}

const PAGE = 4096;

/** Entries handled between two chances to pause. */
const STRIDE = 512;

/** Reads the kernel: 13 FFI calls. */
export async function readMirror(kernel: KernelReads, options: SliceOptions): Promise<Mirror> {
  const names = new Map<number, string>();
  const dump = await kernel.dump("services");
  await inSlices(
    eachEntry(dump, 4, kernel.info("services").valueSize, (key, value) => {
      names.set(Buffer.from(key, "latin1").readUInt32LE(0), value);
    }),
    options,
  );
  const four = await readFamily(kernel, 4, options);
  const six = await readFamily(kernel, 6, options);
  return {
    names,
    families: { 4: four, 6: six },
    capacity: {
      services: kernel.info("services").maxEntries,
      counters: kernel.info("counters").maxEntries,
    },
  };
}

async function readFamily(kernel: KernelReads, family: Family, options: SliceOptions): Promise<FamilyMirror> {
  const keySize = LAYOUTS[family].key;
  const frontends = new Map<string, string>();
  const addresses = new AddressTable(family);
  const cells = await kernel.dump(`backends${family}`);
  const slots = await kernel.dump(`slots${family}`);
  const frontendDump = await kernel.dump(`frontends${family}`);
  const addressDump = await kernel.dump(`addresses${family}`);
  const frontendSize = kernel.info(`frontends${family}`).valueSize;
  await inSlices(
    eachEntry(frontendDump, keySize, frontendSize, (key, value) => frontends.set(key, value)),
    options,
  );
  await inSlices(
    eachEntry(addressDump, keySize, 4, (key, value) => addresses.setClasses(key, u32(value))),
    options,
  );
  const { sourceRange, network } = PREFIX_LAYOUTS[family];
  return {
    family,
    sourceRanges: await readPrefixes(kernel, `source_ranges${family}`, sourceRange, options),
    serviceNets: await readPrefixes(kernel, `service_nets${family}`, network, options),
    cells: withoutZeros(cells.values),
    slots: wordsOf(withoutZeros(slots.values)),
    frontends,
    addresses,
    capacity: {
      cells: kernel.info(`backends${family}`).maxEntries,
      frontends: kernel.info(`frontends${family}`).maxEntries,
      addresses: kernel.info(`addresses${family}`).maxEntries,
      sourceRanges: kernel.info(`source_ranges${family}`).maxEntries,
      serviceNets: kernel.info(`service_nets${family}`).maxEntries,
    },
  };
}

async function readPrefixes(
  kernel: KernelReads,
  map: MapName,
  keySize: number,
  options: SliceOptions,
): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  await inSlices(
    eachEntry(await kernel.dump(map), keySize, kernel.info(map).valueSize, (key, value) =>
      found.set(withoutHostBits(key), value),
    ),
    options,
  );
  return found;
}

/**
 * A copy, of which the zeros at the end take no memory: arrays are as large as they may ever become, and filled from their
 * beginning; of a family that is not used all of it is zeros.
 */
function withoutZeros({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  let used = byteLength;
  const page = Buffer.alloc(PAGE);
  while (used >= PAGE && bytes.compare(page, 0, PAGE, used - PAGE, used) === 0) used -= PAGE;
  const copy = Buffer.alloc(byteLength);
  bytes.copy(copy, 0, 0, used);
  return copy;
}

/** Where the bytes lie as words must they are not copied again. */
function wordsOf({ buffer, byteOffset, byteLength }: Uint8Array): Uint32Array {
  if (byteOffset % 4 === 0) return new Uint32Array(buffer, byteOffset, byteLength / 4);
  return new Uint32Array(buffer.slice(byteOffset, byteOffset + byteLength));
}

function* eachEntry(
  { count, keys, values }: Pick<MapDump, "count" | "keys" | "values">,
  keySize: number,
  valueSize: number,
  visit: (key: string, value: string) => void,
): Sliced<void> {
  const keyBytes = Buffer.from(keys.buffer, keys.byteOffset, keys.byteLength);
  const valueBytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  for (let i = 0; i < count; i += 1) {
    visit(
      keyBytes.toString("latin1", i * keySize, (i + 1) * keySize),
      valueBytes.toString("latin1", i * valueSize, (i + 1) * valueSize),
    );
    if (i % STRIDE === STRIDE - 1) yield;
  }
}

/** The first `entries` of these writes have reached the kernel. */
export function* applyToMirror(mirror: Mirror, writes: readonly MapWrite[], entries: number): Sliced<void> {
  let left = entries;
  for (const write of writes) {
    const count = Math.min(left, write.count);
    left -= count;
    yield* applyRun(mirror, write, count);
  }
}

function* applyRun(mirror: Mirror, write: MapWrite, count: number): Sliced<void> {
  if (count === 0) return;
  const keySize = write.keys.length / write.count;
  const valueSize = write.values.length / write.count;
  const put = writerOf(mirror, write);
  if (put === null) return;
  const keys = Buffer.from(write.keys.buffer, write.keys.byteOffset, write.keys.byteLength);
  const values = Buffer.from(write.values.buffer, write.values.byteOffset, write.values.byteLength);
  for (let i = 0; i < count; i += 1) {
    put(
      { bytes: keys, at: i * keySize, size: keySize },
      { bytes: values, at: i * valueSize, size: valueSize },
    );
    if (i % STRIDE === STRIDE - 1) yield;
  }
}

/** A key or a value where it lies among others: most of them need no text of their own. */
interface Packed {
  readonly bytes: Buffer;
  readonly at: number;
  /** Bytes; 0 for the value of a delete. */
  readonly size: number;
}

type Writer = (key: Packed, value: Packed) => void;

const textOf = ({ bytes, at, size }: Packed): string => bytes.toString("latin1", at, at + size);
const numberOf = ({ bytes, at }: Packed): number => bytes.readUInt32LE(at);

/** Null for maps that are not mirrored: the counters. */
function writerOf(mirror: Mirror, { map, kind }: MapWrite): Writer | null {
  if (map === "services") {
    if (kind === "delete") return (key) => mirror.names.delete(numberOf(key));
    return (key, value) => mirror.names.set(numberOf(key), textOf(value));
  }
  const family = mirror.families[map.endsWith("4") ? 4 : 6];
  const { cells, slots, frontends, addresses, sourceRanges, serviceNets } = family;
  switch (map as MapName) {
    case "frontends4":
    case "frontends6":
      return writerTo(frontends, kind);
    case "source_ranges4":
    case "source_ranges6":
      return writerTo(sourceRanges, kind);
    case "service_nets4":
    case "service_nets6":
      return writerTo(serviceNets, kind);
    case "addresses4":
    case "addresses6":
      if (kind === "delete") return (key) => addresses.setAbsent(textOf(key));
      return (key, value) => addresses.setClasses(textOf(key), numberOf(value));
    case "backends4":
    case "backends6":
      return (key, { bytes, at, size }) => bytes.copy(cells, numberOf(key) * size, at, at + size);
    case "slots4":
    case "slots6":
      return (key, value) => {
        slots[numberOf(key)] = numberOf(value);
      };
    default:
      return null;
  }
}

function writerTo(entries: Map<string, string>, kind: OpKind): Writer {
  if (kind === "delete") return (key) => entries.delete(textOf(key));
  return (key, value) => entries.set(textOf(key), textOf(value));
}

function u32(text: string): number {
  const [a, b, c, d] = [text.charCodeAt(0), text.charCodeAt(1), text.charCodeAt(2), text.charCodeAt(3)];
  return a + b * 2 ** 8 + c * 2 ** 16 + d * 2 ** 24;
}

/** How many entries of each map differ between two mirrors; maps without a difference are left out. */
export function* compareMirrors(believed: Mirror, found: Mirror): Sliced<Map<MapName, number>> {
  const different = new Map<MapName, number>();
  const note = (map: MapName, count: number): void => {
    if (count > 0) different.set(map, count);
  };
  const ofMaps = <K, V>(a: ReadonlyMap<K, V>, b: ReadonlyMap<K, V>): Sliced<number> =>
    differingEntries(a, a.size, (key) => b.get(key), b.size);
  note("services", yield* ofMaps(believed.names, found.names));
  for (const family of FAMILIES) {
    const a = believed.families[family];
    const b = found.families[family];
    note(`frontends${family}`, yield* ofMaps(a.frontends, b.frontends));
    note(`source_ranges${family}`, yield* ofMaps(a.sourceRanges, b.sourceRanges));
    note(`service_nets${family}`, yield* ofMaps(a.serviceNets, b.serviceNets));
    const held = b.addresses;
    note(
      `addresses${family}`,
      yield* differingEntries(
        a.addresses.inKernel(),
        a.addresses.present,
        (key) => held.rawClasses(key),
        held.present,
      ),
    );
    note(`backends${family}`, yield* differingCells(a.cells, b.cells, LAYOUTS[family].cell));
    note(`slots${family}`, yield* differingCells(bytesOfWords(a.slots), bytesOfWords(b.slots), 4));
  }
  return different;
}

function bytesOfWords(words: Uint32Array): Buffer {
  return Buffer.from(words.buffer, words.byteOffset, words.byteLength);
}

/** Entries of a that b has not or has otherwise, and entries that only b has. */
function* differingEntries<K, V>(
  a: Iterable<readonly [K, V]>,
  sizeOfA: number,
  inB: (key: K) => V | undefined,
  sizeOfB: number,
): Sliced<number> {
  let same = 0;
  let inBoth = 0;
  let seen = 0;
  for (const [key, value] of a) {
    const other = inB(key);
    if (other !== undefined) inBoth += 1;
    if (other === value) same += 1;
    seen += 1;
    if (seen % STRIDE === 0) yield;
  }
  return sizeOfA + sizeOfB - inBoth - same;
}

function* differingCells(a: Buffer, b: Buffer, size: number): Sliced<number> {
  let different = 0;
  for (let at = 0; at < a.length; at += size * STRIDE) {
    const end = Math.min(a.length, at + size * STRIDE);
    if (a.compare(b, at, end, at, end) !== 0) {
      for (let cell = at; cell < end; cell += size)
        different += Number(a.compare(b, cell, cell + size, cell, cell + size) !== 0);
    }
    yield;
  }
  return different;
}
