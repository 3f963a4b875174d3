// SPDX-License-Identifier: Apache-2.0
import {
  type BackendRow,
  type ChoiceView,
  readTables,
  type ServiceRow,
  servicesView,
} from "../../../dataplane/view.js";
import type { Handler } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import { bytesText, type Column } from "../../output.js";
import { isService, peerText, serviceJson, serviceName, trafficJson } from "../../service-text.js";

/** Backends that fit into a table's cell; the rest is a number. */
const SHOWN_BACKENDS = 3;

function choiceText({ backends, whenEmpty, unreadable }: ChoiceView): string {
  const shown = backends.slice(0, SHOWN_BACKENDS).map(peerText);
  const more = backends.length - shown.length;
  const parts = [...shown, ...(more > 0 ? [`+${more}`] : []), ...(unreadable > 0 ? [`${unreadable}?`] : [])];
  return parts.length === 0 ? `none: ${whenEmpty}` : parts.join(",");
}

const COLUMNS: readonly Column<ServiceRow>[] = [
  { header: "SERVICE", value: ({ service }) => serviceName(service) },
  { header: "PORT", value: ({ service }) => service.portName },
  { header: "PROTOCOL", value: ({ service }) => service.protocol },
  { header: "ADDRESS", value: peerText },
  { header: "BACKENDS", value: ({ internal }) => choiceText(internal) },
  { header: "FLOWS", value: ({ traffic }) => traffic.flows, align: "right" },
  { header: "PACKETS", value: ({ traffic }) => traffic.packets, align: "right" },
  { header: "BYTES", value: ({ traffic }) => bytesText(Number(traffic.bytes)), align: "right" },
];

const backendJson = ({ address, port, local, cell, generation }: BackendRow): object => ({
  address,
  port,
  local,
  cell,
  generation,
});

const choiceJson = ({ backends, whenEmpty, unreadable }: ChoiceView): object => ({
  backends: backends.map(backendJson),
  whenEmpty,
  unreadable,
});

function rowJson(row: ServiceRow): object {
  return {
    ...serviceJson(row.service),
    family: row.family,
    address: row.address,
    port: row.port,
    affinitySeconds: row.affinitySeconds,
    internal: choiceJson(row.internal),
    external: choiceJson(row.external),
    traffic: trafficJson(row.traffic),
  };
}

/** `portolan services [NAME]`. A name that no Service has is a finding. */
export const services: Handler<object> = (options, printer, [name]) =>
  withMaps(options, async ({ maps }) => {
    const rows = servicesView(await readTables(maps)).filter(({ service }) => isService(service, name));
    if (printer.format === "json") printer.json({ services: rows.map(rowJson) });
    else if (rows.length > 0) printer.table(COLUMNS, rows);
    if (rows.length > 0) return ExitCode.ok;
    printer.note(
      name === undefined ? "no Service has an address in the maps" : `no Service "${name}" in the maps`,
    );
    return name === undefined ? ExitCode.ok : ExitCode.finding;
  });
