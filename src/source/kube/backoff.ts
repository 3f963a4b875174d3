// SPDX-License-Identifier: Apache-2.0
/** How long to wait before the next attempt: client-go's numbers for reflectors. */
import type { Clock } from "../../util/clock.js";

export interface BackoffOptions {
  readonly firstMs: number;
  readonly lastMs: number;
  readonly factor: number;
  /** So long without a failure, and the next one counts as the first. */
  readonly resetMs: number;
}

export const REFLECTOR_BACKOFF: BackoffOptions = {
  firstMs: 800,
  lastMs: 30_000,
  factor: 2,
  resetMs: 120_000,
};

export class Backoff {
  readonly #options: BackoffOptions;
  readonly #clock: Clock;
  readonly #random: () => number;
  #step: number;
  #last = Number.NEGATIVE_INFINITY;

  /** `random`: in [0, 1). */
  constructor(clock: Clock, random: () => number, options: BackoffOptions = REFLECTOR_BACKOFF) {
    this.#clock = clock;
    this.#random = random;
    this.#options = options;
    this.#step = options.firstMs;
  }

  /**
   * Milliseconds to wait after a failure: from one to two steps, at random (a jitter factor of 1, as client-go calls it), so
   * that no two nodes stay in time with each other. Never less than `atLeastMs`: what the server asked for.
   */
  next(atLeastMs: number | null = null): number {
    const { firstMs, lastMs, factor, resetMs } = this.#options;
    const now = this.#clock.now();
    if (now - this.#last > resetMs) this.#step = firstMs;
    const wait = Math.max(this.#step * (1 + this.#random()), atLeastMs ?? 0);
    this.#step = Math.min(this.#step * factor, lastMs);
    // Time that was spent waiting is no time without failures.
    this.#last = now + wait;
    return wait;
  }
}
