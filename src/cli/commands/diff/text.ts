// SPDX-License-Identifier: Apache-2.0
/** The comparison of two states in lines for people. */

import type { DescribedFrontend } from "../../../image/describe.js";
import { type ChangeKind, offerText, type PortDifference } from "../../../image/difference.js";
import { type Colors, type Column, tableLines } from "../../output.js";
import { bothScopes } from "../../service-text.js";
import { plainText } from "../maps/decode.js";
import type { DiffReport, ReportedStep } from "./report.js";

const SIGNS: Readonly<Record<ChangeKind, string>> = { added: "+", removed: "-", changed: "~" };

/** What is special about a frontend. */
function rulesText({ masquerade, sourceRanges, internal, external }: DescribedFrontend): string {
  const rules = [
    ...(masquerade === "never" ? [] : [`masquerade ${masquerade}`]),
    ...(sourceRanges === null ? [] : [`from ${sourceRanges.join(",") || "nobody"}`]),
    ...(internal.set === "local" ? ["local inside"] : []),
    ...(external.set === "local" ? ["local outside"] : []),
  ];
  return rules.length === 0 ? "" : ` [${rules.join(", ")}]`;
}

function frontendText(before: DescribedFrontend | null, after: DescribedFrontend | null): string {
  const whole = (one: DescribedFrontend): string =>
    `${bothScopes(offerText(one.internal), offerText(one.external))}${rulesText(one)}`;
  if (before === null || after === null) return whole((after ?? before) as DescribedFrontend);
  return `${whole(before)} -> ${whole(after)}`;
}

function portLines(port: PortDifference, colors: Colors): string[] {
  const { key, change, frontends, backends, affinitySeconds } = port;
  return [
    colors.bold(`${SIGNS[change]} ${key}`),
    ...frontends.map(
      ({ frontend, change: how, before, after }) =>
        `    ${SIGNS[how]} ${frontend}: ${frontendText(before, after)}`,
    ),
    ...backends.map(({ backend, change: how, local, serving }) => {
      const where = local ? "this node" : "elsewhere";
      return `    ${SIGNS[how]} backend ${backend} (${where}${serving ? "" : ", not serving"})`;
    }),
    ...(affinitySeconds === null
      ? []
      : [`    ~ session affinity: ${affinitySeconds.before} s -> ${affinitySeconds.after} s`]),
  ];
}

function listLines(what: string, { added, removed }: DiffReport["nodePortAddresses"]): string[] {
  return [...added.map((text) => `+ ${what} ${text}`), ...removed.map((text) => `- ${what} ${text}`)];
}

const STEPS: readonly Column<ReportedStep>[] = [
  { header: "MAP", value: ({ map }) => map },
  { header: "DOES", value: ({ kind }) => kind },
  { header: "ENTRIES", value: ({ count }) => count, align: "right" },
];

function entryLines({ map, kind, entries = [] }: ReportedStep): string[] {
  return entries.map(({ key, value }) =>
    kind === "delete"
      ? `    - ${map} ${plainText(key)}`
      : `    + ${map} ${plainText(key)} => ${plainText(value)}`,
  );
}

function consequenceLines({ consequences: { flows, clients, maps } }: DiffReport): string[] {
  const fate = (protocol: string, backend: string): string =>
    protocol === "UDP"
      ? "their next packet is given a backend anew"
      : `they go on until they end${backend === "gone" ? " (with --reset-removed-backends they are reset)" : ""}`;
  return [
    ...flows.map(
      ({ service, protocol, backend, flows: count }) =>
        `  ${service}: the backend of ${count} ${protocol} flows is ${backend}: ${fate(protocol, backend)}`,
    ),
    ...clients.map(
      ({ service, clients: count }) =>
        `  ${service}: ${count} clients that session affinity remembers are given a backend anew`,
    ),
    ...maps.map(({ map, before, after, maxEntries }) => `  ${map}: ${before} -> ${after} of ${maxEntries}`),
  ];
}

/** The whole report. */
export function reportLines(report: DiffReport, colors: Colors): string[] {
  const { servicePorts, nodePortAddresses, serviceNetworks, steps, writes, deletes, ffiCalls, refused } =
    report;
  const lines = [
    ...servicePorts.flatMap((port) => portLines(port, colors)),
    ...listLines("NodePort address", nodePortAddresses),
    ...listLines("service network", serviceNetworks),
  ];
  if (steps.length === 0) lines.push("nothing would be written");
  else {
    const calls = ffiCalls === 1 ? "one call" : `${ffiCalls} calls`;
    lines.push(
      ...(lines.length === 0 ? [] : [""]),
      colors.bold(`Transaction: ${writes} writes and ${deletes} deletes by ${calls}, in this order`),
      ...tableLines(STEPS, steps).map((line) => `  ${line}`),
      ...steps.flatMap(entryLines),
    );
  }
  const consequences = consequenceLines(report);
  if (consequences.length > 0) lines.push("", colors.bold("Consequences"), ...consequences);
  if (refused.length > 0)
    lines.push("", colors.bold("Left as they are"), ...refused.map(({ message }) => `  ${message}`));
  return lines;
}
