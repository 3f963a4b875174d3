// SPDX-License-Identifier: Apache-2.0
/** Flows counted by something that many of them share: one row for each, whatever the number of flows. */
import type { FlowRow, FlowState } from "../../../dataplane/view.js";
import type { Column } from "../../output.js";
import { peerText, serviceName } from "../../service-text.js";
import { FLOW_STATES } from "./filter-options.js";
import type { CountKey } from "./keys.js";

export interface FlowCount {
  /** What they share: "shop/web", "shop/web 10.1.0.1:8080", "10.9.0.9", "established", "TCP". */
  readonly of: string;
  flows: number;
  readonly states: Record<FlowState, number>;
  /** Of the one that was last heard of, in seconds. */
  leastIdle: number;
}

function keyOf(row: FlowRow, by: CountKey): string {
  const { service, direct, backend, client, state, protocol } = row;
  const name = direct ? "(direct)" : service === null ? "(gone)" : serviceName(service);
  switch (by) {
    case "service":
      return name;
    case "backend":
      return `${name} ${peerText(backend)}`;
    case "client":
      return client.address;
    case "state":
      return state;
    case "protocol":
      return protocol;
  }
}

/** Most flows first, then by name. */
export async function countFlows(rows: AsyncIterable<FlowRow>, by: CountKey): Promise<FlowCount[]> {
  const counts = new Map<string, FlowCount>();
  for await (const row of rows) {
    const of = keyOf(row, by);
    let count = counts.get(of);
    if (count === undefined) {
      const states = { opening: 0, established: 0, closing: 0, closed: 0, dead: 0 };
      count = { of, flows: 0, states, leastIdle: row.idleSeconds };
      counts.set(of, count);
    }
    count.flows += 1;
    count.states[row.state] += 1;
    count.leastIdle = Math.min(count.leastIdle, row.idleSeconds);
  }
  return Array.from(counts.values()).sort((a, b) => b.flows - a.flows || (a.of < b.of ? -1 : 1));
}

export function countColumns(by: CountKey): readonly Column<FlowCount>[] {
  const figure = (header: string, value: (count: FlowCount) => number): Column<FlowCount> => ({
    header,
    value,
    align: "right",
  });
  return [
    { header: by.toUpperCase(), value: ({ of }) => of },
    figure("FLOWS", ({ flows }) => flows),
    ...FLOW_STATES.map((state) => figure(state.toUpperCase(), ({ states }) => states[state])),
    { header: "LEAST IDLE", value: ({ leastIdle }) => `${leastIdle}s`, align: "right" },
  ];
}
