// SPDX-License-Identifier: Apache-2.0
/** What there is to know of a source's traffic with the API server: counted here, shown by whoever serves metrics. */
import type { Clock } from "../../util/clock.js";
import type { ResourceName } from "./resources.js";

/** How a watch ended. All but the first three are failures. */
export type WatchResult =
  /** The server ended it, as it does after timeoutSeconds. */
  | "closed"
  /** It ended here, later than the server should have ended it. */
  | "deadline"
  /** The connection went while the watch was open. */
  | "lost"
  /** Nothing came for so long that the connection is taken for dead. */
  | "silent"
  /** The server ended it at once. */
  | "short"
  /** The resource version is too old. */
  | "gone"
  /** It came to be none: refused, no connection, no headers. */
  | "refused"
  /** An ERROR event. */
  | "error"
  | "garbage";

export type RelistReason = "start" | "gone" | "garbage" | "failing";

export type ListMode = "streaming" | "paged";

/** Hears of things as they happen: for histograms and counters. Must not throw. */
export interface SourceObserver {
  watchEnded?(resource: ResourceName, result: WatchResult): void;
  listed?(resource: ResourceName, mode: ListMode, durationMs: number): void;
  relisted?(resource: ResourceName, reason: RelistReason): void;
  /** An object or a line that is none. */
  garbage?(resource: ResourceName): void;
  /** A request's answer; `code`: of HTTP, or "<error>" when there was none. `durationMs`: until its headers, or its failure. */
  request?(method: string, host: string, code: string, durationMs: number): void;
}

/** Counters since the start. */
export interface ResourceStats {
  readonly resource: ResourceName;
  readonly synced: boolean;
  /** Objects held. */
  readonly objects: number;
  /** Since the last event or bookmark, or the last list. Null: none yet. Milliseconds. */
  readonly lastEventAgeMs: number | null;
  readonly watches: Readonly<Partial<Record<WatchResult, number>>>;
  readonly relists: Readonly<Partial<Record<RelistReason, number>>>;
  readonly lastListMs: number | null;
  readonly garbage: number;
}

export class ResourceCounters {
  readonly #resource: ResourceName;
  readonly #clock: Clock;
  readonly #observer: SourceObserver;
  readonly #watches: Partial<Record<WatchResult, number>> = {};
  readonly #relists: Partial<Record<RelistReason, number>> = {};
  #lastEventAt: number | null = null;
  #lastListMs: number | null = null;
  #garbage = 0;

  constructor(resource: ResourceName, clock: Clock, observer: SourceObserver) {
    this.#resource = resource;
    this.#clock = clock;
    this.#observer = observer;
  }

  event(): void {
    this.#lastEventAt = this.#clock.now();
  }

  watchEnded(result: WatchResult): void {
    this.#watches[result] = (this.#watches[result] ?? 0) + 1;
    this.#observer.watchEnded?.(this.#resource, result);
  }

  listed(mode: ListMode, durationMs: number): void {
    this.#lastListMs = durationMs;
    this.event();
    this.#observer.listed?.(this.#resource, mode, durationMs);
  }

  relisted(reason: RelistReason): void {
    this.#relists[reason] = (this.#relists[reason] ?? 0) + 1;
    this.#observer.relisted?.(this.#resource, reason);
  }

  garbage(): void {
    this.#garbage += 1;
    this.#observer.garbage?.(this.#resource);
  }

  snapshot(synced: boolean, objects: number): ResourceStats {
    const at = this.#lastEventAt;
    return {
      resource: this.#resource,
      synced,
      objects,
      lastEventAgeMs: at === null ? null : this.#clock.now() - at,
      watches: { ...this.#watches },
      relists: { ...this.#relists },
      lastListMs: this.#lastListMs,
      garbage: this.#garbage,
    };
  }
}
