// SPDX-License-Identifier: Apache-2.0
/** Follows interfaces, addresses and routes: whatever changes, the keeper looks again. */
import type { InterfaceKeeper } from "../dataplane/attach.js";
import type { InterfaceWatch } from "../native/interfaces.js";
import type { NativeLibrary } from "../native/lib.js";
import { errorMessage } from "../util/errors.js";
import { Lane } from "../util/lane.js";
import type { Logger } from "../util/log.js";

export interface FollowerDependencies {
  readonly watcher: Pick<NativeLibrary, "watch">;
  readonly keeper: Pick<InterfaceKeeper, "sync">;
  readonly log: Logger;
  /** After a failure. Milliseconds. */
  readonly retryMs?: number;
  /** How long after a change of routes to look. Milliseconds. */
  readonly routeMs?: number;
  /** After each look: null, or why it failed. */
  readonly onLook?: (error: unknown) => void;
}

const RETRY_MS = 1_000;
/** A new pod's link is wanted at once; routes, of which only the default ones matter, may change by the thousand. */
const ROUTE_MS = 250;

export class InterfaceFollower {
  readonly #watcher: Pick<NativeLibrary, "watch">;
  readonly #keeper: Pick<InterfaceKeeper, "sync">;
  readonly #log: Logger;
  readonly #retryMs: number;
  readonly #routeMs: number;
  readonly #onLook: (error: unknown) => void;
  /** Looks are one at a time; those asked for meanwhile are one more. */
  readonly #lane: Lane<void> = new Lane(async () => {
    const audit = this.#audit;
    this.#audit = false;
    if (!this.#stopped) await this.#keeper.sync(audit);
  });
  #audit = false;
  #watch: InterfaceWatch | null = null;
  #timer: NodeJS.Timeout | null = null;
  #started = false;
  #stopped = false;

  constructor({ watcher, keeper, log, retryMs, routeMs, onLook }: FollowerDependencies) {
    this.#watcher = watcher;
    this.#keeper = keeper;
    this.#log = log;
    this.#retryMs = retryMs ?? RETRY_MS;
    this.#routeMs = routeMs ?? ROUTE_MS;
    this.#onLook = onLook ?? (() => {});
  }

  /**
   * Watches, and resolves when what is there now has been dealt with.
   *
   * @throws NativeError when nothing can be watched
   */
  start(): Promise<void> {
    this.#started = true;
    this.#listen();
    return this.look();
  }

  /** What the keeper goes by is not what it was: looks now, as look(), unless start() is still to come and will. */
  async changed(): Promise<void> {
    if (this.#started) await this.look();
  }

  /** Looks now. Never rejects: a failure is logged, and tried again. */
  async look(audit = false): Promise<void> {
    this.#audit ||= audit;
    try {
      await this.#lane.request();
      this.#onLook(null);
    } catch (error) {
      this.#onLook(error);
      this.#log.error({ err: error }, "cannot follow interfaces");
      this.#lookIn(this.#retryMs);
    }
  }

  /** Starts nothing more; resolves when what is under way is done. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#watch?.close();
    if (this.#timer !== null) clearTimeout(this.#timer);
    await this.#lane.idle();
  }

  #listen(): void {
    const changed = (kind: string): void => {
      if (this.#stopped) return;
      if (kind === "route") this.#lookIn(this.#routeMs);
      else void this.look();
    };
    const broken = (error: Error): void => {
      if (this.#stopped) return;
      this.#log.warn({ reason: errorMessage(error) }, "interface events have ended");
      this.#watch?.close();
      this.#watch = null;
      this.#lookIn(this.#retryMs);
    };
    this.#watch = this.#watcher.watch(["link", "address", "route"], ({ kind }) => changed(kind), broken);
  }

  /** Looks after a while, and watches again when the events have ended. Earlier plans hold. */
  #lookIn(milliseconds: number): void {
    if (this.#stopped || this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      try {
        if (this.#watch === null) this.#listen();
      } catch (error) {
        this.#log.error({ err: error }, "cannot watch interfaces");
        this.#lookIn(this.#retryMs);
      }
      void this.look();
    }, milliseconds);
  }
}
