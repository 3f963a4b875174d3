// SPDX-License-Identifier: Apache-2.0
/**
 * What one packet costs in our programs: `make bench-packet [ARGS=--quick]`. BPF_PROG_TEST_RUN of the real programs with the
 * real maps, each repeat with the packet as it was and with another flow; figures are above those of an empty program, which
 * runs in every round beside the others. The counters must say that every repeat took the path that is named, or there is no
 * figure. Writes bench/results/packet.json.
 */
import { Counters, Option } from "../../src/abi/enums.gen.js";
import type { PtlConfig } from "../../src/abi/layout.gen.js";
import { MAPS, type MapName } from "../../src/abi/maps.gen.js";
import { completeMarks } from "../../src/dataplane/flow-marks.js";
import { Reconciler } from "../../src/dataplane/reconciler.js";
import type { ServicePortImage } from "../../src/image/types.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { LoadedObject } from "../../src/native/object.js";
import { FAMILIES, type Family } from "../../src/net/ip.js";
import { isolate, ownBpffs } from "../bpf/support/isolate.js";
import type { ReasonName } from "../bpf/support/lab.js";
import { TEST_CONFIG } from "../bpf/support/test-kernel.js";
import { bigPort, imageOf } from "../support/big-image.js";
import { type Packet, tcp } from "../support/packet.js";
import { interleave, median } from "./support/interleave.js";
import { writeResult } from "./support/machine.js";
import { emptyTable, PacketRunner, type Run } from "./support/packet-runner.js";
import { openXdpNode, type XdpNode } from "./support/packet-xdp.js";
import { type FlowPlan, Restorer } from "./support/restorer.js";

const QUICK = process.argv.includes("--quick");
const ROUNDS = QUICK ? 5 : 15;
const SERVICES = QUICK ? [1, 10_000] : [1, 10_000, 100_000];
const FLOWS = [1, 4_096, 65_536];
/** Repeats of one measurement: about 50 ms. */
const REPEATS = 131_072;
/** New flows of one measurement: two entries each, of a table of 524,288. */
const NEW_FLOWS = 32_768;
/** So many that a new flow is another one for as long as it takes. */
const EVER_NEW = 2 ** 24;
const FIRST_PORT = 1_024;
const PASS = -1;
const XDP_TX = 3;
/** The same for clients outside, who have fewer addresses. */
const EVER_NEW_OUTSIDE = 2 ** 20;

const CLIENT = { 4: "10.244.0.0", 6: "fd00:244:1::" } as const;
const ELSEWHERE = { 4: "198.51.100.7", 6: "2001:db8:5::7" } as const;

/** The real programs and maps, holding so many Services of each family. */
interface Node {
  readonly services: number;
  readonly kernel: LoadedObject;
  /** The Service that is asked: the last one. */
  readonly tested: Readonly<Record<Family, ServicePortImage>>;
}

type ProgramName = "ptl_pod_in" | "ptl_pod_out" | "ptl_net_in" | "ptl_net_out";

interface Case {
  /** "established/IPv4/4096 flows/1 Services". */
  readonly id: string;
  readonly path: Path;
  readonly family: Family;
  readonly flows: number;
  readonly services: number;
  readonly run: Omit<Run, "what">;
  /** The empty program of the same hook. */
  readonly floor: "bench_empty" | "bench_empty_xdp";
  /** Before each measurement; not measured. */
  readonly prepare?: () => Promise<void>;
}

type Path =
  | "established"
  | "reply"
  | "not ours, ingress"
  | "not ours, egress"
  | "not ours, both"
  | "new"
  | "new, table full"
  | "XDP, established"
  | "XDP, new";

interface Result {
  readonly path: Path;
  readonly family: Family;
  readonly flows: number;
  readonly services: number;
  /** Above an empty program in the same round. */
  readonly ns: number;
  readonly samples: readonly number[];
}

function maxEntries(services: number): Partial<Record<MapName, number>> {
  const least = (map: MapName, entries: number): [MapName, number] => [
    map,
    Math.max(MAPS[map].maxEntries, entries),
  ];
  const sizes: [MapName, number][] = FAMILIES.flatMap((family): [MapName, number][] => [
    least(`frontends${family}`, 2 * services),
    least(`slots${family}`, 4 * services),
    least(`backends${family}`, 2 * services),
    least(`backend_stats${family}`, 2 * services),
    least(`addresses${family}`, 8 * services),
  ]);
  return Object.fromEntries([
    ...sizes,
    least("services", 4 * services),
    least("service_drops", 4 * services),
    least("counters", Counters.SERVICE_BASE + 4 * services),
  ]);
}

/** With what the agent would find this kernel to have. */
function benchConfig(library: NativeLibrary): PtlConfig {
  const coarse = library.probe().find(({ name }) => name === "coarse_clock")?.available === true;
  return { ...TEST_CONFIG, options: coarse ? Option.COARSE_CLOCK : 0 };
}

async function openNode(library: NativeLibrary, services: number): Promise<Node> {
  const kernel = await library.open({
    pins: "",
    sockets: false,
    config: benchConfig(library),
    maxEntries: maxEntries(services),
  });
  const port = (family: Family, i: number): ServicePortImage => {
    const made = bigPort(i, 1, { family });
    return { ...made, key: `${made.key}/${family}` };
  };
  const ports = FAMILIES.flatMap((family) => Array.from({ length: services }, (_, i) => port(family, i)));
  const result = await new Reconciler({ kernel }).sync(imageOf(ports));
  if (result.failure !== null || result.refused.length > 0)
    throw new Error(`${services} Services: ${JSON.stringify(result.failure ?? result.refused[0])}`);
  await completeMarks(kernel);
  return { services, kernel, tested: { 4: port(4, services - 1), 6: port(6, services - 1) } };
}

/** The client's packet to the Service. */
function toService({ tested }: Node, family: Family, flags: string): Packet {
  const vip = tested[family].frontends[0];
  return {
    src: CLIENT[family],
    dst: vip?.address?.text ?? "",
    payload: tcp(FIRST_PORT, vip?.port ?? 0, flags),
  };
}

function toElsewhere(family: Family): Packet {
  return { src: CLIENT[family], dst: ELSEWHERE[family], payload: tcp(FIRST_PORT, 443, "A") };
}

/** What the backend answers. */
function answer({ tested }: Node, family: Family, flags: string): Packet {
  const backend = tested[family].backends[0];
  return {
    src: backend?.address.text ?? "",
    dst: CLIENT[family],
    payload: tcp(backend?.port ?? 0, FIRST_PORT, flags),
  };
}

/** Opens so many flows and brings them to where data flows, so that each has its entries. */
async function establish(runner: PacketRunner, node: Node, family: Family, flows: number): Promise<void> {
  const { kernel } = node;
  const what = `opening flows, IPv${family}`;
  const step = async (program: ProgramName, plan: FlowPlan, reason: ReasonName): Promise<void> => {
    await runner.run({ what, kernel, program, plan, repeats: flows, counts: [reason], verdict: PASS });
  };
  await step("ptl_pod_in", { packet: toService(node, family, "S"), flows }, "FLOW_NEW");
  await step("ptl_pod_out", { packet: answer(node, family, "SA"), flows, reply: true }, "TRANSLATED");
  await step("ptl_pod_in", { packet: toService(node, family, "A"), flows }, "TRANSLATED");
}

/** New flows until the table has lost some. */
async function fill(runner: PacketRunner, node: Node, family: Family): Promise<void> {
  await runner.run({
    what: `filling the table, IPv${family}`,
    kernel: node.kernel,
    program: "ptl_pod_in",
    plan: { packet: toService(node, family, "S"), flows: EVER_NEW },
    repeats: Math.ceil(MAPS[`nat${family}`].maxEntries * 0.6),
    counts: ["FLOW_NEW"],
    verdict: PASS,
  });
}

function caseOf(
  path: Path,
  node: Node,
  family: Family,
  flows: number,
  { prepare, ...rest }: Partial<Run> & Pick<Case, "prepare">,
): Case {
  const { services, kernel } = node;
  const id = `${path}, IPv${family}, ${flows} flows, ${services} Services`;
  const plan: FlowPlan = { packet: toService(node, family, "A"), flows };
  const usual = { kernel, program: "ptl_pod_in", plan, counts: ["TRANSLATED"], repeats: REPEATS } as const;
  const run = { ...usual, verdict: PASS, ...rest };
  return { id, path, family, flows, services, run, floor: "bench_empty", ...(prepare && { prepare }) };
}

/** Flows that are there already, and what is no Service's. */
function steadyCases(node: Node, family: Family): Case[] {
  const established = FLOWS.flatMap((flows) => {
    const back: FlowPlan = { packet: answer(node, family, "A"), flows, reply: true };
    return [
      caseOf("established", node, family, flows, {}),
      caseOf("reply", node, family, flows, { program: "ptl_pod_out", plan: back }),
    ];
  });
  const plan: FlowPlan = { packet: toElsewhere(family), flows: 1 };
  return [
    ...established,
    caseOf("not ours, ingress", node, family, 1, { plan, counts: ["PASS_TCP_NO_ENTRY"] }),
    caseOf("not ours, egress", node, family, 1, {
      plan,
      program: "ptl_pod_out",
      counts: ["PASS_EGRESS_MISS"],
    }),
  ];
}

function newCase(path: "new" | "new, table full", node: Node, family: Family): Case {
  const plan: FlowPlan = { packet: toService(node, family, "S"), flows: EVER_NEW };
  const prepare = path === "new" ? { prepare: () => emptyTable(node.kernel, family) } : {};
  return caseOf(path, node, family, EVER_NEW, { plan, counts: ["FLOW_NEW"], repeats: NEW_FLOWS, ...prepare });
}

/** Measures side by side; every figure is above the empty program of its own round, with the same plan before it. */
async function rounds(runner: PacketRunner, cases: readonly Case[]): Promise<Result[]> {
  const samples = await interleave(
    cases.map((each) => ({
      name: each.id,
      measure: async () => {
        await each.prepare?.();
        const ns = await runner.run({ what: each.id, ...each.run });
        return ns - runner.floor(each.floor, each.run.plan, REPEATS);
      },
    })),
    ROUNDS,
  );
  return cases.map(({ id, path, family, flows, services }) => {
    const all = samples.get(id) ?? [];
    return { path, family, flows, services, ns: median(all), samples: all };
  });
}

/** A packet that is no Service's passes two programs: the sum of each two. */
function bothWays(steady: readonly Result[]): Result[] {
  return steady
    .filter(({ path }) => path === "not ours, ingress")
    .map((ingress) => {
      const { family, services } = ingress;
      const egress = steady.find(
        (each) => each.path === "not ours, egress" && each.family === family && each.services === services,
      );
      const samples = ingress.samples.map((ns, i) => ns + (egress?.samples[i] ?? Number.NaN));
      return { ...ingress, path: "not ours, both", samples, ns: median(samples) };
    });
}

/** One look-up in a hash, above the empty program: what no program that knows flows can undercut. */
function lookups(runner: PacketRunner, node: Node): { flows: number; ns: number }[] {
  return FLOWS.map((flows) => {
    const plan: FlowPlan = { packet: toService(node, 4, "A"), flows };
    runner.floor("bench_lookup", plan, flows);
    const all = Array.from(
      { length: ROUNDS },
      () => runner.floor("bench_lookup", plan, REPEATS) - runner.floor("bench_empty", plan, REPEATS),
    );
    return { flows, ns: median(all) };
  });
}

/** What issue and README promise, in nanoseconds. */
const TARGETS: readonly { path: Path; flows: number; ns: number }[] = [
  { path: "established", flows: 1, ns: 200 },
  { path: "established", flows: 65_536, ns: 480 },
  { path: "reply", flows: 1, ns: 200 },
  { path: "not ours, both", flows: 1, ns: 60 },
  { path: "new", flows: EVER_NEW, ns: 1_000 },
  { path: "new, table full", flows: EVER_NEW, ns: 1_500 },
  { path: "XDP, established", flows: 1, ns: 260 },
  { path: "XDP, established", flows: 65_536, ns: 560 },
  { path: "XDP, new", flows: EVER_NEW, ns: 1_200 },
];

function print(results: readonly Result[], floor: readonly { flows: number; ns: number }[]): void {
  const line = (...cells: readonly (string | number)[]) =>
    console.log(
      cells.map((cell, i) => (i === 0 ? String(cell).padEnd(20) : String(cell).padStart(12))).join(""),
    );
  line("path", "family", "flows", "Services", "ns", "target");
  for (const { path, family, flows, services, ns } of results) {
    const target = TARGETS.find((each) => each.path === path && each.flows === flows)?.ns;
    const verdict = target === undefined ? "" : `${ns <= target ? "" : "MISSED "}${target}`;
    line(path, `IPv${family}`, flows === EVER_NEW ? "ever new" : flows, services, ns, verdict);
  }
  for (const { flows, ns } of floor) line("one look-up", "", flows, "", ns);
}

async function tcResults(library: NativeLibrary): Promise<[Result[], { flows: number; ns: number }[]]> {
  const restorer = new Restorer();
  const nodes: Node[] = [];
  try {
    const runner = new PacketRunner(restorer);
    for (const services of SERVICES) nodes.push(await openNode(library, services));
    const all = nodes.flatMap((node) => FAMILIES.map((family) => ({ node, family })));
    const newOnes = (path: "new" | "new, table full"): Case[] =>
      all.map(({ node, family }) => newCase(path, node, family));
    for (const { node, family } of all) await establish(runner, node, family, Math.max(...FLOWS));
    const steady = await rounds(
      runner,
      all.flatMap(({ node, family }) => steadyCases(node, family)),
    );
    const fresh = await rounds(runner, newOnes("new"));
    for (const { node, family } of all) await fill(runner, node, family);
    const full = await rounds(runner, newOnes("new, table full"));
    return [[...steady, ...bothWays(steady), ...fresh, ...full], lookups(runner, nodes[0] as Node)];
  } finally {
    restorer.close();
    for (const { kernel } of nodes) await kernel.close();
  }
}

function xdpCases(node: XdpNode, family: Family): { established: Case[]; fresh: Case } {
  const { kernel } = node;
  const usual = { kernel, program: "ptl_xdp", repeats: REPEATS, verdict: XDP_TX } as const;
  const rest = { family, services: 1, floor: "bench_empty_xdp" } as const;
  const established = FLOWS.map((flows): Case => {
    const plan = { packet: node.packet(family, "A"), flows };
    const id = `XDP, established, IPv${family}, ${flows} flows`;
    return { id, path: "XDP, established", flows, ...rest, run: { ...usual, plan, counts: ["XDP_SENT"] } };
  });
  const plan = { packet: node.packet(family, "S"), flows: EVER_NEW_OUTSIDE };
  const fresh: Case = {
    id: `XDP, new, IPv${family}`,
    path: "XDP, new",
    flows: EVER_NEW,
    ...rest,
    run: { ...usual, plan, repeats: NEW_FLOWS, counts: ["FLOW_NEW", "MASQUERADED", "XDP_SENT"] },
    prepare: () => emptyTable(kernel, family),
  };
  return { established, fresh };
}

async function xdpResults(library: NativeLibrary): Promise<Result[]> {
  const node = await openXdpNode(library, `${ownBpffs(library)}/xdp`);
  const restorer = new Restorer(node.arrival);
  try {
    const runner = new PacketRunner(restorer);
    const cases = FAMILIES.map((family) => xdpCases(node, family));
    const flows = Math.max(...FLOWS);
    for (const { fresh } of cases)
      await runner.run({
        what: "opening flows",
        ...fresh.run,
        plan: { ...fresh.run.plan, flows },
        repeats: flows,
      });
    const established = await rounds(
      runner,
      cases.flatMap((each) => each.established),
    );
    const fresh = await rounds(
      runner,
      cases.map((each) => each.fresh),
    );
    return [...established, ...fresh];
  } finally {
    restorer.close();
    await node.close();
  }
}

async function main(): Promise<void> {
  const library = new NativeLibrary();
  const [tc, floor] = await tcResults(library);
  const results = [...tc, ...(await xdpResults(library))];
  print(results, floor);
  const result = { rounds: ROUNDS, everNew: EVER_NEW, targets: TARGETS, lookups: floor, results };
  console.log(`\n${writeResult("packet", result, QUICK)}`);
}

isolate();
await main();
