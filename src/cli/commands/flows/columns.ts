// SPDX-License-Identifier: Apache-2.0
/** How flows and orphans are shown. */
import type { FlowRow, OrphanRow } from "../../../dataplane/view.js";
import type { Column } from "../../output.js";
import { peerText, serviceJson, serviceName } from "../../service-text.js";

export const FLOW_COLUMNS: readonly Column<FlowRow>[] = [
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

export const ORPHAN_COLUMNS: readonly Column<OrphanRow>[] = [
  { header: "WHY", value: ({ reasons }) => reasons.join(",") },
  { header: "PROTOCOL", value: ({ protocol }) => protocol },
  { header: "AT", value: ({ direction }) => (direction === "in" ? "ingress" : "egress") },
  { header: "SOURCE", value: ({ source }) => peerText(source) },
  { header: "DESTINATION", value: ({ destination }) => peerText(destination) },
  { header: "REWRITTEN TO", value: ({ rewrittenTo }) => peerText(rewrittenTo) },
  { header: "SERVICE", value: ({ service }) => (service === null ? "" : serviceName(service)) },
  { header: "STATE", value: ({ state }) => state },
  { header: "IDLE", value: ({ idleSeconds }) => `${idleSeconds}s`, align: "right" },
];

/** A flow or an orphan as a JSON object. */
export function withServiceJson(row: FlowRow | OrphanRow): object {
  return { ...row, service: row.service === null ? null : serviceJson(row.service) };
}
