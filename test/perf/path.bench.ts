// SPDX-License-Identifier: Apache-2.0
/**
 * Connections from a client to a server through the kernel, by different paths side by side:
 * `make bench-path [ARGS="--quick"]`. Each contestant has a world of its own, all of them stand at once and are measured in
 * turns. A measurement that did not take its path is no figure. Writes bench/results/path.json.
 */
import { existsSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { Flavour } from "../../src/demo/world/index.js";
import { run } from "../../src/demo/world/index.js";
import { Arena, type Ground } from "./path/arena.js";
import { KINDS, type Kind } from "./path/load.js";
import { PATHS, type Path, USUAL } from "./path/paths.js";
import { type Measured, misses, rowsOf, tableOf } from "./path/report.js";
import type { Place } from "./path/services.js";
import { interleave } from "./support/interleave.js";
import { ROOT, writeResult } from "./support/machine.js";

const USAGE = `usage: path.bench.ts [--quick] [--services 1,1000] [--contestants NAME,…] [--kinds KIND,…]
  [--places "same node,other node"] [--family 4|6] [--flavour routed|bridge] [--iptables legacy|nft]
  [--rounds N] [--seconds S]
contestants: ${PATHS.map(({ name }) => name).join(", ")}
kinds: ${KINDS.join(", ")}`;

/** With more Services than one only what the number could change: a flow's first packet, and all others. */
const KINDS_OF_MANY: readonly Kind[] = ["tcp-rr", "tcp-crr"];
const PLACES: readonly Place[] = ["same node", "other node"];

/** So many worlds are built at a time: building them is work for the CPUs too. */
const BUILDERS = 2;

interface Plan {
  readonly services: readonly number[];
  readonly paths: readonly Path[];
  readonly kinds: readonly Kind[];
  readonly places: readonly Place[];
  readonly ground: Ground;
  readonly rounds: number;
  readonly seconds: number;
}

function fail(message: string): never {
  console.error(`bench-path: ${message}\n${USAGE}`);
  process.exit(2);
}

/** Words of a list, each of which must be known. */
function chosen<T extends string>(
  option: string,
  text: string | undefined,
  known: readonly T[],
  usual = known,
): T[] {
  if (text === undefined) return [...usual];
  return text
    .split(",")
    .map((word) => known.find((each) => each === word) ?? fail(`--${option}: no "${word}"`));
}

function positive(option: string, text: string | undefined, usual: number): number {
  const value = text === undefined ? usual : Number(text);
  return value > 0 && Number.isFinite(value) ? value : fail(`--${option}: "${text}" is no number above 0`);
}

function options(): Partial<Record<string, string | boolean>> {
  const text = { type: "string" } as const;
  try {
    return parseArgs({
      options: {
        quick: { type: "boolean" },
        ...{ services: text, contestants: text, kinds: text, places: text },
        ...{ family: text, flavour: text, iptables: text, rounds: text, seconds: text },
      },
    }).values;
  } catch (error) {
    fail(error instanceof Error ? error.message : String(error));
  }
}

function planOf(): Plan {
  const given = options();
  const text = (name: string): string | undefined => given[name] as string | undefined;
  const quick = given.quick === true;
  const [family] = chosen("family", text("family") ?? "4", ["4", "6"]);
  const [flavour] = chosen<Flavour>("flavour", text("flavour") ?? "routed", ["routed", "bridge"]);
  const [iptables] = chosen("iptables", text("iptables") ?? "legacy", ["legacy", "nft"]);
  const names = chosen(
    "contestants",
    text("contestants"),
    PATHS.map(({ name }) => name),
    USUAL,
  );
  const services = text("services") ?? (quick ? "1,1000" : "1,1000,10000,100000");
  return {
    services: services.split(",").map((count) => Math.round(positive("services", count, 1))),
    paths: PATHS.filter(({ name }) => names.includes(name)),
    kinds: chosen("kinds", text("kinds"), KINDS),
    places: chosen("places", text("places"), PLACES),
    ground: {
      family: family === "6" ? 6 : 4,
      flavour: flavour ?? "routed",
      iptables: iptables === "nft" ? "nft" : "legacy",
    },
    rounds: Math.round(positive("rounds", text("rounds"), quick ? 3 : 7)),
    seconds: positive("seconds", text("seconds"), quick ? 0.3 : 0.8),
  };
}

/** One world to be built. */
interface Entry {
  readonly path: Path;
  readonly services: number;
  readonly kinds: readonly Kind[];
  readonly places: readonly Place[];
}

function entriesOf({ services, paths, kinds, places }: Plan): Entry[] {
  return services.flatMap((count) =>
    paths
      .filter(({ mostServices }) => count <= mostServices)
      .map((path) => ({
        path,
        services: count,
        kinds: kinds.filter(
          (kind) => path.kinds.includes(kind) && (count === 1 || KINDS_OF_MANY.includes(kind)),
        ),
        places: places.filter(
          (place) => path.places.includes(place) && (count === 1 || place === "same node"),
        ),
      }))
      .filter((entry) => entry.kinds.length > 0 && entry.places.length > 0),
  );
}

/** All worlds, so that an end at any time removes what is there and what is being built. */
class Arenas {
  readonly #started: Promise<Arena>[] = [];
  #stopped = false;

  get stopped(): boolean {
    return this.#stopped;
  }

  async build(entries: readonly Entry[], ground: Ground): Promise<Map<Entry, Arena>> {
    const arenas = new Map<Entry, Arena>();
    const began = performance.now();
    // The largest take the longest: they are begun first.
    const waiting = [...entries].sort((a, b) => a.services - b.services);
    const builder = async (): Promise<void> => {
      for (let entry = waiting.pop(); entry !== undefined && !this.#stopped; entry = waiting.pop()) {
        const started = Arena.start(entry.path, entry.services, entry.places, ground);
        this.#started.push(started);
        arenas.set(entry, await started);
        const seconds = Math.round((performance.now() - began) / 1000);
        console.error(`  ${seconds} s: ${entry.path.name} with ${entry.services} is ready`);
      }
    };
    await Promise.all(Array.from({ length: BUILDERS }, builder));
    return arenas;
  }

  /** Waits for those that are being built: half a world cannot be removed. */
  async close(): Promise<void> {
    this.#stopped = true;
    const settled = await Promise.allSettled(this.#started);
    const built = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    await Promise.all(built.map((arena) => arena.close()));
  }
}

async function measureAll(plan: Plan, arenas: ReadonlyMap<Entry, Arena>): Promise<Measured[]> {
  const all: Measured[] = [];
  for (const place of plan.places) {
    for (const kind of plan.kinds) {
      const entries = [...arenas].filter(
        ([{ kinds, places }]) => kinds.includes(kind) && places.includes(place),
      );
      const nameOf = ({ path, services }: Entry): string => `${path.name} ${services}`;
      const samples = await interleave(
        entries.map(([entry, arena]) => ({
          name: nameOf(entry),
          measure: () => arena.measure(kind, place, plan.seconds),
        })),
        plan.rounds,
      );
      console.error(`  ${kind}, ${place}: ${entries.length} contestants, ${plan.rounds} rounds`);
      for (const [entry] of entries) {
        const { path, services } = entry;
        all.push({ path, services, kind, place, samples: samples.get(nameOf(entry)) ?? [] });
      }
    }
  }
  return all;
}

async function versionOf(...argv: readonly string[]): Promise<string> {
  return (await run(argv)).stdout.trim();
}

const plan = planOf();
if (!existsSync(`${ROOT}build/perf/load`)) fail("build/perf/load is missing: run it by `make bench-path`");
const entries = entriesOf(plan);
if (entries.length === 0) fail("nothing is to be measured");
process.setMaxListeners(2 * entries.length + 20);
const arenas = new Arenas();

let interrupted = false;
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.on(signal, () => {
    if (interrupted) process.exit(130); // what must go goes on "exit" at the latest
    interrupted = true;
    console.error(`bench-path: ${signal}: removing the worlds`);
    void arenas.close().finally(() => process.exit(130));
  });
}

try {
  const began = performance.now();
  const [loadBefore = 0] = loadavg();
  if (loadBefore > cpus().length / 2)
    console.error(
      `bench-path: this machine is busy (load ${loadBefore.toFixed(1)}): the ratios will be noise`,
    );
  console.error(`${entries.length} worlds, ${plan.ground.flavour}, IPv${plan.ground.family}`);
  const built = await arenas.build(entries, plan.ground);
  const buildSeconds = Math.round((performance.now() - began) / 1000);
  // In the order in which they were declared: the order in which they were ready is chance.
  const measured = await measureAll(
    plan,
    new Map(entries.map((entry) => [entry, built.get(entry) as Arena])),
  );
  const rows = rowsOf(measured);
  const tools = await Promise.all([
    versionOf(`iptables-${plan.ground.iptables}`, "--version"),
    versionOf("nft", "--version"),
  ]);
  const { services, rounds, seconds, ground } = plan;
  const conditions = { ...ground, services, rounds, seconds, loadBefore, buildSeconds, tools };
  const missed = misses(rows);
  if (!interrupted) {
    const file = writeResult("path", { conditions, rows, missed });
    console.log([...tableOf(rows), "", ...missed.map((line) => `MISSED  ${line}`)].join("\n"));
    console.log(
      `\n${Math.round((performance.now() - began) / 1000)} s, of them ${buildSeconds} s for ${entries.length} worlds; ${file}`,
    );
  }
} catch (error) {
  if (!interrupted) {
    process.exitCode = 1;
    console.error(error);
  }
} finally {
  await arenas.close();
}
