// SPDX-License-Identifier: Apache-2.0
/**
 * Mends what a verification has found. Where an agent runs it is asked to audit: it alone writes. Where none does, this process
 * takes its lock, and does what an agent would do at its start, in the same order, with the settings that the programs which
 * are left were loaded with: pins, maps in publish order, entries of interfaces before their programs.
 */
import { join } from "node:path";
import type { PtlConfig } from "../../abi/layout.gen.js";
import { MAP_NAMES } from "../../abi/maps.gen.js";
import {
  interfaceDeletes,
  interfaceUpdates,
  NODE_KEY,
  ROLES,
  readInterfaceEntries,
} from "../../dataplane/attach.js";
import { markCells, missingMarks } from "../../dataplane/flow-marks.js";
import { QUARANTINE_MS, Reconciler, type SyncResult } from "../../dataplane/reconciler.js";
import type { HookMode } from "../../native/hooks.js";
import type { LoadedObject } from "../../native/object.js";
import { AppError, errorMessage } from "../../util/errors.js";
import type { AuditReport } from "../agent-audit.js";
import { AgentClient } from "../agent-client.js";
import { pinnedMaps } from "../map-pins.js";
import { onlyOne } from "../only-one.js";
import type { Finding } from "./finding.js";
import { mapsOf } from "./pins.js";
import type { Seen, VerifyOptions, VerifyReport } from "./verify.js";

/** What a repair has done. */
export interface RepairReport {
  /** "agent": it was asked, and did it. */
  readonly by: "agent" | "verify";
  /** Map entries that were written or deleted; of an agent those that it found. */
  readonly entries: number;
  /** Interfaces that got programs, or lost those that were none of their own. */
  readonly interfaces: number;
  /** Whether the socket hooks were put in order. */
  readonly sockets: number;
  readonly pins: number;
  /** What could not be mended, and why. */
  readonly failures: readonly string[];
}

export interface RepairOptions extends VerifyOptions {
  /** The cgroup v2 directory whose sockets are served; null: there is none. */
  readonly cgroup: string | null;
}

/** @throws AppError when the agent that runs cannot be asked */
export async function repair(
  options: RepairOptions,
  report: VerifyReport,
  seen: Seen,
): Promise<RepairReport> {
  if (report.findings.some(({ where }) => where === "flow_marks")) await repairMarks(options);
  const release = await onlyOne(options.pins).catch((error: unknown) => {
    if (error instanceof AppError && error.code === "E_AGENT_RUNNING") return null;
    throw error;
  });
  if (release === null) return askedAgent(await new AgentClient(options.root).audit());
  try {
    return await new Repair(options, report, seen).run();
  } finally {
    await release();
  }
}

/** Also beside an agent: a mark is never wrong. */
async function repairMarks({ library, pins }: RepairOptions): Promise<void> {
  const maps = library.openPins(pins, { writable: true });
  try {
    await markCells(maps, (await missingMarks(maps)) ?? []);
  } finally {
    await maps.close();
  }
}

function askedAgent({ entries, interfaces, sockets, pins, failures }: AuditReport): RepairReport {
  const sum = Object.values(entries).reduce((total, count) => total + count, 0);
  return { by: "agent", entries: sum, interfaces, sockets, pins, failures };
}

/** Whoever was refused for want of indexes waits for those that were let go. */
const MOST_SYNCS = 3;
const NOTHING = new Uint8Array();

class Repair {
  readonly #options: RepairOptions;
  readonly #findings: readonly Finding[];
  readonly #seen: Seen;
  readonly #failures: string[] = [];
  #entries = 0;
  #interfaces = 0;
  #sockets = 0;
  #pins = 0;

  constructor(options: RepairOptions, { findings }: VerifyReport, seen: Seen) {
    this.#options = options;
    this.#findings = findings;
    this.#seen = seen;
  }

  async run(): Promise<RepairReport> {
    await this.#try("pins", () => this.#repairPins());
    await this.#try("maps", () => this.#repairMaps());
    await this.#try("programs", () => this.#repairPrograms());
    return {
      by: "verify",
      entries: this.#entries,
      interfaces: this.#interfaces,
      sockets: this.#sockets,
      pins: this.#pins,
      failures: this.#failures,
    };
  }

  async #try(what: string, work: () => Promise<void> | void): Promise<void> {
    try {
      await work();
    } catch (error) {
      this.#failures.push(`${what}: ${errorMessage(error)}`);
    }
  }

  /** Programs that are attached hold the maps that have lost their pins. */
  #repairPins(): void {
    const { library, pins } = this.#options;
    const used = mapsOf([...this.#seen.programs.values()]);
    const pinned = pinnedMaps(library, pins);
    for (const name of MAP_NAMES) {
      const id = used.get(name);
      if (pinned.get(name) === id && id !== undefined) continue;
      if (id === undefined) {
        if (!pinned.has(name))
          this.#failures.push(`pins: no program works on the map ${name}: start the agent`);
        continue;
      }
      library.pinMap(id, join(pins, name));
      this.#pins += 1;
    }
  }

  async #repairMaps(): Promise<void> {
    const { library, pins, against } = this.#options;
    const maps = library.openPins(pins, { writable: true });
    try {
      if (maps.names.length < MAP_NAMES.length) return;
      const reconciler = new Reconciler({ kernel: maps });
      const image =
        against.kind === "maps" || against.kind === "agent" ? await reconciler.found() : against.image;
      for (let round = 0; round < MOST_SYNCS; round += 1) {
        const result: SyncResult = await reconciler.sync(image);
        this.#entries += result.writes;
        if (result.failure !== null) this.#failures.push(result.failure.message);
        if (result.retryAfterMs === null) break;
        await new Promise((resolve) => setTimeout(resolve, result.retryAfterMs ?? QUARANTINE_MS));
      }
      const { entries } = this.#seen.expected;
      const found = await readInterfaceEntries(maps);
      await this.#writeInterfaces(maps.apply.bind(maps), found, entries);
    } finally {
      await maps.close();
    }
  }

  /** Those that are gone after their programs, which is now: who is not expected has lost them, or never had them. */
  async #writeInterfaces(
    apply: LoadedObject["apply"],
    found: ReadonlyMap<number, Uint8Array>,
    wanted: ReadonlyMap<number, Uint8Array> | null,
  ): Promise<void> {
    const { library, pins } = this.#options;
    const names = new Set(library.interfaces().map(({ ifindex }) => ifindex));
    const stays = (ifindex: number): boolean =>
      wanted === null ? ifindex === NODE_KEY || names.has(ifindex) : wanted.has(ifindex);
    const gone = [...found.keys()].filter((ifindex) => !stays(ifindex));
    const changed = Array.from(wanted ?? []).filter(
      ([ifindex, value]) => Buffer.compare(value, found.get(ifindex) ?? NOTHING) !== 0,
    );
    if (gone.length > 0)
      await library.detach(
        pins,
        gone.filter((ifindex) => ifindex !== NODE_KEY),
      );
    const { applied, failure } = await apply([
      ...(changed.length > 0 ? [interfaceUpdates(changed)] : []),
      ...(gone.length > 0 ? [interfaceDeletes(gone)] : []),
    ]);
    this.#entries += applied;
    if (failure !== null)
      this.#failures.push(`interfaces: the kernel refused a write (errno ${failure.errno})`);
  }

  async #repairPrograms(): Promise<void> {
    const { library, pins } = this.#options;
    const broken = (check: Finding["check"]): readonly Finding[] =>
      this.#findings.filter((finding) => finding.check === check && finding.severity === "fail");
    const programs = broken("programs").filter(({ kind }) => kind !== "order");
    const sockets = broken("sockets");
    const strays = this.#strays();
    if (strays.length > 0) this.#interfaces += await library.detach(pins, strays);
    if (sockets.some(({ kind }) => kind === "extra")) this.#sockets += await library.detachSockets(pins);
    const wanted = this.#seen.expected.interfaces.filter(({ name }) =>
      programs.some(({ where }) => where === name || where.startsWith(`${name} `)),
    );
    const hooks = sockets.filter(({ kind }) => kind !== "extra").length;
    if (wanted.length === 0 && hooks === 0) return;
    const object = await this.#open();
    try {
      const results = await object.attach(
        wanted.map(({ ifindex, role }) => ({ ifindex, role: ROLES[role], mode: this.#mode() })),
      );
      for (const result of results) {
        if (result.ok) this.#interfaces += 1;
        else this.#failures.push(result.error.message);
      }
      if (hooks > 0) await this.#attachSockets(object, hooks);
    } finally {
      await object.close();
    }
  }

  /** Interfaces that carry our programs and should not. */
  #strays(): number[] {
    const { expected, attachments } = this.#seen;
    const known = new Set(expected.interfaces.map(({ ifindex }) => ifindex));
    const strays = attachments.filter(({ ours, ifindex }) => ours && !known.has(ifindex));
    return [...new Set(strays.map(({ ifindex }) => ifindex))];
  }

  async #attachSockets(object: LoadedObject, hooks: number): Promise<void> {
    const { cgroup } = this.#options;
    if (cgroup === null) {
      this.#failures.push("sockets: no cgroup v2 file system is mounted");
      return;
    }
    await object.attachSockets(cgroup);
    this.#sockets += hooks;
  }

  /** As those that are left are attached. */
  #mode(): HookMode {
    return this.#seen.attachments.find(({ ours }) => ours)?.mode ?? "auto";
  }

  async #open(): Promise<LoadedObject> {
    const { library, pins } = this.#options;
    const config = this.#config();
    if (config === null)
      throw new Error(
        "no program is left that would tell with which settings ours are loaded: start the agent",
      );
    const maps = library.openPins(pins);
    const sizes = maps.infos().map(({ name, maxEntries }) => [name, maxEntries] as const);
    await maps.close();
    return await library.open({ pins, config, maxEntries: Object.fromEntries(sizes) });
  }

  #config(): PtlConfig | null {
    for (const { config } of this.#seen.programs.values()) if (config !== null) return config;
    return null;
  }
}
