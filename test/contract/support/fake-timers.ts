// SPDX-License-Identifier: Apache-2.0
/** Time that only tests move. Sockets are real: `settle` gives them turns of the event loop, and nothing else passes. */
import type { Timers } from "../../../src/util/timers.js";

interface Pending {
  readonly at: number;
  readonly order: number;
  readonly callback: () => void;
}

export class FakeTimers implements Timers {
  #now = 0;
  #order = 0;
  readonly #pending = new Set<Pending>();
  readonly #epoch: number;

  constructor(epoch: number = Date.parse("2026-01-31T08:00:00Z")) {
    this.#epoch = epoch;
  }

  now(): number {
    return this.#now;
  }

  epoch(): number {
    return this.#epoch + this.#now;
  }

  after(milliseconds: number, callback: () => void): () => void {
    const pending = { at: this.#now + milliseconds, order: this.#order++, callback };
    this.#pending.add(pending);
    return () => void this.#pending.delete(pending);
  }

  /** Callbacks that are still to come. */
  get pending(): number {
    return this.#pending.size;
  }

  /** Moves time on, calling back what falls due in order, with a chance for everything to happen in between. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.#now + milliseconds;
    for (;;) {
      const next = this.#earliest(end);
      if (next === null) break;
      this.#pending.delete(next);
      this.#now = Math.max(this.#now, next.at);
      next.callback();
      await settle(4);
    }
    this.#now = end;
    await settle(4);
  }

  #earliest(end: number): Pending | null {
    let found: Pending | null = null;
    for (const each of this.#pending) {
      if (each.at > end) continue;
      if (found === null || each.at < found.at || (each.at === found.at && each.order < found.order))
        found = each;
    }
    return found;
  }
}

/** Long enough for a request over loopback to come, if one is under way: what does not come in these turns is not coming. */
export async function settle(turns = 30): Promise<void> {
  for (let i = 0; i < turns; i += 1) await new Promise((resolve) => setTimeout(resolve, 1));
}
