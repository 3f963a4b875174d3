// SPDX-License-Identifier: Apache-2.0
/** Waiting as a parameter: the clock, and what happens later by it. Tests give one whose time they move themselves. */
import type { Clock } from "./clock.js";
import { systemClock } from "./clock.js";

export interface Timers extends Clock {
  /** Calls back once, after so many milliseconds. Returns how to prevent that. */
  after(milliseconds: number, callback: () => void): () => void;
  /** Milliseconds since 1970: for what others have dated. */
  epoch(): number;
}

export const systemTimers: Timers = {
  now: systemClock.now,
  epoch: () => Date.now(),
  after(milliseconds, callback) {
    const timer = setTimeout(callback, milliseconds);
    return () => clearTimeout(timer);
  },
};

/**
 * Resolves after so many milliseconds.
 * @throws what the signal was aborted with.
 */
export function sleep(timers: Timers, milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) {
      reject(signal.reason);
      return;
    }
    const onAbort = (): void => {
      cancel();
      reject(signal.reason);
    };
    const cancel = timers.after(milliseconds, () => {
      signal.removeEventListener("abort", onAbort);
      resolve();
    });
    signal.addEventListener("abort", onAbort, { once: true });
  });
}
