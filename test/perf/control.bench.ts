// SPDX-License-Identifier: Apache-2.0
/**
 * From what the API server has said to what the kernel does: all Services at once, and one endpoint changed among them, in
 * Portolan and in what kube-proxy gives to iptables-restore and nft: `make bench-control [ARGS=--quick]`. Portolan's time is
 * that of parsed objects to committed maps, and all Services at once are written by a process that has done nothing before: its
 * code is as cold as that of a command. The others' is that of the command alone, whose text is made before the clock runs.
 * Each works in a network namespace of its own. Writes bench/results/control.json.
 */
import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { Reconciler, type SyncResult } from "../../src/dataplane/reconciler.js";
import { createWorld, type Host } from "../../src/demo/world/index.js";
import { createCompiler } from "../../src/image/compile.js";
import type { EndpointSlice } from "../../src/model/types.js";
import { NativeLibrary } from "../../src/native/lib.js";
import type { NativeMaps } from "../../src/native/maps.js";
import { SnapshotBuilder } from "../../src/source/kube/snapshot-builder.js";
import { inSlices } from "../../src/util/slices.js";
import { endpoint, NODE, service, slice } from "../fixtures/objects.js";
import { nthAddress } from "../support/big-image.js";
import {
  iptablesChange,
  iptablesRules,
  nftablesChange,
  nftablesTransaction,
  type ProxiedPort,
} from "../support/kube-proxy-rules.js";
import { interleave, median } from "./support/interleave.js";
import { ROOT, writeResult } from "./support/machine.js";

/** Followed by a number of Services: load them, print how long it took, and end. */
const COLD = "--cold-load";
const QUICK = process.argv.includes("--quick");
const SIZES = QUICK ? [1_000] : [1_000, 10_000];
const ENDPOINTS = 2;
const CHANGES = QUICK ? 5 : 15;
/** nft takes over a minute for 10,000 Services. */
const LOADS = QUICK ? 2 : 3;
const SLOW_LOADS = 1;
const TIMEOUT_MS = 600_000;
const RULES = { family: 4, clusterCidr: "10.0.0.0/8" } as const;

interface Dataplane {
  readonly name: string;
  /** Milliseconds of everything, on a host that has nothing. */
  load(): Promise<number>;
  /** Milliseconds of one Service that has another endpoint than before. */
  change(): Promise<number>;
}

/** The backends of Service `i`; of the one that changes, in its `round`. */
function pods(i: number, services: number, round: number): string[] {
  const turns = i === Math.floor(services / 2) && round % 2 === 1;
  const numbers = Array.from({ length: ENDPOINTS }, (_, pod) => (turns && pod === 0 ? ENDPOINTS : pod));
  return numbers.map((pod) => nthAddress(4, 10, 16 * i + pod).text);
}

const vip = (i: number) => nthAddress(4, 11, i);

async function timed(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

class Portolan implements Dataplane {
  readonly name = "Portolan";
  readonly #library = new NativeLibrary();
  readonly #services: number;
  #kernel: NativeMaps | null = null;
  #builder = new SnapshotBuilder(NODE, []);
  #compiler = createCompiler();
  #reconciler: Reconciler | null = null;
  #last: EndpointSlice | null = null;
  #round = 0;

  constructor(services: number) {
    this.#services = services;
  }

  async load(): Promise<number> {
    await this.close();
    this.#kernel = await this.#library.open({ pins: "", sockets: false });
    this.#reconciler = new Reconciler({ kernel: this.#kernel });
    this.#compiler = createCompiler();
    this.#builder = new SnapshotBuilder(NODE, []);
    this.#round = 0;
    const all = Array.from({ length: this.#services }, (_, i) => ({
      service: service(`service-${i}`, { clusterIPs: [vip(i)] }),
      slice: this.#slice(i),
    }));
    this.#last = all[Math.floor(this.#services / 2)]?.slice ?? null;
    return await timed(async () => {
      for (const [i, each] of all.entries()) {
        this.#builder.setService(`default/service-${i}`, each.service);
        this.#builder.setSlice(null, each.slice);
      }
      await this.#sync();
    });
  }

  async change(): Promise<number> {
    this.#round += 1;
    const now = this.#slice(Math.floor(this.#services / 2));
    return await timed(async () => {
      this.#builder.setSlice(this.#last, now);
      this.#last = now;
      await this.#sync();
    });
  }

  async close(): Promise<void> {
    await this.#kernel?.close();
    this.#kernel = null;
  }

  #slice(i: number): EndpointSlice {
    return slice(
      `service-${i}`,
      pods(i, this.#services, this.#round).map((address) => endpoint(address)),
    );
  }

  async #sync(): Promise<void> {
    const image = await inSlices(this.#compiler.compileSliced(this.#builder.build()));
    const result: SyncResult | undefined = await this.#reconciler?.sync(image);
    if (result === undefined || result.failure !== null || result.refused.length > 0 || result.writes === 0)
      throw new Error(`Portolan did not write: ${JSON.stringify(result?.failure ?? result?.refused[0])}`);
  }
}

/** The same in a process of its own. Milliseconds. */
function coldLoad(services: number): number {
  const argv = ["--import", "tsx", fileURLToPath(import.meta.url), COLD, String(services)];
  return Number(execFileSync(process.execPath, argv, { encoding: "utf8", cwd: ROOT }));
}

/** How kube-proxy has another program write its rules. */
interface Mode {
  readonly name: string;
  readonly argv: readonly string[];
  readonly whole: (ports: readonly ProxiedPort[]) => string;
  readonly changed: (ports: readonly ProxiedPort[], before: ProxiedPort) => string;
  /** Takes all of it away. */
  readonly clear: readonly (readonly string[])[];
}

/** The legacy variant: the one over nftables takes minutes for 10,000 Services (304 s, seen with 1.8.9 on a busy machine). */
const IPTABLES: Mode = {
  name: "iptables-restore",
  argv: ["iptables-legacy-restore", "--noflush", "--wait"],
  whole: (ports) => iptablesRules(ports, RULES),
  changed: (ports, before) => iptablesChange(ports, before, RULES),
  clear: ["nat", "filter", "mangle"].flatMap((table) => [
    ["iptables-legacy", "--table", table, "--flush"],
    ["iptables-legacy", "--table", table, "--delete-chain"],
  ]),
};

const NFTABLES: Mode = {
  name: "nft -f",
  argv: ["nft", "-f", "-"],
  whole: (ports) => nftablesTransaction(ports, RULES),
  changed: (ports, before) => nftablesChange(ports, before, RULES),
  clear: [["nft", "flush", "ruleset"]],
};

class Rules implements Dataplane {
  readonly name: string;
  readonly #host: Host;
  readonly #mode: Mode;
  readonly #services: number;
  #round = 0;

  constructor(host: Host, mode: Mode, services: number) {
    this.name = mode.name;
    this.#host = host;
    this.#mode = mode;
    this.#services = services;
  }

  async load(): Promise<number> {
    for (const argv of this.#mode.clear) await this.#host.exec(argv, { timeoutMs: TIMEOUT_MS });
    this.#round = 0;
    return await this.#give(this.#mode.whole(this.#ports()));
  }

  async change(): Promise<number> {
    const before = this.#ports()[Math.floor(this.#services / 2)] as ProxiedPort;
    this.#round += 1;
    return await this.#give(this.#mode.changed(this.#ports(), before));
  }

  async #give(input: string): Promise<number> {
    return await timed(() => this.#host.exec(this.#mode.argv, { input, timeoutMs: TIMEOUT_MS }));
  }

  #ports(): ProxiedPort[] {
    return Array.from({ length: this.#services }, (_, i) => ({
      name: `default/service-${i}`,
      protocol: "tcp",
      clusterIP: vip(i).text,
      port: 80,
      endpoints: pods(i, this.#services, this.#round).map((address) => ({ ip: address, port: 8080 })),
    }));
  }
}

interface Result {
  readonly services: number;
  readonly endpoints: number;
  readonly what: "all Services" | "one endpoint";
  readonly dataplane: string;
  readonly ms: number;
  /** Of Portolan's time to this one's. */
  readonly ratio: number;
  readonly samples: readonly number[];
}

function resultsOf(services: number, what: Result["what"], samples: Map<string, number[]>): Result[] {
  const own = median(samples.get("Portolan") ?? []);
  return [...samples].map(([dataplane, all]) => {
    const ms = median(all);
    return { services, endpoints: ENDPOINTS, what, dataplane, ms, ratio: own / ms, samples: all };
  });
}

async function compare(services: number): Promise<Result[]> {
  const world = await createWorld({ nodes: 2, flannelRules: false, dropInvalid: false });
  const portolan = new Portolan(services);
  try {
    const iptables = new Rules(world.node(1), IPTABLES, services);
    const nftables = new Rules(world.node(2), NFTABLES, services);
    const slow = services > 1_000 ? SLOW_LOADS : LOADS;
    const loads = await interleave(
      [
        { name: portolan.name, measure: async () => coldLoad(services) },
        { name: iptables.name, measure: () => iptables.load() },
      ],
      LOADS,
    );
    await portolan.load();
    const slowLoads = await interleave([{ name: nftables.name, measure: () => nftables.load() }], slow);
    const changes = await interleave(
      [portolan, iptables, nftables].map((each) => ({ name: each.name, measure: () => each.change() })),
      CHANGES,
    );
    return [
      ...resultsOf(services, "all Services", new Map([...loads, ...slowLoads])),
      ...resultsOf(services, "one endpoint", changes),
    ];
  } finally {
    await portolan.close();
    await world.close();
  }
}

const version = (...argv: readonly [string, ...string[]]): string =>
  execFileSync(argv[0], argv.slice(1), { encoding: "utf8" }).trim();

/** At most, of Portolan's time to theirs, among 10,000 Services. */
const TARGETS = [
  { what: "one endpoint", dataplane: "nft -f", ratio: 1 / 50 },
  { what: "one endpoint", dataplane: "iptables-restore", ratio: 1 / 150 },
  { what: "all Services", dataplane: "nft -f", ratio: 1 / 100 },
  { what: "all Services", dataplane: "iptables-restore", ratio: 1 / 3 },
] as const;

function print(results: readonly Result[]): void {
  for (const { services, what, dataplane, ms, ratio } of results) {
    const target = TARGETS.find((each) => each.what === what && each.dataplane === dataplane);
    const judged = target !== undefined && services === 10_000;
    const verdict = judged
      ? `   at most 1/${Math.round(1 / target.ratio)}${ratio > target.ratio ? " MISSED" : ""}`
      : "";
    const share = dataplane === "Portolan" ? "" : `   Portolan takes 1/${(1 / ratio).toFixed(1)} of it`;
    console.log(
      `${String(services).padStart(6)} Services, ${what.padEnd(13)} ${dataplane.padEnd(17)} ${ms.toFixed(1).padStart(9)} ms${share}${verdict}`,
    );
  }
}

async function measureAll(): Promise<void> {
  const results: Result[] = [];
  for (const services of SIZES) results.push(...(await compare(services)));
  print(results);
  const versions = {
    iptables: version("iptables-legacy", "--version"),
    nftables: version("nft", "--version"),
  };
  console.log(`\n${writeResult("control", { versions, targets: TARGETS, results }, QUICK)}`);
}

async function measureCold(services: number): Promise<void> {
  const portolan = new Portolan(services);
  console.log(await portolan.load());
  await portolan.close();
}

if (process.argv[2] === COLD) await measureCold(Number(process.argv[3]));
else await measureAll();
