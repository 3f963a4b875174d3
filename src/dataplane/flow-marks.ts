// SPDX-License-Identifier: Apache-2.0
/**
 * `flow_marks`: by which the programs know packets that belong to no entry of `nat` without looking them up (bpf/lib/filter.bpf.h). The
 * programs mark the address of each TCP entry before they write it, and nothing else is asked of anybody, except to say when
 * all entries have their marks: entries may be older than the marks, or of programs that make none.
 */
import { viewOf } from "../abi/codec.js";
import { Direction, Mark, Marks, NatFlag } from "../abi/enums.gen.js";
import { markIndex } from "../abi/hash.js";
import { FAMILY_CODECS } from "../abi/layout.gen.js";
import { packIndexes } from "../native/hooks.js";
import type { KernelMaps, KernelReads, MapDump, MapWrite } from "../native/kernel.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { protocolNumber } from "../net/port.js";
import { AppError, errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { inSlices, type Sliced, type SliceOptions } from "../util/slices.js";
import { sleep, systemTimers, type Timers } from "../util/timers.js";

/** Entries of `nat` read at a time. */
const CHUNK = 65_536;
const STRIDE = 1024;
const TCP = protocolNumber("TCP");

/** A program that was at work before this time is not at work any more. */
export const GRACE_MS = 1000;
/** How often it is looked whether too many cells are marked. */
const COUNT_MS = 600_000;
/** More marked cells than this (an eighth) let too much through that is not ours: they are made anew, once there are other addresses. */
export const MOST_MARKED: number = Marks.COUNT / 8;

/** The cells that the TCP entries of a piece of `nat` need: nat_mark() in bpf/lib/mark.bpf.h. Locks need what their entries need. */
function* cellsOf(family: Family, { count, keys, values }: MapDump, cells: Set<number>): Sliced<void> {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const { src = 0, dst = 0, protocol = 0, direction = 0 } = natKey.offsets;
  const flagsAt = natValue.offsets.flags ?? 0;
  const view = viewOf(values);
  const size = family === 4 ? 4 : 16;
  for (let i = 0; i < count; i += 1) {
    if (i % STRIDE === STRIDE - 1) yield;
    const at = i * natKey.size;
    if (keys[at + protocol] !== TCP) continue;
    if (keys[at + direction] === Direction.IN) cells.add(markIndex(keys, at + dst, size, Mark.IN));
    else if (view.getUint16(i * natValue.size + flagsAt, true) & NatFlag.NAT_MASQUERADE)
      cells.add(markIndex(keys, at + dst, size, Mark.MASQUERADE));
    else cells.add(markIndex(keys, at + src, size, Mark.OUT));
  }
}

/** The cells that the entries of `nat` need. */
async function neededCells(kernel: KernelReads, options: SliceOptions): Promise<Set<number>> {
  const cells = new Set<number>();
  for (const family of FAMILIES)
    for await (const piece of kernel.dumpChunks(`nat${family}`, CHUNK))
      await inSlices(cellsOf(family, piece, cells), options);
  return cells;
}

async function readMarks(
  kernel: KernelReads,
): Promise<{ complete: boolean; isMarked(cell: number): boolean }> {
  const { values } = await kernel.dump("flow_marks");
  const view = viewOf(values);
  const isMarked = (cell: number): boolean => view.getUint32(4 * cell, true) !== 0;
  return { complete: isMarked(Marks.COMPLETE), isMarked };
}

/**
 * Cells that entries of `nat` need and that are not marked, though the programs are told that all are: packets of those flows are
 * not translated. Null: the programs are not told so, and look everything up.
 *
 * @throws when the kernel cannot be read
 */
export async function missingMarks(
  kernel: KernelReads,
  options: SliceOptions = {},
): Promise<number[] | null> {
  const needed = await neededCells(kernel, options); // first: marks are made before entries, and stay
  const { complete, isMarked } = await readMarks(kernel);
  return complete ? [...needed].filter((cell) => !isMarked(cell)) : null;
}

function marking(cells: readonly number[], value: 0 | 1): MapWrite {
  const values = packIndexes(cells.map(() => value));
  return { map: "flow_marks", kind: "update", count: cells.length, keys: packIndexes(cells), values };
}

async function write(kernel: KernelMaps, ...writes: readonly MapWrite[]): Promise<void> {
  const { failure } = await kernel.apply(writes.filter(({ count }) => count > 0));
  if (failure === null) return;
  const message = `the kernel refused a write to the map flow_marks (errno ${failure.errno})`;
  throw new AppError("E_WRITE_REFUSED", message, { fields: { errno: failure.errno } });
}

/** Marks cells. Right at any time, whoever else writes. */
export async function markCells(kernel: KernelMaps, cells: readonly number[]): Promise<void> {
  await write(kernel, marking(cells, 1));
}

/**
 * Marks what the entries of `nat` need, and tells the programs that all are marked. Every program that may write an entry must be one
 * that marks, for GRACE_MS at least.
 *
 * @throws when the kernel cannot be read or written
 */
export async function completeMarks(kernel: KernelMaps, options: SliceOptions = {}): Promise<void> {
  const needed = await neededCells(kernel, options);
  const { complete, isMarked } = await readMarks(kernel);
  const missing = [...needed].filter((cell) => !isMarked(cell));
  await write(kernel, marking(missing, 1), marking(complete ? [] : [Marks.COMPLETE], 1));
}

/** Tells the programs that the marks say nothing: they look everything up. */
export async function distrustMarks(kernel: KernelMaps): Promise<void> {
  await write(kernel, marking([Marks.COMPLETE], 0));
}

/** Programs that are attached and that this agent has not loaded. `alike`: all of the same code; the others may mark nothing. */
export type OtherPrograms = "none" | "alike" | "different";

export interface FlowMarksDependencies {
  readonly maps: KernelMaps;
  readonly others: () => Promise<OtherPrograms>;
  readonly log: Logger;
  readonly timers?: Timers;
}

/** Keeps the marks of an agent's life. */
export class FlowMarks {
  readonly #maps: KernelMaps;
  readonly #others: () => Promise<OtherPrograms>;
  readonly #log: Logger;
  readonly #timers: Timers;
  readonly #ending = new AbortController();
  readonly #lane: Lane<void> = new Lane(() => this.#work());
  #complete = false;
  #countedAt = 0;
  /** What was said last, so that it is said once. */
  #complaint = "";

  constructor({ maps, others, log, timers }: FlowMarksDependencies) {
    this.#maps = maps;
    this.#others = others;
    this.#log = log;
    this.#timers = timers ?? systemTimers;
  }

  /**
   * To be called before programs are attached: whoever was here before may have written entries without marks, also after an agent
   * that made them. Only programs of this very code are known to have made theirs.
   *
   * @throws when the kernel refuses it
   */
  async begin(): Promise<void> {
    this.#complete = false;
    if ((await this.#others()) !== "alike") await distrustMarks(this.#maps);
  }

  /** To be called once programs are attached, and now and then. Never rejects: until it succeeds everything is looked up. */
  async look(): Promise<void> {
    if (this.#ending.signal.aborted) return;
    try {
      await this.#lane.request();
      this.#complaint = "";
    } catch (error) {
      if (this.#ending.signal.aborted) return;
      const reason = errorMessage(error);
      if (reason !== this.#complaint)
        this.#log.warn({ code: "flow_marks", reason }, "packets that are not ours take the longer way");
      this.#complaint = reason;
    }
  }

  /** Starts nothing more; resolves when what is under way is done. */
  async stop(): Promise<void> {
    this.#ending.abort();
    await this.#lane.idle();
  }

  async #work(): Promise<void> {
    if (this.#complete) {
      if (this.#timers.now() - this.#countedAt < COUNT_MS) return;
      this.#countedAt = this.#timers.now();
      if ((await this.#marked()) <= MOST_MARKED) return;
      await this.#clear();
    }
    if ((await this.#others()) !== "none") throw new Error("programs of another agent are attached, too");
    await this.#wait();
    await completeMarks(this.#maps);
    this.#complete = true;
    this.#countedAt = this.#timers.now();
    this.#log.debug({ marked: await this.#marked() }, "flow marks are complete");
  }

  async #marked(): Promise<number> {
    const { isMarked } = await readMarks(this.#maps);
    let marked = 0;
    for (let cell = 0; cell < Marks.COUNT; cell += 1) marked += Number(isMarked(cell));
    return marked;
  }

  /** Nobody trusts the marks while there are none, and who began before that has ended. */
  async #clear(): Promise<void> {
    this.#complete = false;
    await distrustMarks(this.#maps);
    await this.#wait();
    await write(
      this.#maps,
      marking(
        Array.from({ length: Marks.COUNT }, (_, cell) => cell),
        0,
      ),
    );
  }

  #wait(): Promise<void> {
    return sleep(this.#timers, GRACE_MS, this.#ending.signal);
  }
}
