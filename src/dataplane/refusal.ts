// SPDX-License-Identifier: Apache-2.0
/** Why a service port was left as it was: never half of it is written, and the others are not touched by it. */
import { MAX_CHOICE_COUNT } from "../abi/hash.js";
import type { MapName } from "../abi/maps.gen.js";

export interface CapacityRefusal {
  readonly code: "E_MAP_FULL";
  /** ServicePortImage.key; or which address or range of the node it is, in words. */
  readonly key: string;
  readonly map: MapName;
  /** Entries that it needs beside all that is there, the sets it replaces included. */
  readonly needed: number;
  readonly available: number;
  /** It may fit when the quarantine of what was let go is over: see SyncResult.retryAfterMs. */
  readonly waiting: boolean;
  readonly message: string;
}

export interface OtherRefusal {
  readonly code: "E_TOO_MANY_BACKENDS" | "E_FRONTEND_TAKEN";
  readonly key: string;
  readonly message: string;
}

export type Refusal = CapacityRefusal | OtherRefusal;

export function mapFull(
  key: string,
  map: MapName,
  needed: number,
  available: number,
  waiting: boolean,
  subject: string = `Service port ${key}`,
): CapacityRefusal {
  const message = `${subject}: needs ${needed} entries of map ${map}, ${available} are free${
    waiting ? " (more will be, when what was let go is out of use)" : ""
  }`;
  return { code: "E_MAP_FULL", key, map, needed, available, waiting, message };
}

export function tooManyBackends(key: string, backends: number): OtherRefusal {
  const message = `Service port ${key}: ${backends} backends, one choice holds at most ${MAX_CHOICE_COUNT}`;
  return { code: "E_TOO_MANY_BACKENDS", key, message };
}

export function frontendTaken(key: string, frontend: string, holder: string): OtherRefusal {
  const message = `Service port ${key}: its frontend ${frontend} belongs to ${holder}`;
  return { code: "E_FRONTEND_TAKEN", key, message };
}
