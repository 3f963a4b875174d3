// SPDX-License-Identifier: Apache-2.0
/** The part of the report about memory: of the agent, and of its maps in the kernel. */
import type { Chart } from "./charts.js";
import type { AgentFigure, AgentResults, MapFigure } from "./results.js";
import { machineText, type Section, table, whole } from "./sections.js";

const MIB = 2 ** 20;
/** Maps that never have this much of the kernel's memory are told as one. */
const WORTH_A_LINE = MIB;

const mebibytes = (bytes: number): string => (bytes / MIB).toFixed(1);
const sum = (maps: readonly MapFigure[]): number => maps.reduce((bytes, map) => bytes + map.bytes, 0);
const shapeOf = ({ services, endpoints }: AgentFigure): string => `${whole(services)} × ${endpoints}`;

function totals(results: readonly AgentFigure[], rssTarget: number): string {
  const rows = results.map((result) => {
    const { services, maps, rssMiB, peakRssMiB } = result;
    const judged =
      services !== 30_000 ? "" : ` (≤ ${rssTarget}: ${rssMiB <= rssTarget ? "reached" : "**missed**"})`;
    const both = (sum(maps) / MIB + rssMiB).toFixed(1);
    return [
      shapeOf(result),
      mebibytes(sum(maps)),
      `${rssMiB.toFixed(1)}${judged}`,
      peakRssMiB.toFixed(1),
      both,
    ];
  });
  return table(["Services", "maps, MiB", "agent, MiB", "agent at most, MiB", "maps and agent, MiB"], rows);
}

/** What it takes, and how much lies in it: "12.3 (40,000)". */
function cell(map: MapFigure | undefined): string {
  return map === undefined ? "" : `${mebibytes(map.bytes)} (${whole(map.used)})`;
}

/** The large maps, in the order of their size with the most Services. */
function byMap(results: readonly AgentFigure[]): string {
  const all = results.flatMap(({ maps }) => maps);
  const large = new Set(all.filter(({ bytes }) => bytes >= WORTH_A_LINE).map(({ name }) => name));
  const largest = results.reduce((most, one) => (sum(one.maps) > sum(most.maps) ? one : most));
  const order = [...largest.maps].sort((a, b) => b.bytes - a.bytes).filter(({ name }) => large.has(name));
  const rows = order.map(({ name, maxEntries }) => [
    `\`${name}\``,
    whole(maxEntries),
    ...results.map(({ maps }) => cell(maps.find((map) => map.name === name))),
  ]);
  const rest = results.map(({ maps }) => mebibytes(sum(maps.filter(({ name }) => !large.has(name)))));
  return table(["map", "room for at most", ...results.map(shapeOf)], [...rows, ["all others", "", ...rest]]);
}

/**
 * Maps and agent, of results that have both.
 *
 * @returns null when the results tell nothing of maps
 */
export function memorySection({ machine, targets, results: all }: AgentResults): Section | null {
  const results = all
    .filter(({ maps }) => (maps ?? []).length > 0)
    .sort((a, b) => a.services * a.endpoints - b.services * b.endpoints);
  if (results.length === 0) return null;
  const text = `What the agent of each of these runs holds when it has had nothing to do for a while, and what the kernel charges for its pinned maps
(\`memlock\` of each, as \`portolan maps\` shows it). Arrays, and the hashes of flows and of clients, have their room from the
start, so traffic adds nothing; \`--max-services\` and its like set how much. The agent of 30,000 Services was told to make room for more.

${totals(results, targets.rssMiB)}

The maps of at least ${mebibytes(WORTH_A_LINE)} MiB, in MiB, and how many entries are used:

${byMap(results)}

${machineText(machine)}`;
  const rows = results.flatMap((result) => [
    { x: shapeOf(result), y: Math.round((10 * sum(result.maps)) / MIB) / 10, who: "maps" },
    { x: shapeOf(result), y: result.rssMiB, who: "agent" },
  ]);
  const chart: Chart = {
    title: "Memory of the maps and of the agent",
    xTitle: "Services × endpoints",
    yTitle: "MiB",
    kind: "bars",
    rule: targets.rssMiB,
    rows,
  };
  return { title: "Memory", text, charts: { memory: chart } };
}
