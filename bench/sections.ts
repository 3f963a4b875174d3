// SPDX-License-Identifier: Apache-2.0
/** The parts of the report: figures in, text and plots out. Nothing is typed in: what was not measured is not there. */
import type { Chart } from "./charts.js";
import type {
  AgentResults,
  ControlResults,
  Machine,
  PacketFigure,
  PacketResults,
  PathFigure,
  PathResults,
} from "./results.js";

export interface Section {
  readonly title: string;
  readonly text: string;
  /** By the name of the file. */
  readonly charts: Readonly<Record<string, Chart>>;
}

const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

const many = (count: number, what: string): string => `${whole(count)} ${what}${count === 1 ? "" : "s"}`;

export function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  return [head, head.map(() => "---"), ...rows].map((cells) => `| ${cells.join(" | ")} |`).join("\n");
}

/** "reached", or how far it is missed. */
function verdict(value: number, limit: number): string {
  return value <= limit ? "reached" : `**missed** by ${whole((value / limit - 1) * 100)} %`;
}

export function machineText({ cpu, cpus, memoryMiB, kernel, node, date, commit, load }: Machine): string {
  const size = memoryMiB === undefined ? "" : `, ${whole(memoryMiB / 1024)} GiB`;
  const when = date === undefined ? "" : `; ${date}, commit ${commit}`;
  return `${cpus} × ${cpu}${size}, Linux ${kernel}, Node.js ${node}; load average at the end ${load[0]}${when}.`;
}

function flowsText(flows: number, everNew: number): string {
  return flows === everNew ? "ever new" : whole(flows);
}

export function packetSection({
  machine,
  rounds,
  everNew,
  targets,
  lookups,
  results,
}: PacketResults): Section {
  const cell = ({ path, flows }: PacketFigure): string => `${path}, ${flowsText(flows, everNew)}`;
  const most = Math.max(...results.map(({ services }) => services));
  const services = [...new Set(results.map((each) => each.services))];
  const places = [...new Set(results.map(cell))];
  const rows = places.flatMap((place) =>
    ([4, 6] as const).map((family) => {
      const own = results.filter((each) => cell(each) === place && each.family === family);
      const first = own[0] as PacketFigure;
      const limit = targets.find(({ path, flows }) => path === first.path && flows === first.flows)?.ns;
      const figures = services.map((n) => {
        const ns = own.find((each) => each.services === n)?.ns;
        return ns === undefined ? "" : whole(ns);
      });
      const judged = limit === undefined ? "" : `≤ ${whole(limit)}: ${verdict(first.ns, limit)}`;
      return [first.path, `IPv${family}`, flowsText(first.flows, everNew), ...figures, judged];
    }),
  );
  const text = `What one packet costs in the programs, in nanoseconds above an empty program that runs in the same rounds: medians of
${rounds} rounds with \`BPF_PROG_TEST_RUN\`, on the real maps. Each repeat gets the packet as it came and another flow, and the
counters say that every repeat took the path that is named. [Where XDP's time goes](design/packet-cost-xdp.md)
is measured by leaving out parts. One look-up in a hash of 65,536 entries, measured the same way, costs
${lookups.map(({ flows, ns }) => `${whole(ns)} ns with ${many(flows, "flow")}`).join(", ")}.

${table(["path", "family", "flows", ...services.map((n) => many(n, "Service")), "target (1 Service)"], rows)}

${machineText(machine)}`;
  const bars = results
    .filter(({ services: n }) => n === most)
    .map(({ path, family, flows, ns }) => ({
      x: `${path === "established" || path === "reply" ? `${path}, ${whole(flows)}` : path}`,
      y: Math.round(ns),
      who: `IPv${family}`,
    }));
  const chart: Chart = {
    title: `One packet, ${many(most, "Service")}`,
    xTitle: "path, flows",
    yTitle: "ns above an empty program",
    kind: "bars",
    rows: bars,
  };
  return { title: "One packet", text, charts: { packet: chart } };
}

/** Kinds of load as the tables name them. */
const KINDS: Readonly<Record<string, string>> = {
  "tcp-rr": "TCP request/response",
  "tcp-crr": "TCP connect, request, response, close",
  "udp-rr": "UDP ping-pong",
  "tcp-stream": "TCP throughput",
};

function rateText({ rate, unit, failed }: PathFigure): string {
  if (rate === null) return `failed: ${failed}`;
  return unit === "bit/s" ? `${(rate / 1e9).toFixed(2)} Gbit/s` : `${whole(rate)}/s`;
}

function comparedText({ compared }: PathFigure): string {
  return compared
    .map(({ with: other, ratio, atLeast, reached }) => {
      const judged = atLeast === null ? "" : ` (≥ ${atLeast}: ${reached ? "reached" : "**missed**"})`;
      return `${ratio.toFixed(2)} of ${other}${judged}`;
    })
    .join("; ");
}

/** Client to backend through the kernel; each dataplane in hosts of its own, all at once, measured in turns. */
export function pathSection({ machine, conditions, rows }: PathResults): Section {
  const { flavour, family, rounds, seconds, tools } = conditions;
  const places = [...new Set(rows.map(({ kind, place }) => `${kind}\n${place}`))];
  const tables = places.map((where) => {
    const [kind = "", place = ""] = where.split("\n");
    const own = rows.filter((row) => row.kind === kind && row.place === place);
    const lines = own.map((row) => [
      row.path,
      whole(row.services),
      rateText(row),
      row.p50Us === null ? "" : `${row.p50Us} / ${row.p99Us}`,
      comparedText(row),
    ]);
    const head = ["path", "Services", "rate", "p50 / p99, µs", "compared in this run"];
    return `### ${KINDS[kind] ?? kind}, server on the ${place}\n\n${table(head, lines)}`;
  });
  const text = `One client, nodes and servers in network namespaces (pods on ${flavour} veths, IPv${family}); every dataplane has hosts of its own that stand
at the same time, and they are measured in turns: ${rounds} rounds of ${seconds} s, medians. The Service that is asked is the last one.
Counters or conntrack say of each measurement that it took its path. Others: ${tools.join("; ")}.

${tables.join("\n\n")}

${machineText(machine)}`;
  const ratios = rows.flatMap((row) => {
    const direct = row.compared.find((each) => each.with === "direct" || each.with === "outside-direct");
    if (direct === undefined || row.services !== 1) return [];
    return [
      { x: row.path, y: direct.ratio, who: KINDS[row.kind] ?? row.kind, group: `server on the ${row.place}` },
    ];
  });
  const connections = rows
    .filter(({ kind, place, rate }) => kind === "tcp-crr" && place === "same node" && rate !== null)
    .map(({ services, rate, path }) => ({ x: whole(services), y: rate ?? 0, who: path }));
  return {
    title: "Through the kernel",
    text,
    charts: {
      ratios: {
        title: "One Service, against the direct path",
        xTitle: "",
        yTitle: "ratio of medians",
        kind: "bars",
        rule: 1,
        rows: ratios,
      },
      services: {
        title: "New connections and the number of Services",
        xTitle: "Services",
        yTitle: "connections/s",
        kind: "lines",
        rows: connections,
      },
    },
  };
}

/** "1/386" of it, or "1.1 times" it. */
const shareText = (ratio: number): string =>
  ratio < 1 ? `1/${(1 / ratio).toFixed(1)}` : `${ratio.toFixed(1)} times`;

export function controlSection({ machine, versions, targets, results }: ControlResults): Section {
  const most = Math.max(...results.map(({ services }) => services));
  const rows = results.map(({ services, endpoints, what, dataplane, ms, ratio, samples }) => {
    const target = targets.find((each) => each.what === what && each.dataplane === dataplane);
    const judged =
      target === undefined || services !== 10_000
        ? ""
        : `≤ 1/${Math.round(1 / target.ratio)}: ${verdict(ratio, target.ratio)}`;
    const share = dataplane === "Portolan" ? "" : shareText(ratio);
    return [
      `${whole(services)} × ${endpoints}`,
      what,
      dataplane,
      ms.toFixed(1),
      String(samples.length),
      share,
      judged,
    ];
  });
  const text = `From what the API server has said to what the kernel does. Portolan: parsed objects to committed maps. The others: the
command alone (${Object.values(versions).join("; ")}), with the text that kube-proxy writes for it, made before the clock runs.

${table(["Services", "what", "who", "ms (median)", "runs", "Portolan takes of it", "target"], rows)}

${machineText(machine)}`;
  const chart: Chart = {
    title: many(most, "Service"),
    xTitle: "",
    yTitle: "ms (logarithmic)",
    kind: "bars",
    logarithmic: true,
    rows: results
      .filter(({ services }) => services === most)
      .map(({ what, dataplane, ms }) => ({ x: what, y: ms, who: dataplane })),
  };
  return { title: "From a change to the kernel", text, charts: { control: chart } };
}

export function agentSection({ machine, targets, results }: AgentResults): Section {
  const rows = results.map(({ services, endpoints, startMs, restartMs, rssMiB, peakRssMiB, latency }) => [
    `${whole(services)} × ${endpoints}`,
    `${whole(startMs)}${services === 10_000 ? ` (≤ ${whole(targets.startMs)}: ${verdict(startMs, targets.startMs)})` : ""}`,
    whole(restartMs),
    `${whole(rssMiB)}${services === 30_000 ? ` (≤ ${targets.rssMiB}: ${verdict(rssMiB, targets.rssMiB)})` : ""}`,
    whole(peakRssMiB),
    latency === null
      ? ""
      : `${latency.p50Ms} / ${latency.p99Ms} ms (p99 ≤ ${targets.p99Ms}: ${verdict(latency.p99Ms, targets.p99Ms)}), ${latency.agentCpu} CPU`,
  ]);
  const text = `The agent as a process, as it is shipped, against an API server over TLS on the same CPUs: from exec to the first complete
write, resident memory, and the time from a write in the API server to the maps at ${results.find(({ latency }) => latency !== null)?.latency?.perSecond ?? "-"} changes a second.

${table(["Services", "start, ms", "restart, ms", "memory, MiB", "at most, MiB", "a change, p50 / p99"], rows)}

${machineText(machine)}`;
  const chart: Chart = {
    title: "Resident memory of the agent",
    xTitle: "Services × endpoints",
    yTitle: "MiB",
    kind: "bars",
    rule: targets.rssMiB,
    rows: results.map(({ services, endpoints, rssMiB }) => ({
      x: `${whole(services)} × ${endpoints}`,
      y: rssMiB,
      who: "agent",
    })),
  };
  return { title: "The agent", text, charts: { memory: chart } };
}
