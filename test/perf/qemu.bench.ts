// SPDX-License-Identifier: Apache-2.0
/**
 * How many instructions a new connection and a request take, from the client's system call to the answer, both ends and the node
 * between them: `make bench-qemu [ARGS="--family 6"]`. EMULATED: one of Debian's kernels in QEMU, whose clock counts instructions.
 * So IPVS can be beside the others on a machine whose own kernel has none. Writes bench/results/qemu.json.
 */
import { execFile, execFileSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";
import type { Reason } from "../../src/abi/enums.gen.js";
import { CONTESTANTS, type Contestant, KINDS, type Plan, writeMachine } from "./emulated/contestants.js";
import type { Load } from "./path/load.js";
import { byShortcut, byTc, type CounterProof, since, type Tally } from "./path/proof.js";
import { median } from "./support/interleave.js";
import { ROOT, writeResult } from "./support/machine.js";

const KERNEL = "6.12";
const TOOLS = ["qemu-system-x86_64", "cpio", "busybox", "ipvsadm", "ipset", "conntrack", "iptables-legacy"];
/** Of this machine's clock, a contestant. */
const PATIENCE_S = 600;
const MEMORY_MIB = 2048;
/** Machines at a time: each keeps one CPU busy. */
const MACHINES = 2;
/** Flows that the kernel's conntrack must have seen answered by the server; one may have been forgotten. */
const NEARLY_ALL = 0.99;
const MODULES = [
  ...["veth", "dummy", "sch_ingress", "cls_bpf", "nf_conntrack_netlink", "ip_vs", "ip_vs_rr"],
  ...["ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip", "xt_set"],
  ...[
    "iptable_nat",
    "iptable_filter",
    "iptable_mangle",
    "ip6table_nat",
    "ip6table_filter",
    "ip6table_mangle",
  ],
  ...["xt_conntrack", "xt_mark", "xt_comment", "xt_addrtype", "xt_MASQUERADE", "xt_nat", "xt_statistic"],
  ...["xt_tcpudp", "ipt_REJECT", "ip6t_REJECT"],
];
const PROOFS: Readonly<Partial<Record<Contestant, CounterProof>>> = {
  "portolan-tc": byTc,
  "portolan-shortcut": byShortcut,
};

interface Figure {
  readonly services: number;
  readonly kind: (typeof KINDS)[number];
  readonly load: Load;
  /** Flows to what was asked that the kernel tracked as answered by the server. */
  readonly tracked: number;
  /** Packets of each reason; null where none of our programs is. */
  readonly before: readonly number[] | null;
  readonly after: readonly number[] | null;
}

interface Row {
  readonly kind: (typeof KINDS)[number];
  readonly path: Contestant;
  readonly services: number;
  /** A transaction's, the median of the rounds. */
  readonly instructions: number;
  readonly samples: readonly number[];
  /** To the direct path, which has no Service. */
  readonly ratio: number;
}

function notRun(why: string): never {
  console.error(`bench-qemu: NOT RUN: ${why}`);
  process.exit(1);
}

function planOf(): Plan & { readonly contestants: readonly Contestant[] } {
  const text = { type: "string" } as const;
  try {
    const { values } = parseArgs({ options: { family: text, services: text, contestants: text } });
    const family = values.family ?? "4";
    const services = (values.services ?? "1,1000").split(",").map(Number);
    const names: readonly string[] = values.contestants?.split(",") ?? CONTESTANTS;
    const unknown = names.find((name) => !CONTESTANTS.some((known) => known === name));
    if (unknown !== undefined) throw new Error(`--contestants: there is no "${unknown}"`);
    const contestants = CONTESTANTS.filter((name) => name === "direct" || names.includes(name));
    if (family !== "4" && family !== "6") throw new Error(`--family is 4 or 6, not "${family}"`);
    if (!services.every((n) => Number.isInteger(n) && n > 0)) throw new Error("--services: numbers above 0");
    services.sort((a, b) => a - b);
    return { family: family === "6" ? 6 : 4, services, contestants, rounds: 3, seconds: 0.1 };
  } catch (error) {
    console.error(`bench-qemu: ${error instanceof Error ? error.message : String(error)}`);
    console.error(
      `usage: qemu.bench.ts [--family 4|6] [--services 1,1000] [--contestants ${CONTESTANTS.join(",")}]`,
    );
    process.exit(2);
  }
}

/** Where the guest's kernel is. */
function requireTools(): string {
  const path = `${process.env.PATH}:/usr/sbin:/sbin`.split(":");
  const missing = TOOLS.filter((tool) => !path.some((directory) => existsSync(join(directory, tool))));
  if (missing.length > 0)
    notRun(
      `there is no ${missing.join(", no ")} here. Run scripts/install-deps.sh and scripts/install-deps.sh --kernels`,
    );
  try {
    const stdio = ["ignore", "pipe", "inherit"] as const;
    const fetch = join(ROOT, "scripts/kernels/fetch.sh");
    return execFileSync(fetch, [KERNEL], { encoding: "utf8", stdio: [...stdio] }).trim();
  } catch {
    notRun(
      `Debian's kernel ${KERNEL}, whose modules have IPVS, could not be fetched (scripts/kernels/fetch.sh ${KERNEL})`,
    );
  }
}

const machines = new AbortController();

/** Boots a contestant's machine, and returns what it counted. */
async function count(contestant: Contestant, plan: Plan, work: string): Promise<Figure[]> {
  const root = join(work, contestant);
  const began = performance.now();
  await writeMachine(root, contestant, plan);
  cpSync(join(ROOT, "test/perf/emulated/init"), join(root, "init"));
  cpSync(join(ROOT, "build/portolan.bpf.o"), join(root, "portolan.bpf.o"));
  mkdirSync(join(root, "sbin"));
  cpSync(join(ROOT, "build/perf/dataplane"), join(root, "sbin/dataplane"));
  const programs = ["iptables-legacy-restore", "ip6tables-legacy-restore", "ipvsadm", "ipset", "conntrack"];
  const argv = [KERNEL, root, `${PATIENCE_S}`, "--memory", `${MEMORY_MIB}`, "--count"];
  argv.push("--modules", MODULES.join(" "), "--programs", `${programs.join(" ")} load`);
  const environment = { ...process.env, PATH: `${process.env.PATH}:${join(ROOT, "build/perf")}` };
  const { stdout } = await promisify(execFile)(join(ROOT, "scripts/kernels/boot.sh"), argv, {
    ...{ env: environment, maxBuffer: 2 ** 26, signal: machines.signal, killSignal: "SIGTERM" },
  });
  const lines = stdout.split("\n");
  if (!lines.includes("bench: end")) throw new Error(`${contestant}: its machine ended early:\n${stdout}`);
  console.error(`  ${contestant}: ${Math.round((performance.now() - began) / 1000)} s`);
  return lines
    .filter((line) => line.startsWith("figure "))
    .map((line) => JSON.parse(line.slice("figure ".length)) as Figure);
}

const tallyOf =
  (packets: readonly number[]): Tally =>
  (reason: Reason) =>
    packets[reason] ?? 0;

/** @throws when a measurement did not take the path that it is named after */
function assertPath(contestant: Contestant, { services, kind, load, tracked, before, after }: Figure): void {
  const where = `${contestant} with ${services}, ${kind}`;
  const proof = PROOFS[contestant];
  if (proof !== undefined) {
    if (before === null || after === null) throw new Error(`${where}: there are no counters`);
    const wrong = proof(kind, load, since(tallyOf(before), tallyOf(after)));
    if (wrong !== null) throw new Error(`${where}: not this path: ${wrong}`);
  } else if (tracked < NEARLY_ALL * load.connections) {
    throw new Error(
      `${where}: ${tracked} of ${load.connections} flows were tracked as answered by the server`,
    );
  }
}

function rowsOf(all: ReadonlyMap<Contestant, readonly Figure[]>): Row[] {
  const samplesOf = (path: Contestant, services: number, kind: string): number[] =>
    (all.get(path) ?? [])
      .filter((figure) => figure.services === services && figure.kind === kind)
      .map(({ load }) => Math.round((load.seconds * 1e9) / load.count));
  return KINDS.flatMap((kind) => {
    const direct = median(samplesOf("direct", 1, kind));
    return [...all].flatMap(([path, figures]) =>
      [...new Set(figures.map(({ services }) => services))].map((services): Row => {
        const samples = samplesOf(path, services, kind);
        const instructions = median(samples);
        const ratio = Math.round((1000 * instructions) / direct) / 1000;
        return { kind, path, services, instructions, samples, ratio };
      }),
    );
  });
}

function print(rows: readonly Row[]): void {
  for (const { kind, path, services, instructions, samples, ratio } of rows) {
    const spread = (100 * (Math.max(...samples) - Math.min(...samples))) / instructions;
    console.log(
      `  ${kind.padEnd(8)} ${path.padEnd(18)} ${`${services}`.padStart(6)} ${`${instructions}`.padStart(9)} instructions` +
        `  ${ratio.toFixed(3)} of direct  (spread ${spread.toFixed(1)} %)`,
    );
  }
}

const { contestants, ...plan } = planOf();
const home = requireTools();
const began = performance.now();
const work = mkdtempSync(join(tmpdir(), "portolan-bench-qemu-"));
process.on("exit", () => rmSync(work, { recursive: true, force: true }));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const)
  process.on(signal, () => {
    machines.abort();
    process.exitCode = 130;
  });
try {
  const all = new Map<Contestant, Figure[]>();
  // What has the most to load takes the longest: it is begun first.
  const waiting = [...contestants];
  const worker = async (): Promise<void> => {
    for (let next = waiting.pop(); next !== undefined; next = waiting.pop())
      all.set(next, await count(next, plan, work));
  };
  await Promise.all(Array.from({ length: MACHINES }, worker));
  const inOrder = new Map(contestants.map((name) => [name, all.get(name) ?? []]));
  for (const [name, figures] of inOrder) for (const figure of figures) assertPath(name, figure);
  const rows = rowsOf(inOrder);
  print(rows);
  const qemu = execFileSync("qemu-system-x86_64", ["--version"], { encoding: "utf8" }).split("\n")[0];
  const guest = { kernel: readFileSync(join(home, "release"), "utf8").trim(), qemu };
  const file = writeResult("qemu", { emulated: true, guest, ...plan, rows });
  console.log(
    `EMULATED: instructions, not time. ${Math.round((performance.now() - began) / 1000)} s; ${file}`,
  );
} catch (error) {
  machines.abort();
  if (process.exitCode !== 130) {
    process.exitCode = 1;
    console.error(`bench-qemu: ${error instanceof Error ? error.message : String(error)}`);
  }
}
