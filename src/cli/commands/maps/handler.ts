// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES, MAPS, type MapName } from "../../../abi/maps.gen.js";
import type { NativeMapInfo } from "../../../native/maps.js";
import type { Handler } from "../../command.js";
import { type MapReader, withMaps } from "../../open-maps.js";
import { bytesText, type Column } from "../../output.js";
import { missingStatus } from "./missing.js";

/** Of a map that is not pinned only what the programs were built with is known. */
interface MapRow {
  readonly name: string;
  readonly pinned: boolean;
  readonly type: string;
  /** Entries of a hash; cells of an array that hold anything. */
  readonly used: number | null;
  readonly maxEntries: number | null;
  readonly keySize: number;
  readonly valueSize: number;
  /** Memory that the kernel charges for the map. */
  readonly bytes: number | null;
  readonly id: number | null;
}

const percent = ({ used, maxEntries }: MapRow): string => {
  if (used === null || maxEntries === null) return "";
  const share = (100 * used) / maxEntries;
  return share > 0 && share < 1 ? "<1%" : `${Math.floor(share)}%`;
};

const COLUMNS: readonly Column<MapRow>[] = [
  { header: "MAP", value: ({ name }) => name },
  { header: "TYPE", value: ({ type }) => type },
  { header: "USED", value: ({ used, pinned }) => (pinned ? (used ?? "") : "missing"), align: "right" },
  { header: "SIZE", value: ({ maxEntries }) => maxEntries ?? "", align: "right" },
  { header: "FULL", value: percent, align: "right" },
  { header: "KEY", value: ({ keySize }) => keySize, align: "right" },
  { header: "VALUE", value: ({ valueSize }) => valueSize, align: "right" },
  { header: "MEMORY", value: ({ bytes }) => (bytes === null ? "" : bytesText(bytes)), align: "right" },
  { header: "ID", value: ({ id }) => id ?? "", align: "right" },
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

async function rowOf(maps: MapReader, info: NativeMapInfo): Promise<MapRow> {
  const { name, type, maxEntries, keySize, valueSize, bytes, id } = info;
  const used = info.used ?? (await usedCells(maps, info));
  return { name, pinned: true, type, used, maxEntries, keySize, valueSize, bytes, id };
}

function missingRow(name: MapName): MapRow {
  const { type, keySize, valueSize } = MAPS[name];
  const unknown = { used: null, maxEntries: null, bytes: null, id: null };
  return { name, pinned: false, type, keySize, valueSize, ...unknown };
}

/** `portolan maps`. A map that should be pinned and is not is a finding. */
export const maps: Handler<object> = (options, printer) =>
  withMaps(options, async (open) => {
    const infos = new Map(open.maps.infos(true).map((info) => [info.name, info]));
    const rows: MapRow[] = [];
    for (const name of MAP_NAMES) {
      const info = infos.get(name);
      // What is not there has no line among names.
      if (info !== undefined) rows.push(await rowOf(open.maps, info));
      else if (printer.format !== "name") rows.push(missingRow(name));
    }
    await printer.print({ name: "maps", columns: COLUMNS, rows, id: ({ name }) => `map/${name}` });
    return missingStatus(open, printer);
  });
