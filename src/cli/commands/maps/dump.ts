// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES, MAPS, type MapName } from "../../../abi/maps.gen.js";
import type { KernelReads } from "../../../native/kernel.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type MapReader, type OpenMaps, withMaps } from "../../open-maps.js";
import type { Column, Printer } from "../../output.js";
import { type DecodedEntry, decodeEntries, plainText } from "./decode.js";
import { missingStatus } from "./missing.js";

export interface DumpOptions {
  readonly limit?: number;
  readonly all?: true;
}

const COLUMNS: readonly Column<DecodedEntry>[] = [
  {
    header: "KEY",
    value: ({ key, reason }) => (reason === undefined ? plainText(key) : `${plainText(key)} ${reason}`),
  },
  { header: "VALUE", value: ({ value }) => plainText(value) },
];

const ALL_COLUMNS: readonly Column<MapEntry>[] = [{ header: "MAP", value: ({ map }) => map }, ...COLUMNS];

const CHUNK = 16_384;

function mapName(text: string): MapName {
  const name = MAP_NAMES.find((candidate) => candidate === text);
  if (name === undefined) {
    throw new UserError(`there is no map "${text}"`, { hint: `The maps are: ${MAP_NAMES.join(", ")}.` });
  }
  return name;
}

/** The entries in use, as they are read: at most `limit` of them. */
async function* readEntries(maps: KernelReads, name: MapName, limit: number): AsyncGenerator<DecodedEntry> {
  let seen = 0;
  for await (const dump of maps.dumpChunks(name, CHUNK)) {
    for (const entry of decodeEntries(MAPS[name], dump)) {
      if (seen++ === limit) return;
      yield entry;
    }
  }
}

/** An entry with the name of its map. */
type MapEntry = DecodedEntry & { readonly map: MapName };

/** The entries of every map, at most `limit` of each; `counts` is told how many there were. */
async function* readAll(
  maps: MapReader,
  limit: number,
  counts: Partial<Record<MapName, number>> = {},
): AsyncGenerator<MapEntry> {
  for (const map of maps.names) {
    let count = 0;
    for await (const entry of readEntries(maps, map, limit)) {
      count += 1;
      yield { map, ...entry };
    }
    counts[map] = count;
  }
}

/** The same between a head and an end, so that it can be read back, and is known to be whole: see archive/maps-dump.ts. */
async function* wholeDump({ maps, meta }: OpenMaps, limit: number | null): AsyncGenerator<object> {
  const { mapsDumpHead, MAPS_DUMP } = await import("../../archive/maps-dump.js");
  yield mapsDumpHead(await meta(), limit);
  const entries: Partial<Record<MapName, number>> = {};
  yield* readAll(maps, limit ?? Number.POSITIVE_INFINITY, entries);
  yield { end: MAPS_DUMP, entries };
}

async function dumpAll(open: OpenMaps, limit: number | null, printer: Printer): Promise<ExitCode> {
  if (printer.structured) await printer.objects(wholeDump(open, limit));
  else {
    const rows = readAll(open.maps, limit ?? Number.POSITIVE_INFINITY);
    await printer.print({ name: "entries", columns: ALL_COLUMNS, rows });
  }
  return missingStatus(open, printer);
}

/** `portolan maps dump NAME|--all`. Entries are written as they are read: JSON line by line, YAML document by document. */
export const dumpMap: Handler<DumpOptions> = (options, printer, [text]) => {
  if (options.all === true) {
    if (text !== undefined) throw new UserError("--all is every map: leave out the name");
    return withMaps(options, (open) => dumpAll(open, options.limit ?? null, printer));
  }
  if (text === undefined)
    throw new UserError("which map? Name one, or give --all", {
      hint: `The maps are: ${MAP_NAMES.join(", ")}.`,
    });
  const name = mapName(text);
  return withMaps(options, async ({ maps }) => {
    const rows = readEntries(maps, name, options.limit ?? Number.POSITIVE_INFINITY);
    const count = await (printer.structured
      ? printer.objects(rows)
      : printer.print({ name, columns: COLUMNS, rows }));
    if (MAPS[name].type === "ringbuf") printer.note(`map ${name} has no entries: portolan monitor reads it`);
    else if (count === 0) printer.note(`map ${name} is empty`);
    return ExitCode.ok;
  });
};
