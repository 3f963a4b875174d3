// SPDX-License-Identifier: Apache-2.0
/** What an archive, and a dump of all maps, says of the machine that it is made on. */
import { hostname, release, version } from "node:os";
import { LAYOUT_VERSION } from "../../abi/abi-hash.gen.js";
import type { NativeMapInfo } from "../../native/maps.js";
import { productVersion } from "../../util/version.js";
import { abiText, FORMAT, FORMAT_VERSION, type Meta } from "./format.js";

/** Null where the native library cannot be loaded: that is in what doctor says. */
async function libbpfVersion(): Promise<string | null> {
  try {
    const { NativeLibrary } = await import("../../native/lib.js");
    return new NativeLibrary().libbpfVersion();
  } catch {
    return null;
  }
}

/**
 * Of now, and of this machine. Maps that are read afterwards may be a little younger: their entries' ages are then 0.
 *
 * @param noMaps why there are none
 */
export async function metaOf(
  bpfRoot: string,
  maps: readonly NativeMapInfo[],
  noMaps: string | null,
): Promise<Meta> {
  return {
    format: FORMAT,
    version: FORMAT_VERSION,
    written: new Date().toISOString(),
    host: hostname(),
    versions: {
      portolan: productVersion(),
      node: process.version,
      kernel: `${release()} ${version()}`,
      libbpf: await libbpfVersion(),
      layout: LAYOUT_VERSION,
      abi: abiText(),
    },
    bpfRoot,
    maps,
    noMaps,
    monotonicNs: process.hrtime.bigint().toString(),
  };
}
