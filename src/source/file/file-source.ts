// SPDX-License-Identifier: Apache-2.0
/**
 * Manifests in files and directories, watched. Each change that holds still for a moment becomes a new Snapshot; a change
 * that looks half-written gets a little longer; whatever cannot be read or understood leaves its last good state in force.
 */
import { Readable } from "node:stream";
import type { Problem, Snapshot } from "../../model/types.js";
import type { Cidr } from "../../net/cidr.js";
import type { Clock } from "../../util/clock.js";
import { UserError } from "../../util/errors.js";
import type { Logger } from "../../util/log.js";
import { inSlices } from "../../util/slices.js";
import { Assembler } from "../assemble.js";
import type { SnapshotListener, Source } from "../source.js";
import { DirectoryWatch } from "./directory-watch.js";
import type { Limits } from "./limits.js";
import { DEFAULT_LIMITS } from "./limits.js";
import type { Listing, ManifestFile } from "./listing.js";
import { fileProblem, isUnchanged, listManifests } from "./listing.js";
import type { FileState, ParseContext } from "./parse.js";
import { readStream, readWhole } from "./read-manifests.js";
import { loadYaml } from "./yaml.js";

export interface FileSourceOptions {
  /** Files and directories; "-" is standard input, read once at the start and in force for ever. */
  readonly paths: readonly string[];
  /** Which node this is. */
  readonly nodeName: string;
  /** --service-cidr: counts beside what the ServiceCIDR objects say. */
  readonly serviceCIDRs?: readonly Cidr[];
  /** How long after the last sign of a change to look, and how long a file must hold still. Milliseconds. */
  readonly settleMs?: number;
  /** How long a file that looks half-written must hold still. Milliseconds. */
  readonly suspectMs?: number;
  /** How often to look without any sign: for file systems that give none. Milliseconds. */
  readonly rescanMs?: number;
  readonly limits?: Partial<Limits>;
  /** What "-" reads; the process's standard input unless given. */
  readonly stdin?: AsyncIterable<Uint8Array | string>;
}

export interface FileSourceDependencies {
  readonly logger: Logger;
  readonly clock: Clock;
}

/** What is in force of one file. */
interface Held {
  /** Of the last content that was looked at, good or not. */
  fingerprint: string;
  readonly identity: string;
  /** Its last good state, or the only one there ever was. */
  readonly state: FileState;
  /** What is wrong with the content now. */
  problems: readonly Problem[];
}

const STDIN = "-";
const SETTLE_MS = 30;
const SUSPECT_MS = 250;
/** An editor that renames leaves its file missing for an instant. */
const GONE_MS = 100;
const RESCAN_MS = 2000;

export class FileSource implements Source {
  readonly #paths: readonly string[];
  /** Null when "-" is not among the paths. */
  readonly #stdin: AsyncIterable<Uint8Array | string> | null;
  readonly #settleMs: number;
  readonly #suspectMs: number;
  readonly #rescanMs: number;
  readonly #limits: Limits;
  readonly #logger: Logger;
  readonly #clock: Clock;
  readonly #assembler: Assembler;
  readonly #listeners = new Set<SnapshotListener>();
  readonly #watch: DirectoryWatch;
  #context: ParseContext | null = null;

  #held = new Map<string, Held>();
  #listingProblems: readonly Problem[] = [];
  /** Since when a fingerprint has been seen, or a file missed, by the monotonic clock. */
  readonly #seen = new Map<string, { fingerprint: string; since: number }>();
  #snapshot: Snapshot | null = null;
  #problems: readonly Problem[] = [];
  #lacking: readonly string[] = [];

  #timer: NodeJS.Timeout | null = null;
  #dueAt = Number.POSITIVE_INFINITY;
  #scanning: Promise<void> | null = null;
  /** Standard input as long as it is read: it may never end. */
  #reading: Readable | null = null;
  #closed = false;

  constructor(options: FileSourceOptions, { logger, clock }: FileSourceDependencies) {
    // "manifests/" is "manifests": what is below it begins with that and a slash.
    this.#paths = options.paths.filter((path) => path !== "-").map((path) => path.replace(/(.)\/+$/, "$1"));
    this.#stdin = options.paths.includes("-") ? (options.stdin ?? process.stdin) : null;
    this.#settleMs = options.settleMs ?? SETTLE_MS;
    this.#suspectMs = options.suspectMs ?? SUSPECT_MS;
    this.#rescanMs = options.rescanMs ?? RESCAN_MS;
    this.#limits = { ...DEFAULT_LIMITS, ...options.limits };
    this.#logger = logger;
    this.#clock = clock;
    this.#assembler = new Assembler(options.nodeName, options.serviceCIDRs);
    this.#watch = new DirectoryWatch(logger, () => this.#wake(this.#settleMs));
  }

  /** The last Snapshot; null before the first. */
  get snapshot(): Snapshot | null {
    return this.#snapshot;
  }

  /** What is wrong with the manifests as they are now. */
  get problems(): readonly Problem[] {
    return this.#problems;
  }

  /**
   * Files of which something is left out with no last good state to stand for it: the Snapshot may lack Services and
   * endpoints that are meant to be there. Empty: it is whole.
   */
  get lacking(): readonly string[] {
    return this.#lacking;
  }

  /** Calls back with each new Snapshot, or new problems with the same one. Returns how to stop. */
  on(listener: SnapshotListener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /**
   * Reads everything once, calls the listeners, and watches until `signal` or close(). Resolves after the first Snapshot, or
   * without one when it was closed before.
   * @throws UserError when a path does not exist or cannot be looked at: at the start that is a mistake.
   */
  async start(signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    signal?.addEventListener("abort", () => void this.close(), { once: true });
    const context = { readYaml: await loadYaml(), limits: this.#limits };
    this.#context = context;
    const listing = await listManifests(this.#paths);
    const missing = this.#paths.find((path) => listing.unknown.includes(path));
    if (missing !== undefined) {
      const problem = listing.problems.find(({ origin }) => origin?.file === missing);
      throw new UserError(`${missing} ${problem?.message ?? "cannot be read"}`, {
        fields: { path: missing },
      });
    }
    if (this.#stdin !== null && !this.#closed) await this.#readStdin(this.#stdin, context);
    if (this.#closed) return;
    this.#watch.update(listing.directories);
    await this.#scanOnce();
    if (!this.#closed) this.#wake(this.#rescanMs);
  }

  async #readStdin(stream: AsyncIterable<Uint8Array | string>, context: ParseContext): Promise<void> {
    this.#reading = stream instanceof Readable ? stream : null;
    const state = await readStream("stdin", stream, context);
    this.#reading = null;
    this.#held.set(STDIN, { fingerprint: "", identity: "", state, problems: state.problems });
  }

  /** Stops watching; resolves when nothing is under way any more. Idempotent. */
  async close(): Promise<void> {
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    this.#watch.close();
    this.#listeners.clear();
    this.#reading?.destroy();
    await this.#scanning?.catch(() => undefined);
  }

  /** Looks after so many milliseconds, or earlier if that was planned already. Signs of change push nothing back for ever. */
  #wake(afterMs: number): void {
    const at = this.#clock.now() + afterMs;
    if (this.#closed || at >= this.#dueAt) return;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#dueAt = at;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#dueAt = Number.POSITIVE_INFINITY;
      void this.#rescan();
    }, afterMs);
  }

  async #rescan(): Promise<void> {
    if (this.#scanning !== null) {
      this.#wake(this.#settleMs);
      return;
    }
    await this.#scanOnce().catch((error: unknown) =>
      this.#logger.error({ err: error }, "manifest scan failed"),
    );
    this.#wake(this.#rescanMs);
  }

  async #scanOnce(): Promise<void> {
    const scan = this.#scan();
    this.#scanning = scan;
    try {
      await scan;
    } finally {
      this.#scanning = null;
    }
  }

  /** One look at everything. Only files whose fingerprint changed are read. */
  async #scan(): Promise<void> {
    const listing = await listManifests(this.#paths);
    if (this.#closed) return;
    this.#watch.update(listing.directories);
    const next = new Map<string, Held>();
    const stdin = this.#held.get(STDIN);
    if (stdin !== undefined) next.set(STDIN, stdin);
    for (const file of listing.files) {
      const held = await this.#look(file);
      if (this.#closed) return;
      if (held !== null) next.set(file.path, held);
    }
    const lost = this.#keepUnlisted(listing, next);
    await this.#publish(next, [...listing.problems, ...lost]);
  }

  /** What is to be in force of this file: its new content, or what was in force while the new one is not settled. */
  async #look(file: ManifestFile): Promise<Held | null> {
    const before = this.#held.get(file.path) ?? null;
    if (before !== null && before.fingerprint === file.fingerprint) return before;
    const stillFor = this.#stillFor(file.path, file.fingerprint, file.changedAt);
    const first = this.#snapshot === null;
    if (!first && stillFor < this.#settleMs) return this.#later(before, this.#settleMs - stillFor);
    const context = this.#context;
    if (context === null) return before;
    const state = await readWhole(file.path, file.size, context, before?.state ?? null);
    // What was written while it was read is read again.
    if (!first && !(await isUnchanged(file))) return this.#later(before, this.#settleMs);
    const suspect = !first && (state.broken || shrankInPlace(before, state, file));
    if (suspect && stillFor < this.#suspectMs) return this.#later(before, this.#suspectMs - stillFor);
    return this.#accept(file, before, state);
  }

  #accept(file: ManifestFile, before: Held | null, state: FileState): Held {
    const { fingerprint, identity } = file;
    // A file that was always half broken is followed as far as it goes; one of which nothing could be read says nothing.
    const says = !state.broken || (before?.state.broken && state.documents.length > 0);
    if (before === null || says) return { fingerprint, identity, state, problems: state.problems };
    const note = fileProblem(file.path, "keeps its last good state as long as it is broken", "warning");
    return { fingerprint, identity, state: before.state, problems: [...state.problems, note] };
  }

  #later(before: Held | null, afterMs: number): Held | null {
    this.#wake(Math.max(1, Math.ceil(afterMs)));
    return before;
  }

  /** For how long this has been so: by the file's own time, or by when it was first seen where clocks differ. */
  #stillFor(path: string, fingerprint: string, changedAt: number): number {
    const now = this.#clock.now();
    const seen = this.#seen.get(path);
    if (seen === undefined || seen.fingerprint !== fingerprint)
      this.#seen.set(path, { fingerprint, since: now });
    const observed = now - (this.#seen.get(path)?.since ?? now);
    return Math.max(observed, Date.now() - changedAt);
  }

  /** Files that are not listed: gone for good after a moment, or unknown, and then they stay in force. */
  #keepUnlisted(listing: Listing, next: Map<string, Held>): Problem[] {
    const problems: Problem[] = [];
    const listed = new Set(listing.files.map((file) => file.path));
    for (const [path, held] of this.#held) {
      if (listed.has(path) || path === STDIN) continue;
      if (listing.unknown.some((root) => path === root || path.startsWith(`${root}/`))) {
        next.set(path, held);
        problems.push(
          fileProblem(path, "keeps its last good state as long as it cannot be looked at", "warning"),
        );
        continue;
      }
      const missingFor = this.#stillFor(path, "missing", Number.POSITIVE_INFINITY);
      if (missingFor >= GONE_MS) this.#seen.delete(path);
      else {
        next.set(path, held);
        this.#wake(Math.ceil(GONE_MS - missingFor));
      }
    }
    return problems;
  }

  async #publish(next: Map<string, Held>, listingProblems: readonly Problem[]): Promise<void> {
    const first = this.#snapshot === null;
    const unchanged =
      !first && sameEntries(this.#held, next) && sameProblems(this.#listingProblems, listingProblems);
    this.#held = next;
    this.#listingProblems = listingProblems;
    if (unchanged) return;
    const held = Array.from(next.values());
    const objects = held.flatMap((file) => file.state.objects);
    const assembled = await inSlices(this.#assembler.assemble(objects));
    if (this.#closed) return;
    const problems = [...listingProblems, ...held.flatMap((file) => file.problems), ...assembled.problems];
    this.#tell(problems, held);
    const same = this.#snapshot !== null && sameSnapshot(this.#snapshot, assembled.snapshot);
    const lacking = lackingFiles(next, listingProblems);
    if (same && sameProblems(this.#problems, problems) && sameTexts(this.#lacking, lacking)) return;
    if (!same) this.#snapshot = assembled.snapshot;
    this.#problems = Object.freeze(problems);
    this.#lacking = lacking;
    for (const listener of this.#listeners)
      listener(this.#snapshot ?? assembled.snapshot, this.#problems, this.#lacking);
  }

  /** Logs what is new; nothing is said twice. */
  #tell(problems: readonly Problem[], held: readonly Held[]): void {
    const known = new Set(this.#problems.map(problemKey));
    for (const problem of problems) {
      if (known.has(problemKey(problem))) continue;
      const fields = {
        file: problem.origin?.file ?? null,
        line: problem.origin?.line ?? null,
        object: problem.object,
        field: problem.field,
        problem: problem.message,
      };
      if (problem.severity === "error") this.#logger.error(fields, "manifest error");
      else this.#logger.warn(fields, "manifest warning");
    }
    if (this.#snapshot !== null) return;
    for (const { origin, object, reason } of held.flatMap((file) => file.state.ignored)) {
      this.#logger.debug({ file: origin.file, line: origin.line, object, reason }, "manifest object ignored");
    }
  }
}

/** A file that cannot even be looked at lacks everything, unless its last good state is in force. */
function lackingFiles(held: ReadonlyMap<string, Held>, listingProblems: readonly Problem[]): string[] {
  const files = new Set<string>();
  for (const [path, { state }] of held) if (state.lacking) files.add(path === STDIN ? "stdin" : path);
  for (const { severity, origin } of listingProblems) {
    const file = origin?.file ?? "";
    if (severity === "error" && !held.has(file)) files.add(file);
  }
  return Array.from(files);
}

/** Rewritten where it lies, and less than before: as a write looks that is not finished. */
function shrankInPlace(before: Held | null, state: FileState, file: ManifestFile): boolean {
  return (
    before !== null && before.identity === file.identity && state.objects.length < before.state.objects.length
  );
}

function sameTexts(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((text, i) => text === b[i]);
}

function sameSnapshot(a: Snapshot, b: Snapshot): boolean {
  return a.node === b.node && sameEntries(a.services, b.services) && sameEntries(a.slices, b.slices);
}

function sameEntries<T>(a: ReadonlyMap<string, T>, b: ReadonlyMap<string, T>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of b) {
    if (a.get(key) !== value) return false;
  }
  return true;
}

/** The line is left out: a problem that moves within its file is no news. */
function problemKey(problem: Problem): string {
  return [problem.origin?.file, problem.object, problem.field, problem.message].join("\n");
}

function sameProblems(a: readonly Problem[], b: readonly Problem[]): boolean {
  return (
    a.length === b.length &&
    a.every((problem, i) => b[i] !== undefined && problemKey(problem) === problemKey(b[i]))
  );
}
