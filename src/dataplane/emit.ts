// SPDX-License-Identifier: Apache-2.0
/** Turns decisions into writes in the publish order, and changes the state as if they had been applied. */
import { BackendState } from "../abi/enums.gen.js";
import type { MapName } from "../abi/maps.gen.js";
import type { SlotRange } from "../diff/range-allocator.js";
import { type Run, Transaction } from "../diff/transaction.js";
import type { MapWrite } from "../native/kernel.js";
import { FAMILIES, type Family, writeIp } from "../net/ip.js";
import type { Sliced } from "../util/slices.js";
import { knownClasses } from "./address-table.js";
import { backendFlags, backendState, keyWords, LAYOUTS, PRESENT } from "./keys.js";
import type { NodeWide } from "./node-wide.js";
import type { PreparedPort } from "./plan.js";
import type { CellChange, CellStanding, NewCell, PreparedFamily } from "./prepare.js";
import type { Refusal } from "./refusal.js";
import { LAST_GENERATION } from "./restore.js";
import { cellKeys, type FamilyPort, type FamilyState, type PortState, type State } from "./state.js";
import { FAMILY_STEPS, type FamilyStep, PUBLISH_ORDER, type StepName } from "./steps.js";

export interface Plan {
  readonly writes: readonly MapWrite[];
  /** Entries in them. */
  readonly size: number;
  /** Service ports whose image was compared or written, and those removed. */
  readonly changedPorts: number;
  readonly removedPorts: number;
  readonly refused: readonly Refusal[];
  /** Maps in which there will be more room when this is applied. */
  readonly roomIn: ReadonlySet<MapName>;
  /** To be called when all of it has been applied: what it let go may be used again from `reusableAt` on. */
  finish(reusableAt: number): void;
}

const STRIDE = 512;

export class Emission {
  readonly #state: State;
  readonly #claims: Readonly<Record<Family, ReadonlyMap<string, PreparedPort>>>;
  readonly #transaction: Transaction<StepName> = new Transaction(PUBLISH_ORDER);
  readonly #families: Readonly<Record<Family, FamilyEmission>>;
  readonly #goneIndexes: number[] = [];
  #changedPorts = 0;

  constructor(state: State, claims: Readonly<Record<Family, ReadonlyMap<string, PreparedPort>>>) {
    this.#state = state;
    this.#claims = claims;
    this.#families = {
      4: new FamilyEmission(state.families[4], this.#transaction),
      6: new FamilyEmission(state.families[6], this.#transaction),
    };
  }

  nodeWide({ serviceNets }: NodeWide): void {
    for (const family of FAMILIES) this.#families[family].serviceNets(serviceNets[family]);
  }

  remove(port: PortState): void {
    const { mirror, ports, strays, byKey } = this.#state;
    for (const family of FAMILIES) {
      const before = port.families[family];
      if (before) this.#families[family].letGo(port, before, null, this.#claims[family]);
    }
    if (mirror.names.has(port.index)) this.#transaction.run("nameDeletes").addIndex(port.index);
    this.#goneIndexes.push(port.index);
    strays.delete(port);
    if (port.name !== null) ports.delete(port.name);
    if (port.image && byKey.get(port.image.key) === port) byKey.delete(port.image.key);
  }

  *put({ image, name, port, families }: PreparedPort): Sliced<void> {
    const { mirror, ports, byKey } = this.#state;
    this.#changedPorts += 1;
    if (mirror.names.get(port.index) !== name) {
      const { bytes, offset } = this.#transaction.run("names").addIndex(port.index);
      bytes.write(name, offset, "latin1");
    }
    for (const prepared of families) {
      const { family } = prepared.state.mirror;
      const emission = this.#families[family];
      if (prepared.newCells.length < STRIDE) emission.publish(port, prepared);
      else yield* emission.publishMany(port, prepared);
      if (prepared.before)
        this.#families[family].letGo(port, prepared.before, prepared.after, this.#claims[family]);
      port.families[family] = prepared.after;
    }
    port.image = image;
    port.name = name;
    ports.set(name, port);
    byKey.set(image.key, port);
  }

  *plan(refused: readonly Refusal[]): Sliced<Plan> {
    for (const family of FAMILIES) yield* this.#families[family].addresses();
    const writes = this.#transaction.writes();
    return {
      writes,
      size: this.#transaction.size,
      changedPorts: this.#changedPorts,
      removedPorts: this.#goneIndexes.length,
      refused,
      roomIn: new Set(writes.filter(({ kind }) => kind === "delete").map(({ map }) => map)),
      finish: (reusableAt) => {
        for (const family of FAMILIES) this.#families[family].finish(reusableAt);
        for (const index of this.#goneIndexes) this.#state.indexes.quarantine(index, reusableAt);
      },
    };
  }
}

class FamilyEmission {
  readonly #state: FamilyState;
  readonly #runs: Readonly<Record<FamilyStep, Run>>;
  readonly #goneCells: number[] = [];
  readonly #goneRanges: SlotRange[] = [];

  constructor(state: FamilyState, transaction: Transaction<StepName>) {
    this.#state = state;
    const run = (step: FamilyStep): Run => transaction.run(`${step}${state.mirror.family}`);
    this.#runs = Object.fromEntries(FAMILY_STEPS.map((step) => [step, run(step)])) as Record<FamilyStep, Run>;
  }

  *publishMany(port: PortState, prepared: PreparedFamily): Sliced<void> {
    for (const [i, cell] of prepared.newCells.entries()) {
      this.#fillCell(cell, port.index);
      if (i % STRIDE === STRIDE - 1) yield;
    }
    this.#publishRest(port, prepared);
  }

  publish(port: PortState, prepared: PreparedFamily): void {
    for (const cell of prepared.newCells) this.#fillCell(cell, port.index);
    this.#publishRest(port, prepared);
  }

  #publishRest(port: PortState, prepared: PreparedFamily): void {
    const { mirror, owners, broken } = this.#state;
    for (const change of prepared.changedCells) this.#changeCell(change);
    for (const key of prepared.after?.sourceRanges ?? [])
      if (mirror.sourceRanges.get(key) !== PRESENT) this.#runs.sourceRanges.add(key, PRESENT);
    for (const { base, cells } of prepared.newRanges)
      for (let i = 0; i < cells.length; i += 1) this.#runs.slots.addNumber(base + i, cells[i] as number);
    for (const [key, value] of prepared.frontends) {
      owners.set(key, port);
      if (mirror.frontends.get(key) === value) continue;
      this.#runs.frontends.add(key, value);
      if (broken.frontends.size > 0) broken.frontends.delete(key);
    }
  }

  #fillCell({ cell, backend }: NewCell, service: number): void {
    const layout = LAYOUTS[this.#state.mirror.family];
    const generation = this.#state.generations[cell] as number;
    if (generation > 0) this.#runs.stats.addIndex(cell);
    const { bytes, offset } = this.#runs.cells.addIndex(cell);
    writeIp(backend.address, bytes, offset);
    bytes[offset + layout.port] = backend.port >>> 8;
    bytes[offset + layout.port + 1] = backend.port;
    bytes[offset + layout.state] = backendState(backend);
    bytes[offset + layout.flags] = backendFlags(backend);
    bytes.writeUInt32LE(generation, offset + layout.generation);
    bytes.writeUInt32LE(service, offset + layout.service);
  }

  /**
   * A cell that stays. A frontend may name it before or after: as long as either does it is LIVE, and in every set in which
   * it was or will be, or session affinity would send clients elsewhere that it has just placed.
   */
  #changeCell({ cell, held, wanted }: CellChange): void {
    const live = held.state === BackendState.BACKEND_LIVE;
    const meanwhile = { state: live ? held.state : wanted.state, flags: held.flags | wanted.flags };
    if (!sameStanding(meanwhile, held)) this.#rewrite(this.#runs.cells, cell, meanwhile);
    if (!sameStanding(wanted, meanwhile)) this.#rewrite(this.#runs.settled, cell, wanted);
  }

  /** The same backend with the same generation: only the bytes for state and flags differ from what readers see now. */
  #rewrite(run: Run, cell: number, { state, flags }: CellStanding): void {
    const { mirror } = this.#state;
    const layout = LAYOUTS[mirror.family];
    const at = cell * layout.cell;
    const { bytes, offset } = run.addIndex(cell);
    bytes.set(mirror.cells.subarray(at, at + layout.cell), offset);
    bytes[offset + layout.state] = state;
    bytes[offset + layout.flags] = flags;
  }

  serviceNets({ added, removed }: NodeWide["serviceNets"][Family]): void {
    for (const key of added) this.#runs.serviceNets.add(key, PRESENT);
    for (const key of removed) this.#runs.serviceNetDeletes.add(key);
  }

  /** What `before` has and `after` has not. A frontend that another port claims is written over, not deleted. */
  letGo(
    port: PortState,
    before: FamilyPort,
    after: FamilyPort | null,
    claims: ReadonlyMap<string, PreparedPort>,
  ): void {
    const { mirror, owners, broken } = this.#state;
    const { family, addresses } = mirror;
    for (const [key, classes] of before.frontends) {
      if (after?.frontends.get(key) !== classes) addresses.addVip(key, classes, -1);
      if (after?.frontends.has(key)) continue;
      if (owners.get(key) !== port || claims.has(key)) continue;
      owners.delete(key);
      broken.frontends.delete(key);
      this.#runs.frontendDeletes.add(key);
    }
    // What is let go is in quarantine: a cell that `after` has, too, is of the same backend; so with ranges.
    const kept = new Set(after?.cells);
    const goneCells = before.cells.filter((cell) => !kept.has(cell));
    for (const [key, cell] of cellKeys(mirror, goneCells, before.protocol)) {
      addresses.addBackend(keyWords(family, key), -1);
      this.#retire(cell);
    }
    for (const cell of before.spareCells) this.#retire(cell);
    for (const range of before.ranges)
      if (!after?.ranges.some(({ base }) => base === range.base)) this.#goneRanges.push(range);
    this.#goneRanges.push(...before.spareRanges);
    for (const key of before.sourceRanges)
      if (!after?.sourceRanges.has(key)) this.#runs.sourceRangeDeletes.add(key);
  }

  /** FREE, with the next generation; the other members stay, so that an old flow can be explained. */
  #retire(cell: number): void {
    const { mirror, generations } = this.#state;
    const layout = LAYOUTS[mirror.family];
    const at = cell * layout.cell;
    const generation = Math.min((generations[cell] as number) + 1, LAST_GENERATION);
    generations[cell] = generation;
    const { bytes, offset } = this.#runs.retired.addIndex(cell);
    bytes.set(mirror.cells.subarray(at, at + layout.cell), offset);
    bytes[offset + layout.state] = BackendState.BACKEND_FREE;
    bytes.writeUInt32LE(generation, offset + layout.generation);
    this.#goneCells.push(cell);
  }

  /** Classes are added before the frontends change and taken away afterwards. */
  *addresses(): Sliced<void> {
    const { addresses: adds, addressChanges, addressDeletes } = this.#runs;
    yield* this.#state.mirror.addresses.eachWrong((words, at, held, wanted) => {
      if (wanted === 0) {
        addressDeletes.addWords(words, at);
        return;
      }
      const meanwhile = knownClasses(held) | wanted;
      if (meanwhile !== held) adds.addWords(words, at, meanwhile);
      if (meanwhile !== wanted) addressChanges.addWords(words, at, wanted);
    });
  }

  finish(reusableAt: number): void {
    const { cells, slots, broken, generations } = this.#state;
    const mended = broken.frontends.size === 0;
    const goneCells = mended ? [...this.#goneCells, ...broken.cells] : this.#goneCells;
    const goneRanges = mended ? [...this.#goneRanges, ...broken.ranges] : this.#goneRanges;
    for (const cell of goneCells)
      if ((generations[cell] as number) < LAST_GENERATION) cells.quarantine(cell, reusableAt);
    for (const range of goneRanges) slots.quarantine(range, reusableAt);
    if (!mended) return;
    broken.cells = [];
    broken.ranges = [];
  }
}

function sameStanding(a: CellStanding, b: CellStanding): boolean {
  return a.state === b.state && a.flags === b.flags;
}
