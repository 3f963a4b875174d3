// SPDX-License-Identifier: Apache-2.0
/** What an agent's maps take of the kernel's memory, as `portolan maps` tells it. */
import type { Node } from "../../../src/demo/world/index.js";

export interface MapMemory {
  readonly name: string;
  readonly type: string;
  /** Entries of a hash; cells of an array that hold anything. */
  readonly used: number;
  readonly maxEntries: number;
  /** That the kernel charges for the map: "memlock" of its fdinfo. */
  readonly bytes: number;
}

/**
 * Every map that is pinned there.
 *
 * @param command the command line's main module
 * @throws when a map is missing: the sum would be of something else
 */
export async function mapMemory(node: Node, command: string, bpfRoot: string): Promise<MapMemory[]> {
  const { stdout } = await node.exec([
    process.execPath,
    command,
    ...["maps", "--bpf-root", bpfRoot, "-o", "json"],
  ]);
  const { maps } = JSON.parse(stdout) as { readonly maps: (MapMemory & { readonly pinned: boolean })[] };
  return maps.map(({ name, type, pinned, used, maxEntries, bytes }) => {
    if (!pinned) throw new Error(`map ${name} is not pinned below ${bpfRoot}`);
    return { name, type, used, maxEntries, bytes };
  });
}

/** Of all of them together, with one digit behind the point. */
export function totalMiB(maps: readonly MapMemory[]): number {
  return Math.round((10 * maps.reduce((sum, { bytes }) => sum + bytes, 0)) / 2 ** 20) / 10;
}
