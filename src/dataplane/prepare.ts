// SPDX-License-Identifier: Apache-2.0
/**
 * What one service port needs in one family, compared with what it has. Preparing takes cells, ranges and table entries
 * from the allocators, so that the next port sees what is left, and writes nothing; undo() gives all of it back.
 */
import { choiceTagOf, encodeChoice, encodeEmptyChoice, MAX_CHOICE_COUNT } from "../abi/hash.js";
import type { SlotRange } from "../diff/range-allocator.js";
import type { BackendImage, ChoiceImage, ServicePortImage } from "../image/types.js";
import type { Family } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import { frozenList } from "../util/frozen-list.js";
import type { Sliced } from "../util/slices.js";
import {
  addrPortText,
  addrPortWords,
  backendFlags,
  backendState,
  frontendClasses,
  frontendFlags,
  frontendText,
  keyWords,
  LAYOUTS,
  sourceRangeText,
} from "./keys.js";
import { mapFull, type Refusal, tooManyBackends } from "./refusal.js";
import {
  cellKeys,
  type FamilyPort,
  type FamilyState,
  NO_CELLS,
  NO_SLOT_RANGES,
  NO_SOURCE_RANGES,
  rangeText,
  setText,
} from "./state.js";

export interface NewCell {
  readonly cell: number;
  readonly backend: BackendImage;
}

/** State and flags of a cell that keeps its backend and generation: what it gains comes first, what it loses last. */
export interface CellChange {
  readonly cell: number;
  readonly held: CellStanding;
  readonly wanted: CellStanding;
}

export interface CellStanding {
  /** enum ptl_backend_state. */
  readonly state: number;
  /** enum ptl_backend_flag. */
  readonly flags: number;
}

export interface NewRange extends SlotRange {
  readonly cells: readonly number[];
}

/**
 * One family's share of a port that will be written. Of a first sync there is one for each service port, all at the same time: it
 * has what is needed to write it or to undo it, and no more.
 */
export interface PreparedFamily {
  readonly state: FamilyState;
  /** IPPROTO_*. */
  readonly protocol: number;
  readonly before: FamilyPort | null;
  /** Null: nothing in this family. */
  readonly after: FamilyPort | null;
  readonly newCells: readonly NewCell[];
  readonly changedCells: readonly CellChange[];
  readonly newRanges: readonly NewRange[];
  /** Every frontend with the value it must have. */
  readonly frontends: ReadonlyMap<string, string>;
  /** Those of them that the map does not hold yet. */
  readonly addedFrontends: number;
  /** The same of `source_ranges`: FamilyPort.sourceRanges has all of them. */
  readonly addedSourceRanges: number;
  /** Keys of frontends, and the classes that were added to the address of each. */
  readonly newVips: readonly NewVip[];
}

type NewVip = readonly [key: string, classes: number];

type Taken = Pick<PreparedFamily, "state" | "protocol" | "newCells" | "newRanges" | "newVips">;

/** Gives back all that was taken. */
export function undoFamily({ state, protocol, newCells, newRanges, newVips }: Taken): void {
  const { cells, slots, mirror } = state;
  for (const range of newRanges) slots.giveBack(range);
  for (const [key, classes] of newVips) mirror.addresses.addVip(key, classes, -1);
  for (const { cell, backend } of newCells) {
    cells.giveBack(cell);
    mirror.addresses.addBackend(addrPortWords(backend.address, backend.port, protocol), -1);
  }
}

const STRIDE = 128;
const FEW = 16;
const NOTHING: ReadonlyMap<string, never> = new Map<string, never>();
/** Nothing is ever put into it. */
const NO_NUMBERS: Map<string, number> = new Map();

/** Entries that the maps which are written in place can still take. */
export interface Room {
  readonly frontends: number;
  readonly sourceRanges: number;
}

export function* prepareFamily(
  state: FamilyState,
  before: FamilyPort | null,
  index: number,
  image: ServicePortImage,
  room: Room,
): Sliced<PreparedFamily | Refusal> {
  const draft = new Draft(state, before, index, image);
  if (image.backends.length < STRIDE) draft.takeCells(0, image.backends.length);
  else yield* takeManyCells(draft, image.backends.length);
  const refusal =
    draft.missingCells() ??
    draft.takeFrontends(room.frontends) ??
    draft.takeSourceRanges(room.sourceRanges) ??
    draft.checkAddresses();
  if (refusal) {
    undoFamily(draft.taken);
    return refusal;
  }
  return draft.result();
}

function* takeManyCells(draft: Draft, count: number): Sliced<void> {
  for (let from = 0; from < count; from += STRIDE) {
    draft.takeCells(from, Math.min(count, from + STRIDE));
    yield;
  }
}

/** Does the image ask for nothing in this family? */
export function isAbsentIn(family: Family, { backends, frontends, sourceRanges }: ServicePortImage): boolean {
  for (const { address } of frontends) if (address.family === family) return false;
  for (const { address } of backends) if (address.family === family) return false;
  for (const range of sourceRanges) if (range.family === family) return false;
  return true;
}

export function isRefusal(result: PreparedFamily | Refusal): result is Refusal {
  return "code" in result;
}

/** A set by the list of backends that it was made from: internal and external are mostly the same list. */
interface CellSet {
  readonly backends: readonly number[];
  readonly cells: readonly number[];
  /** setText(), when it was asked for. */
  text: string | null;
  range: SlotRange | null;
}

function textOf(set: CellSet): string {
  set.text ??= setText(set.cells);
  return set.text;
}

class Draft {
  readonly #state: FamilyState;
  readonly #before: FamilyPort | null;
  readonly #index: number;
  readonly #image: ServicePortImage;
  readonly #protocol: number;
  readonly #missingBefore: number;
  /** Of the port as it was: its cells by key, and its ranges by rangeText(). */
  readonly #cellsBefore: ReadonlyMap<string, number>;
  readonly #rangesBefore: ReadonlyMap<string, SlotRange>;
  /** Each once. */
  readonly #cells: number[] = [];
  /** Unless they are few, and new. */
  readonly #cellByKey: Map<string, number>;
  /** Backends for which there was none. */
  #short = 0;
  /** By index of the image's backends; only those of this family. */
  readonly #cellOf: number[] = [];
  readonly #newCells: NewCell[] = [];
  readonly #changedCells: CellChange[] = [];
  /** Each once. */
  readonly #ranges: SlotRange[] = [];
  readonly #newRanges: NewRange[] = [];
  readonly #frontends: Map<string, string> = new Map();
  readonly #sets: CellSet[] = [];
  /** By key of a frontend: the classes that it gives to its address. */
  readonly #classes: Map<string, number> = new Map();
  readonly #newVips: NewVip[] = [];
  #sourceRanges: ReadonlySet<string> = NO_SOURCE_RANGES;
  #addedFrontends = 0;
  #addedSourceRanges = 0;

  constructor(state: FamilyState, before: FamilyPort | null, index: number, image: ServicePortImage) {
    this.#state = state;
    this.#before = before;
    this.#index = index;
    this.#image = image;
    this.#protocol = protocolNumber(image.protocol);
    const { mirror } = state;
    this.#missingBefore = mirror.addresses.missing;
    this.#cellByKey = before === null && image.backends.length <= FEW ? NO_NUMBERS : new Map();
    this.#cellsBefore = before === null ? NOTHING : new Map(cellKeys(mirror, before.cells, before.protocol));
    this.#rangesBefore =
      before === null ? NOTHING : new Map(before.ranges.map((range) => [rangeText(mirror, range), range]));
  }

  /**
   * Of the backends from `from` to `end`. One that is there keeps its cell (9.6, 9.7), chosen or not. Of a new port with few
   * backends, comparing each with each costs less than texts of their keys and a Map of them.
   */
  takeCells(from: number, end: number): void {
    const { backends } = this.#image;
    const { family } = this.#state.mirror;
    const few = this.#before === null && backends.length <= FEW;
    for (let i = from; i < end; i += 1) {
      const backend = backends[i] as BackendImage;
      const { address, port } = backend;
      if (address.family !== family) continue;
      const key = few ? "" : addrPortText(address, port, this.#protocol);
      const twin = few ? this.#twinOf(i) : this.#cellByKey.get(key);
      const cell = twin ?? this.#kept(key, backend) ?? this.#newCell(backend);
      if (cell === null) {
        this.#short += 1;
        continue;
      }
      if (twin === undefined) this.#cells.push(cell);
      if (!few) this.#cellByKey.set(key, cell);
      this.#cellOf[i] = cell;
    }
  }

  /** The cell of an earlier backend with the same address and port. */
  #twinOf(i: number): number | undefined {
    const { backends } = this.#image;
    const { address, port } = backends[i] as BackendImage;
    for (let other = 0; other < i; other += 1) {
      const earlier = backends[other] as BackendImage;
      if (earlier.port === port && earlier.address.text === address.text) return this.#cellOf[other];
    }
    return undefined;
  }

  /** There is no cell for some of the backends. */
  missingCells(): Refusal | null {
    if (this.#short === 0) return null;
    const taken = this.#newCells.length;
    const waiting = this.#state.cells.quarantined > 0;
    const map = `backends${this.#state.mirror.family}` as const;
    return mapFull(this.#image.key, map, taken + this.#short, taken, waiting);
  }

  /** The same backend keeps cell and generation whatever becomes of its state and flags. */
  #kept(key: string, backend: BackendImage): number | null {
    const cell = this.#cellsBefore.get(key);
    if (cell === undefined) return null;
    const { family, cells } = this.#state.mirror;
    const layout = LAYOUTS[family];
    const at = cell * layout.cell;
    const held = { state: cells[at + layout.state] as number, flags: cells[at + layout.flags] as number };
    const wanted = { state: backendState(backend), flags: backendFlags(backend) };
    if (held.state !== wanted.state || held.flags !== wanted.flags)
      this.#changedCells.push({ cell, held, wanted });
    return cell;
  }

  #newCell(backend: BackendImage): number | null {
    const { cells, mirror } = this.#state;
    const cell = cells.allocate();
    if (cell === null) return null;
    this.#newCells.push({ cell, backend });
    mirror.addresses.addBackend(addrPortWords(backend.address, backend.port, this.#protocol), 1);
    return cell;
  }

  takeFrontends(room: number): Refusal | null {
    const { mirror } = this.#state;
    for (const frontend of this.#image.frontends) {
      if (frontend.address.family !== mirror.family) continue;
      const key = addrPortText(frontend.address, frontend.port, this.#protocol);
      if (this.#frontends.has(key)) continue;
      const tag = choiceTagOf(keyWords(mirror.family, key));
      const internal = this.#word(frontend.internal, tag);
      const external =
        frontend.external === frontend.internal ? internal : this.#word(frontend.external, tag);
      if (typeof internal !== "bigint") return internal;
      if (typeof external !== "bigint") return external;
      const flags = frontendFlags(frontend);
      const { affinitySeconds } = this.#image;
      this.#frontends.set(key, frontendText(internal, external, this.#index, affinitySeconds, flags));
      if (!mirror.frontends.has(key)) this.#addedFrontends += 1;
      this.#addVip(key, frontendClasses(mirror.family, key, flags));
    }
    const added = this.#addedFrontends;
    return added <= room ? null : mapFull(this.#image.key, `frontends${mirror.family}`, added, room, false);
  }

  #addVip(key: string, classes: number): void {
    const { addresses } = this.#state.mirror;
    this.#classes.set(key, classes);
    if (this.#before?.frontends.get(key) === classes) return;
    addresses.addVip(key, classes, 1);
    this.#newVips.push([key, classes]);
  }

  /** Ranges are taken as the image has them: whether a frontend asks for them is the frontend's business. */
  takeSourceRanges(room: number): Refusal | null {
    const { family, sourceRanges } = this.#state.mirror;
    if (this.#image.sourceRanges.length === 0) return null;
    const keys = new Set<string>();
    this.#sourceRanges = keys;
    for (const range of this.#image.sourceRanges) {
      if (range.family !== family) continue;
      const key = sourceRangeText(this.#index, range);
      if (!keys.has(key) && !sourceRanges.has(key)) this.#addedSourceRanges += 1;
      keys.add(key);
    }
    const added = this.#addedSourceRanges;
    return added <= room ? null : mapFull(this.#image.key, `source_ranges${family}`, added, room, false);
  }

  /** The word for a choice; equal sets of one port share one range. */
  #word({ backends, whenEmpty }: ChoiceImage, tag: number): bigint | Refusal {
    if (backends.length === 0) return encodeEmptyChoice(tag, whenEmpty);
    const set = this.#setOf(backends);
    const { cells } = set;
    if (cells.length > MAX_CHOICE_COUNT) return tooManyBackends(this.#image.key, cells.length);
    set.range ??= this.#rangeOf(set);
    const { range } = set;
    if (range === null) {
      const { slots, mirror } = this.#state;
      const map = `slots${mirror.family}` as const;
      return mapFull(this.#image.key, map, cells.length, slots.available, slots.quarantined > 0);
    }
    return encodeChoice({ tag, count: range.count, base: range.base });
  }

  #setOf(backends: readonly number[]): CellSet {
    const known = this.#sets.find((set) => set.backends === backends);
    if (known !== undefined) return known;
    const set = {
      backends,
      cells: backends.map((backend) => this.#cellAt(backend)),
      text: null,
      range: null,
    };
    this.#sets.push(set);
    return set;
  }

  /** That of the same set made from another list, or the one that the port has, or a new one. */
  #rangeOf(set: CellSet): SlotRange | null {
    for (const other of this.#sets)
      if (other.range !== null && textOf(other) === textOf(set)) return other.range;
    const held = this.#rangesBefore.size === 0 ? undefined : this.#rangesBefore.get(textOf(set));
    const range = held ?? this.#newRange(set.cells);
    if (range !== null) this.#ranges.push(range);
    return range;
  }

  #cellAt(backend: number): number {
    const cell = this.#cellOf[backend];
    if (cell !== undefined) return cell;
    throw new RangeError(`Service port ${this.#image.key}: no backend ${backend} in the frontend's family`);
  }

  #newRange(cells: readonly number[]): SlotRange | null {
    const { slots } = this.#state;
    const range = slots.allocate(cells.length);
    if (range === null) return null;
    this.#newRanges.push({ base: range.base, count: range.count, cells });
    return range;
  }

  /** Old and new entries are there side by side for a while: both must fit. */
  checkAddresses(): Refusal | null {
    const { addresses, capacity, family } = this.#state.mirror;
    const needed = addresses.missing - this.#missingBefore;
    const available = capacity.addresses - addresses.present - this.#missingBefore;
    if (needed <= 0 || needed <= available) return null;
    return mapFull(this.#image.key, `addresses${family}`, needed, Math.max(0, available), false);
  }

  get taken(): Taken {
    return {
      state: this.#state,
      protocol: this.#protocol,
      newCells: frozenList(this.#newCells),
      newRanges: frozenList(this.#newRanges),
      newVips: frozenList(this.#newVips),
    };
  }

  result(): PreparedFamily {
    const after: FamilyPort = {
      protocol: this.#protocol,
      cells: frozenList(this.#cells),
      spareCells: NO_CELLS,
      frontends: this.#classes,
      ranges: frozenList(this.#ranges),
      spareRanges: NO_SLOT_RANGES,
      sourceRanges: this.#sourceRanges,
    };
    const entries = this.#cells.length + this.#frontends.size + this.#sourceRanges.size;
    // Written out: an object that another is spread into takes longer to make, and is larger.
    const { state, protocol, newCells, newRanges, newVips } = this.taken;
    return {
      state,
      protocol,
      newCells,
      newRanges,
      newVips,
      before: this.#before,
      after: entries > 0 ? after : null,
      changedCells: frozenList(this.#changedCells),
      frontends: this.#frontends,
      addedFrontends: this.#addedFrontends,
      addedSourceRanges: this.#addedSourceRanges,
    };
  }
}
