// SPDX-License-Identifier: Apache-2.0
import { readTables } from "../../../dataplane/view.js";
import type { AffinityRow, AffinityState } from "../../../dataplane/view-affinity.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";
import { isService, peerText, serviceJson, serviceName, serviceStatus } from "../../service-text.js";

export interface AffinityCommandOptions {
  readonly service?: string;
  readonly state?: AffinityState;
}

const COLUMNS: readonly Column<AffinityRow>[] = [
  { header: "CLIENT", value: ({ client }) => client },
  { header: "SERVICE", value: ({ service }) => serviceName(service) },
  { header: "PORT", value: ({ service }) => service.portName },
  { header: "PROTOCOL", value: ({ service }) => service.protocol },
  { header: "BACKEND", value: ({ backend }) => (backend === null ? "" : peerText(backend)) },
  { header: "AGE", value: ({ ageSeconds }) => `${ageSeconds}s`, align: "right" },
  {
    header: "TIMEOUT",
    value: ({ timeoutSeconds }) => (timeoutSeconds === 0 ? "" : `${timeoutSeconds}s`),
    align: "right",
  },
  { header: "STATE", value: ({ state }) => state },
];

const rowJson = (row: AffinityRow): object => ({ ...row, service: serviceJson(row.service) });

/** `portolan affinity`. */
export const affinity: Handler<AffinityCommandOptions> = (options, printer) =>
  withMaps(options, async ({ maps }) => {
    const { readAffinity } = await import("../../../dataplane/view-affinity.js");
    const tables = await readTables(maps);
    const rows = (await readAffinity(maps, tables)).filter(
      ({ service, state }) =>
        isService(service, options.service) && (options.state === undefined || state === options.state),
    );
    if (printer.format === "json") printer.json({ affinity: rows.map(rowJson) });
    else if (rows.length > 0) printer.table(COLUMNS, rows);
    const status = serviceStatus(tables, options.service, printer);
    if (rows.length === 0 && status === ExitCode.ok) printer.note("no such client in the maps");
    return status;
  });
