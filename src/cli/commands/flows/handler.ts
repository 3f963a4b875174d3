// SPDX-License-Identifier: Apache-2.0
import { type FlowRow, type FlowState, readFlows, readTables } from "../../../dataplane/view.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";
import { isService, peerText, serviceJson, serviceName, serviceStatus } from "../../service-text.js";

export interface FlowOptions {
  readonly service?: string;
  readonly state?: FlowState;
}

const COLUMNS: readonly Column<FlowRow>[] = [
  { header: "PROTOCOL", value: ({ protocol }) => protocol },
  { header: "CLIENT", value: ({ client }) => peerText(client) },
  { header: "DESTINATION", value: ({ destination }) => peerText(destination) },
  {
    header: "SERVICE",
    value: ({ service, direct }) => (direct ? "(direct)" : service === null ? "" : serviceName(service)),
  },
  {
    header: "BACKEND",
    value: ({ backend, backendState, direct }) =>
      `${peerText(backend)}${backendState === "live" || direct ? "" : ` (${backendState})`}`,
  },
  {
    header: "SEEN AS",
    value: ({ masqueradedAs }) => (masqueradedAs === null ? "" : peerText(masqueradedAs)),
  },
  { header: "STATE", value: ({ state }) => state },
  { header: "IDLE", value: ({ idleSeconds }) => `${idleSeconds}s`, align: "right" },
];

const rowJson = (row: FlowRow): object => ({
  ...row,
  service: row.service === null ? null : serviceJson(row.service),
});

/** `portolan flows`. */
export const flows: Handler<FlowOptions> = (options, printer) =>
  withMaps(options, async ({ maps }) => {
    const { DEFAULT_TIMEOUTS, kernelConfig } = await import("../../../daemon/kernel-config.js");
    const timeouts = kernelConfig([], DEFAULT_TIMEOUTS);
    const tables = await readTables(maps);
    const all = await readFlows(maps, tables, { timeouts });
    const rows = all.filter(
      ({ service, state }) =>
        isService(service, options.service) && (options.state === undefined || state === options.state),
    );
    if (printer.format === "json") printer.json({ flows: rows.map(rowJson) });
    else if (rows.length > 0) printer.table(COLUMNS, rows);
    const status = serviceStatus(tables, options.service, printer);
    if (rows.length === 0 && status === ExitCode.ok) printer.note("no such flow in the maps");
    return status;
  });
