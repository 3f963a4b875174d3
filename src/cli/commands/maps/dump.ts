// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES, MAPS, type MapName } from "../../../abi/maps.gen.js";
import type { KernelReads } from "../../../native/kernel.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { type MapReader, withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";
import { type DecodedEntry, decodeEntries, plainText } from "./decode.js";

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

const ALL_COLUMNS: readonly Column<DecodedEntry & { readonly map: MapName }>[] = [
  { header: "MAP", value: ({ map }) => map },
  ...COLUMNS,
];

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

/** The entries of every map, each with the map's name; at most `limit` of each. */
async function* readAll(
  maps: MapReader,
  limit: number,
): AsyncGenerator<DecodedEntry & { readonly map: MapName }> {
  for (const map of maps.names)
    for await (const entry of readEntries(maps, map, limit)) yield { map, ...entry };
}

/** `portolan maps dump NAME|--all`. Entries are written as they are read: JSON line by line, YAML document by document. */
export const dumpMap: Handler<DumpOptions> = (options, printer, [text]) => {
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  if (options.all === true) {
    if (text !== undefined) throw new UserError("--all is every map: leave out the name");
    return withMaps(options, async ({ maps }) => {
      await (printer.structured
        ? printer.objects(readAll(maps, limit))
        : printer.print({ name: "entries", columns: ALL_COLUMNS, rows: readAll(maps, limit) }));
      return ExitCode.ok;
    });
  }
  if (text === undefined) throw new UserError("which map? Name one, or give --all");
  const name = mapName(text);
  return withMaps(options, async ({ maps }) => {
    const rows = readEntries(maps, name, limit);
    const count = await (printer.structured
      ? printer.objects(rows)
      : printer.print({ name, columns: COLUMNS, rows }));
    if (MAPS[name].type === "ringbuf") printer.note(`map ${name} has no entries: portolan monitor reads it`);
    else if (count === 0) printer.note(`map ${name} is empty`);
    return ExitCode.ok;
  });
};
