// SPDX-License-Identifier: Apache-2.0
/** What commands read: this machine's kernel, or the archive that `portolan dump` made of another's. */
import { join } from "node:path";
import type { MapName } from "../abi/maps.gen.js";
import type { ForwardingReport } from "../daemon/forwarding-file.js";
import { assertSameMap, bpfRoot, requirePins } from "../dataplane/pins.js";
import type { Attachment } from "../native/hooks.js";
import type { KernelLookups, KernelReads } from "../native/kernel.js";
import type { NativeLibrary } from "../native/lib.js";
import type { NativeMapInfo, NativeMaps } from "../native/maps.js";
import type { XdpState } from "../native/xdp.js";
import { UserError } from "../util/errors.js";
import type { Meta } from "./archive/format.js";
import type { CommonOptions } from "./command.js";
import type { FoundProblems } from "./problems.js";
import type { ServiceTest } from "./service-text.js";

/** The maps, to be read. */
export interface MapReader extends KernelReads, KernelLookups {
  readonly names: readonly MapName[];
  /** @param countEntries how many entries the hashes hold: reads each of them once */
  infos(countEntries?: boolean): readonly NativeMapInfo[];
}

/** A network interface, as far as the commands show it. */
export interface InterfaceName {
  readonly ifindex: number;
  readonly name: string;
}

/** What is at an XDP hook, as far as commands show it. */
export type XdpHook = Pick<XdpState, "ifindex" | "mode" | "ours" | "name">;

/** What a command that reads works with. */
export interface OpenMaps {
  readonly maps: MapReader;
  /** What is read: the directory of the pins, or the archive. For messages. */
  readonly source: string;
  /** CLOCK_MONOTONIC of the machine that the maps are of, in nanoseconds: now, or when the archive was made. */
  nowNs(): bigint;
  /** The interfaces of this network namespace. */
  interfaces(): readonly InterfaceName[];
  /** Which programs are at these interfaces' hooks. */
  attachments(ifindexes: readonly number[]): Promise<readonly Attachment[]>;
  /** What is at these interfaces' XDP hooks. */
  xdp(ifindexes: readonly number[]): Promise<readonly XdpHook[]>;
  /** Which way the agent of these maps sends new flows of pods, and why; null: it has said nothing. */
  forwarding(): Promise<ForwardingReport | null>;
  /** What the agent of these maps left out of them, as far as it concerns these Services. */
  problems(isWanted: ServiceTest): Promise<FoundProblems>;
  /** Whose maps they are, and of when, as an archive and a dump of all maps begin. Counts the entries of hashes. */
  meta(): Promise<Meta>;
}

/** What a command that writes, or needs the kernel itself, works with. */
export interface OpenKernel {
  readonly library: NativeLibrary;
  readonly maps: NativeMaps;
  /** The directory of the pins. */
  readonly pins: string;
  /**
   * For what goes on for long: that it still reads the maps which programs and agent use. One FFI call.
   *
   * @throws AppError E_PINS_CHANGED
   */
  assertPinned(map: MapName): void;
}

/**
 * Opens the pinned maps for reading, or the archive that `--from` names, calls `use`, and closes them.
 *
 * @throws AppError E_NO_PINS, E_OTHER_LAYOUT, E_PERMISSION, what the native library finds wrong, or E_ARCHIVE
 */
export async function withMaps<T>(options: CommonOptions, use: (open: OpenMaps) => Promise<T>): Promise<T> {
  if (options.from !== undefined) {
    const { openArchive } = await import("./archive/read.js");
    return use(await openArchive(options.from));
  }
  return withKernel(options, ({ library, maps, pins }) =>
    use({
      maps,
      source: pins,
      nowNs: () => process.hrtime.bigint(),
      interfaces: () => library.interfaces(),
      attachments: (ifindexes) => library.attachments(ifindexes),
      xdp: (ifindexes) => library.xdpStates(ifindexes),
      forwarding: async () => {
        const { readForwarding } = await import("../daemon/forwarding-file.js");
        return readForwarding(bpfRoot(options.bpfRoot));
      },
      problems: async (isWanted) => {
        const { findProblems } = await import("./problems.js");
        return findProblems(bpfRoot(options.bpfRoot), isWanted);
      },
      meta: async () => {
        const { metaOf } = await import("./archive/meta.js");
        return metaOf(bpfRoot(options.bpfRoot), maps.infos(true), null);
      },
    }),
  );
}

/**
 * Opens the pinned maps, for reading unless it is said otherwise, calls `use`, and closes them. An archive will not do.
 *
 * @throws AppError E_NO_PINS, E_OTHER_LAYOUT, E_PERMISSION, or what the native library finds wrong; UserError for `--from`
 */
export async function withKernel<T>(
  options: CommonOptions,
  use: (open: OpenKernel) => Promise<T>,
  access: { readonly writable?: boolean } = {},
): Promise<T> {
  if (options.from !== undefined)
    throw new UserError("--from: this needs the kernel, an archive will not do", {
      hint: "Run it on the node, without --from.",
    });
  const pins = requirePins(bpfRoot(options.bpfRoot));
  // Not before it is known that there is something to open with it: the error of the pins says more.
  const { NativeLibrary } = await import("../native/lib.js");
  const library = new NativeLibrary();
  const maps = library.openPins(pins, access);
  try {
    return await use({ library, maps, pins, assertPinned: pinnedTest(library, maps, pins) });
  } finally {
    await maps.close();
  }
}

function pinnedTest(library: NativeLibrary, maps: NativeMaps, pins: string): OpenKernel["assertPinned"] {
  let ids: ReadonlyMap<MapName, number> | null = null;
  return (map) => {
    ids ??= new Map(maps.infos().map(({ name, id }) => [name, id]));
    const [path, opened] = [join(pins, map), ids.get(map)];
    if (opened !== undefined) assertSameMap(path, opened, library.pinnedMap(path));
  };
}
