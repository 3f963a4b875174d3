// SPDX-License-Identifier: Apache-2.0
/** What the maps alone tell of a Service: what it offers, to whom, and what its cells say. */
import {
  type BackendRow,
  backendsView,
  type ChoiceView,
  readNodePortAddresses,
  readTables,
  type ServiceRow,
  servicesView,
} from "../../../dataplane/view.js";
import type { CommonOptions } from "../../command.js";
import { ExitCode } from "../../exit-codes.js";
import { withMaps } from "../../open-maps.js";
import { type Colors, type Column, type Printer, tableLines } from "../../output.js";
import {
  inScope,
  peerText,
  type ServiceScope,
  scopeStatus,
  serviceJson,
  serviceName,
} from "../../service-text.js";

/** Why a cell is given to new flows or not, as far as the maps know. */
function reasonText({ chosen, state }: BackendRow): string {
  if (chosen) return "some address offers it";
  if (state === "draining")
    return "it does not serve: its TCP flows go on (9.10), its UDP flows are let go (9.3)";
  return "no set that an address offers has it: it is not ready, or policy or hints leave it out (3.2, 4.5, 4.7)";
}

const CELLS: readonly Column<BackendRow>[] = [
  { header: "BACKEND", value: peerText },
  { header: "WHERE", value: ({ local }) => (local ? "this node" : "elsewhere") },
  { header: "STATE", value: ({ state }) => state },
  { header: "SETS", value: ({ sets }) => sets.join(",") },
  { header: "CELL", value: ({ cell }) => cell, align: "right" },
  { header: "GENERATION", value: ({ generation }) => generation, align: "right" },
  { header: "USED", value: ({ chosen }) => (chosen ? "yes" : "no") },
  { header: "WHY", value: reasonText },
];

function choiceText({ backends, whenEmpty, unreadable }: ChoiceView): string {
  const broken = unreadable === 0 ? "" : ` (and ${unreadable} slots that name no live backend)`;
  return `${backends.length === 0 ? whenEmpty.toUpperCase() : backends.map(peerText).join(",")}${broken}`;
}

/** One line of the table of frontends. */
interface Offer {
  readonly row: ServiceRow;
  readonly from: string;
  readonly choice: ChoiceView;
}

function offersOf(row: ServiceRow): readonly Offer[] {
  const { internal, external } = row;
  if (choiceText(internal) === choiceText(external) && internal.set === external.set)
    return [{ row, from: "anyone", choice: external }];
  return [
    { row, from: "inside", choice: internal },
    { row, from: "outside", choice: external },
  ];
}

const OFFERS: readonly Column<Offer>[] = [
  { header: "FRONTEND", value: ({ row }) => `${row.kind} ${peerText(row)}` },
  { header: "FROM", value: ({ from }) => from },
  { header: "SET", value: ({ choice }) => choice.set },
  { header: "NEW FLOWS GET", value: ({ choice }) => choiceText(choice) },
  { header: "MASQUERADE", value: ({ row }) => row.masquerade },
  {
    header: "SENDERS",
    value: ({ row }) => (row.sourceRanges === null ? "any" : row.sourceRanges.join(",") || "nobody"),
  },
  {
    header: "AFFINITY",
    value: ({ row }) => (row.affinitySeconds === 0 ? "none" : `${row.affinitySeconds}s`),
  },
];

function linesOf(rows: readonly ServiceRow[], cells: readonly BackendRow[], colors: Colors): string[] {
  const lines: string[] = [];
  const ports = new Map(rows.map((row) => [`${row.service.index} ${row.family}`, row]));
  for (const { service, family } of ports.values()) {
    const mine = <T extends Pick<ServiceRow, "service" | "family">>(all: readonly T[]): T[] =>
      all.filter((each) => each.service.index === service.index && each.family === family);
    const name = service.portName === "" ? "" : `, port ${service.portName}`;
    const offers = mine(rows).flatMap(offersOf);
    const held = mine(cells);
    lines.push(
      ...(lines.length === 0 ? [] : [""]),
      colors.bold(`Service ${serviceName(service)}${name}, ${service.protocol}, IPv${family}`),
      ...(held.length === 0 ? ["no backend"] : tableLines(CELLS, held)).map((line) => `  ${line}`),
      "",
      ...tableLines(OFFERS, offers).map((line) => `  ${line}`),
    );
  }
  return lines;
}

const cellJson = ({ traffic: _, service, ...cell }: BackendRow): object => ({
  service: serviceJson(service),
  ...cell,
});

const choiceJson = ({ backends, ...choice }: ChoiceView): object => ({
  ...choice,
  backends: backends.map(peerText),
});

const frontendJson = ({ traffic: _, service, internal, external, ...row }: ServiceRow): object => ({
  service: serviceJson(service),
  ...row,
  internal: choiceJson(internal),
  external: choiceJson(external),
});

/** `portolan explain SERVICE` without a source. A Service that is not in the maps is a finding. */
export function explainMaps(
  options: CommonOptions,
  printer: Printer,
  scope: ServiceScope,
): Promise<ExitCode> {
  const isWanted = inScope(scope);
  return withMaps(options, async ({ maps, problems }) => {
    const tables = await readTables(maps);
    const rows = servicesView(tables).filter(({ service }) => isWanted(service));
    const cells = backendsView(tables).filter(({ service }) => isWanted(service));
    const nodePorts = rows.some(({ kind }) => kind === "NodePort");
    const nodePortAddresses = nodePorts ? await readNodePortAddresses(maps) : [];
    const found = await problems(isWanted);
    if (printer.structured) {
      const frontends = rows.map(frontendJson);
      printer.json({ source: "maps", frontends, backends: cells.map(cellJson), nodePortAddresses, ...found });
    } else {
      for (const line of linesOf(rows, cells, printer.colors)) printer.line(line);
      if (nodePorts) printer.note(`NodePorts are served on ${nodePortAddresses.join(", ") || "no address"}`);
      const { problemNotes } = await import("../../problems.js");
      for (const line of await problemNotes(found)) printer.note(line);
      if (rows.length > 0)
        printer.note("conditions, hints and slices are not in the maps: -f or --kubeconfig explains them");
    }
    return rows.length > 0 ? ExitCode.ok : scopeStatus(tables, scope, printer);
  });
}
