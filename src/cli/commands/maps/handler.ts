// SPDX-License-Identifier: Apache-2.0
import { MAPS } from "../../../abi/maps.gen.js";
import type { NativeMapInfo } from "../../../native/maps.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type MapReader, withMaps } from "../../open-maps.js";
import { bytesText, type Column } from "../../output.js";

interface MapRow {
  readonly name: string;
  readonly type: string;
  /** Entries of a hash; cells of an array that hold anything. */
  readonly used: number;
  readonly maxEntries: number;
  readonly keySize: number;
  readonly valueSize: number;
  /** Memory that the kernel charges for the map. */
  readonly bytes: number;
  readonly id: number;
}

const percent = ({ used, maxEntries }: MapRow): string => {
  const share = (100 * used) / maxEntries;
  return share > 0 && share < 1 ? "<1%" : `${Math.floor(share)}%`;
};

const COLUMNS: readonly Column<MapRow>[] = [
  { header: "MAP", value: ({ name }) => name },
  { header: "TYPE", value: ({ type }) => type },
  { header: "USED", value: ({ used }) => used, align: "right" },
  { header: "SIZE", value: ({ maxEntries }) => maxEntries, align: "right" },
  { header: "FULL", value: percent, align: "right" },
  { header: "KEY", value: ({ keySize }) => keySize, align: "right" },
  { header: "VALUE", value: ({ valueSize }) => valueSize, align: "right" },
  { header: "MEMORY", value: ({ bytes }) => bytesText(bytes), align: "right" },
  { header: "ID", value: ({ id }) => id, align: "right" },
];

/** Entries read at a time: an array of hundreds of thousands of cells shall not fill the memory. */
const CHUNK = 65_536;

/** Cells of an array with anything in them. */
async function usedCells(maps: MapReader, info: NativeMapInfo): Promise<number> {
  const { valueSize } = MAPS[info.name];
  let used = 0;
  for await (const { count, values } of maps.dumpChunks(info.name, CHUNK)) {
    for (let i = 0; i < count; i++) {
      let at = i * valueSize;
      const end = at + valueSize;
      while (at < end && values[at] === 0) at++;
      if (at < end) used++;
    }
  }
  return used;
}

/** `portolan maps`. */
export const maps: Handler<object> = (options, printer) =>
  withMaps(options, async ({ maps: pinned }) => {
    const rows: MapRow[] = [];
    for (const info of pinned.infos(true)) {
      const { name, type, maxEntries, keySize, valueSize, bytes, id } = info;
      const used = info.used ?? (await usedCells(pinned, info));
      rows.push({ name, type, used, maxEntries, keySize, valueSize, bytes, id });
    }
    const count = await printer.print({
      name: "maps",
      columns: COLUMNS,
      rows,
      id: ({ name }) => `map/${name}`,
    });
    if (count === 0) printer.note("no map");
    return ExitCode.ok;
  });
