// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps a store equal to one resource of the API server: list once, watch from there, and list again only when what was
 * missed cannot be had otherwise. Nothing but its signal ends it. The rules are those of client-go's reflector.
 */
import type { Logger } from "../../util/log.js";
import type { Sliced } from "../../util/slices.js";
import type { Timers } from "../../util/timers.js";
import { sleep } from "../../util/timers.js";
import { Backoff } from "./backoff.js";
import { ApiError, asApiError, statusError } from "./errors.js";
import type { Pacer } from "./pacer.js";
import { listPaged, skippingGarbage } from "./pager.js";
import type { RawObject } from "./raw.js";
import { parseJson, readBookmark, readEvent, readObject } from "./raw.js";
import type { ResourceSpec } from "./resources.js";
import { selectorQuery } from "./resources.js";
import { LineSplitter } from "./split-lines.js";
import type { RelistReason, ResourceCounters, WatchResult } from "./stats.js";
import type { Replacement } from "./store.js";
import type { ApiResponse, Transport } from "./transport.js";

/** Where a reflector puts what it reads. */
export interface ReflectorTarget {
  put(raw: RawObject): void;
  remove(key: string): void;
  replacement(): Replacement;
}

/** What is known of the server, shared by all reflectors of a process. */
export interface ServerAbilities {
  /** A list can come as a watch (sendInitialEvents). Tried first. */
  streamingLists: boolean;
}

export interface ReflectorDependencies {
  readonly transport: Transport;
  readonly timers: Timers;
  readonly pacer: Pacer;
  readonly logger: Logger;
  readonly counters: ResourceCounters;
  readonly abilities: ServerAbilities;
  /** In [0, 1). */
  readonly random: () => number;
  /** Runs the work that puts a list in its place; nobody may look at the target meanwhile. */
  readonly commit: (work: Sliced<void>) => Promise<void>;
}

/** Some proxies hold headers back until the first event, which comes within a minute as a bookmark. */
const WATCH_HEADERS_MS = 90_000;
/** Bookmarks come about once a minute; without any byte for so long the connection is taken for dead. */
const WATCH_IDLE_MS = 150_000;
const WATCH_SECONDS = 300;
/** How much later than the server the client ends a watch. */
const WATCH_GRACE_MS = 10_000;
/** A server that takes no part in streaming lists, and does not say so, sends no end of one. */
const STREAMING_LIST_MS = 120_000;
/** A watch that ends earlier has failed, whatever the server says (client-go: VeryShortWatchError). */
const SHORT_WATCH_MS = 1_000;
/** After so many answers that are none, what is held may be of no use: etcd may have been restored, for one. */
const MOST_FAILED_WATCHES = 5;
/** An optional resource that is not there may come with the next upgrade. */
const ABSENT_RETRY_MS = 5 * 60_000;

/** Failures that say nothing of the resource version. */
const OF_THE_CONNECTION: readonly string[] = [
  "connect",
  "headers_timeout",
  "too_many_requests",
  "credentials",
  "unauthorized",
  "forbidden",
];

export class Reflector {
  /** Resolves when a whole list is in its place, or an optional resource is known not to be there. */
  readonly synced: Promise<void>;
  #spec: ResourceSpec;
  readonly #target: ReflectorTarget;
  readonly #transport: Transport;
  readonly #timers: Timers;
  readonly #pacer: Pacer;
  readonly #logger: Logger;
  readonly #counters: ResourceCounters;
  readonly #abilities: ServerAbilities;
  readonly #random: () => number;
  readonly #commit: (work: Sliced<void>) => Promise<void>;
  readonly #backoff: Backoff;
  #resolveSynced: () => void = () => {};
  #isSynced = false;
  #started = false;

  /** The target is equal to the server's state as of #version: a watch can go on from there. */
  #listed = false;
  /** Of the last event, bookmark or list. Opaque: only ever given back. */
  #version = "";
  /** Where the next list begins: "0" at first, then #version, then "" (the newest) when that is of no use. */
  #from = "0";
  #reason: RelistReason = "start";
  /** When the open watch got its headers; null: it has none. */
  #openedAt: number | null = null;
  #failedWatches = 0;
  #absent = false;
  /** The list that is under way, or has failed, came as a watch. */
  #streaming = false;
  /** The next list is another try of one that failed. */
  #again = false;

  /** The resource version that the target is equal to; "" before the first list. */
  get resourceVersion(): string {
    return this.#version;
  }

  constructor(spec: ResourceSpec, target: ReflectorTarget, dependencies: ReflectorDependencies) {
    this.#spec = spec;
    this.#target = target;
    this.#transport = dependencies.transport;
    this.#timers = dependencies.timers;
    this.#pacer = dependencies.pacer;
    this.#logger = dependencies.logger;
    this.#counters = dependencies.counters;
    this.#abilities = dependencies.abilities;
    this.#random = dependencies.random;
    this.#commit = dependencies.commit;
    this.#backoff = new Backoff(dependencies.timers, dependencies.random);
    this.synced = new Promise((resolve) => {
      this.#resolveSynced = resolve;
    });
  }

  get isSynced(): boolean {
    return this.#isSynced;
  }

  /**
   * Works until the signal is aborted; then resolves. Never rejects otherwise.
   * @throws Error when it is called twice.
   */
  async run(signal: AbortSignal): Promise<void> {
    if (this.#started) throw new Error(`the reflector of ${this.#spec.name} runs already`);
    this.#started = true;
    while (!signal.aborted) {
      const waitMs = await this.#step(signal);
      if (waitMs > 0) await sleep(this.#timers, waitMs, signal).catch(() => undefined);
    }
  }

  /** One list or watch, to its end. Returns how long to wait before the next. Milliseconds. */
  async #step(signal: AbortSignal): Promise<number> {
    this.#openedAt = null;
    try {
      if (this.#listed) await this.#watch(signal);
      else if (this.#abilities.streamingLists) await this.#listStreaming(signal);
      else {
        await this.#listPaged(signal);
        return 0;
      }
      return signal.aborted ? 0 : this.#watchClosed();
    } catch (error) {
      if (signal.aborted) return 0;
      const failure = asApiError(this.#spec.path, error);
      return this.#listed ? this.#watchFailed(failure) : this.#listFailed(failure);
    }
  }

  async #listPaged(signal: AbortSignal): Promise<void> {
    const began = this.#beginList(false);
    const staged = this.#target.replacement();
    const onGarbage = (error: ApiError): void => this.#skipped(error);
    const version = await listPaged(
      this.#spec,
      this.#from,
      staged,
      { transport: this.#transport, pacer: this.#pacer, onGarbage },
      signal,
    );
    await this.#place(staged, version, signal);
    this.#counters.listed("paged", this.#timers.now() - began);
  }

  /** A watch that begins with everything there is, and a bookmark after it. */
  async #listStreaming(signal: AbortSignal): Promise<void> {
    const began = this.#beginList(true);
    const limit = new AbortController();
    const stop = (): void => limit.abort(signal.reason);
    signal.addEventListener("abort", stop, { once: true });
    if (signal.aborted) stop();
    const late = new ApiError("total_timeout", `${this.#spec.path}: the streaming list does not end`);
    const cancel = this.#timers.after(STREAMING_LIST_MS, () => limit.abort(late));
    const from = this.#from === "0" ? "" : this.#from;
    try {
      const response = await this.#open(
        { ...this.#position(from), sendInitialEvents: "true", resourceVersionMatch: "NotOlderThan" },
        limit.signal,
      );
      await this.#follow(response, this.#target.replacement(), limit.signal, () => {
        cancel();
        this.#counters.listed("streaming", this.#timers.now() - began);
      });
      if (!this.#listed) throw new ApiError("connect", `${this.#spec.path}: the streaming list was cut off`);
    } finally {
      cancel();
      signal.removeEventListener("abort", stop);
    }
  }

  #beginList(streaming: boolean): number {
    this.#streaming = streaming;
    if (!this.#again) this.#counters.relisted(this.#reason);
    this.#again = false;
    return this.#timers.now();
  }

  async #watch(signal: AbortSignal): Promise<void> {
    const response = await this.#open(this.#position(this.#version), signal);
    await this.#follow(response, null, signal, () => undefined);
  }

  #position(version: string): Record<string, string> {
    return version === "" ? {} : { resourceVersion: version };
  }

  async #open(position: Record<string, string>, signal: AbortSignal): Promise<ApiResponse> {
    const seconds = WATCH_SECONDS + Math.floor(this.#random() * WATCH_SECONDS);
    const query = {
      ...selectorQuery(this.#spec),
      watch: "1",
      allowWatchBookmarks: "true",
      timeoutSeconds: String(seconds),
      ...position,
    };
    const totalMs = seconds * 1000 + WATCH_GRACE_MS;
    const limits = { headersMs: WATCH_HEADERS_MS, idleMs: WATCH_IDLE_MS, totalMs };
    const response = await this.#transport.open({ path: this.#spec.path, query, ...limits }, signal);
    this.#openedAt = this.#timers.now();
    return response;
  }

  /** Reads events to the end of the watch. `staged`: what comes before the first list is whole goes there. */
  async #follow(
    { body }: ApiResponse,
    staged: Replacement | null,
    signal: AbortSignal,
    onListed: () => void,
  ): Promise<void> {
    const lines = new LineSplitter();
    let listing = staged;
    for await (const chunk of body) {
      for (const line of lines.feed(chunk)) {
        signal.throwIfAborted();
        const ended = this.#take(line, listing);
        if (ended !== null && listing !== null) {
          await this.#place(listing, ended, signal);
          listing = null;
          onListed();
        }
        if (this.#pacer.due) await this.#pacer.pause();
      }
      if (this.#pacer.due) await this.#pacer.pause();
    }
    signal.throwIfAborted();
    // What is cut off in the middle of a line was not the server's wish.
    if (lines.rest > 0) throw new ApiError("connect", `${this.#spec.path}: the watch was cut off`);
  }

  /** One event. Returns the resource version when it ends a streaming list. */
  #take(line: Buffer, listing: Replacement | null): string | null {
    const { type, object } = readEvent(parseJson(line, "a line of the watch"));
    this.#counters.event();
    if (type === "ERROR") throw this.#errorEvent(object);
    if (type === "BOOKMARK") {
      const { resourceVersion, ends } = readBookmark(object, this.#spec);
      if (listing === null) this.#advance(resourceVersion);
      return ends ? resourceVersion : null;
    }
    if (listing !== null) {
      skippingGarbage(
        (error) => this.#skipped(error),
        () => {
          const raw = readObject(object, this.#spec, false);
          if (type === "DELETED") listing.remove(raw.key);
          else listing.put(raw);
        },
      );
      return null;
    }
    const raw = readObject(object, this.#spec, false);
    if (type === "DELETED") this.#target.remove(raw.key);
    else this.#target.put(raw);
    this.#advance(raw.resourceVersion);
    return null;
  }

  #advance(version: string): void {
    this.#version = version;
    this.#failedWatches = 0;
  }

  #errorEvent(object: Readonly<Record<string, unknown>>): ApiError {
    const { code } = object;
    return statusError(`watch of ${this.#spec.name}`, typeof code === "number" ? code : 500, object, null);
  }

  #skipped(error: ApiError): void {
    this.#counters.garbage();
    this.#logger.error(
      { code: error.code, resource: this.#spec.name, error: error.message, ...error.fields },
      "object of the API server left out",
    );
  }

  async #place(staged: Replacement, version: string, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    await this.#commit(staged.commit());
    this.#version = version;
    this.#from = version;
    this.#listed = true;
    this.#absent = false;
    this.#failedWatches = 0;
    this.#markSynced(staged.size());
  }

  #markSynced(objects: number): void {
    if (this.#isSynced) return;
    this.#isSynced = true;
    this.#logger.info({ resource: this.#spec.name, objects }, "resource synced");
    this.#resolveSynced();
  }

  #watchClosed(): number {
    const lasted = this.#lasted();
    if (lasted >= SHORT_WATCH_MS) {
      this.#counters.watchEnded("closed");
      this.#failedWatches = 0;
      return 0;
    }
    const error = new ApiError("server_error", `watch of ${this.#spec.name}: the server ended it at once`);
    return this.#retryWatch("short", error);
  }

  #lasted(): number {
    return this.#openedAt === null ? 0 : this.#timers.now() - this.#openedAt;
  }

  #watchFailed(error: ApiError): number {
    const opened = this.#openedAt !== null;
    switch (error.code) {
      case "gone":
      case "too_new":
        return this.#relist("gone", error.code === "gone" ? this.#version : "", "gone", error);
      case "garbage":
        this.#counters.garbage();
        return this.#relist("garbage", this.#version, "garbage", error);
      case "idle_timeout":
        return this.#rewatch("silent", error);
      case "total_timeout":
        return this.#rewatch("deadline", error);
      case "connect":
        if (opened && this.#lasted() >= SHORT_WATCH_MS) return this.#rewatch("lost", error);
        return this.#retryWatch(opened ? "lost" : "refused", error);
      default:
        return this.#retryWatch(opened ? "error" : "refused", error);
    }
  }

  /** What ends like this has been open: nothing speaks against another one at once. */
  #rewatch(result: WatchResult, error: ApiError): number {
    this.#counters.watchEnded(result);
    this.#logger.debug({ code: error.code, resource: this.#spec.name, result }, "watch ended");
    return 0;
  }

  #retryWatch(result: WatchResult, error: ApiError): number {
    if (result !== "short" && !OF_THE_CONNECTION.includes(error.code)) this.#failedWatches += 1;
    if (this.#failedWatches >= MOST_FAILED_WATCHES) return this.#relist("failing", "", result, error);
    this.#counters.watchEnded(result);
    return this.#wait("watch failed", error);
  }

  #relist(reason: RelistReason, from: string, result: WatchResult, error: ApiError): number {
    this.#counters.watchEnded(result);
    this.#listed = false;
    this.#reason = reason;
    this.#from = from;
    this.#failedWatches = 0;
    return this.#wait("watch failed, listing again", error);
  }

  #listFailed(error: ApiError): number {
    this.#again = true;
    if (this.#simplify(error)) return 0;
    const missing = error.code === "not_found" || error.code === "forbidden";
    if (this.#spec.optional && !this.#listed && missing && (!this.#isSynced || this.#absent)) {
      return this.#doWithout(error);
    }
    // The versions that this server knows have nothing to do with ours.
    if (error.code === "gone" || error.code === "too_new") this.#from = "";
    return this.#wait("list failed", error);
  }

  /** What this server is too old for is not asked for again. False: there is nothing to leave out. */
  #simplify(error: ApiError): boolean {
    const { name, fieldSelector, fieldsMatter } = this.#spec;
    const fields = { resource: name, error: error.message };
    if (error.code === "refused" && !fieldsMatter && /field label not supported/.test(error.message)) {
      this.#logger.info(
        { ...fields, fieldSelector },
        "the server cannot select by this field, reading everything",
      );
      this.#spec = { ...this.#spec, fieldSelector: "", fieldsMatter: true };
      return true;
    }
    if (!this.#streaming || (error.code !== "refused" && error.code !== "total_timeout")) return false;
    if (this.#abilities.streamingLists) this.#logger.info(fields, "no streaming lists, using pages");
    this.#abilities.streamingLists = false;
    return true;
  }

  #doWithout(error: ApiError): number {
    if (!this.#absent) {
      const fields = { resource: this.#spec.name, code: error.code, error: error.message };
      if (error.code === "forbidden") this.#logger.warn(fields, "optional resource may not be read");
      else this.#logger.info(fields, "optional resource is not served");
    }
    this.#absent = true;
    this.#markSynced(0);
    return ABSENT_RETRY_MS * (1 + this.#random());
  }

  #wait(message: string, error: ApiError): number {
    const waitMs = this.#backoff.next(error.retryAfterMs);
    const { code, fields, hint } = error;
    this.#logger.warn(
      {
        code,
        resource: this.#spec.name,
        error: error.message,
        status: fields.status ?? null,
        ...(hint === null ? {} : { hint }),
        retryInMs: Math.round(waitMs),
      },
      message,
    );
    return waitMs;
  }
}
