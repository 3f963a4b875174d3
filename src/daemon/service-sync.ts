// SPDX-License-Identifier: Apache-2.0
/** From a snapshot to the kernel's maps: compile, reconcile, and say what happened. Single flight, and coalescing. */
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

  /** The newest state of the source. A newer one replaces one that still waits. */
  publish(snapshot: Snapshot): void {
    this.#snapshot = snapshot;
    this.#request();
  }

  /** Compares the kernel with what was written, and repairs it. */
  async audit(): Promise<void> {
    if (this.#image === null || this.#stopped) return;
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
      this.#log.error({ err: error }, "cannot compile");
      this.#retryIn(this.#backoff());
    });
  }

  async #run(): Promise<void> {
    const snapshot = this.#snapshot;
    if (snapshot === null || this.#stopped) return;
    const start = this.#clock.now();
    const image = await inSlices(this.#compiler.compileSliced(snapshot));
    this.#image = image;
    this.#logProblems(image.problems);
    this.#report(await this.#reconciler.sync(image), image, start);
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
