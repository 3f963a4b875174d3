// SPDX-License-Identifier: Apache-2.0
import {
  type FlowRow,
  findFlows,
  findOrphans,
  type OrphanRow,
  readTables,
  type Tables,
  ticksOf,
} from "../../../dataplane/view.js";
import type { CommonOptions, Handler } from "../../command.js";
import { type MapReader, withMaps } from "../../open-maps.js";
import type { Printer } from "../../output.js";
import { inScope, listStatus, peerText } from "../../service-text.js";
import { FLOW_COLUMNS, ORPHAN_COLUMNS, withServiceJson } from "./columns.js";
import { countColumns, countFlows } from "./count.js";
import { flowFilter, flowName } from "./filter.js";
import type { FlowFilterOptions } from "./filter-options.js";
import type { CountKey, SortKey } from "./keys.js";
import { sortedFlows } from "./sort.js";
import { flowOptions } from "./timeouts.js";

export interface FlowsOptions extends FlowFilterOptions {
  readonly countBy?: CountKey;
  readonly orphans?: true;
  readonly sort?: SortKey;
  readonly limit?: number;
}

/** What is read, by whom, as of when. */
interface Reading {
  readonly options: FlowsOptions & CommonOptions;
  readonly printer: Printer;
  readonly maps: MapReader;
  readonly tables: Tables;
  readonly nowTicks: number;
}

/** `portolan flows`. */
export const flows: Handler<FlowsOptions> = (options, printer) =>
  withMaps(options, async ({ maps, nowNs }) => {
    const tables = await readTables(maps);
    const reading = { options, printer, maps, tables, nowTicks: ticksOf(nowNs()) };
    const count = await printFlows(reading);
    const what = options.orphans === true ? "orphan" : "flow";
    return listStatus(tables, options, printer, count, `no such ${what} in the maps`);
  });

async function printFlows(reading: Reading): Promise<number> {
  const { options, printer } = reading;
  const { countBy, sort, limit = Number.POSITIVE_INFINITY } = options;
  if (options.orphans === true) return printOrphans(reading);
  if (countBy !== undefined) return printCounts(reading, countBy);
  const all = wantedFlows(reading);
  const rows = sort === undefined ? first(all, limit) : await sortedFlows(all, sort, limit);
  return printer.print({ name: "flows", columns: FLOW_COLUMNS, rows, json: withServiceJson, id: flowName });
}

async function* wantedFlows({ options, maps, tables, nowTicks }: Reading): AsyncGenerator<FlowRow> {
  const isWanted = flowFilter(options);
  for await (const { row } of findFlows(maps, tables, await flowOptions(nowTicks)))
    if (isWanted(row)) yield row;
}

async function* first<Row>(rows: AsyncIterable<Row>, limit: number): AsyncGenerator<Row> {
  let seen = 0;
  for await (const row of rows) {
    yield row;
    if (++seen >= limit) return;
  }
}

async function printCounts(reading: Reading, by: CountKey): Promise<number> {
  const { options, printer } = reading;
  const counts = await countFlows(wantedFlows(reading), by);
  const total = counts.reduce((sum, { flows }) => sum + flows, 0);
  await printer.print({
    name: "counts",
    columns: countColumns(by),
    rows: counts.slice(0, options.limit),
    id: ({ of }) => of,
    more: () => ({ countBy: by, flows: total }),
  });
  return total;
}

async function printOrphans({ options, printer, maps, tables, nowTicks }: Reading): Promise<number> {
  const isWanted = inScope(options);
  async function* wanted(): AsyncGenerator<OrphanRow> {
    for await (const row of findOrphans(maps, tables, await flowOptions(nowTicks)))
      if (isWanted(row.service)) yield row;
  }
  const rows = first(wanted(), options.limit ?? Number.POSITIVE_INFINITY);
  return printer.print({
    name: "orphans",
    columns: ORPHAN_COLUMNS,
    rows,
    json: withServiceJson,
    id: ({ protocol, source, destination }) =>
      `orphan/${protocol}/${peerText(source)}/${peerText(destination)}`,
  });
}
