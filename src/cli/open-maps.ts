// SPDX-License-Identifier: Apache-2.0
import { bpfRoot, requirePins } from "../dataplane/pins.js";
import { NativeLibrary } from "../native/lib.js";
import type { NativeMaps } from "../native/maps.js";
import type { CommonOptions } from "./command.js";

/** What a command that reads the kernel works with. */
export interface OpenMaps {
  readonly library: NativeLibrary;
  readonly maps: NativeMaps;
  /** The directory of the pins. */
  readonly pins: string;
}

/**
 * Opens the pinned maps for reading, calls `use`, and closes them.
 *
 * @throws AppError E_NO_PINS, E_OTHER_LAYOUT, E_PERMISSION, or what the native library finds wrong
 */
export async function withMaps<T>(options: CommonOptions, use: (open: OpenMaps) => Promise<T>): Promise<T> {
  const pins = requirePins(bpfRoot(options.bpfRoot));
  const library = new NativeLibrary();
  const maps = library.openPins(pins);
  try {
    return await use({ library, maps, pins });
  } finally {
    await maps.close();
  }
}
