// SPDX-License-Identifier: Apache-2.0
/** A CPU profile of this process, as V8 takes it: a .cpuprofile for Chrome's developer tools or speedscope. */
import { Session } from "node:inspector/promises";
import { AppError } from "../../util/errors.js";
import { sleep, systemTimers } from "../../util/timers.js";

/** E_PROFILE_BUSY: another profile is being taken. */
export type ProfileErrorCode = "E_PROFILE_BUSY";

export const MOST_PROFILE_SECONDS = 300;

let busy = false;

/**
 * Takes as long as it says; the process goes on with its work meanwhile, somewhat slower. Ends early with the signal.
 *
 * @param seconds from 1 to MOST_PROFILE_SECONDS
 * @returns the profile as JSON text
 * @throws AppError<ProfileErrorCode>
 */
export async function cpuProfile(seconds: number, signal: AbortSignal): Promise<string> {
  if (busy) throw new AppError<ProfileErrorCode>("E_PROFILE_BUSY", "Another CPU profile is being taken");
  busy = true;
  const session = new Session();
  try {
    session.connect();
    await session.post("Profiler.enable");
    await session.post("Profiler.start");
    await sleep(systemTimers, seconds * 1000, signal).catch(() => {}); // it ends early with the signal
    const { profile } = await session.post("Profiler.stop");
    return JSON.stringify(profile);
  } finally {
    session.disconnect();
    busy = false;
  }
}
