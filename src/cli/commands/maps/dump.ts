// SPDX-License-Identifier: Apache-2.0
import { MAP_NAMES, MAPS, type MapName } from "../../../abi/maps.gen.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import { type Column, jsonText } from "../../output.js";
import { type DecodedEntry, decodeEntries, plainText } from "./decode.js";

export interface DumpOptions {
  readonly limit?: number;
}

const COLUMNS: readonly Column<DecodedEntry>[] = [
  {
    header: "KEY",
    value: ({ key, reason }) => (reason === undefined ? plainText(key) : `${plainText(key)} ${reason}`),
  },
  { header: "VALUE", value: ({ value }) => plainText(value) },
];

const CHUNK = 16_384;

function mapName(text: string): MapName {
  const name = MAP_NAMES.find((candidate) => candidate === text);
  if (name === undefined) {
    throw new UserError(`there is no map "${text}"`, { hint: `The maps are: ${MAP_NAMES.join(", ")}.` });
  }
  return name;
}

/** `portolan maps dump NAME`. JSON is written line by line as it is read; a table must know its widths first. */
export const dumpMap: Handler<DumpOptions> = (options, printer, [text = ""]) => {
  const name = mapName(text);
  return withMaps(options, async ({ maps }) => {
    const limit = options.limit ?? Number.POSITIVE_INFINITY;
    const rows: DecodedEntry[] = [];
    let seen = 0;
    for await (const dump of maps.dumpChunks(name, CHUNK)) {
      for (const entry of decodeEntries(MAPS[name], dump)) {
        if (seen === limit) break;
        seen++;
        if (printer.format === "json") printer.line(jsonText(entry, false));
        else rows.push(entry);
      }
      if (seen === limit) break;
    }
    if (rows.length > 0) printer.table(COLUMNS, rows);
    else if (seen === 0) printer.note(`map ${name} is empty`);
    return ExitCode.ok;
  });
};
