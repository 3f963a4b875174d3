// SPDX-License-Identifier: Apache-2.0
/*
 * Tells a machine that stands still from an event loop that does: a thread of its own looks at the clock all the time,
 * whatever the main thread does. For who measures the turns of an event loop; others take awake.ts.
 */
import { Worker } from "node:worker_threads";

const TICK_MS = 10;
/** What others on a busy machine may take at once; the rest of a longer gap is lost. */
const LATE_MS = 100;

/** Plain JavaScript, as a thread has no loader. `shared`: when it looked last, and what was lost until then. */
const WATCH = `
const { workerData: shared } = require("node:worker_threads");
setInterval(() => {
  const now = Number(process.hrtime.bigint()) / 1e6;
  shared[1] += Math.max(0, now - shared[0] - ${LATE_MS});
  shared[0] = now;
}, ${TICK_MS});
`;

const nowMs = (): number => Number(process.hrtime.bigint()) / 1e6;

/** Starts the thread. Returns milliseconds for which the machine stood still since then; the thread holds up no end. */
export function watchStandstills(): () => number {
  const shared = new Float64Array(new SharedArrayBuffer(16));
  shared[0] = nowMs();
  new Worker(WATCH, { eval: true, workerData: shared }).unref();
  return () => {
    const [looked = 0, lost = 0] = shared;
    return lost + Math.max(0, nowMs() - looked - LATE_MS);
  };
}
