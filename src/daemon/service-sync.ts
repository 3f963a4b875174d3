// SPDX-License-Identifier: Apache-2.0
/** From a snapshot to the kernel's maps: compile, reconcile, and say what happened. Single flight, and coalescing. */
import { HoldBack } from "../dataplane/hold-back.js";
import type { AuditResult, Reconciler, SyncResult } from "../dataplane/reconciler.js";
import { BackendCount } from "../image/backend-count.js";
import { type Compiler, createCompiler } from "../image/compile.js";
import type { Image } from "../image/types.js";
import type { Problem, ProxyConfig, Snapshot } from "../model/types.js";
import { type Clock, systemClock } from "../util/clock.js";
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";
import { inSlices } from "../util/slices.js";
import type { HostView } from "./host-view.js";
import type { SnapshotChanges } from "./metrics/sync-metrics.js";
import type { SyncWatcher } from "./metrics/sync-watch.js";

export interface ServiceSyncDependencies {
  readonly reconciler: Reconciler;
  readonly log: Logger;
  readonly proxy: ProxyConfig;
  readonly host: Pick<HostView, "facts" | "refresh">;
  readonly clock?: Clock;
  /** Called once, after the first transaction that was committed whole. */
  readonly onReady: () => void;
  /** The kernel holds this image now, which was compiled from this snapshot. Also called when nothing had to be written. */
  readonly onCommitted?: (image: Image, snapshot: Snapshot) => void;
  /** With the first compile, and with each that finds other problems than the one before. */
  readonly onProblems?: (problems: readonly Problem[]) => void;
  /** Hears of each step: health and metrics. */
  readonly watcher?: SyncWatcher;
  /** The longest time between two attempts to write what was refused (1.11). Milliseconds. @default 5000 */
  readonly syncPeriodMs?: number;
}

/** What the kernel was last told. */
export interface CompiledState {
  readonly image: Image;
  readonly snapshot: Snapshot;
  /** The source has told nothing since. */
  readonly newest: boolean;
  /** There is more in the image than the snapshot names: see HoldBack. */
  readonly heldBack: boolean;
}

const FIRST_RETRY_MS = 100;
/** kube-proxy waits for its syncPeriod, 30 s: a write costs less here. */
const LAST_RETRY_MS = 5_000;

const NOBODY: SyncWatcher = {
  queued() {},
  started() {},
  applied() {},
  failed() {},
  audited() {},
  heldBack() {},
};

/** Identity of a problem: what is logged once, and again when it comes back. */
const problemText = ({ severity, origin, object, field, message }: Problem): string =>
  [severity, origin?.file, origin?.line, object, field, message].join("\0");

export class ServiceSync {
  readonly #reconciler: Reconciler;
  readonly #log: Logger;
  readonly #clock: Clock;
  readonly #host: Pick<HostView, "facts" | "refresh">;
  readonly #onReady: () => void;
  readonly #onCommitted: (image: Image, snapshot: Snapshot) => void;
  readonly #onProblems: (problems: readonly Problem[]) => void;
  readonly #watcher: SyncWatcher;
  readonly #lastRetryMs: number;
  readonly #compiler: Compiler;
  readonly #proxy: ProxyConfig;
  readonly #backends = new BackendCount();
  readonly #lane = new Lane(() => this.#run());
  readonly #audits = new Lane(() => this.#audit());
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
  /** That #image was compiled from. */
  #compiled: Snapshot | null = null;
  /** Null: nothing has been compiled yet. */
  #logged: ReadonlySet<string> | null = null;
  #problems: readonly Problem[] | null = null;
  /** The next sync compares all there is: nothing is known of the kernel, or not all that was meant is there (1.12). */
  #full = true;
  /** The facts of the host are older than what is known to have changed. */
  #hostStale = false;
  #ready = false;
  #stopped = false;
  readonly #stopping = new AbortController();
  #retryMs = FIRST_RETRY_MS;
  #timer: NodeJS.Timeout | null = null;

  constructor(dependencies: ServiceSyncDependencies) {
    const { reconciler, log, proxy, host, clock, onReady, onCommitted, onProblems, watcher } = dependencies;
    this.#reconciler = reconciler;
    this.#log = log;
    this.#host = host;
    this.#clock = clock ?? systemClock;
    this.#onReady = onReady;
    this.#onCommitted = onCommitted ?? (() => {});
    this.#onProblems = onProblems ?? (() => {});
    this.#watcher = watcher ?? NOBODY;
    this.#lastRetryMs = Math.min(LAST_RETRY_MS, dependencies.syncPeriodMs ?? LAST_RETRY_MS);
    this.#compiler = createCompiler(proxy);
    this.#proxy = proxy;
  }

  /**
   * The newest state of the source. A newer one replaces one that still waits. `lacking`: files of which something is left
   * out; until the source has been whole once, what the kernel holds and the snapshot does not name stays. `changes`: how
   * many objects are others, where the source does not count them itself.
   */
  publish(snapshot: Snapshot, lacking: readonly string[] = [], changes?: SnapshotChanges): void {
    this.#snapshot = snapshot;
    this.#lacking = lacking;
    this.#watcher.queued(changes);
    this.#request();
  }

  /** Something of the host has changed: looks at it anew, and compiles again from the snapshot that there is. */
  hostChanged(): void {
    this.#hostStale = true;
    if (this.#snapshot === null) return;
    this.#watcher.queued();
    this.#request();
  }

  /**
   * Compares the kernel with what was written, and repairs it; and looks who listens on this host now. Null: nothing has been
   * written yet, or stop() has ended it.
   */
  audit(): Promise<AuditResult | null> {
    return this.#audits.request();
  }

  async #audit(): Promise<AuditResult | null> {
    if (this.#image === null || this.#stopped) return null;
    this.#warnOfHeldBack();
    if (await this.#host.refresh()) this.hostChanged();
    if (this.#stopped) return null;
    const start = this.#clock.now();
    const audit = await this.#reconciler.audit(this.#stopping.signal).catch((error: unknown) => {
      if (this.#stopped) return null;
      throw error;
    });
    if (audit === null) return null;
    const { repair, failure } = audit;
    this.#watcher.audited(audit);
    if (failure !== null) this.#log.warn({ ...failure }, "audit failed");
    if (repair === null) return audit;
    this.#full = true;
    this.#report(repair, this.#image, start);
    return audit;
  }

  /** What the kernel was last told, and from which state of the source; null: nothing yet. */
  get compiled(): CompiledState | null {
    const [image, snapshot] = [this.#image, this.#compiled];
    if (image === null || snapshot === null) return null;
    return { image, snapshot, newest: snapshot === this.#snapshot, heldBack: this.#heldBack !== null };
  }

  /** The newest state of the source compiled anew, from nothing; null: there is none yet. */
  async compileAnew(): Promise<Image | null> {
    const { facts } = this.#host;
    if (this.#snapshot === null || facts === null) return null;
    return await inSlices(createCompiler(this.#proxy).compileSliced(this.#snapshot, facts));
  }

  /** Starts nothing more; resolves when what is under way is done. Of an audit that is what it repairs, not what it compares. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#stopping.abort();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await Promise.all([this.#lane.idle(), this.#audits.idle()]);
  }

  #request(): void {
    if (this.#stopped) return;
    this.#lane.request().catch((error: unknown) => {
      this.#log.error({ err: error }, "cannot sync");
      this.#failed("E_SYNC", errorMessage(error));
      this.#retryIn(this.#backoff());
    });
  }

  async #run(): Promise<void> {
    const snapshot = this.#snapshot;
    const lacking = this.#lacking;
    if (snapshot === null || this.#stopped) return;
    const start = this.#clock.now();
    this.#watcher.started();
    // Other endpoints take nobody's address: who listens is looked at for new frontends, and by each audit.
    if (this.#hostStale || snapshot.services !== this.#compiled?.services) {
      this.#hostStale = false; // before it is read: what changes meanwhile is looked at again
      await this.#host.refresh();
    }
    const { facts } = this.#host;
    if (facts === null) return; // hostChanged() comes with the addresses
    const compiled = await inSlices(this.#compiler.compileSliced(snapshot, facts));
    this.#logProblems(compiled.problems);
    const image = await this.#withHeldBack(compiled, snapshot, lacking);
    this.#image = image;
    this.#compiled = snapshot;
    this.#report(await this.#reconciler.sync(image), image, start);
  }

  /** Nothing shrinks before the source has been whole once. */
  async #withHeldBack(image: Image, snapshot: Snapshot, lacking: readonly string[]): Promise<Image> {
    this.#whole ||= lacking.length === 0;
    if (this.#whole) {
      if (this.#heldBack !== null) this.#log.info({}, "manifests are whole, nothing is held back any more");
      if (this.#holdBack !== null) this.#watcher.heldBack(null);
      this.#holdBack = null;
      this.#heldBack = null;
      return image;
    }
    this.#holdBack ??= new HoldBack(await this.#reconciler.found());
    const { image: merged, ...held } = await inSlices(this.#holdBack.merge(image, snapshot));
    const some = held.servicePorts + held.backends > 0;
    this.#heldBack = some ? { code: "held_back", files: lacking, ...held } : null;
    this.#watcher.heldBack(some ? held : null);
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
      this.#failed(result.failure.code, result.failure.message);
      this.#retryIn(this.#backoff());
      return;
    }
    const milliseconds = this.#clock.now() - start;
    this.#watcher.applied(image, { result, milliseconds, full: this.#full });
    this.#full = false;
    this.#retryMs = FIRST_RETRY_MS;
    if (result.retryAfterMs !== null) this.#retryIn(result.retryAfterMs);
    this.#log.info(
      {
        writes: result.writes,
        ffiCalls: result.ffiCalls,
        services: image.servicePorts.size,
        backends: this.#backends.of(image.servicePorts),
        refused: result.refused.length,
        durationMs: Math.round(milliseconds * 1000) / 1000,
      },
      "synced",
    );
    if (!this.#ready) {
      this.#ready = true;
      this.#onReady();
    }
    if (this.#compiled !== null) this.#onCommitted(image, this.#compiled);
  }

  #failed(code: string, message: string): void {
    this.#full = true;
    this.#watcher.failed(code, message);
  }

  #backoff(): number {
    const wait = this.#retryMs;
    this.#retryMs = Math.min(2 * wait, this.#lastRetryMs);
    return wait;
  }

  #retryIn(milliseconds: number): void {
    if (this.#stopped) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#request(), milliseconds);
  }

  #logProblems(problems: readonly Problem[]): void {
    if (this.#problems === problems) return;
    this.#problems = problems;
    const texts = new Set(problems.map(problemText));
    const before = this.#logged;
    for (const problem of problems) {
      if (before?.has(problemText(problem))) continue;
      const { severity, origin, object, field, message } = problem;
      const fields = { file: origin?.file, line: origin?.line, object, field, problem: message };
      if (severity === "error") this.#log.error(fields, "service problem");
      else this.#log.warn(fields, "service problem");
    }
    this.#logged = texts;
    const same = before?.size === texts.size && [...texts].every((text) => before.has(text));
    if (!same) this.#onProblems(problems);
  }
}
