// SPDX-License-Identifier: Apache-2.0
import { type FlowRow, type FlowState, readFlows, readTables, ticksOf } from "../../../dataplane/view.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";
import {
  inScope,
  peerText,
  type ServiceScope,
  scopeStatus,
  serviceJson,
  serviceName,
} from "../../service-text.js";

export interface FlowOptions extends ServiceScope {
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

const idOf = ({ protocol, client, destination }: FlowRow): string =>
  `flow/${protocol}/${peerText(client)}/${peerText(destination)}`;

/** `portolan flows`. */
export const flows: Handler<FlowOptions> = (options, printer) =>
  withMaps(options, async ({ maps, nowNs }) => {
    const { DEFAULT_TIMEOUTS, kernelConfig } = await import("../../../daemon/kernel-config.js");
    const timeouts = kernelConfig([], DEFAULT_TIMEOUTS);
    const isWanted = inScope(options);
    const tables = await readTables(maps);
    const all = await readFlows(maps, tables, { timeouts, nowTicks: ticksOf(nowNs()) });
    const rows = all.filter(
      ({ service, state }) => isWanted(service) && (options.state === undefined || state === options.state),
    );
    const count = await printer.print({ name: "flows", columns: COLUMNS, rows, json: rowJson, id: idOf });
    const status = scopeStatus(tables, options, printer);
    if (count === 0 && status === ExitCode.ok) printer.note("no such flow in the maps");
    return status;
  });
