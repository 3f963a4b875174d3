// SPDX-License-Identifier: Apache-2.0
/**
 * Finds out from the kernel's contents what belongs to whom and what is free. There is no other record, so this is how an
 * agent starts, whatever its predecessor was doing when it died, and how it recovers when the kernel is not as believed.
 * Nothing is refused: what makes no sense (a frontend that names a free cell, a cell that nobody names, a name without
 * frontends) becomes something that the next sync replaces or removes.
 */
import { BackendState, Counters } from "../abi/enums.gen.js";
import { type ChoiceWord, choiceTag, decodeChoice } from "../abi/hash.js";
import { frontendCodec } from "../abi/layout.gen.js";
import { IndexAllocator, type IndexUse } from "../diff/index-allocator.js";
import { RangeAllocator, type SlotRange } from "../diff/range-allocator.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { frozenList } from "../util/frozen-list.js";
import type { Sliced } from "../util/slices.js";
import {
  bytesOf,
  cellKey,
  frontendClasses,
  keyWords,
  LAYOUTS,
  protocolOfName,
  readSourceRange,
} from "./keys.js";
import { bytesOfWords, endOfUse, type FamilyMirror, type Mirror } from "./mirror.js";
import {
  emptyPort,
  type FamilyState,
  NO_SOURCE_RANGES,
  type PortState,
  rangeText,
  type State,
} from "./state.js";

/** By cell: a generation below this one must not be handed out (again). */
export type GenerationFloors = Readonly<Record<Family, Uint32Array>>;

export interface RestoreOptions {
  /** What is free but was in use at an unknown time is kept from reuse until then (milliseconds of the clock). */
  readonly quarantineUntil: number;
  /** What an earlier look at the same maps knew; null at start. */
  readonly floors: GenerationFloors | null;
}

/** A generation that no cell goes beyond: it would repeat. Such a cell is not used again. */
export const LAST_GENERATION = 0xffffffff;

/** Cell 0 is never handed out, so that a slot of value 0 has never been used. */
const FIRST_CELL = 1;

const STRIDE = 512;

/** The state behind a mirror. The mirror becomes part of it. */
export function* restore(mirror: Mirror, options: RestoreOptions): Sliced<State> {
  const ports = new Ports(indexCapacity(mirror));
  yield* ports.read(mirror);
  const four = yield* restoreFamily(mirror.families[4], ports, options);
  const six = yield* restoreFamily(mirror.families[6], ports, options);
  yield* ports.finish();
  return {
    mirror,
    indexes: IndexAllocator.restore(
      { capacity: ports.capacity, preferVirgin: true },
      (index) => ports.use(index),
      options.quarantineUntil,
    ),
    families: { 4: four, 6: six },
    byKey: new Map(),
    synced: null,
    nodePortAddresses: null,
    ...byName(mirror, ports),
  };
}

/** Indexes that both `services` and `counters` have room for. */
function indexCapacity({ capacity }: Mirror): number {
  return Math.max(0, Math.min(capacity.services, capacity.counters - Counters.SERVICE_BASE));
}

/** What a FamilyPort will be made of. */
interface Findings {
  /** Cells by struct addr_port of the backend, and those beside. */
  readonly cells: Map<string, number>;
  readonly spareCells: number[];
  /** Each with the classes that it gives to its address. */
  readonly frontends: Map<string, number>;
  /** Ranges by the set of cells in them, and those beside. */
  readonly ranges: Map<string, SlotRange>;
  readonly spareRanges: SlotRange[];
  readonly sourceRanges: Set<string>;
}

/** The service ports that anything in the kernel belongs to. */
class Ports {
  readonly byIndex: Map<number, PortState> = new Map();
  readonly #protocols: Map<number, number> = new Map();
  /** By index. */
  readonly #found: Readonly<Record<Family, Map<number, Findings>>> = { 4: new Map(), 6: new Map() };
  /** One above every index that is in use, or was by what a free cell says, and that can be given away. */
  #end = 0;
  readonly capacity: number;

  constructor(capacity: number) {
    this.capacity = capacity;
  }

  *read(mirror: Mirror): Sliced<void> {
    for (const [index, name] of mirror.names) {
      this.at(index);
      this.#protocols.set(index, protocolOfName(name));
    }
    yield;
    let seen = 0;
    // An index whose name is missing: its frontends tell the protocol.
    for (const family of FAMILIES) {
      for (const [key, value] of mirror.families[family].frontends) {
        const { service } = frontendCodec.decode(bytesOf(value));
        if (!this.#protocols.has(service))
          this.#protocols.set(service, key.charCodeAt(LAYOUTS[family].protocol));
        seen += 1;
        if (seen % STRIDE === 0) yield;
      }
    }
  }

  at(index: number): PortState {
    let port = this.byIndex.get(index);
    if (!port) {
      port = emptyPort(index);
      this.byIndex.set(index, port);
      this.wasUsed(index);
    }
    return port;
  }

  in(index: number, family: Family): Findings {
    let found = this.#found[family].get(index);
    if (!found) {
      this.at(index);
      found = {
        cells: new Map(),
        spareCells: [],
        frontends: new Map(),
        ranges: new Map(),
        spareRanges: [],
        sourceRanges: new Set(),
      };
      this.#found[family].set(index, found);
    }
    return found;
  }

  /** Gives each port what was found of it. */
  *finish(): Sliced<void> {
    let seen = 0;
    for (const family of FAMILIES) {
      for (const [index, found] of this.#found[family]) {
        this.at(index).families[family] = {
          protocol: this.protocol(index),
          cells: [...found.cells.values()],
          spareCells: frozenList(found.spareCells),
          frontends: found.frontends,
          ranges: [...found.ranges.values()],
          spareRanges: frozenList(found.spareRanges),
          sourceRanges: found.sourceRanges.size === 0 ? NO_SOURCE_RANGES : found.sourceRanges,
        };
        seen += 1;
        if (seen % STRIDE === 0) yield;
      }
    }
  }

  /** IPPROTO_*, or 0 when nothing tells. */
  protocol(index: number): number {
    return this.#protocols.get(index) ?? 0;
  }

  /** One that is outside was never ours, and says nothing of those that are not. */
  wasUsed(index: number): void {
    if (index < this.capacity) this.#end = Math.max(this.#end, index + 1);
  }

  use(index: number): IndexUse {
    if (this.byIndex.has(index)) return "used";
    return index < this.#end ? "past" : "virgin";
  }
}

/** Of two indexes with one name, the one with more frontends is the port, then the lower one; the others are strays. */
function byName(mirror: Mirror, { byIndex }: Ports): Pick<State, "ports" | "strays"> {
  const ports = new Map<string, PortState>();
  const strays = new Set<PortState>();
  const frontends = ({ families }: PortState): number =>
    FAMILIES.reduce((sum, family) => sum + (families[family]?.frontends.size ?? 0), 0);
  for (const port of byIndex.values()) {
    const name = mirror.names.get(port.index);
    const other = name === undefined ? undefined : ports.get(name);
    const difference = other ? frontends(port) - frontends(other) || other.index - port.index : 1;
    if (name === undefined || difference < 0) strays.add(port);
    else {
      if (other) {
        strays.add(other);
        other.name = null;
      }
      ports.set(name, port);
      port.name = name;
    }
  }
  return { ports, strays };
}

function* restoreFamily(
  mirror: FamilyMirror,
  ports: Ports,
  { quarantineUntil, floors }: RestoreOptions,
): Sliced<FamilyState> {
  yield* mirror.addresses.clearReasons();
  const generations = yield* restoreCells(mirror, ports, floors?.[mirror.family] ?? null);
  const { owners, good, bad } = yield* readFrontends(mirror, ports);
  const brokenCells = cellsNamedBy(mirror, bad);
  for (const key of mirror.sourceRanges.keys())
    ports.in(readSourceRange(key).service, mirror.family).sourceRanges.add(key);
  const slots = yield* restoreSlots(mirror, good, bad, quarantineUntil);
  yield;
  return {
    mirror,
    cells: IndexAllocator.restore(
      { capacity: mirror.capacity.cells, first: FIRST_CELL },
      (cell) => cellUse(mirror, cell, generations, brokenCells),
      quarantineUntil,
    ),
    slots: slots.allocator,
    generations,
    owners,
    nodes: new Set(),
    broken: {
      frontends: new Set(bad.map(({ key }) => key)),
      cells: [...brokenCells].filter((cell) => isFree(mirror, cell)),
      ranges: slots.broken,
    },
  };
}

/** Gives the cells that are not free to their ports. Returns the generations. */
function* restoreCells(mirror: FamilyMirror, ports: Ports, floors: Uint32Array | null): Sliced<Uint32Array> {
  const { family, cells, addresses } = mirror;
  const layout = LAYOUTS[family];
  const generations = new Uint32Array(mirror.capacity.cells);
  const end = floors === null ? cellsUsed(mirror) : generations.length;
  for (let cell = 0; cell < end; cell += 1) {
    if (cell % STRIDE === 0) yield;
    const at = cell * layout.cell;
    const found = cells.readUInt32LE(at + layout.generation);
    const generation = Math.max(found, floors?.[cell] ?? 0);
    // A page of zeros that nobody writes to is no memory.
    if (generation > 0) generations[cell] = generation;
    const service = cells.readUInt32LE(at + layout.service);
    if (isFree(mirror, cell)) {
      if (generation > 0) ports.wasUsed(service);
      continue;
    }
    const port = ports.in(service, family);
    const protocol = ports.protocol(service);
    const key = cellKey(family, cells, cell, protocol);
    const usable = isHeld(mirror, cell) && cell >= FIRST_CELL && protocol !== 0 && found >= generation;
    if (!usable || port.cells.has(key)) {
      port.spareCells.push(cell);
      continue;
    }
    port.cells.set(key, cell);
    addresses.addBackend(keyWords(family, key), 1);
  }
  return generations;
}

/** From here on all cells are zeros. */
function cellsUsed({ family, cells, capacity }: FamilyMirror): number {
  return Math.min(capacity.cells, Math.ceil(endOfUse(cells) / LAYOUTS[family].cell));
}

interface NamedRange extends SlotRange {
  /** The frontend that names it, and its service index. */
  readonly key: string;
  readonly service: number;
}

interface Frontends {
  readonly owners: Map<string, PortState>;
  readonly good: readonly NamedRange[];
  readonly bad: readonly NamedRange[];
}

/** Gives the frontends and the ranges they name to their ports. */
function* readFrontends(mirror: FamilyMirror, ports: Ports): Sliced<Frontends> {
  const owners = new Map<string, PortState>();
  const named: NamedRange[] = [];
  const bad: NamedRange[] = [];
  for (const [key, value] of mirror.frontends) {
    const { internal, external, service, flags } = frontendCodec.decode(bytesOf(value));
    const port = ports.at(service);
    owners.set(key, port);
    const classes = frontendClasses(mirror.family, key, flags);
    ports.in(service, mirror.family).frontends.set(key, classes);
    mirror.addresses.addVip(key, classes, 1);
    const tag = choiceTag(bytesOf(key));
    for (const word of internal === external ? [internal] : [internal, external]) {
      const choice = decodeChoice(word);
      const range = { key, service, base: choice.base, count: choice.count };
      if (!isSound(mirror, choice, tag, service)) bad.push(range);
      else if (choice.count > 0) named.push(range);
    }
    if (owners.size % STRIDE === 0) yield;
  }
  const good = withoutOverlaps(named, bad);
  for (const [i, range] of good.entries()) {
    if (i % STRIDE === 0) yield;
    const port = ports.in(range.service, mirror.family);
    const set = rangeText(mirror, range);
    const known = port.ranges.get(set);
    if (known === undefined) port.ranges.set(set, { base: range.base, count: range.count });
    else if (known.base !== range.base) port.spareRanges.push({ base: range.base, count: range.count });
  }
  return { owners, good, bad };
}

/** Does a word have its key's tag, and does it name nothing but live cells of its service port? */
function isSound(mirror: FamilyMirror, choice: ChoiceWord, tag: number, service: number): boolean {
  const { base, count } = choice;
  if (choice.tag !== tag) return false;
  if (base + count > mirror.slots.length) return count === 0;
  const layout = LAYOUTS[mirror.family];
  for (let slot = base; slot < base + count; slot += 1) {
    const cell = mirror.slots[slot] as number;
    if (!isLive(mirror, cell)) return false;
    if (mirror.cells.readUInt32LE(cell * layout.cell + layout.service) !== service) return false;
  }
  return true;
}

function stateOf(mirror: FamilyMirror, cell: number): number {
  const layout = LAYOUTS[mirror.family];
  return cell < mirror.capacity.cells ? (mirror.cells[cell * layout.cell + layout.state] as number) : 0;
}

function isLive(mirror: FamilyMirror, cell: number): boolean {
  return stateOf(mirror, cell) === BackendState.BACKEND_LIVE;
}

/** A state that makes no sense is not free: somebody has written it. */
function isFree(mirror: FamilyMirror, cell: number): boolean {
  return stateOf(mirror, cell) === BackendState.BACKEND_FREE;
}

/** Does a backend have it, serving or not? */
function isHeld(mirror: FamilyMirror, cell: number): boolean {
  return isLive(mirror, cell) || stateOf(mirror, cell) === BackendState.BACKEND_DRAINING;
}

/** One entry per range; ranges that overlap others without being equal go to `bad`. */
function withoutOverlaps(named: NamedRange[], bad: NamedRange[]): NamedRange[] {
  const good: NamedRange[] = [];
  let group: NamedRange[] = [];
  let end = 0;
  const close = (): void => {
    const [first] = group;
    if (!first) return;
    if (group.every(({ base, count }) => base === first.base && count === first.count)) good.push(first);
    else bad.push(...group);
  };
  for (const range of named.sort((a, b) => a.base - b.base)) {
    if (range.base >= end) {
      close();
      group = [];
    }
    group.push(range);
    end = Math.max(end, range.base + range.count);
  }
  close();
  return good;
}

function cellsNamedBy(mirror: FamilyMirror, ranges: readonly SlotRange[]): Set<number> {
  const cells = new Set<number>();
  for (const { base, count } of ranges)
    for (const cell of mirror.slots.subarray(base, base + count)) cells.add(cell);
  return cells;
}

function cellUse(
  mirror: FamilyMirror,
  cell: number,
  generations: Uint32Array,
  broken: ReadonlySet<number>,
): IndexUse {
  const generation = generations[cell] as number;
  if (!isFree(mirror, cell) || broken.has(cell) || generation === LAST_GENERATION) return "used";
  return generation > 0 ? "past" : "virgin";
}

/** What a slot is; 0: never used. A slot that was ever used is not 0, since no cell 0 is handed out. */
const PAST = 1;
const BROKEN = 2;
const GOOD = 3;

function* restoreSlots(
  mirror: FamilyMirror,
  good: readonly SlotRange[],
  bad: readonly SlotRange[],
  until: number,
): Sliced<{ readonly allocator: RangeAllocator; readonly broken: readonly SlotRange[] }> {
  const marks = new Uint8Array(mirror.slots.length);
  const used = mirror.slots.subarray(
    0,
    endOfUse(bytesOfWords(mirror.slots)) / mirror.slots.BYTES_PER_ELEMENT,
  );
  for (let slot = 0; slot < used.length; slot += 1) if (used[slot] !== 0) marks[slot] = PAST;
  // A word that makes no sense may name half of the map: of that, only what was ever used is kept from others.
  for (const { base, count } of bad) {
    const end = Math.min(base + count, marks.length);
    for (let slot = base; slot < end; slot += 1) if (mirror.slots[slot] !== 0) marks[slot] = BROKEN;
  }
  for (const { base, count } of good) marks.fill(GOOD, base, base + count);
  yield;
  const broken = runsOf(marks, BROKEN);
  const allocator = RangeAllocator.restore(marks.length, [...good, ...broken], runsOf(marks, PAST), until);
  return { allocator, broken };
}

function runsOf(marks: Uint8Array, mark: number): SlotRange[] {
  const runs: SlotRange[] = [];
  for (let base = marks.indexOf(mark); base >= 0; ) {
    let end = base;
    while (marks[end] === mark) end += 1;
    runs.push({ base, count: end - base });
    base = marks.indexOf(mark, end);
  }
  return runs;
}

/**
 * What must hold for generations when a kernel that was `believed` is `found` otherwise: a cell that is no longer what it
 * was counts as let go, even if whoever changed it also changed its generation. State and flags of the same backend do not
 * count, as long as it has not become free.
 */
export function generationFloors(believed: Mirror, found: Mirror): GenerationFloors {
  const floors = (family: Family): Uint32Array => {
    const layout = LAYOUTS[family];
    const before = believed.families[family];
    const after = found.families[family];
    return Uint32Array.from({ length: before.capacity.cells }, (_, cell) => {
      const at = cell * layout.cell;
      const generation = before.cells.readUInt32LE(at + layout.generation);
      if (!isHeld(before, cell)) return generation;
      const same = isHeld(after, cell) && sameBackend(before, after, at);
      return same ? generation : Math.min(generation + 1, LAST_GENERATION);
    });
  };
  return { 4: floors(4), 6: floors(6) };
}

/** In the cells at this offset: address and port before state and flags, generation and service behind them. */
function sameBackend(a: FamilyMirror, b: FamilyMirror, at: number): boolean {
  const layout = LAYOUTS[a.family];
  const same = (from: number, end: number): boolean =>
    a.cells.compare(b.cells, at + from, at + end, at + from, at + end) === 0;
  return same(0, layout.state) && same(layout.generation, layout.cell);
}
