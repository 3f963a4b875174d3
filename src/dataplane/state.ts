// SPDX-License-Identifier: Apache-2.0
/** What the kernel's contents mean: which service port owns which index, cells, slots and frontends, and what is free. */
import type { IndexAllocator } from "../diff/index-allocator.js";
import type { RangeAllocator, SlotRange } from "../diff/range-allocator.js";
import type { Image, ServicePortImage } from "../image/types.js";
import type { Family } from "../net/ip.js";
import { cellKey } from "./keys.js";
import type { FamilyMirror, Mirror } from "./mirror.js";

/**
 * What one service port has in one family's maps. Filled by restore.ts; later replaced as a whole, not changed. There is one for
 * each service port of the cluster: what the mirror has, such as the addresses of cells, is not held twice.
 */
export interface FamilyPort {
  /** IPPROTO_*, which goes with the addresses and ports of its cells. */
  readonly protocol: number;
  /** Its cells that are not free, each of another backend: see cellKeys(). */
  readonly cells: readonly number[];
  /** Further such cells that carry its index: let go when the port is next written. */
  readonly spareCells: readonly number[];
  /** Keys of its frontends, each with the classes that it gives to its address: see frontendClasses(). */
  readonly frontends: ReadonlyMap<string, number>;
  /** One slot range for each set of cells that its frontends offer: see rangeText(). */
  readonly ranges: readonly SlotRange[];
  /** Further ranges that its frontends name: let go when the port is next written. */
  readonly spareRanges: readonly SlotRange[];
  /** Its keys of `source_ranges`. */
  readonly sourceRanges: ReadonlySet<string>;
}

export interface PortState {
  readonly index: number;
  /** Its key in State.ports; null for a stray. */
  name: string | null;
  /** What is in the kernel is what this image asks for; null when that is not known. */
  image: ServicePortImage | null;
  /** Number of the last sync that wanted this port. */
  wantedBy: number;
  /** Null: nothing in that family. */
  readonly families: Record<Family, FamilyPort | null>;
}

export interface FamilyState {
  readonly mirror: FamilyMirror;
  readonly cells: IndexAllocator;
  readonly slots: RangeAllocator;
  /** By cell: of a live cell its generation, of a free one the generation it will get. */
  readonly generations: Uint32Array;
  /** Which port each frontend in the kernel belongs to. */
  readonly owners: Map<string, PortState>;
  /** Keys of the addresses on which NodePorts are served, as far as there is room for them. */
  readonly nodes: Set<string>;
  /** What frontends that make no sense name: kept from reuse until the last of them has been replaced or deleted. */
  readonly broken: {
    readonly frontends: Set<string>;
    cells: readonly number[];
    ranges: readonly SlotRange[];
  };
}

export interface State {
  readonly mirror: Mirror;
  readonly indexes: IndexAllocator;
  readonly families: Readonly<Record<Family, FamilyState>>;
  /** By nameText(). */
  readonly ports: Map<string, PortState>;
  /** By ServicePortImage.key; only ports that an image has named. */
  readonly byKey: Map<string, PortState>;
  /** What the ports are as of now: the service ports of the last image, when all of it could be planned; null otherwise. */
  synced: Image["servicePorts"] | null;
  /** Ports of an index without a name, or with a name that another index has, too. */
  readonly strays: Set<PortState>;
  /** What FamilyState.nodes was made from, when all of it had room; null otherwise. */
  nodePortAddresses: Image["nodePortAddresses"] | null;
}

/** What most ports have no entries of. */
export const NO_CELLS: readonly number[] = Object.freeze([]);
export const NO_SLOT_RANGES: readonly SlotRange[] = Object.freeze([]);
export const NO_SOURCE_RANGES: ReadonlySet<string> = new Set();

export function emptyPort(index: number): PortState {
  return { index, name: null, image: null, wantedBy: 0, families: { 4: null, 6: null } };
}

/** The struct addr_port of each cell's backend. */
export function* cellKeys(
  { family, cells: bytes }: FamilyMirror,
  cells: readonly number[],
  protocol: number,
): Generator<[key: string, cell: number], void, void> {
  for (const cell of cells) yield [cellKey(family, bytes, cell, protocol), cell];
}

/** The set of cells in a range, as setText() has it. */
export function rangeText({ slots }: FamilyMirror, { base, count }: SlotRange): string {
  return setText(Array.from(slots.subarray(base, base + count)));
}

/** Identity of a set of cells, whatever their order. */
export function setText(cells: readonly number[]): string {
  return cells.length === 1 ? String(cells[0]) : Uint32Array.from(cells).sort().join();
}
