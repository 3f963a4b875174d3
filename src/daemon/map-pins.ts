// SPDX-License-Identifier: Apache-2.0
/**
 * Keeps the pins of the maps. Programs hold their maps without them, so nobody notices that one is gone, until the next agent
 * finds an empty place there, makes a new map, and serves from that while established flows are in the old one.
 */
import { join } from "node:path";
import { MAP_NAMES, type MapName } from "../abi/maps.gen.js";
import type { NativeLibrary } from "../native/lib.js";
import type { LoadedObject } from "../native/object.js";
import { errorMessage } from "../util/errors.js";
import type { Logger } from "../util/log.js";

/** Ids of maps by name. */
export type MapIds = ReadonlyMap<string, number>;

/** Ids of the maps that are pinned in a directory. */
export function pinnedMaps(library: Pick<NativeLibrary, "pinnedMap">, pins: string): MapIds {
  const ids = new Map<string, number>();
  for (const name of MAP_NAMES) {
    try {
      const id = library.pinnedMap(join(pins, name));
      if (id !== null) ids.set(name, id);
    } catch {
      // Something else has its place: the map has no pin.
    }
  }
  return ids;
}

export interface MapPinsOptions {
  readonly library: Pick<NativeLibrary, "pinnedMap" | "pinMap">;
  /** Whose maps they are. */
  readonly object: Pick<LoadedObject, "infos">;
  /** Their directory. */
  readonly pins: string;
  readonly log: Logger;
  /** Told how many pins had to be made again. */
  readonly onFound?: (pins: number) => void;
}

export class MapPins {
  readonly #options: MapPinsOptions;
  /** What was said last, so that it is said once. */
  #complaint = "";

  constructor(options: MapPinsOptions) {
    this.#options = options;
  }

  /** Makes those again that are gone, or that are another map's. Never rejects. */
  async ensure(): Promise<void> {
    const { library, object, pins, log, onFound } = this.#options;
    try {
      const missing: MapName[] = [];
      const pinned = pinnedMaps(library, pins);
      for (const { name, id } of object.infos()) {
        if (pinned.get(name) === id) continue;
        library.pinMap(id, join(pins, name));
        missing.push(name);
      }
      this.#complaint = "";
      if (missing.length === 0) return;
      log.warn({ pins, maps: missing }, "pins of maps were removed by someone else");
      onFound?.(missing.length);
    } catch (error) {
      const reason = errorMessage(error);
      if (reason !== this.#complaint) log.error({ pins, reason }, "pins of maps cannot be kept");
      this.#complaint = reason;
    }
  }
}
