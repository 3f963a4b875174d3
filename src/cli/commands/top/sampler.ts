// SPDX-License-Identifier: Apache-2.0
/** Reads the maps at a steady pace, and flows, of which there may be very many, at a slower one. */
import {
  type ActiveFlows,
  countActiveFlows,
  type FlowOptions,
  type NamedReads,
  readTraffic,
  type TrafficReading,
  ticksOf,
} from "../../../dataplane/view.js";
import { sleep, type Timers } from "../../../util/timers.js";
import { type Interval, type IsWanted, intervalOf } from "./rates.js";

/** Milliseconds from the end of one count of the flows to the next, at least. */
const COUNT_FLOWS_MS = 5000;
/** And so many times what the last one took: reading flows shall not be what the node is busy with. */
const COUNT_FLOWS_SHARE = 20;

export interface SamplerOptions {
  readonly kernel: NamedReads;
  /** Throws when these are no longer the maps that the programs count in. */
  readonly assertPinned: () => void;
  readonly timers: Timers;
  /** CLOCK_MONOTONIC. */
  readonly nowNs: () => bigint;
  readonly timeouts: FlowOptions["timeouts"];
  readonly intervalMs: number;
  readonly isWanted: IsWanted;
}

export class Sampler {
  readonly #options: SamplerOptions;
  #before: TrafficReading | null = null;
  #active: ActiveFlows | null = null;
  #counting: Promise<void> | null = null;
  #countAt = 0;

  constructor(options: SamplerOptions) {
    this.#options = options;
  }

  /**
   * Waits until an interval is over and says what happened in it. The first time there are two readings; flows are counted
   * then, too, and later whenever it is time.
   *
   * @throws what the signal was aborted with, or what the maps reject with; it may be called again
   */
  async next(signal: AbortSignal): Promise<Interval> {
    const { timers, intervalMs, isWanted } = this.#options;
    const first = this.#before === null;
    const before = this.#before ?? (await this.#read());
    this.#before = before;
    await sleep(timers, Math.max(0, before.at + intervalMs - timers.now()), signal);
    this.#count();
    if (first) await this.#counting;
    const after = await this.#read();
    this.#before = after;
    return intervalOf(before, after, this.#active, isWanted);
  }

  async #read(): Promise<TrafficReading> {
    const { kernel, timers, assertPinned } = this.#options;
    const reading = await readTraffic(kernel, () => timers.now());
    assertPinned();
    return reading;
  }

  /** In the background; what cannot be counted now stays as it was, and the reading beside it says why. */
  #count(): void {
    const { kernel, timers, timeouts, nowNs } = this.#options;
    const started = timers.now();
    if (this.#counting !== null || started < this.#countAt) return;
    this.#counting = countActiveFlows(kernel, { timeouts, nowTicks: ticksOf(nowNs()) })
      .then(
        (active) => {
          this.#active = active;
        },
        () => {},
      )
      .finally(() => {
        this.#counting = null;
        const now = timers.now();
        this.#countAt = now + Math.max(COUNT_FLOWS_MS, COUNT_FLOWS_SHARE * (now - started));
      });
  }
}
