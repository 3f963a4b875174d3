// SPDX-License-Identifier: Apache-2.0
import {
  type FlowEntries,
  type FlowRow,
  type FoundFlow,
  findFlows,
  readTables,
  type Tables,
  ticksOf,
} from "../../../dataplane/view.js";
import type { NativeMaps } from "../../../native/maps.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import type { ExitCode } from "../../exit-codes.js";
import { withKernel } from "../../open-maps.js";
import type { Printer } from "../../output.js";
import { scopeStatus } from "../../service-text.js";
import { FLOW_COLUMNS, withServiceJson } from "./columns.js";
import { flowFilter, flowName } from "./filter.js";
import { type FlowFilterOptions, isFiltered } from "./filter-options.js";
import { flowOptions } from "./timeouts.js";

export interface DeleteFlowsOptions extends FlowFilterOptions {
  readonly yes?: true;
  readonly dryRun?: true;
}

/** Flows that one transaction forgets. */
const BATCH = 16_384;

const NAME = /^flow\/(TCP|UDP|SCTP)\/[^/]+:\d+\/[^/]+:\d+$/;

/** What the names and the filters ask for. */
function wantedBy(options: DeleteFlowsOptions, names: readonly string[]): (row: FlowRow) => boolean {
  if (names.length === 0 && !isFiltered(options)) {
    throw new UserError("which flows? Nothing was asked for, and all of them are not deleted", {
      hint: "Name flows as `portolan flows -o name` does, or give a filter such as --backend 10.1.0.1:8080.",
    });
  }
  const odd = names.find((name) => !NAME.test(name));
  if (odd !== undefined) {
    throw new UserError(`"${odd}" is no name of a flow`, {
      hint: "Such as flow/TCP/10.9.0.9:40000/10.96.0.1:80, as `portolan flows -o name` prints them.",
    });
  }
  if (options.yes === undefined && options.dryRun === undefined) {
    throw new UserError("nothing is deleted without a word more", {
      hint: "--dry-run shows which flows it would be, --yes deletes them.",
    });
  }
  const named = new Set(names);
  const isWanted = flowFilter(options);
  return (row) => isWanted(row) && (named.size === 0 || named.has(flowName(row)));
}

async function* wantedFlows(
  maps: NativeMaps,
  tables: Tables,
  isWanted: (row: FlowRow) => boolean,
): AsyncGenerator<FoundFlow> {
  const options = await flowOptions(ticksOf(process.hrtime.bigint()));
  for await (const flow of findFlows(maps, tables, options)) if (isWanted(flow.row)) yield flow;
}

/** `portolan flows delete`. That no flow is left which was asked for is what was asked for: none found is no finding. */
export const deleteFlowsCommand: Handler<DeleteFlowsOptions> = (options, printer, names) => {
  const isWanted = wantedBy(options, names);
  const access = { writable: options.dryRun !== true };
  return withKernel(options, (open) => deleteFrom(open.maps, options, printer, isWanted), access);
};

async function deleteFrom(
  maps: NativeMaps,
  options: DeleteFlowsOptions,
  printer: Printer,
  isWanted: (row: FlowRow) => boolean,
): Promise<ExitCode> {
  const tables = await readTables(maps);
  const found = wantedFlows(maps, tables, isWanted);
  const status = scopeStatus(tables, options, printer);
  if (options.dryRun === true) await printThem(found, printer);
  else await forgetThem(maps, found, printer);
  return status;
}

async function printThem(found: AsyncIterable<FoundFlow>, printer: Printer): Promise<void> {
  async function* rows(): AsyncGenerator<FlowRow> {
    for await (const { row } of found) yield row;
  }
  const count = await printer.print({
    name: "flows",
    columns: FLOW_COLUMNS,
    rows: rows(),
    json: withServiceJson,
    id: flowName,
    more: () => ({ dryRun: true }),
  });
  printer.note(count === 0 ? "no such flow in the maps" : `${count} flows would be deleted`);
}

async function forgetThem(
  maps: NativeMaps,
  found: AsyncIterable<FoundFlow>,
  printer: Printer,
): Promise<void> {
  const { deleteFlows } = await import("../../../dataplane/flow-delete.js");
  const total = { flows: 0, entries: 0 };
  let batch: FlowEntries[] = [];
  const flush = async (): Promise<void> => {
    const { flows, entries } = await deleteFlows(maps, batch);
    total.flows += flows;
    total.entries += entries;
    batch = [];
  };
  for await (const { entry, masquerade } of found) {
    batch.push({ entry, masquerade }); // without its row, which is the larger part
    if (batch.length === BATCH) await flush();
  }
  await flush();
  if (printer.structured) printer.json({ dryRun: false, ...total });
  else printer.line(`${total.flows} flows deleted, ${total.entries} entries of nat`);
}
