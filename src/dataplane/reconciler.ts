// SPDX-License-Identifier: Apache-2.0
/**
 * Makes the kernel's maps hold what an image asks for, by one ordered transaction per sync: see steps.ts for the order and
 * restore.ts for how it knows what is there. Runs are serialised; a Lane in front of it coalesces them.
 */
import { getSystemErrorName } from "node:util";
import type { MapName } from "../abi/maps.gen.js";
import type { Image } from "../image/types.js";
import type { ApplyResult, KernelMaps } from "../native/kernel.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { type Clock, systemClock } from "../util/clock.js";
import { errorMessage } from "../util/errors.js";
import { type Logger, silentLogger } from "../util/log.js";
import { inSlices, type SliceOptions } from "../util/slices.js";
import type { Plan } from "./emit.js";
import { foundImage } from "./found.js";
import { MapAudit } from "./map-audit.js";
import { applyToMirror, compareMirrors, type Mirror, readMirror } from "./mirror.js";
import { makePlan } from "./plan.js";
import type { Refusal } from "./refusal.js";
import { type GenerationFloors, generationFloors, restore } from "./restore.js";
import { SERVICE_MAPS } from "./service-maps.js";
import type { State } from "./state.js";

export interface ReconcilerOptions {
  readonly kernel: KernelMaps;
  readonly clock?: Clock;
  readonly logger?: Logger;
  /** How long a cell, slot range or service index that was let go stays out of use. */
  readonly quarantineMs?: number;
  /** Milliseconds of work before the event loop gets a turn. */
  readonly sliceMs?: number;
}

export interface SyncFailure {
  /** E_WRITE_REFUSED: the kernel refused one write. E_KERNEL: reading or writing failed in another way. */
  readonly code: "E_WRITE_REFUSED" | "E_KERNEL";
  /** The map and errno ("ENOMEM") of the write that was refused. */
  readonly map: MapName | null;
  readonly errno: string | null;
  readonly message: string;
}

export interface SyncResult {
  /** Entries written or deleted. */
  readonly writes: number;
  readonly ffiCalls: number;
  readonly changedPorts: number;
  readonly removedPorts: number;
  /** Service ports that were left as they were; they are tried again by every sync. */
  readonly refused: readonly Refusal[];
  /** What has been written before a failure stays, and is right as far as it goes: sync again, with a backoff. */
  readonly failure: SyncFailure | null;
  /** Sync again after this time: some of `refused` wait for what was let go to be out of use. Null: no need. */
  readonly retryAfterMs: number | null;
  readonly planMs: number;
  readonly applyMs: number;
}

export interface AuditResult {
  /** How many entries of which map were not as believed; empty when all is well. */
  readonly differences: ReadonlyMap<MapName, number>;
  /** The repair; null when nothing differed or no image has been synced yet. */
  readonly repair: SyncResult | null;
  /** The kernel could not be read. */
  readonly failure: SyncFailure | null;
}

export const QUARANTINE_MS = 1000;

/** A transaction that makes room in a hash map lets one more succeed at once; more rounds than this would be a loop. */
const MAX_ROUNDS = 3;

/** Audits beside syncs that are begun before one holds them up: what is believed is given up when writes fail. */
const MOST_LOOKS = 3;

/** Errors that say nothing against what is believed to be in the maps. */
const HARMLESS_ERRNOS: readonly string[] = ["ENOMEM", "EAGAIN", "EBUSY", "EINTR", "EPERM"];

export class Reconciler {
  readonly #kernel: KernelMaps;
  readonly #clock: Clock;
  readonly #logger: Logger;
  readonly #quarantineMs: number;
  readonly #slices: SliceOptions;
  /** Null: the kernel must be read before anything is written. */
  #state: State | null = null;
  /** What was believed when the state was given up; null at start. */
  #believed: Mirror | null = null;
  #image: Image | null = null;
  /** The audit that looks at the kernel beside the syncs. */
  #audit: MapAudit | null = null;
  #syncs = 0;
  #tail: Promise<unknown> = Promise.resolve();
  #refusals: ReadonlyMap<string, string> = new Map();

  constructor({ kernel, clock, logger, quarantineMs, sliceMs }: ReconcilerOptions) {
    this.#kernel = kernel;
    this.#clock = clock ?? systemClock;
    this.#logger = logger ?? silentLogger;
    this.#quarantineMs = quarantineMs ?? QUARANTINE_MS;
    this.#slices = sliceMs === undefined ? {} : { budgetMs: sliceMs };
  }

  /**
   * Writes the difference between the kernel and `image`. Service ports whose image object is the one that was applied last
   * cost nothing. The first call reads the kernel (at most 13 FFI calls); a sync with something to write makes one more, one without
   * none. Never rejects for what the kernel does: see SyncResult.failure.
   */
  sync(image: Image): Promise<SyncResult> {
    return this.#serially(async () => {
      this.#image = image;
      return await this.#sync(image);
    });
  }

  /**
   * What the kernel's maps hold, as an image: see found.ts. Reads the kernel (13 FFI calls) unless that has been done, and
   * writes nothing.
   *
   * @throws when the kernel cannot be read
   */
  found(): Promise<Image> {
    return this.#serially(async () =>
      inSlices(foundImage(await this.#load(this.#clock.now())), this.#slices),
    );
  }

  /**
   * Compares the kernel's maps with what is believed to be in them (see map-audit.ts), and repairs what differs by a sync. Syncs
   * go on meanwhile and wait for a millisecond at most; only when somebody else has written, all is read anew (13 FFI calls)
   * with nobody writing. An entry that a sync has written meanwhile is taken for what was written: who else changed it then is
   * found by the next audit.
   *
   * @param signal ends it, with the signal's reason, unless it repairs already
   */
  async audit(signal?: AbortSignal): Promise<AuditResult> {
    for (let look = 1; look <= MOST_LOOKS; look += 1) {
      const audit = await this.#serially(async () => this.#beginAudit());
      if (audit === null) break;
      try {
        const verdict = await this.#lookAt(audit, signal);
        if (verdict === "as believed") return { differences: new Map(), repair: null, failure: null };
        if (verdict === "changed") break;
      } catch (error) {
        signal?.throwIfAborted();
        return await this.#serially(async () => this.#cannotRead(error));
      } finally {
        this.#audit = null;
      }
    }
    return await this.#serially(() => this.#auditAlone());
  }

  /** Null: there is nothing to compare with, or another audit is at work. */
  #beginAudit(): MapAudit | null {
    if (this.#state === null || this.#audit !== null) return null;
    this.#audit = new MapAudit(this.#kernel, this.#state.mirror, this.#slices);
    return this.#audit;
  }

  /** "outdated": what is believed is not what was compared with any more. */
  async #lookAt(
    audit: MapAudit,
    signal: AbortSignal | undefined,
  ): Promise<"as believed" | "changed" | "outdated"> {
    for (const map of SERVICE_MAPS) {
      const look = await audit.look(map, signal);
      const verdict = await this.#serially(async () => {
        if (this.#state?.mirror !== audit.mirror) return "outdated";
        return audit.isAsBelieved(look) ? null : "changed";
      });
      if (verdict !== null) return verdict;
    }
    return "as believed";
  }

  /** Places of `slots` that are taken: in use, or not to be used again yet. Null while it is not known what is in the kernel. */
  slotsTaken(family: Family): number | null {
    const slots = this.#state?.families[family].slots;
    return slots === undefined ? null : slots.capacity - slots.available;
  }

  #serially<T>(work: () => Promise<T>): Promise<T> {
    const run = this.#tail.then(work);
    this.#tail = run.catch(() => {});
    return run;
  }

  async #sync(image: Image): Promise<SyncResult> {
    const callsBefore = this.#kernel.stats.ffiCalls;
    const total = { writes: 0, changedPorts: 0, removedPorts: 0, planMs: 0, applyMs: 0 };
    let refused: readonly Refusal[] = [];
    let failure: SyncFailure | null = null;
    try {
      for (let round = 1; round <= MAX_ROUNDS; round += 1) {
        const done = await this.#transact(image);
        for (const key of ["writes", "changedPorts", "removedPorts", "planMs", "applyMs"] as const)
          total[key] += done[key];
        ({ refused, failure } = done);
        const roomier = refused.some((each) => each.code === "E_MAP_FULL" && done.roomIn.has(each.map));
        if (failure || !roomier) break;
      }
    } catch (error) {
      this.#giveUpState();
      failure = { code: "E_KERNEL", map: null, errno: null, message: errorMessage(error) };
    }
    if (failure) this.#logger.error({ ...failure }, "cannot write the service maps");
    this.#logRefusals(refused);
    const ffiCalls = this.#kernel.stats.ffiCalls - callsBefore;
    return { ...total, ffiCalls, refused, failure, retryAfterMs: this.#retryAfter(refused) };
  }

  /** One plan and its writes. */
  async #transact(image: Image): Promise<Transacted> {
    const started = this.#clock.now();
    const state = await this.#load(started);
    this.#syncs += 1;
    const plan = await inSlices(makePlan(state, image, this.#syncs, started), this.#slices);
    const planned = this.#clock.now();
    const { applied, failure } =
      plan.size > 0 ? await this.#kernel.apply(plan.writes) : { applied: 0, failure: null };
    const applyMs = this.#clock.now() - planned;
    this.#audit?.wrote(plan.writes, applied);
    await inSlices(applyToMirror(state.mirror, plan.writes, applied), this.#slices);
    if (failure) await this.#recover(state, failure);
    else plan.finish(this.#clock.now() + this.#quarantineMs);
    const { changedPorts, removedPorts, refused, roomIn } = plan;
    const counts = { writes: applied, changedPorts, removedPorts, planMs: planned - started, applyMs };
    return { ...counts, refused, roomIn, failure: failure && describeFailure(failure) };
  }

  async #load(now: number): Promise<State> {
    if (this.#state) return this.#state;
    const mirror = await readMirror(this.#kernel, this.#slices);
    const floors = this.#believed && generationFloors(this.#believed, mirror);
    return await this.#restore(mirror, now, floors);
  }

  async #restore(mirror: Mirror, now: number, floors: GenerationFloors | null): Promise<State> {
    const quarantineUntil = now + this.#quarantineMs;
    this.#state = await inSlices(restore(mirror, { quarantineUntil, floors }), this.#slices);
    this.#believed = null;
    return this.#state;
  }

  /** The mirror knows what has been applied; when the refusal cannot be explained, the kernel is read again instead. */
  async #recover(state: State, failure: NonNullable<ApplyResult["failure"]>): Promise<void> {
    this.#giveUpState();
    if (HARMLESS_ERRNOS.includes(errnoName(failure.errno)))
      await this.#restore(state.mirror, this.#clock.now(), null);
  }

  #giveUpState(): void {
    this.#believed = this.#state?.mirror ?? this.#believed;
    this.#state = null;
  }

  /** With nobody writing. */
  async #auditAlone(): Promise<AuditResult> {
    try {
      if (!this.#state) {
        const repair = this.#image && (await this.#sync(this.#image));
        return { differences: new Map(), repair, failure: null };
      }
      const { mirror } = this.#state;
      const found = await readMirror(this.#kernel, this.#slices);
      const differences = await inSlices(compareMirrors(mirror, found), this.#slices);
      if (differences.size === 0) return { differences, repair: null, failure: null };
      this.#logger.warn(
        { maps: Object.fromEntries(differences) },
        "the service maps were changed by someone else",
      );
      const floors = generationFloors(mirror, found);
      this.#giveUpState();
      await this.#restore(found, this.#clock.now(), floors);
      return { differences, repair: this.#image && (await this.#sync(this.#image)), failure: null };
    } catch (error) {
      return this.#cannotRead(error);
    }
  }

  #cannotRead(error: unknown): AuditResult {
    this.#giveUpState();
    const failure = { code: "E_KERNEL", map: null, errno: null, message: errorMessage(error) } as const;
    return { differences: new Map(), repair: null, failure };
  }

  #retryAfter(refused: readonly Refusal[]): number | null {
    if (!this.#state || !refused.some((each) => each.code === "E_MAP_FULL")) return null;
    const { indexes, families } = this.#state;
    const releases = [
      indexes,
      ...FAMILIES.flatMap((family) => [families[family].cells, families[family].slots]),
    ]
      .map(({ nextRelease }) => nextRelease)
      .filter((time) => time !== null);
    return releases.length === 0 ? null : Math.max(0, Math.min(...releases) - this.#clock.now());
  }

  /** Each refusal once, until it changes or ends. */
  #logRefusals(refused: readonly Refusal[]): void {
    for (const each of refused)
      if (this.#refusals.get(each.key) !== each.message)
        this.#logger.error(
          { ...each },
          this.#image?.servicePorts.has(each.key)
            ? "a service port was not written"
            : "a NodePort address or service network was not written",
        );
    this.#refusals = new Map(refused.map(({ key, message }) => [key, message]));
  }
}

interface Transacted extends Pick<Plan, "changedPorts" | "removedPorts" | "refused" | "roomIn"> {
  readonly writes: number;
  readonly planMs: number;
  readonly applyMs: number;
  readonly failure: SyncFailure | null;
}

function errnoName(errno: number): string {
  try {
    return getSystemErrorName(-Math.abs(errno));
  } catch {
    return `errno ${errno}`;
  }
}

function describeFailure({ map, errno }: NonNullable<ApplyResult["failure"]>): SyncFailure {
  const name = errnoName(errno);
  return {
    code: "E_WRITE_REFUSED",
    map,
    errno: name,
    message: `the kernel refused a write to map ${map}: ${name}`,
  };
}
