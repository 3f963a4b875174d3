// SPDX-License-Identifier: Apache-2.0
/**
 * What the kernel's maps are believed to hold, entry by entry: read from dumps once, kept by applying each transaction's
 * writes to it. Nothing here is interpreted; see restore.ts for that.
 */
import { Buffer } from "node:buffer";
import { wordsOf } from "../abi/codec.js";
import type { MapName } from "../abi/maps.gen.js";
import type { KernelReads, MapDump, MapWrite } from "../native/kernel.js";
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

/** Reads the kernel: 13 FFI calls, one less for each family that was never used. */
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
  const cells = withoutZeros((await kernel.dump(`backends${family}`)).values);
  // A slot is written after the cell that it names, and no cell is all zeros again: without cells there are no slots.
  const slots =
    endOfUse(cells) === 0
      ? new Uint32Array(kernel.info(`slots${family}`).maxEntries)
      : wordsOf(withoutZeros((await kernel.dump(`slots${family}`)).values));
  const frontendDump = await kernel.dump(`frontends${family}`);
  const addressDump = await kernel.dump(`addresses${family}`);
  const frontendSize = kernel.info(`frontends${family}`).valueSize;
  await inSlices(
    eachEntry(frontendDump, keySize, frontendSize, (key, value) => frontends.set(key, value)),
    options,
  );
  await inSlices(readAddresses(addresses, addressDump, keySize / 4), options);
  const { sourceRange, network } = PREFIX_LAYOUTS[family];
  return {
    family,
    sourceRanges: await readPrefixes(kernel, `source_ranges${family}`, sourceRange, options),
    serviceNets: await readPrefixes(kernel, `service_nets${family}`, network, options),
    cells,
    slots,
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

function* readAddresses(addresses: AddressTable, dump: MapDump, keyWords: number): Sliced<void> {
  const [keys, values] = [wordsOf(dump.keys), wordsOf(dump.values)];
  for (let i = 0; i < dump.count; i += 1) {
    addresses.setClasses(keys, i * keyWords, values[i] as number);
    if (i % STRIDE === STRIDE - 1) yield;
  }
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
function withoutZeros(bytes: Uint8Array): Buffer {
  const copy = Buffer.alloc(bytes.byteLength);
  copy.set(bytes.subarray(0, endOfUse(bytes)));
  return copy;
}

/** Bytes up to a page at the end that is zeros from there on: what is behind needs no look. */
export function endOfUse({ buffer, byteOffset, byteLength }: Uint8Array): number {
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  const page = Buffer.alloc(PAGE);
  let used = byteLength;
  while (used >= PAGE && bytes.compare(page, 0, PAGE, used - PAGE, used) === 0) used -= PAGE;
  return used;
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
  const put = writerOf(mirror, write);
  if (put === null) return;
  for (let i = 0; i < count; i += 1) {
    put(i);
    if (i % STRIDE === STRIDE - 1) yield;
  }
}

/** Puts the write's entry of this number into the mirror. */
type Writer = (entry: number) => void;

/** Null for maps that are not mirrored: the counters. */
function writerOf(mirror: Mirror, write: MapWrite): Writer | null {
  const { map, kind } = write;
  const keys = wordsOf(write.keys);
  const values = wordsOf(write.values);
  const keyWords = keys.length / write.count;
  if (map === "services") {
    const texts = textsOf(write.values, write.count);
    if (kind === "delete") return (i) => mirror.names.delete(keys[i] as number);
    return (i) => mirror.names.set(keys[i] as number, texts(i));
  }
  const family = mirror.families[map.endsWith("4") ? 4 : 6];
  const { cells, slots, frontends, addresses, sourceRanges, serviceNets } = family;
  switch (map as MapName) {
    case "frontends4":
    case "frontends6":
      return writerTo(frontends, write);
    case "source_ranges4":
    case "source_ranges6":
      return writerTo(sourceRanges, write);
    case "service_nets4":
    case "service_nets6":
      return writerTo(serviceNets, write);
    case "addresses4":
    case "addresses6":
      if (kind === "delete") return (i) => addresses.setAbsent(keys, i * keyWords);
      return (i) => addresses.setClasses(keys, i * keyWords, values[i] as number);
    case "backends4":
    case "backends6":
      return cellWriter(cells, keys, values);
    case "slots4":
    case "slots6":
      return (i) => {
        slots[keys[i] as number] = values[i] as number;
      };
    default:
      return null;
  }
}

function cellWriter(cells: Buffer, keys: Uint32Array, values: Uint32Array): Writer {
  const held = wordsOf(cells);
  const size = values.length / keys.length;
  return (i) => {
    const at = (keys[i] as number) * size;
    for (let word = 0; word < size; word += 1) held[at + word] = values[i * size + word] as number;
  };
}

function writerTo(entries: Map<string, string>, { kind, count, keys, values }: MapWrite): Writer {
  const [keyText, valueText] = [textsOf(keys, count), textsOf(values, count)];
  if (kind === "delete") return (i) => entries.delete(keyText(i));
  return (i) => entries.set(keyText(i), valueText(i));
}

/** The text of each of `count` keys or values that lie one behind the other. */
function textsOf({ buffer, byteOffset, byteLength }: Uint8Array, count: number): (i: number) => string {
  const bytes = Buffer.from(buffer, byteOffset, byteLength);
  const size = byteLength / count;
  return (i) => bytes.toString("latin1", i * size, (i + 1) * size);
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

export function bytesOfWords(words: Uint32Array): Buffer {
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
