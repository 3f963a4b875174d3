// SPDX-License-Identifier: Apache-2.0
/** Time as a parameter, so that tests need no sleep. */
export interface Clock {
  /** Monotonic milliseconds. */
  now(): number;
}

export const systemClock: Clock = { now: () => performance.now() };
