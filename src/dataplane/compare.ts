// SPDX-License-Identifier: Apache-2.0
/**
 * What differs between the kernel's maps and an image, entry by entry: the very writes that a reconciler would make (plan.ts),
 * told as differences. So there is none exactly when a sync with that image would write nothing.
 */
import { viewOf } from "../abi/codec.js";
import { BackendState } from "../abi/enums.gen.js";
import { decodeChoice } from "../abi/hash.js";
import { frontendCodec } from "../abi/layout.gen.js";
import type { MapName } from "../abi/maps.gen.js";
import type { Image } from "../image/types.js";
import type { MapWrite } from "../native/kernel.js";
import { FAMILIES } from "../net/ip.js";
import { formatAddressPort } from "../net/port.js";
import type { Sliced } from "../util/slices.js";
import {
  type EntryFields,
  type EntryMap,
  entryFields,
  entryName,
  type NameOf,
  serviceOf,
  servicePortName,
  valueIn,
} from "./entry-text.js";
import { foundImage } from "./found.js";
import { bytesOf, LAYOUTS } from "./keys.js";
import { applyToMirror, type Mirror } from "./mirror.js";
import { makePlan } from "./plan.js";
import type { Refusal } from "./refusal.js";
import { restore } from "./restore.js";
import type { State } from "./state.js";

/**
 * missing: it should be there. extra: it should not. different: it says something else. leaked: nothing that serves reaches
 * it, so that it only takes room.
 */
export type DifferenceKind = "missing" | "extra" | "different" | "leaked";

export interface Difference {
  readonly kind: DifferenceKind;
  readonly map: EntryMap;
  /** The service port as ServicePortImage.key, "#12" for an index without a name; null: it is the node's. */
  readonly owner: string | null;
  /** entryName(): "10.96.0.10:53/UDP", "cell 12", "10.0.0.0/8". */
  readonly entry: string;
  /** Of what is different the members that differ, else all of them. Null: it is not there. */
  readonly found: EntryFields | null;
  /** Null: it should not be there. */
  readonly wanted: EntryFields | null;
}

/** Entries in use of a map that the agent writes. */
export interface MapUse {
  readonly map: MapName;
  readonly used: number;
  readonly size: number;
}

export interface Comparison {
  /** By owner, map and entry. */
  readonly differences: readonly Difference[];
  /** What the image asks for and the maps have no room for. */
  readonly refused: readonly Refusal[];
  /** Service ports that the image asks for. */
  readonly servicePorts: number;
  /** Entries that the maps hold. */
  readonly entries: number;
  readonly use: readonly MapUse[];
}

const STRIDE = 512;

/**
 * Compares what was read of the kernel with an image; without one with itself: what is in the maps must fit together.
 *
 * @param mirror is used up
 * @param image null: there is nothing to compare with but the maps themselves
 */
export function* compareKernel(mirror: Mirror, image: Image | null): Sliced<Comparison> {
  const state = yield* restore(mirror, { quarantineUntil: 0, floors: null });
  const use = usedIn(state);
  const wanted = image ?? (yield* foundImage(state));
  const before = namesIn(mirror);
  const plan = yield* makePlan(state, wanted, 1, 0);
  const entries = lastWrites(plan.writes);
  entries.push(...(yield* frontendsOfSlots(mirror, plan.writes, entries)));
  const found: (Said | null)[] = [];
  for (const [i, { map, key }] of entries.entries()) {
    found.push(said(mirror, map, key, before));
    if (i % STRIDE === STRIDE - 1) yield;
  }
  const owners = new Owners(state, wanted, before, entries);
  const foundOwners = entries.map((entry) => owners.of(mirror, entry));
  yield* applyToMirror(mirror, plan.writes, plan.size);
  const differences: Difference[] = [];
  for (const [i, { map, key }] of entries.entries()) {
    const owner = foundOwners[i] as string | null;
    const after = said(mirror, map, key, owners.nameOf);
    const difference = differenceOf({ map, key, owner, found: found[i] as Said | null, after });
    if (difference === null) continue;
    const leaks = difference.kind === "extra" && (image === null || owner?.startsWith("#") === true);
    differences.push(leaks ? { ...difference, kind: "leaked" } : difference);
    if (i % STRIDE === STRIDE - 1) yield;
  }
  return {
    differences: differences.sort(byOwner),
    refused: plan.refused,
    servicePorts: wanted.servicePorts.size,
    entries: use.reduce((sum, { used }) => sum + used, 0),
    use,
  };
}

interface Write {
  readonly map: EntryMap;
  readonly key: string;
  /** Of an update. */
  readonly value: string;
}

/** Each entry once, with what it says in the end. Slots are told by the frontends that name them, and counts are none of ours. */
function lastWrites(writes: readonly MapWrite[]): Write[] {
  const last = new Map<string, Write>();
  for (const { map, kind, count, keys, values } of writes) {
    if (!isEntryMap(map)) continue;
    const keySize = keys.length / count;
    const valueSize = values.length / count;
    for (let i = 0; i < count; i += 1) {
      const key = latin1(keys, i * keySize, keySize);
      const value = kind === "update" ? latin1(values, i * valueSize, valueSize) : "";
      last.set(`${map} ${key}`, { map, key, value });
    }
  }
  return [...last.values()];
}

/** Frontends that stay as they are, and name slots that are written: what they offer is another in the end. */
function* frontendsOfSlots(
  mirror: Mirror,
  writes: readonly MapWrite[],
  told: readonly Write[],
): Sliced<Write[]> {
  const found: Write[] = [];
  for (const family of FAMILIES) {
    const map = `frontends${family}` as const;
    const known = new Set(told.filter((write) => write.map === map).map(({ key }) => key));
    const slots = Uint32Array.from(
      writes
        .filter((write) => write.map === `slots${family}`)
        .flatMap(({ count, keys }) => {
          const view = viewOf(keys);
          return Array.from({ length: count }, (_, i) => view.getUint32(4 * i, true));
        }),
    ).sort();
    if (slots.length === 0) continue;
    const named = (word: bigint): boolean => {
      const { base, count } = decodeChoice(word);
      return (slots[firstFrom(slots, base)] ?? Number.POSITIVE_INFINITY) < base + count;
    };
    let seen = 0;
    for (const [key, value] of mirror.families[family].frontends) {
      const { internal, external } = frontendCodec.decode(bytesOf(value));
      if (!known.has(key) && (named(internal) || named(external))) found.push({ map, key, value });
      seen += 1;
      if (seen % STRIDE === 0) yield;
    }
  }
  return found;
}

/** Where the first number of a sorted list is that is not less. */
function firstFrom(sorted: Uint32Array, least: number): number {
  let from = 0;
  let end = sorted.length;
  while (from < end) {
    const middle = (from + end) >> 1;
    if ((sorted[middle] as number) < least) from = middle + 1;
    else end = middle;
  }
  return from;
}

const UNTOLD: ReadonlySet<MapName> = new Set<MapName>([
  "slots4",
  "slots6",
  "backend_stats4",
  "backend_stats6",
]);

const isEntryMap = (map: MapName): map is EntryMap => !UNTOLD.has(map);

function latin1(bytes: Uint8Array, at: number, size: number): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset + at, size).toString("latin1");
}

/** What the maps call the indexes now. */
function namesIn(mirror: Mirror): NameOf {
  const known = new Map<number, string>();
  for (const [index, name] of mirror.names) known.set(index, servicePortName(name));
  return (index) => known.get(index) ?? `#${index}`;
}

/** Whose an entry is: by the service index in it, or, of an address, by the service port that has it. */
class Owners {
  readonly nameOf: NameOf;
  readonly #before: NameOf;
  readonly #byAddress: ReadonlyMap<string, string>;

  constructor(state: State, wanted: Image, before: NameOf, entries: readonly Write[]) {
    const planned = new Map<number, string>();
    for (const [key, { index }] of state.byKey) planned.set(index, key);
    this.#before = before;
    this.nameOf = (index) => planned.get(index) ?? before(index);
    this.#byAddress = ownersOfAddresses(wanted, entries);
  }

  /** `mirror`: before the writes. */
  of(mirror: Mirror, { map, key, value }: Write): string | null {
    if (map === "addresses4" || map === "addresses6") return this.#byAddress.get(entryName(map, key)) ?? null;
    // What is written over belongs to whom it is written for.
    if (isAnybodys(map, value)) {
      const index = serviceOf(map, key, value);
      return index === null ? null : this.nameOf(index);
    }
    const held = valueIn(mirror, map, key);
    const index = held === null ? null : serviceOf(map, key, held);
    return index === null ? null : this.#before(index);
  }
}

/** A cell that is let go keeps the index of whom it belonged to. */
function isAnybodys(map: EntryMap, value: string): boolean {
  if (value === "") return false;
  if (map !== "backends4" && map !== "backends6") return true;
  return value.charCodeAt(LAYOUTS[map === "backends4" ? 4 : 6].state) !== BackendState.BACKEND_FREE;
}

/** For the addresses that are to be written only: there may be a million others. */
function ownersOfAddresses({ servicePorts }: Image, entries: readonly Write[]): ReadonlyMap<string, string> {
  const owners = new Map<string, string>();
  const asked = new Set<string>();
  for (const { map, key } of entries)
    if (map === "addresses4" || map === "addresses6") asked.add(entryName(map, key));
  if (asked.size === 0) return owners;
  const note = (text: string, owner: string): void => {
    if (asked.has(text) && !owners.has(text)) owners.set(text, owner);
  };
  for (const { key, protocol, frontends, backends } of servicePorts.values()) {
    for (const { address } of frontends) note(address.text, key);
    for (const { address, port } of backends) {
      note(address.text, key);
      note(`${formatAddressPort(address, port)}/${protocol}`, key);
    }
  }
  return owners;
}

/** What an entry says, and its bytes. */
interface Said {
  readonly fields: EntryFields;
  readonly value: string;
}

function said(mirror: Mirror, map: EntryMap, key: string, nameOf: NameOf): Said | null {
  const value = valueIn(mirror, map, key);
  return value === null ? null : { fields: entryFields(mirror, map, key, value, nameOf), value };
}

interface Pair {
  readonly map: EntryMap;
  readonly key: string;
  readonly owner: string | null;
  readonly found: Said | null;
  readonly after: Said | null;
}

/** Members that say where something lies, not what it is: told only when nothing else differs. */
const PLACES: readonly string[] = ["slots", "generation"];

/** Null: the same in the end. */
function differenceOf({ map, key, owner, found, after }: Pair): Difference | null {
  const entry = entryName(map, key);
  if (found === null)
    return after && { kind: "missing", map, owner, entry, found: null, wanted: whole(after, owner) };
  if (after === null) return { kind: "extra", map, owner, entry, found: whole(found, owner), wanted: null };
  const names = Object.keys({ ...found.fields, ...after.fields });
  const differing = names.filter((name) => found.fields[name] !== after.fields[name]);
  if (differing.length === 0 && found.value === after.value) return null;
  const telling = differing.filter((name) => !PLACES.includes(name));
  const some = ({ fields, value }: Said): EntryFields => {
    // Bytes that nobody reads: they tell who writes here all the same.
    if (differing.length === 0) return { bytes: bytesOf(value).toString("hex") };
    const told = telling.length > 0 ? telling : differing;
    return Object.fromEntries(told.map((name) => [name, fields[name] ?? ""]));
  };
  return { kind: "different", map, owner, entry, found: some(found), wanted: some(after) };
}

function whole({ fields }: Said, owner: string | null): EntryFields {
  const told = ([name, value]: readonly [string, string]): boolean =>
    !PLACES.includes(name) && !(name === "service" && value === owner);
  return Object.fromEntries(Object.entries(fields).filter(told));
}

const collator = new Intl.Collator("en", { numeric: true });

function byOwner(a: Difference, b: Difference): number {
  return (
    Number(a.owner === null) - Number(b.owner === null) ||
    collator.compare(a.owner ?? "", b.owner ?? "") ||
    collator.compare(a.map, b.map) ||
    collator.compare(a.entry, b.entry)
  );
}

/** Entries in use; of cells those that are not free, of slots those that a frontend's word names. */
function usedIn({ mirror, families, ports, strays }: State): MapUse[] {
  const use: MapUse[] = [{ map: "services", used: mirror.names.size, size: mirror.capacity.services }];
  for (const family of FAMILIES) {
    const { frontends, addresses, sourceRanges, serviceNets, capacity } = mirror.families[family];
    let cells = 0;
    let slots = 0;
    for (const group of [ports.values(), strays]) {
      for (const port of group) {
        const held = port.families[family];
        cells += (held?.cells.length ?? 0) + (held?.spareCells.length ?? 0);
        for (const ranges of [held?.ranges ?? [], held?.spareRanges ?? []])
          for (const { count } of ranges) slots += count;
      }
    }
    for (const { count } of families[family].broken.ranges) slots += count;
    use.push(
      { map: `frontends${family}`, used: frontends.size, size: capacity.frontends },
      { map: `slots${family}`, used: slots, size: mirror.families[family].slots.length },
      { map: `backends${family}`, used: cells, size: capacity.cells },
      { map: `addresses${family}`, used: addresses.present, size: capacity.addresses },
      { map: `source_ranges${family}`, used: sourceRanges.size, size: capacity.sourceRanges },
      { map: `service_nets${family}`, used: serviceNets.size, size: capacity.serviceNets },
    );
  }
  return use;
}
