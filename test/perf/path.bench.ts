// SPDX-License-Identifier: Apache-2.0
/**
 * Connections from a client to a server through the kernel, by different paths side by side:
 * `make bench-path [ARGS="--quick"]`. What serves them has a world of its own for each number of Services; all worlds stand at
 * once, and contestants are measured in turns. A measurement that did not take its path is no figure. Writes bench/results/path.json, or with --quick
 * build/bench/path.json.
 */
import { existsSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import { parseArgs } from "node:util";
import type { Flavour } from "../../src/demo/world/index.js";
import { run } from "../../src/demo/world/index.js";
import { Arena, type Ground, type Setup } from "./path/arena.js";
import { KINDS, type Kind } from "./path/load.js";
import { PATHS, type Path } from "./path/paths.js";
import { type Measured, misses, rowsOf, tableOf } from "./path/report.js";
import type { Place } from "./path/services.js";
import { interleave, shuffled } from "./support/interleave.js";
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

/** Neighbours are found, and the first of what is made on demand, before anything counts. */
const WARM_UP_SECONDS = 0.05;

interface Plan {
  readonly services: readonly number[];
  readonly paths: readonly Path[];
  readonly kinds: readonly Kind[];
  readonly places: readonly Place[];
  readonly ground: Ground;
  readonly quick: boolean;
  readonly rounds: number;
  readonly seconds: number;
}

function fail(message: string): never {
  console.error(`bench-path: ${message}\n${USAGE}`);
  process.exit(2);
}

/** Words of a list, each of which must be known. */
function chosen<T extends string>(option: string, text: string | undefined, known: readonly T[]): T[] {
  if (text === undefined) return [...known];
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
    text("contestants") ?? PATHS.flatMap(({ name, part }) => (part ? [] : [name])).join(","),
    PATHS.map(({ name }) => name),
  );
  const services = text("services") ?? (quick ? "1" : "1,1000,10000,100000");
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
    quick,
    rounds: Math.round(positive("rounds", text("rounds"), quick ? 9 : 27)),
    seconds: positive("seconds", text("seconds"), 0.05),
  };
}

/** What is measured with one number of Services. */
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
        places: places.filter((place) => (count === 1 ? path.places : path.placesOfMany).includes(place)),
      }))
      .filter((entry) => entry.kinds.length > 0 && entry.places.length > 0),
  );
}

/** The worlds that are needed, each with what is measured in it. */
function setupsOf(entries: readonly Entry[]): [Setup, Entry[]][] {
  const groups = new Map<string, Entry[]>();
  for (const entry of entries) {
    const { dataplane, overlay, xdpUplink } = entry.path;
    const key = JSON.stringify([dataplane, overlay, xdpUplink, entry.services]);
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  return [...groups.values()].map((group) => {
    const { path, services } = group[0] as Entry;
    const { dataplane, overlay, xdpUplink } = path;
    const places = PLACES.filter((place) => group.some((entry) => entry.places.includes(place)));
    const nodePorts = group.some((entry) => entry.path.to === "node-port");
    return [{ dataplane, overlay, xdpUplink, services, places, nodePorts }, group];
  });
}

/** All worlds, so that an end at any time removes what is there and what is being built. */
class Arenas {
  readonly #started: Promise<Arena>[] = [];
  #stopped = false;

  get stopped(): boolean {
    return this.#stopped;
  }

  /** What each entry is measured in. */
  async build(setups: readonly [Setup, Entry[]][], ground: Ground): Promise<Map<Entry, Arena>> {
    const arenas = new Map<Entry, Arena>();
    const began = performance.now();
    // Those that take the longest are begun first.
    const waiting = [...setups].sort(([a], [b]) => effortOf(a) - effortOf(b));
    const builder = async (): Promise<void> => {
      for (let next = waiting.pop(); next !== undefined && !this.#stopped; next = waiting.pop()) {
        const [setup, entries] = next;
        const started = Arena.start(setup, ground);
        this.#started.push(started);
        const arena = await started;
        for (const entry of entries) arenas.set(entry, arena);
        const seconds = Math.round((performance.now() - began) / 1000);
        console.error(
          `  ${seconds} s: ${entries.map(({ path }) => path.name).join(", ")} with ${setup.services}: ready`,
        );
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

/** nft takes the longest by far. */
function effortOf({ services, dataplane }: Setup): number {
  return services * (dataplane.by === "kube-proxy" && dataplane.mode === "nftables" ? 100 : 1);
}

async function warmUp(arenas: ReadonlyMap<Entry, Arena>): Promise<void> {
  for (const [{ path, places, kinds }, arena] of arenas)
    for (const place of places)
      for (const kind of ["tcp-crr", "udp-rr"] as const)
        if (kinds.includes(kind)) await arena.measure(path, kind, place, WARM_UP_SECONDS);
}

async function measureAll(plan: Plan, arenas: ReadonlyMap<Entry, Arena>): Promise<Measured[]> {
  const all: Measured[] = [];
  await warmUp(arenas);
  for (const place of plan.places) {
    for (const kind of plan.kinds) {
      const entries = [...arenas].filter(
        ([{ kinds, places }]) => kinds.includes(kind) && places.includes(place),
      );
      const began = performance.now();
      const nameOf = ({ path, services }: Entry): string => `${path.name} ${services}`;
      const samples = await interleave(
        entries.map(([entry, arena]) => ({
          name: nameOf(entry),
          measure: () => arena.measure(entry.path, kind, place, plan.seconds),
        })),
        plan.rounds,
        shuffled,
      );
      const seconds = Math.round((performance.now() - began) / 1000);
      console.error(
        `  ${kind}, ${place}: ${entries.length} contestants, ${plan.rounds} rounds in ${seconds} s`,
      );
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
const setups = setupsOf(entries);
process.setMaxListeners(2 * setups.length + 20);
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
  console.error(`${setups.length} worlds, ${plan.ground.flavour}, IPv${plan.ground.family}`);
  const built = await arenas.build(setups, plan.ground);
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
    const file = writeResult("path", { conditions, rows, missed }, plan.quick);
    console.log([...tableOf(rows), "", ...missed.map((line) => `MISSED  ${line}`)].join("\n"));
    console.log(
      `\n${Math.round((performance.now() - began) / 1000)} s, of them ${buildSeconds} s for ${setups.length} worlds; ${file}`,
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
