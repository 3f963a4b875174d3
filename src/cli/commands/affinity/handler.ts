// SPDX-License-Identifier: Apache-2.0
import { readTables } from "../../../dataplane/view.js";
import type { AffinityRow, AffinityState } from "../../../dataplane/view-affinity.js";
import type { Handler } from "../../command.js";
import { withMaps } from "../../open-maps.js";
import type { Column } from "../../output.js";
import {
  inScope,
  listStatus,
  peerText,
  type ServiceScope,
  serviceId,
  serviceJson,
  serviceName,
} from "../../service-text.js";

export interface AffinityCommandOptions extends ServiceScope {
  readonly state?: AffinityState;
}

const COLUMNS: readonly Column<AffinityRow>[] = [
  { header: "CLIENT", value: ({ client }) => client },
  { header: "SERVICE", value: ({ service }) => serviceName(service) },
  { header: "PORT", value: ({ service }) => service.portName },
  { header: "PROTOCOL", value: ({ service }) => service.protocol },
  { header: "BACKEND", value: ({ backend }) => (backend === null ? "" : peerText(backend)) },
  { header: "CELL", value: ({ cell }) => cell, align: "right", wide: true },
  { header: "GENERATION", value: ({ generation }) => generation, align: "right", wide: true },
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
  withMaps(options, async ({ maps, nowNs }) => {
    const { readAffinity } = await import("../../../dataplane/view-affinity.js");
    const isWanted = inScope(options);
    const tables = await readTables(maps);
    const rows = (await readAffinity(maps, tables, { nowNs })).filter(
      ({ service, state }) => isWanted(service) && (options.state === undefined || state === options.state),
    );
    const count = await printer.print({
      name: "affinity",
      columns: COLUMNS,
      rows,
      json: rowJson,
      id: ({ service, client }) => serviceId(service, "affinity", client),
    });
    return listStatus(tables, options, printer, count, "no such client in the maps");
  });
