// SPDX-License-Identifier: Apache-2.0
/** Long computations that give the event loop back: written as generators that yield wherever a pause is harmless. */

/** Work that may be paused at each `yield`. */
export type Sliced<T> = Generator<void, T, void>;

export interface SliceOptions {
  /** Milliseconds of work before the event loop gets a turn. */
  readonly budgetMs?: number;
  /** Monotonic milliseconds. */
  readonly now?: () => number;
  /** Resolves when other work has had its turn. `workedMs`: since the last one. */
  readonly turn?: (workedMs: number) => Promise<void>;
}

/** Long enough that pauses cost nothing, short enough that a timer or a health check never waits noticeably. */
export const SLICE_BUDGET_MS = 8;

/** Resolves when other work that is due has had its turn. */
export const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** Tells when a budget of work is used up, and pauses then: for steps that are no generator's, since they wait between. */
export class Pace {
  readonly #budgetMs: number;
  readonly #now: () => number;
  readonly #turn: (workedMs: number) => Promise<void>;
  #started: number;

  constructor({ budgetMs = SLICE_BUDGET_MS, now = () => performance.now(), turn = nextTurn }: SliceOptions) {
    this.#budgetMs = budgetMs;
    this.#now = now;
    this.#turn = turn;
    this.#started = now();
  }

  get isDue(): boolean {
    return this.#workedMs >= this.#budgetMs;
  }

  get #workedMs(): number {
    return this.#now() - this.#started;
  }

  /** Resolves when other work has had its turn; at once while there is budget left. */
  async rest(): Promise<void> {
    if (!this.isDue) return;
    await this.#turn(this.#workedMs);
    this.#started = this.#now();
  }
}

/** Runs `work` to its end, pausing whenever its budget is used up. What it throws is thrown here. */
export async function inSlices<T>(work: Sliced<T>, options: SliceOptions = {}): Promise<T> {
  const pace = new Pace(options);
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
    if (pace.isDue) await pace.rest();
  }
}

/** Runs `work` to its end without a pause: for tests and one-shot commands. */
export function atOnce<T>(work: Sliced<T>): T {
  for (;;) {
    const step = work.next();
    if (step.done) return step.value;
  }
}
