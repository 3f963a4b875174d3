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
