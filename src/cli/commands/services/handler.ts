// SPDX-License-Identifier: Apache-2.0
import {
  type BackendRow,
  type ChoiceView,
  readNodePortAddresses,
  readTables,
  type ServiceRow,
  servicesView,
} from "../../../dataplane/view.js";
import { UserError } from "../../../util/errors.js";
import type { Handler } from "../../command.js";
import { withMaps } from "../../open-maps.js";
import { bytesText, type Column } from "../../output.js";
import { problemNotes } from "../../problems.js";
import {
  bothScopes,
  inScope,
  listStatus,
  peerText,
  type ServiceScope,
  serviceId,
  serviceJson,
  serviceName,
  trafficJson,
} from "../../service-text.js";

export type ServicesOptions = ServiceScope;

/** Backends that fit into a table's cell; the rest is a number. */
const SHOWN_BACKENDS = 3;

function choiceText({ backends, whenEmpty, unreadable }: ChoiceView): string {
  const shown = backends.slice(0, SHOWN_BACKENDS).map(peerText);
  const more = backends.length - shown.length;
  const parts = [...shown, ...(more > 0 ? [`+${more}`] : []), ...(unreadable > 0 ? [`${unreadable}?`] : [])];
  return parts.length === 0 ? `none: ${whenEmpty}` : parts.join(",");
}

/** Both scopes where they differ, as `portolan compile` has it. */
function backendsText({ internal, external }: ServiceRow): string {
  return bothScopes(choiceText(internal), choiceText(external));
}

/** What a new flow meets when no backend is left. */
function whenEmptyText({ internal, external }: ServiceRow): string {
  return bothScopes(internal.whenEmpty, external.whenEmpty);
}

/** Ranges that fit into a table's cell. */
const SHOWN_RANGES = 2;

function rangesText(ranges: readonly string[]): string {
  if (ranges.length === 0) return "from=nobody";
  const more = ranges.length - SHOWN_RANGES;
  return `from=${ranges.slice(0, SHOWN_RANGES).join("|")}${more > 0 ? `|+${more}` : ""}`;
}

/** Which scope is held to this node's endpoints. */
function localText({ internal, external }: ServiceRow): readonly string[] {
  const [inside, outside] = [internal.set === "local", external.set === "local"];
  if (inside && outside) return ["local"];
  return inside ? ["local=inside"] : outside ? ["local=outside"] : [];
}

/** What is special about an address; nothing where all is as Kubernetes' defaults have it. One word, for `awk`. */
function rulesText(row: ServiceRow): string {
  const { masquerade, affinitySeconds, sourceRanges } = row;
  return [
    ...(masquerade === "never" ? [] : [`masquerade=${masquerade}`]),
    ...localText(row),
    ...(affinitySeconds === 0 ? [] : [`affinity=${affinitySeconds}s`]),
    ...(sourceRanges === null ? [] : [rangesText(sourceRanges)]),
  ].join(",");
}

const COLUMNS: readonly Column<ServiceRow>[] = [
  { header: "SERVICE", value: ({ service }) => serviceName(service) },
  { header: "PORT", value: ({ service }) => service.portName },
  { header: "PROTOCOL", value: ({ service }) => service.protocol },
  { header: "KIND", value: ({ kind }) => kind },
  { header: "ADDRESS", value: peerText },
  { header: "BACKENDS", value: backendsText },
  { header: "WHEN EMPTY", value: whenEmptyText, wide: true },
  { header: "RULES", value: rulesText },
  { header: "INDEX", value: ({ service }) => service.index, align: "right", wide: true },
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

const choiceJson = ({ backends, set, whenEmpty, unreadable }: ChoiceView): object => ({
  backends: backends.map(backendJson),
  set,
  whenEmpty,
  unreadable,
});

function rowJson(row: ServiceRow): object {
  return {
    ...serviceJson(row.service),
    kind: row.kind,
    family: row.family,
    address: row.address,
    port: row.port,
    affinitySeconds: row.affinitySeconds,
    masquerade: row.masquerade,
    sourceRanges: row.sourceRanges,
    internal: choiceJson(row.internal),
    external: choiceJson(row.external),
    traffic: trafficJson(row.traffic),
  };
}

/** NodePorts are shown at the all-zero address: on which addresses that is, is said once. */
function nodePortNote(addresses: readonly string[]): string {
  if (addresses.length === 0) return "NodePorts are served on no address of this node";
  return `NodePorts are served on ${addresses.join(", ")}`;
}

/** The name may stand behind -s, too, as it does everywhere else. */
function scopeOf(options: ServicesOptions, name: string | undefined): ServiceScope {
  if (name === undefined) return options;
  if (options.service === undefined) return { ...options, service: name };
  throw new UserError(`which Service, "${name}" or "${options.service}"?`, {
    hint: "Give one name: alone, or with -s.",
  });
}

/** `portolan services [NAME]`. A name that no Service has is a finding. */
export const services: Handler<ServicesOptions> = async (options, printer, [name]) => {
  const scope = scopeOf(options, name);
  const isWanted = inScope(scope);
  return withMaps(options, async ({ maps, problems }) => {
    const tables = await readTables(maps);
    const rows = servicesView(tables).filter(({ service }) => isWanted(service));
    const hasNodePorts = rows.some(({ kind }) => kind === "NodePort");
    const nodePortAddresses = hasNodePorts ? await readNodePortAddresses(maps) : [];
    const found = await problems(isWanted);
    await printer.print({
      name: "services",
      columns: COLUMNS,
      rows,
      json: rowJson,
      id: ({ service }) => serviceId(service),
      more: () => ({ nodePortAddresses, ...found }),
    });
    if (!printer.structured) {
      if (hasNodePorts && printer.format !== "name") printer.note(nodePortNote(nodePortAddresses));
      // Also of a Service that is not in the maps: it may have lost each of its addresses to another.
      for (const line of await problemNotes(found)) printer.note(line);
    }
    return listStatus(tables, scope, printer, rows.length, "no Service has an address in the maps");
  });
};
