// SPDX-License-Identifier: Apache-2.0
/**
 * Is the kernel as it should be? What should be comes from one of three: manifests or an API server, compiled here; the running
 * agent, which says what it has compiled; or nothing but the maps themselves, which must fit together. Reads only.
 */
import { join } from "node:path";
import { MAP_NAMES, type MapName } from "../../abi/maps.gen.js";
import {
  interfaceEntries,
  isOpenToShortcut,
  readInterfaceEntries,
  type ServedInterface,
} from "../../dataplane/attach.js";
import { type Comparison, compareKernel, type Difference, type MapUse } from "../../dataplane/compare.js";
import { missingMarks } from "../../dataplane/flow-marks.js";
import { type InterfaceOptions, planInterfaces } from "../../dataplane/interfaces.js";
import { readMirror } from "../../dataplane/mirror.js";
import { assertSameMap } from "../../dataplane/pins.js";
import type { Refusal } from "../../dataplane/refusal.js";
import { readXdpDevices } from "../../dataplane/xdp.js";
import { servicePortRecord } from "../../image/image-records.js";
import type { Image, ServicePortImage } from "../../image/types.js";
import type { Attachment } from "../../native/hooks.js";
import type { KernelReads } from "../../native/kernel.js";
import type { NativeLibrary } from "../../native/lib.js";
import type { NativeMaps } from "../../native/maps.js";
import { cgroupId } from "../../native/paths.js";
import type { LoadedProgram, ProgramMaps } from "../../native/programs.js";
import type { IpAddress } from "../../net/ip.js";
import { errorMessage } from "../../util/errors.js";
import { inSlices } from "../../util/slices.js";
import type { AgentClient, AgentState } from "../agent-client.js";
import { readLinks } from "../hooks.js";
import type { CheckStatus } from "../host-checks.js";
import type { SocketLb } from "../kernel-options.js";
import { type MapIds, pinnedMaps } from "../map-pins.js";
import { type CheckName, type Finding, failure } from "./finding.js";
import { checkHostSettings } from "./host.js";
import { checkInterfaceEntries, expectedByMap } from "./interface-entries.js";
import { checkPins, checkSettings, checkStalePins, mapsOf } from "./pins.js";
import { checkPrograms, checkSockets, type ExpectedSockets, type ProgramIdentity } from "./programs.js";
import { checkXdp } from "./xdp.js";

/** What the kernel is compared with. */
export type Against =
  | { readonly kind: "maps" }
  | {
      readonly kind: "manifests" | "api";
      readonly image: Image;
      readonly interfaces: InterfaceOptions;
      /** The Node object's addresses (13.1). */
      readonly nodeAddresses: readonly IpAddress[];
      readonly sockets: { readonly mode: SocketLb; readonly cgroup: string | null };
    }
  | {
      readonly kind: "agent";
      readonly client: AgentClient;
      /** What was read of the source here; null: the agent's own view of it. */
      readonly source: Image | null;
    };

export interface VerifyOptions {
  readonly library: NativeLibrary;
  readonly root: string;
  /** The directory of the pins. */
  readonly pins: string;
  readonly against: Against;
  /** Compare the programs with portolan.bpf.o, which is loaded for that beside them: takes a few seconds. */
  readonly build: boolean;
  /** Bit of the packet mark: --forward-mark-bit. */
  readonly markBit: number;
}

export interface CheckResult {
  readonly name: CheckName;
  readonly status: CheckStatus;
  readonly detail: string;
}

export interface VerifyReport {
  readonly against: Against["kind"];
  readonly checks: readonly CheckResult[];
  readonly findings: readonly Finding[];
  /** Maps that an agent writes. */
  readonly capacity: readonly MapUse[];
}

/** What programs write is not compared. */
const WRITTEN_BY_PROGRAMS = /^(?:(?:nat|affinity|fragments|socket_nat|backend_stats)[46]|flow_marks)$/;
const COMPARED: readonly MapName[] = MAP_NAMES.filter((name) => !WRITTEN_BY_PROGRAMS.test(name));

const MARKS = "flow_marks";
/** Without one of these nothing can be said of marks. */
const OF_MARKS: readonly MapName[] = [MARKS, "nat4", "nat6"];

/** Comparisons until two of them say the same: while somebody writes, a dump is none of one moment. */
const MOST_READINGS = 5;

/** What should be at hooks and in `interfaces`. */
export interface Expected {
  readonly interfaces: readonly ServedInterface[];
  readonly entries: ReadonlyMap<number, Uint8Array> | null;
  readonly sockets: ExpectedSockets | null;
  readonly agentPrograms: readonly LoadedProgram[] | null;
}

/** What a repair needs of what was seen. */
export interface Seen {
  readonly expected: Expected;
  readonly attachments: readonly Attachment[];
  /** By where they are attached. */
  readonly programs: ReadonlyMap<string, ProgramMaps>;
}

/**
 * @throws AppError when the agent cannot be asked; NativeError when the kernel cannot be read
 */
export async function verify(
  options: VerifyOptions,
): Promise<{ readonly report: VerifyReport; readonly seen: Seen }> {
  return await new Verification(options).run();
}

/** What has been looked at so far. */
class Checklist {
  readonly findings: Finding[] = [];
  readonly #details = new Map<CheckName, string>();

  /** @param ok what there is to say when nothing was found */
  note(check: CheckName, findings: readonly Finding[], ok: string): void {
    this.findings.push(...findings);
    this.#details.set(check, ok);
  }

  results(): CheckResult[] {
    return Array.from(this.#details, ([name, detail]) => {
      const own = this.findings.filter(({ check }) => check === name);
      const status: CheckStatus = own.some(({ severity }) => severity === "fail")
        ? "fail"
        : own.length > 0
          ? "warn"
          : "ok";
      return { name, status, detail: counted(own) || detail };
    });
  }
}

class Verification {
  readonly #options: VerifyOptions;
  readonly #names: ReadonlyMap<number, string>;
  readonly #list = new Checklist();

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#names = new Map(options.library.interfaces().map(({ ifindex, name }) => [ifindex, name]));
  }

  async run(): Promise<{ readonly report: VerifyReport; readonly seen: Seen }> {
    const { library, pins, against, root, markBit } = this.#options;
    const agent = against.kind === "agent" ? await against.client.compiled() : null;
    if (against.kind === "agent" && agent !== null) await this.#checkSource(agent, against);
    const attachments = await library.attachments([...this.#names.keys()]);
    const xdp = await library.xdpStates([...this.#names.keys()]);
    const sockets = library.socketLinks(pins);
    const programs = this.#programMaps([
      ...attachments
        .filter(({ ours }) => ours)
        .map(({ ifindex, direction, programId }) => {
          return { where: `${this.#names.get(ifindex) ?? ifindex} ${direction}`, programId };
        }),
      ...xdp
        .filter(({ ours }) => ours)
        .map(({ ifindex, programId }) => {
          return { where: `${this.#names.get(ifindex) ?? ifindex} XDP`, programId };
        }),
      ...sockets.map(({ hook, programId }) => ({ where: `cgroup ${hook}`, programId })),
    ]);
    const pinned = pinnedMaps(library, pins);
    const complete = this.#checkPins(programs, root, pinned);
    let use: readonly MapUse[] = [];
    let expected: Expected;
    const maps = library.openPins(pins);
    try {
      for (const { name, id } of maps.infos()) {
        const [path, before] = [join(pins, name), pinned.get(name)];
        if (before !== undefined) assertSameMap(path, before, id);
      }
      if (complete) use = await this.#checkMaps(maps, agent);
      else this.#list.note("maps", [], "not compared: some of them are not pinned");
      await this.#checkMarks(maps);
      expected = await this.#expected(maps, agent);
      await this.#checkInterfaces(maps, expected);
      const identity = await this.#identity(expected);
      const devices = maps.names.includes("xdp_devices")
        ? await readXdpDevices(maps)
        : new Map<number, string>();
      this.#list.note(
        "programs",
        [
          ...checkPrograms({ expected: expected.interfaces, attachments, names: this.#names, identity }),
          ...checkXdp({ devices, states: xdp, names: this.#names, identity }),
          ...checkSettings(programs),
        ],
        `${expected.interfaces.length} interfaces carry theirs, in both directions${identity.tags ? ", of this build" : ""}${devices.size > 0 ? `; ${devices.size} XDP` : ""}`,
      );
      const hooks =
        sockets.length === 0 ? "none, and nobody says that there should be" : `${sockets.length} hooks`;
      this.#list.note("sockets", checkSockets(sockets, expected.sockets, identity), hooks);
    } finally {
      await maps.close();
    }
    this.#list.note("capacity", use.flatMap(nearlyFull), ROOM);
    this.#list.note(
      "host",
      await checkHostSettings(library, markBit),
      "its settings let translated packets through",
    );
    const report = {
      against: against.kind,
      checks: this.#list.results(),
      findings: this.#list.findings,
      capacity: use,
    };
    return { report, seen: { expected, attachments, programs } };
  }

  /** Source and compiled image. What is held back is no difference. */
  async #checkSource(
    { header, image }: AgentState,
    { client, source }: Extract<Against, { kind: "agent" }>,
  ): Promise<void> {
    const wanted = source ?? (await client.source()).image;
    const findings = header.heldBack ? [] : compareImages(wanted, image);
    const behind = header.newest ? "" : "; the agent is at work on a newer state";
    const detail = header.heldBack
      ? "not compared: the agent holds back what its source does not name yet"
      : `${wanted.servicePorts.size} service ports are compiled as the source has them${behind}`;
    this.#list.note("source", findings, detail);
  }

  #programMaps(
    programs: readonly { readonly where: string; readonly programId: number }[],
  ): ReadonlyMap<string, ProgramMaps> {
    const found = new Map<string, ProgramMaps>();
    const known = new Map<number, ProgramMaps>();
    for (const { where, programId } of programs) {
      try {
        const maps = known.get(programId) ?? this.#options.library.programMaps(programId);
        known.set(programId, maps);
        found.set(where, maps);
      } catch {
        // It went while we looked: the check of the hooks says what is there.
      }
    }
    return found;
  }

  /** Returns whether all those are pinned that are compared. */
  #checkPins(programs: ReadonlyMap<string, ProgramMaps>, root: string, pinned: MapIds): boolean {
    const { pins } = this.#options;
    const findings = [
      ...checkPins(pinned, mapsOf([...programs.values()]), pins),
      ...checkStalePins(root, (ifindex) => this.#names.has(ifindex)),
    ];
    this.#list.note("pins", findings, `${pinned.size} maps, those that the programs work on`);
    return COMPARED.every((name) => pinned.has(name));
  }

  async #checkMaps(maps: NativeMaps, agent: AgentState | null): Promise<readonly MapUse[]> {
    const { against } = this.#options;
    let { comparison, text } = await this.#compare(maps, agent);
    for (let reading = 1; reading < MOST_READINGS && comparison.differences.length > 0; reading += 1) {
      const again = await this.#compare(maps, null);
      const agreed = again.text === text;
      ({ comparison, text } = again);
      if (agreed) break;
    }
    noteMaps(this.#list, comparison, against.kind === "maps");
    return comparison.use;
  }

  /** The one thing about what programs write that must hold: a flow without its mark is not translated. */
  async #checkMarks(maps: NativeMaps): Promise<void> {
    if (!OF_MARKS.every((name) => maps.names.includes(name))) return;
    const missing = (await missingMarks(maps)) ?? [];
    if (missing.length === 0) return;
    const entry = `${missing.length} ${missing.length === 1 ? "cell" : "cells"}`;
    const wanted = { mark: "of each address that a TCP entry of nat is about" };
    this.#list.findings.push(failure({ check: "maps", kind: "missing", where: MARKS, entry, wanted }));
  }

  /** @param agent what it said before; null: it is asked again */
  async #compare(
    maps: NativeMaps,
    agent: AgentState | null,
  ): Promise<{ readonly comparison: Comparison; readonly text: string }> {
    const { against } = this.#options;
    const image =
      against.kind === "agent"
        ? (agent ?? (await against.client.compiled())).image
        : against.kind === "maps"
          ? null
          : against.image;
    const comparison = await inSlices(compareKernel(await readMirror(maps, {}), image));
    return { comparison, text: JSON.stringify(comparison.differences) };
  }

  async #expected(maps: NativeMaps, agent: AgentState | null): Promise<Expected> {
    const { library, against } = this.#options;
    if (agent !== null) {
      const { interfaces, interfaceEntries: entries, sockets, programs } = agent.header;
      const bytes = entries && Object.entries(entries);
      return {
        interfaces,
        entries: bytes && new Map(bytes.map(([key, text]) => [Number(key), Buffer.from(text, "hex")])),
        sockets: expectedSockets(sockets),
        agentPrograms: programs,
      };
    }
    if (against.kind === "manifests" || against.kind === "api") {
      const { links, addresses, defaultRoutes } = readLinks(library);
      const { interfaces, nodeAddresses } = against;
      const planned = planInterfaces(links, addresses, defaultRoutes, interfaces, nodeAddresses);
      return {
        interfaces: planned.plans.filter(({ attach }) => attach),
        entries: interfaceEntries(planned, await this.#openToShortcut(maps)),
        sockets: expectedSockets(against.sockets),
        agentPrograms: null,
      };
    }
    const entries = maps.names.includes("interfaces") ? await readInterfaceEntries(maps) : new Map();
    const interfaces = expectedByMap(entries, this.#names);
    return { interfaces, entries: null, sockets: null, agentPrograms: null };
  }

  /** Which way new flows take is the agent's own decision: what it has written is right. */
  async #openToShortcut(maps: NativeMaps): Promise<(ifindex: number) => boolean> {
    if (!maps.names.includes("interfaces")) return () => false;
    const found = await readInterfaceEntries(maps);
    return (ifindex) => isOpenToShortcut(found.get(ifindex));
  }

  async #checkInterfaces(maps: NativeMaps, { entries: wanted }: Expected): Promise<void> {
    if (!maps.names.includes("interfaces")) return;
    const found = await readInterfaceEntries(maps);
    const findings = checkInterfaceEntries(found, wanted, this.#names);
    this.#list.note("interfaces", findings, `${found.size} entries`);
  }

  async #identity({ agentPrograms }: Expected): Promise<ProgramIdentity> {
    const ids = agentPrograms && new Set(agentPrograms.map(({ id }) => id));
    if (!this.#options.build) return { ids, tags: null };
    try {
      return { ids, tags: await buildTags(this.#options.library) };
    } catch (error) {
      this.#list.findings.push(
        failure({
          check: "programs",
          kind: "other build",
          severity: "warn",
          where: "portolan.bpf.o",
          entry: "build",
          fix: `It cannot be loaded to be compared with: ${errorMessage(error)}`,
        }),
      );
      return { ids, tags: null };
    }
  }
}

/** The maps alone, of whatever machine: what an archive holds. */
export async function verifyReadings(
  maps: KernelReads,
  against: "maps" | "manifests" | "api",
  image: Image | null,
): Promise<VerifyReport> {
  const comparison = await inSlices(compareKernel(await readMirror(maps, {}), image));
  const { use } = comparison;
  const list = new Checklist();
  noteMaps(list, comparison, image === null);
  list.note("capacity", use.flatMap(nearlyFull), ROOM);
  return { against, checks: list.results(), findings: list.findings, capacity: use };
}

/** @param alone there was nothing to compare them with but themselves */
function noteMaps(list: Checklist, comparison: Comparison, alone: boolean): void {
  const { differences, refused, entries, servicePorts } = comparison;
  const wanted = alone ? "fit together" : "are as wanted";
  const findings = [...differences.map(differenceFinding), ...refused.map(refusalFinding)];
  list.note("maps", findings, `${entries} entries of ${servicePorts} service ports ${wanted}`);
}

const ROOM = "every map has room";

/** "2 differences, 1 warning"; "": nothing. */
function counted(findings: readonly Finding[]): string {
  const failures = findings.filter(({ severity }) => severity === "fail").length;
  const warnings = findings.length - failures;
  return [
    ...(failures > 0 ? [`${failures} ${failures === 1 ? "difference" : "differences"}`] : []),
    ...(warnings > 0 ? [`${warnings} ${warnings === 1 ? "warning" : "warnings"}`] : []),
  ].join(", ");
}

function refusalFinding({ key, message }: Refusal): Finding {
  return failure({ check: "maps", kind: "refused", owner: key, where: "maps", entry: "", fix: message });
}

function expectedSockets(sockets: {
  readonly mode: SocketLb;
  readonly cgroup: string | null;
}): ExpectedSockets | null {
  // Without a cgroup v2 the agent has none, and says so itself.
  if (sockets.mode !== "off" && sockets.cgroup === null) return null;
  return { mode: sockets.mode, cgroupId: sockets.cgroup === null ? null : cgroupId(sockets.cgroup) };
}

/** Room for a program to be loaded; nothing is ever put in. */
const TWIN_ENTRIES = 64;

/** The tags of this build's programs on this kernel: it is loaded with maps of its own, and let go. */
async function buildTags(library: NativeLibrary): Promise<ReadonlyMap<string, string>> {
  const maxEntries = Object.fromEntries(MAP_NAMES.map((name) => [name, TWIN_ENTRIES]));
  const twin = await library.open({ pins: "", maxEntries });
  try {
    return new Map(twin.programs().map(({ name, tag }) => [name, tag]));
  } finally {
    await twin.close();
  }
}

function differenceFinding({ kind, map, owner, entry, found, wanted }: Difference): Finding {
  return failure({ check: "maps", kind, owner, where: map, entry, found, wanted });
}

const NEARLY = 0.8;
const ALMOST = 0.95;

function nearlyFull({ map, used, size }: MapUse): Finding[] {
  const share = used / size;
  if (share < NEARLY) return [];
  const percent = `${Math.floor(100 * share)} %`;
  const words = share >= ALMOST ? "Services will soon be refused" : "It will be full";
  return [
    failure({
      check: "capacity",
      kind: "nearly full",
      severity: "warn",
      where: map,
      entry: percent,
      found: { used: String(used) },
      wanted: { size: String(size) },
      fix: `${words}: a larger map needs portolan cleanup and an agent with a larger size.`,
    }),
  ];
}

/** Service ports that the two do not have alike; what is the node's is told as one. */
export function compareImages(wanted: Image, found: Image): Finding[] {
  const findings: Finding[] = [];
  const at = { check: "source", where: "image" } as const;
  for (const key of new Set([...wanted.servicePorts.keys(), ...found.servicePorts.keys()])) {
    const [a, b] = [wanted.servicePorts.get(key), found.servicePorts.get(key)];
    if (a === undefined) findings.push(failure({ ...at, kind: "extra", owner: key, entry: key }));
    else if (b === undefined) findings.push(failure({ ...at, kind: "missing", owner: key, entry: key }));
    else findings.push(...differingPorts(a, b));
  }
  for (const part of ["nodePortAddresses", "serviceNetworks"] as const) {
    const text = (image: Image): string => image[part].map((each) => each.text).join(" ");
    const [a, b] = [text(wanted), text(found)];
    if (a === b) continue;
    const values = { found: { [part]: b }, wanted: { [part]: a } };
    findings.push(failure({ ...at, kind: "different", entry: part, ...values }));
  }
  return findings;
}

function differingPorts(wanted: ServicePortImage, found: ServicePortImage): Finding[] {
  const [a, b] = [servicePortRecord(wanted), servicePortRecord(found)];
  const names = (Object.keys(a) as (keyof typeof a)[]).filter(
    (name) => JSON.stringify(a[name]) !== JSON.stringify(b[name]),
  );
  if (names.length === 0) return [];
  const some = (record: typeof a): Record<string, string> =>
    Object.fromEntries(names.map((name) => [name, JSON.stringify(record[name])]));
  const { key } = wanted;
  const values = { found: some(b), wanted: some(a) };
  return [failure({ check: "source", kind: "different", where: "image", owner: key, entry: key, ...values })];
}
