// SPDX-License-Identifier: Apache-2.0
/** An explanation in lines for people. */
import { problemLine } from "../../../image/describe.js";
import type {
  ExplainedChoice,
  ExplainedEndpoint,
  ExplainedFamily,
  ExplainedFrontend,
  ExplainedPort,
  ServiceExplanation,
  SetReason,
} from "../../../image/explain.js";
import type { WhatIf, WhatIfChange } from "../../../image/what-if.js";
import type { SliceSkip } from "../../../model/endpoints.js";
import { type Colors, type Column, tableLines } from "../../output.js";
import { peerText } from "../../service-text.js";

const REASONS: Readonly<Record<SetReason["code"], string>> = {
  ready: "ready",
  "hinted-node": "ready, hinted for this node",
  "hinted-zone": "ready, hinted for this zone",
  fallback: "terminating and serving, nobody is ready",
  "node-hint-elsewhere": "hinted for other nodes",
  "zone-hint-elsewhere": "hinted for other zones",
  "not-local": "not on this node",
  terminating: "terminating, others are ready",
  unready: "serving, but neither ready nor terminating",
  "not-serving": "not serving",
  "not-needed": "no address asks for this set",
};

const SKIPS: Readonly<Record<SliceSkip, string>> = {
  "other-family": "it is of the other family",
  "no-such-port": "it has no port of this name and protocol",
  "no-number": "its port has no number",
};

const ruled = (text: string, rules: readonly string[]): string =>
  rules.length === 0 ? text : `${text} (${rules.join(", ")})`;

const yesNo = (value: boolean): string => (value ? "yes" : "no");

function setText(reason: SetReason | null): string {
  if (reason === null) return "";
  return ruled(`${yesNo(reason.used)}: ${REASONS[reason.code]}`, reason.rules);
}

function conditionText({ ready, serving, terminating }: ExplainedEndpoint): string {
  const words = [ready && "ready", serving && "serving", terminating && "terminating"];
  return words.filter((word) => word !== false).join(",");
}

function hintText({ zoneHints, nodeHints }: ExplainedEndpoint): string {
  return [...nodeHints.map((name) => `node=${name}`), ...zoneHints.map((name) => `zone=${name}`)].join(",");
}

const ENDPOINTS: readonly Column<ExplainedEndpoint>[] = [
  { header: "ENDPOINT", value: peerText },
  { header: "SLICE", value: ({ slice }) => slice },
  { header: "NODE", value: ({ nodeName, local }) => (local ? `${nodeName} (this)` : (nodeName ?? "")) },
  { header: "CONDITIONS", value: conditionText },
  { header: "HINTS", value: hintText },
  { header: "USED", value: ({ used }) => yesNo(used) },
  {
    header: "CLUSTER SET",
    value: ({ duplicate, cluster }) =>
      duplicate ? "another entry of this address counts (3.4)" : setText(cluster),
  },
  { header: "LOCAL SET", value: ({ localSet }) => setText(localSet) },
];

function choiceText({ backends, whenEmpty, rules }: ExplainedChoice): string {
  return ruled(backends.length === 0 ? whenEmpty.toUpperCase() : backends.join(","), rules);
}

/** The whole of it stands among the problems. */
function leftOutText(why: string): string {
  return ruled("left out", [why.includes(" belongs to ") ? "2.22" : "6.10"]);
}

/** One line of the table of frontends. */
interface Offer {
  readonly frontend: ExplainedFrontend;
  readonly from: string;
  readonly choice: ExplainedChoice | null;
}

function offersOf(frontend: ExplainedFrontend): readonly Offer[] {
  if (frontend.leftOut !== null) return [{ frontend, from: "", choice: null }];
  const { internal, external } = frontend;
  const same =
    internal.set === external.set &&
    internal.whenEmpty === external.whenEmpty &&
    String(internal.backends) === String(external.backends);
  if (same) return [{ frontend, from: "anyone", choice: external }];
  return [
    { frontend, from: "inside", choice: internal },
    { frontend, from: "outside", choice: external },
  ];
}

const OFFERS: readonly Column<Offer>[] = [
  { header: "FRONTEND", value: ({ frontend: { kind, address } }) => `${kind} ${address}` },
  { header: "FROM", value: ({ from }) => from },
  { header: "SET", value: ({ choice }) => choice?.set ?? "" },
  {
    header: "NEW FLOWS GET",
    value: ({ choice, frontend }) =>
      choice === null ? leftOutText(frontend.leftOut ?? "") : choiceText(choice),
  },
  {
    header: "MASQUERADE",
    value: ({ frontend, choice }) =>
      choice === null ? "" : ruled(frontend.masquerade, frontend.masqueradeRules),
  },
  {
    header: "SENDERS",
    value: ({ frontend: { sourceRanges, sourceRangeRules } }) =>
      sourceRanges === null ? "any" : ruled(sourceRanges.join(",") || "nobody", sourceRangeRules),
  },
];

/** Why hints count, or do not. */
function topologyText({ hints, topology }: ExplainedFamily, zone: string): string {
  const { ready, nodeHinted, thisNode, zoneHinted, thisZone } = hints;
  if (ready === 0) return "no endpoint is ready, so hints do not count (4.3, 4.6)";
  if (topology === "node")
    return `hints: every ready endpoint has one for nodes, ${thisNode} name this (4.3)`;
  if (topology === "zone")
    return `hints: every ready endpoint has one for zones, ${thisZone} name ${zone} (4.3)`;
  if (nodeHinted + zoneHinted === 0) return "hints: none (4.3)";
  const missing = ready - Math.max(nodeHinted, zoneHinted);
  if (missing > 0) return `hints: ignored, ${missing} of ${ready} ready endpoints have none (4.3, 4.16)`;
  if (zone === "" && zoneHinted > 0) return "hints: ignored, this node has no zone (4.4)";
  return "hints: ignored, none is for this node or its zone (4.4)";
}

function familyLines(family: ExplainedFamily, zone: string): string[] {
  const { endpoints, skippedSlices, frontends } = family;
  const lines = [`  ${topologyText(family, zone)}`, ""];
  if (endpoints.length > 0) lines.push(...tableLines(ENDPOINTS, endpoints).map(indented));
  else lines.push("  no endpoint");
  for (const { slice, endpoints: count, why, rules } of skippedSlices)
    lines.push(`  slice ${slice} is left out, with its endpoints (${count}): ${ruled(SKIPS[why], rules)}`);
  lines.push("", ...tableLines(OFFERS, frontends.flatMap(offersOf)).map(indented));
  return lines;
}

const indented = (line: string): string => `  ${line}`;

function portTitle({ portName, protocol, port, nodePort }: ExplainedPort, family: ExplainedFamily): string {
  const name = portName === "" ? "" : `${portName} `;
  const node = nodePort === 0 ? "" : `, NodePort ${nodePort}`;
  return `Port ${name}${port}/${protocol}${node}, IPv${family.family}`;
}

function affinityText(seconds: number): string {
  return seconds === 0
    ? "session affinity: none"
    : `session affinity: a client keeps its backend while that is in the set, for ${seconds} s after its last new flow (5.3, 5.5)`;
}

function healthText({ healthCheck }: ServiceExplanation): string[] {
  if (healthCheck === null) return [];
  const { port, localEndpoints, rules } = healthCheck;
  const families = ([4, 6] as const).flatMap((family) => {
    const count = localEndpoints[family];
    if (count === null) return [];
    return `IPv${family} ${count > 0 ? 200 : 503} with ${count} ready on this node`;
  });
  return [`  ${ruled(`health check port ${port}: ${families.join(", ")}`, rules)}`];
}

/** The explanation of one Service. */
export function explanationLines(explanation: ServiceExplanation, colors: Colors): string[] {
  const { namespace, name, type, node, ports, notServed, problems } = explanation;
  const zone = node.zone === "" ? "no zone" : `zone ${node.zone}`;
  const lines = [
    colors.bold(`Service ${namespace}/${name}, ${type}, on node ${node.name} (${zone})`),
    `  externalTrafficPolicy ${explanation.externalTrafficPolicy} (2.16), internalTrafficPolicy ${explanation.internalTrafficPolicy} (2.17)`,
    `  ${affinityText(explanation.affinitySeconds)}`,
    ...healthText(explanation),
  ];
  if (notServed !== null) lines.push(`  ${ruled(notServed.message, notServed.rules)}`);
  for (const problem of problems) lines.push(`  ${problem.severity}: ${problemLine(problem)}`);
  for (const port of ports) {
    for (const family of port.families)
      lines.push("", colors.bold(portTitle(port, family)), ...familyLines(family, node.zone));
  }
  return lines;
}

function offerText(offer: WhatIfChange["before"]): string {
  return typeof offer === "string" ? offer.toUpperCase() : offer.join(",");
}

function portText(key: string): string {
  return key.slice(key.indexOf(":") + 1);
}

/** What would change if … */
export function whatIfLines(answers: readonly WhatIf[], colors: Colors): string[] {
  if (answers.length === 0) return [];
  const lines = ["", colors.bold("What would change")];
  for (const { if: question, changes, masquerades } of answers) {
    const nothing = changes.length + masquerades.length === 0;
    lines.push(`  if ${question}: ${nothing ? "nothing" : ""}`.trimEnd());
    for (const { frontend, portKey, from, before, after } of changes) {
      const who = from === "anyone" ? "" : ` from ${from}`;
      lines.push(`    ${portText(portKey)} ${frontend}${who}: ${offerText(before)} -> ${offerText(after)}`);
    }
    for (const { frontend, portKey, before, after } of masquerades)
      lines.push(`    ${portText(portKey)} ${frontend} masquerade: ${before} -> ${after}`);
  }
  return lines;
}
