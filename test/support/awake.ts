// SPDX-License-Identifier: Apache-2.0
/*
 * Time that stands still while the machine does: the same clock as support/awake-clock has for programs in C. It is for
 * whoever waits in vain on purpose, or measures; a wait for what must come has a limit that no machine reaches.
 */

const TICK_MS = 20;
/** What others on a busy machine may take at once; the rest of a longer gap is lost. */
const LATE_MS = 100;

let ticked: number | undefined;
let lostMs = 0;

function tick(): number {
  const now = performance.now();
  if (ticked === undefined) setInterval(tick, TICK_MS).unref();
  else lostMs += Math.max(0, now - ticked - LATE_MS);
  ticked = now;
  return now;
}

/** Milliseconds in which this process could run: {@link performance.now} without the gaps. */
export const awakeNow = (): number => tick() - lostMs;

/** As AbortSignal.timeout(), in milliseconds in which this process could run. */
export function awakeTimeout(milliseconds: number): AbortSignal {
  const controller = new AbortController();
  const end = awakeNow() + milliseconds;
  const look = (): void => {
    const left = end - awakeNow();
    if (left <= 0) controller.abort(new DOMException("the time is over", "TimeoutError"));
    else setTimeout(look, left).unref();
  };
  look();
  return controller.signal;
}

/** A stall shorter than this decides nothing that a test may look at. */
const STANDSTILL_MS = 500;
const BEGINNINGS = 20;

/**
 * Runs what a machine that stands still in the midst of it would make fail. A failure counts when the machine did not
 * stand still; otherwise it is said, and everything begins anew. Something that is wrong fails however often it is tried.
 *
 * @param t hears of each new beginning
 * @param attempt must make everything anew that it looks at
 */
export async function undisturbed<T>(
  t: { diagnostic(message: string): void },
  attempt: () => Promise<T>,
): Promise<T> {
  for (let beginnings = 1; ; beginnings++) {
    awakeNow();
    const before = lostMs;
    try {
      return await attempt();
    } catch (error) {
      awakeNow();
      const lost = Math.round(lostMs - before);
      if (lost < STANDSTILL_MS || beginnings === BEGINNINGS) throw error;
      t.diagnostic(`the machine stood still for ${lost} ms: begun anew (${beginnings}) after ${error}`);
    }
  }
}

/** So often what takes too long is looked at: one that is too long only now and then is hidden by more looks, not cleared. */
const MOST_LOOKS = 8;

/**
 * Runs something that takes no longer than it may when nothing disturbs it, until that has been seen. What takes too long
 * by itself does so each time; what others on a shared machine add is not there every time.
 *
 * @param limit of what is measured
 * @param measure once; all attempts are of the same
 * @returns all that was measured: the last one is below the limit unless all are too long
 */
export async function leastOf(limit: number, measure: () => number | Promise<number>): Promise<number[]> {
  const measured: number[] = [];
  while (measured.length < MOST_LOOKS && !measured.some((value) => value < limit))
    measured.push(await measure());
  return measured;
}
