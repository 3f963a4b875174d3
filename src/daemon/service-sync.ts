// SPDX-License-Identifier: Apache-2.0
/** From a snapshot to the kernel's maps: compile, reconcile, and say what happened. Single flight, and coalescing. */
import { HoldBack } from "../dataplane/hold-back.js";
import type { Reconciler, SyncResult } from "../dataplane/reconciler.js";
import { type Compiler, createCompiler } from "../image/compile.js";
import type { Image } from "../image/types.js";
import type { Problem, Snapshot } from "../model/types.js";
import { type Clock, systemClock } from "../util/clock.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { inSlices } from "../util/slices.js";

export interface ServiceSyncDependencies {
  readonly reconciler: Reconciler;
  readonly log: Logger;
  readonly clock?: Clock;
  /** Called once, after the first transaction that was committed whole. */
  readonly onReady: () => void;
}

const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;

/** Identity of a problem: what is logged once, and again when it comes back. */
const problemText = ({ severity, origin, object, field, message }: Problem): string =>
  [severity, origin?.file, origin?.line, object, field, message].join("\0");

export class ServiceSync {
  readonly #reconciler: Reconciler;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #onReady: () => void;
  readonly #compiler: Compiler = createCompiler();
  readonly #lane = new Lane(() => this.#run());
  /** What the source last said; null until its first complete read: nothing is written before. */
  #snapshot: Snapshot | null = null;
  /** Files that the snapshot lacks something of. */
  #lacking: readonly string[] = [];
  /** The source has been whole once: from then on it has a last good state of everything. */
  #whole = false;
  /** What the predecessor left; null when nothing needs to be held back. */
  #holdBack: HoldBack | null = null;
  #heldBack: Readonly<Record<string, unknown>> | null = null;
  #image: Image | null = null;
  #logged: ReadonlySet<string> = new Set();
  #ready = false;
  #stopped = false;
  #retryMs = FIRST_RETRY_MS;
  #timer: NodeJS.Timeout | null = null;

  constructor({ reconciler, log, clock, onReady }: ServiceSyncDependencies) {
    this.#reconciler = reconciler;
    this.#log = log;
    this.#clock = clock ?? systemClock;
    this.#onReady = onReady;
  }

  /**
   * The newest state of the source. A newer one replaces one that still waits. `lacking`: files of which something is left
   * out; until the source has been whole once, what the kernel holds and the snapshot does not name stays.
   */
  publish(snapshot: Snapshot, lacking: readonly string[] = []): void {
    this.#snapshot = snapshot;
    this.#lacking = lacking;
    this.#request();
  }

  /** Compares the kernel with what was written, and repairs it. */
  async audit(): Promise<void> {
    if (this.#image === null || this.#stopped) return;
    this.#warnOfHeldBack();
    const { repair, failure } = await this.#reconciler.audit();
    if (failure !== null) this.#log.warn({ ...failure }, "audit failed");
    if (repair !== null) this.#report(repair, this.#image, this.#clock.now());
  }

  /** Starts nothing more; resolves when what is under way is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#lane.idle();
  }

  #request(): void {
    if (this.#stopped) return;
    this.#lane.request().catch((error: unknown) => {
      this.#log.error({ err: error }, "cannot sync");
      this.#retryIn(this.#backoff());
    });
  }

  async #run(): Promise<void> {
    const snapshot = this.#snapshot;
    const lacking = this.#lacking;
    if (snapshot === null || this.#stopped) return;
    const start = this.#clock.now();
    const compiled = await inSlices(this.#compiler.compileSliced(snapshot));
    this.#logProblems(compiled.problems);
    const image = await this.#withHeldBack(compiled, snapshot, lacking);
    this.#image = image;
    this.#report(await this.#reconciler.sync(image), image, start);
  }

  /** Nothing shrinks before the source has been whole once. */
  async #withHeldBack(image: Image, snapshot: Snapshot, lacking: readonly string[]): Promise<Image> {
    this.#whole ||= lacking.length === 0;
    if (this.#whole) {
      if (this.#heldBack !== null) this.#log.info({}, "manifests are whole, nothing is held back any more");
      this.#holdBack = null;
      this.#heldBack = null;
      return image;
    }
    this.#holdBack ??= new HoldBack(await this.#reconciler.found());
    const { image: merged, ...held } = await inSlices(this.#holdBack.merge(image, snapshot));
    const some = held.servicePorts + held.backends > 0;
    this.#heldBack = some ? { code: "held_back", files: lacking, ...held } : null;
    this.#warnOfHeldBack();
    return merged;
  }

  /** With every sync and audit, as long as it lasts: what runs on may be long gone. */
  #warnOfHeldBack(): void {
    if (this.#heldBack !== null)
      this.#log.warn(this.#heldBack, "manifests are incomplete, what they do not name stays");
  }

  #report(result: SyncResult, image: Image, start: number): void {
    if (result.failure !== null) {
      this.#retryIn(this.#backoff());
      return;
    }
    this.#retryMs = FIRST_RETRY_MS;
    if (result.retryAfterMs !== null) this.#retryIn(result.retryAfterMs);
    let backends = 0;
    for (const port of image.servicePorts.values()) backends += port.backends.length;
    this.#log.info(
      {
        writes: result.writes,
        ffiCalls: result.ffiCalls,
        services: image.servicePorts.size,
        backends,
        refused: result.refused.length,
        durationMs: Math.round((this.#clock.now() - start) * 1000) / 1000,
      },
      "synced",
    );
    if (this.#ready) return;
    this.#ready = true;
    this.#onReady();
  }

  #backoff(): number {
    const wait = this.#retryMs;
    this.#retryMs = Math.min(2 * wait, LAST_RETRY_MS);
    return wait;
  }

  #retryIn(milliseconds: number): void {
    if (this.#stopped) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#request(), milliseconds);
  }

  #logProblems(problems: readonly Problem[]): void {
    const texts = new Set(problems.map(problemText));
    for (const problem of problems) {
      if (this.#logged.has(problemText(problem))) continue;
      const { severity, origin, object, field, message } = problem;
      const fields = { file: origin?.file, line: origin?.line, object, field, problem: message };
      if (severity === "error") this.#log.error(fields, "service problem");
      else this.#log.warn(fields, "service problem");
    }
    this.#logged = texts;
  }
}
