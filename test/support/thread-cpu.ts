// SPDX-License-Identifier: Apache-2.0
import { readFileSync } from "node:fs";

export interface ThreadTimes {
  /** Milliseconds for which this thread has been on a CPU: without V8's helper threads, which hold nobody up. */
  readonly cpuMs: number;
  /** Milliseconds for which it could have run, and others on the machine did. */
  readonly waitedMs: number;
}

/** What a turn of the event loop costs by itself is told by the differences, on a busy machine too. */
export function threadTimes(): ThreadTimes {
  const [cpu, waited] = readFileSync("/proc/thread-self/schedstat", "latin1").split(" ");
  return { cpuMs: Number(cpu) / 1e6, waitedMs: Number(waited) / 1e6 };
}
