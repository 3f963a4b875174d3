// SPDX-License-Identifier: Apache-2.0
import { type BackendRow, backendsView, readTables } from "../../../dataplane/view.js";
import type { Handler } from "../../command.js";
import { withMaps } from "../../open-maps.js";
import { bytesText, type Column } from "../../output.js";
import {
  inScope,
  listStatus,
  peerText,
  type ServiceScope,
  serviceId,
  serviceJson,
  serviceName,
  trafficJson,
} from "../../service-text.js";

export type BackendOptions = ServiceScope;

const COLUMNS: readonly Column<BackendRow>[] = [
  { header: "SERVICE", value: ({ service }) => serviceName(service) },
  { header: "PORT", value: ({ service }) => service.portName },
  { header: "PROTOCOL", value: ({ service }) => service.protocol },
  { header: "BACKEND", value: peerText },
  { header: "WHERE", value: ({ local }) => (local ? "this node" : "elsewhere") },
  { header: "STATE", value: ({ state }) => state },
  { header: "SETS", value: ({ sets }) => sets.join(",") },
  { header: "INDEX", value: ({ service }) => service.index, align: "right", wide: true },
  { header: "CHOSEN", value: ({ chosen }) => (chosen ? "yes" : "no") },
  { header: "CELL", value: ({ cell }) => cell, align: "right" },
  { header: "GENERATION", value: ({ generation }) => generation, align: "right" },
  { header: "FLOWS", value: ({ traffic }) => traffic.flows, align: "right" },
  { header: "PACKETS", value: ({ traffic }) => traffic.packets, align: "right" },
  { header: "BYTES", value: ({ traffic }) => bytesText(Number(traffic.bytes)), align: "right" },
];

function rowJson(row: BackendRow): object {
  const { service, family, address, port, local, state, sets, chosen, cell, generation, traffic } = row;
  return {
    service: serviceJson(service),
    family,
    address,
    port,
    local,
    state,
    sets,
    chosen,
    cell,
    generation,
    traffic: trafficJson(traffic),
  };
}

/** `portolan backends`. */
export const backends: Handler<BackendOptions> = (options, printer) =>
  withMaps(options, async ({ maps }) => {
    const isWanted = inScope(options);
    const tables = await readTables(maps);
    const count = await printer.print({
      name: "backends",
      columns: COLUMNS,
      rows: backendsView(tables).filter(({ service }) => isWanted(service)),
      json: rowJson,
      id: (row) => serviceId(row.service, "backend", peerText(row)),
    });
    return listStatus(tables, options, printer, count, "no backend in the maps");
  });
