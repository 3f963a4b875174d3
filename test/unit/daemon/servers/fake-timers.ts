// SPDX-License-Identifier: Apache-2.0
import type { Timers } from "../../../../src/util/timers.js";

interface Due {
  readonly at: number;
  readonly callback: () => void;
}

/** Time that moves when it is told to. */
export class FakeTimers implements Timers {
  #now = 1_000;
  readonly #start: number;
  #due: Due[] = [];

  /** @param start milliseconds since 1970 */
  constructor(start: number = Date.UTC(2026, 10, 23, 12)) {
    this.#start = start - this.#now;
  }

  now(): number {
    return this.#now;
  }

  epoch(): number {
    return this.#start + this.#now;
  }

  after(milliseconds: number, callback: () => void): () => void {
    const due = { at: this.#now + milliseconds, callback };
    this.#due.push(due);
    return () => {
      this.#due = this.#due.filter((other) => other !== due);
    };
  }

  get waiting(): readonly number[] {
    return this.#due.map(({ at }) => at - this.#now);
  }

  /** Calls back whatever is due meanwhile, in order. */
  advance(milliseconds: number): void {
    const end = this.#now + milliseconds;
    for (;;) {
      const next = this.#due.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      this.#due = this.#due.filter((other) => other !== next);
      this.#now = next.at;
      next.callback();
    }
    this.#now = end;
  }
}
