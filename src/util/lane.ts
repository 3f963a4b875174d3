// SPDX-License-Identifier: Apache-2.0
/**
 * Single flight with coalescing: at most one run at a time, and however often it is asked for meanwhile, one more run
 * afterwards. So level-triggered work ("make it as it should be") never overlaps, never queues up and never misses a change.
 */
export class Lane<T> {
  readonly #work: () => Promise<T>;
  #running: Promise<T> | null = null;
  #next: Promise<T> | null = null;

  /** `work` reads whatever it needs when it starts: what was changed before `request()` is seen by the run it returns. */
  constructor(work: () => Promise<T>) {
    this.#work = work;
  }

  get busy(): boolean {
    return this.#running !== null;
  }

  /**
   * Asks for a run that starts after this call, and resolves or rejects with that very run. Requests made while another
   * run is under way share one follow-up run, which starts whether or not the one before it failed.
   */
  request(): Promise<T> {
    // A follow-up that has not started yet sees this request too, even if the run before it has just ended.
    if (this.#next !== null) return this.#next;
    if (this.#running === null) return this.#start();
    this.#next = this.#follow(this.#running);
    return this.#next;
  }

  /** Resolves when nothing runs and nothing is asked for. Failures are reported to those who requested, not here. */
  async idle(): Promise<void> {
    for (let last = this.#next ?? this.#running; last !== null; last = this.#next ?? this.#running) {
      await last.catch(() => {});
    }
  }

  #start(): Promise<T> {
    const run = (async () => await this.#work())().finally(() => {
      if (this.#running === run) this.#running = null;
    });
    this.#running = run;
    return run;
  }

  async #follow(current: Promise<T>): Promise<T> {
    await current.catch(() => {});
    this.#next = null;
    return await this.#start();
  }
}
