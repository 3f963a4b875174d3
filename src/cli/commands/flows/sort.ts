// SPDX-License-Identifier: Apache-2.0
/** Flows in order. As they come they have none, and only then a list of any length is never held at once. */
import { compareServices, compareText, type FlowRow } from "../../../dataplane/view.js";
import { peerText } from "../../service-text.js";
import type { SortKey } from "./keys.js";

type Compare = (a: FlowRow, b: FlowRow) => number;

const byService: Compare = (a, b) =>
  a.service === null || b.service === null
    ? Number(a.service === null) - Number(b.service === null)
    : compareServices(a.service, b.service);

const COMPARE: Readonly<Record<SortKey, Compare>> = {
  idle: (a, b) => a.idleSeconds - b.idleSeconds,
  client: (a, b) => compareText(peerText(a.client), peerText(b.client)),
  service: byService,
  backend: (a, b) => compareText(peerText(a.backend), peerText(b.backend)),
  state: (a, b) => compareText(a.state, b.state),
};

/** The first `limit` of them in this order. Holds twice as many at most. */
export async function sortedFlows(
  rows: AsyncIterable<FlowRow>,
  by: SortKey,
  limit: number,
): Promise<readonly FlowRow[]> {
  const compare: Compare = (a, b) => COMPARE[by](a, b) || COMPARE.idle(a, b) || COMPARE.client(a, b);
  const held: FlowRow[] = [];
  for await (const row of rows) {
    held.push(row);
    if (held.length >= 2 * limit) held.sort(compare).splice(limit);
  }
  return held.sort(compare).slice(0, limit);
}
