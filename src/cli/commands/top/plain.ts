// SPDX-License-Identifier: Apache-2.0
/** What `top` prints where there is no screen: lines that add up in a log, or JSON. */
import { type Column, type Printer, TableLayout } from "../../output.js";
import { peerText, serviceJson, serviceName } from "../../service-text.js";
import { byteRateText, rateText } from "./draw.js";
import type { Interval, Rates } from "./rates.js";
import { byName, type Line, linesOf, type TopState } from "./state.js";

interface TimedLine {
  readonly time: string;
  readonly line: Line;
}

function columnsOf(view: TopState["view"]): readonly Column<TimedLine>[] {
  const backend: Column<TimedLine> = {
    header: "BACKEND",
    value: ({ line }) => ("backend" in line ? peerText(line.backend.peer) : ""),
  };
  return [
    { header: "TIME", value: ({ time }) => time },
    { header: "SERVICE", value: ({ line }) => serviceName(line.id) },
    { header: "PORT", value: ({ line }) => line.id.portName },
    { header: "PROTOCOL", value: ({ line }) => line.id.protocol },
    ...(view === "services" ? [] : [backend]),
    { header: "NEW/S", value: ({ line }) => rateText(line.rates.flows), align: "right" },
    { header: "PACKETS/S", value: ({ line }) => rateText(line.rates.packets), align: "right" },
    { header: "BYTES/S", value: ({ line }) => byteRateText(line.rates.bytes), align: "right" },
    { header: "DROPS/S", value: ({ line }) => rateText(line.rates.drops), align: "right" },
    { header: "ACTIVE", value: ({ line }) => line.active ?? "", align: "right" },
  ];
}

/** A printer of intervals: a header once, then a line for each service port, or backend, of each interval. */
export function linesTable(
  printer: Printer,
  state: TopState,
): (interval: Interval, time: Date) => Promise<void> {
  const layout = new TableLayout(columnsOf(state.view));
  let first = true;
  return async (interval, time) => {
    const rows = linesOf(interval, state).map((line) => ({ time: time.toTimeString().slice(0, 8), line }));
    const lines = layout.lines(rows);
    if (first && lines.length > 0) printer.line(printer.colors.bold(layout.header()));
    if (lines.length > 0) {
      printer.line(lines.join("\n"));
      first = false;
    } else {
      printer.note("no such Service in the maps");
    }
  };
}

const ratesJson = ({ flows, packets, bytes, drops }: Rates): object => ({
  newPerSecond: rounded(flows),
  packetsPerSecond: rounded(packets),
  bytesPerSecond: rounded(bytes),
  dropsPerSecond: rounded(drops),
});

/** Three decimals: more would be noise of the clock. */
const rounded = (value: number | null): number | null =>
  value === null ? null : Math.round(value * 1000) / 1000;

/** One interval as a JSON object, in order of names: the maps have none. */
export function intervalJson(interval: Interval, time: Date, every: number): object {
  const { seconds, services, backends, refused, totals, active } = interval;
  return {
    time: time.toISOString(),
    every,
    seconds: rounded(seconds),
    totals: { ...ratesJson(totals), activeFlows: active },
    services: [...services].sort(byName).map((line) => ({
      service: serviceJson(line.id),
      ...ratesJson(line.rates),
      activeFlows: line.active,
    })),
    backends: [...backends].sort(byName).map(({ id, backend, rates, active: flows }) => ({
      service: serviceJson(id),
      address: backend.peer.address,
      port: backend.peer.port,
      family: backend.family,
      cell: backend.cell,
      generation: backend.generation,
      state: backend.state,
      ...ratesJson(rates),
      activeFlows: flows,
    })),
    refused: refused.map(({ reason, perSecond }) => ({ reason, packetsPerSecond: rounded(perSecond) })),
  };
}
