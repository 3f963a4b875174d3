// SPDX-License-Identifier: Apache-2.0
/** The parts of the report: figures in, text and plots out. Nothing is typed in: what was not measured is not there. */
import type { Chart } from "./charts.js";
import type {
  AgentResults,
  ConnectResults,
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

export const whole = (value: number): string => Math.round(value).toLocaleString("en-US");

export const many = (count: number, what: string): string =>
  `${whole(count)} ${what}${count === 1 ? "" : "s"}`;

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
    .map(({ with: other, ratio, interval: [low, high], atLeast, reached }) => {
      const missed = (): string => `**missed** by ${((1 - ratio / (atLeast ?? ratio)) * 100).toFixed(1)} %`;
      const limit = atLeast === 1 ? "" : `≥ ${atLeast}: `;
      const judged = atLeast === null ? "" : `; ${limit}${reached ? "reached" : missed()}`;
      return `${ratio.toFixed(3)} of ${other} (${low.toFixed(2)}–${high.toFixed(2)}${judged})`;
    })
    .join("<br>");
}

/** The ways past no Service. An XDP path has two of them: its own comes first. */
const DIRECT: readonly string[] = ["direct", "vxlan-direct", "outside-xdp-pass", "outside-direct"];

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
      row.spread === null ? "" : `${Math.round(row.spread * 100)} %`,
      row.p50Us === null ? "" : `${row.p50Us} / ${row.p99Us}`,
      comparedText(row),
    ]);
    const head = ["path", "Services", "rate", "spread", "p50 / p99, µs", "compared in this run"];
    return `### ${KINDS[kind] ?? kind}, server on the ${place}\n\n${table(head, lines)}`;
  });
  const text = `One client, nodes and servers in network namespaces (pods on ${flavour} veths, IPv${family}); every dataplane has hosts of its own that stand
at the same time, and they are measured in turns: ${rounds} rounds of ${seconds} s. Client and server share one CPU: a rate is what the CPU time of
a whole transaction allows, and not how long a hypervisor takes to wake another CPU. The Service that is asked is the last one. Our
counters, or those of netfilter's rules, and the server's say of each measurement that it took its path. A ratio is the median of the ratios of
single rounds, in which both are neighbours (a target is about this one); in brackets is the 95 % interval of that median, and "spread" is the
distance of the rates' quartiles, as a share of the median. "direct" asks the server itself, past no Service; "vxlan" has a tunnel between the nodes;
"outside" comes by the first node's uplink for a NodePort whose server is on the second, and its direct way passes by the first
node too. XDP's uplinks are veths with XDP programs, which have no offloads: they are compared with "outside-xdp-pass", the
direct way past programs that let all pass. Others: ${tools.join("; ")}.

${tables.join("\n\n")}

${machineText(machine)}`;
  const ratios = rows.flatMap((row) => {
    const direct = row.compared.find((each) => DIRECT.includes(each.with));
    if (direct === undefined || row.services !== 1) return [];
    return [
      { x: row.path, y: direct.ratio, who: KINDS[row.kind] ?? row.kind, group: `server on the ${row.place}` },
    ];
  });
  const scaled = new Set(rows.filter(({ services }) => services > 1).map(({ path }) => path));
  const connections = rows
    .filter(
      ({ kind, place, rate, path }) =>
        kind === "tcp-crr" && place === "same node" && rate !== null && scaled.has(path),
    )
    .map(({ services, rate, path }) => ({ x: whole(services), y: rate ?? 0, who: path }));
  return {
    title: "Through the kernel",
    text,
    charts: {
      ratios: {
        title: "One Service, against the direct path",
        xTitle: "",
        yTitle: "median of the rounds' ratios",
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

export function connectSection({ machine, targetNs, connects, results }: ConnectResults): Section {
  const lines = results.map(({ family, services, ns, rawNs, emptyNs }) => [
    ...[`IPv${family}`, whole(services), whole(rawNs), whole(emptyNs), whole(ns)],
    `≤ ${targetNs}: ${verdict(ns, targetNs)}`,
  ]);
  const rounds = results[0]?.rounds.length ?? 0;
  const text = `What \`connect(2)\` to a Service's address costs in the connect hook, in nanoseconds by the kernel's run-time statistics: medians of
${rounds} rounds of ${whole(connects)} new sockets each. The statistics take time themselves: an empty program in another cgroup is measured
in each round, and the target is about what is above it. Our counters say that every socket was sent to a backend.

${table(["family", "Services", "as read", "empty program", "above it", "target"], lines)}

${machineText(machine)}`;
  return { title: "One connect", text, charts: {} };
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
    `${whole(startMs)}${services === 10_000 && endpoints === 10 ? ` (≤ ${whole(targets.startMs)}: ${verdict(startMs, targets.startMs)})` : ""}`,
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
  return { title: "The agent", text, charts: {} };
}
