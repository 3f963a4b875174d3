// SPDX-License-Identifier: Apache-2.0
/**
 * The maps joined into what a person wants to see. Works on what the kernel holds, whoever wrote it: nothing is believed
 * and nothing is refused; what cannot be resolved says so.
 *
 *   readTables(kernel)          -> Promise<Tables>     names, frontends, slots, cells, counts: 12 to 14 dumps
 *   servicesView(tables)        -> ServiceRow[]        one row for each frontend, sorted by service and address
 *   backendsView(tables)        -> BackendRow[]        one row for each cell in use
 *   readFlows(kernel, tables, { timeouts, nowTicks? }) -> Promise<FlowRow[]>   one row for each flow (2 dumps)
 *   readNodePortAddresses(kernel) -> Promise<string[]> where NodePorts are served (2 dumps)
 *   serviceKey(row)             -> "default/redis:http/TCP"
 *
 * Counts are bigint, ports numbers, addresses text.
 */

import { viewOf } from "../abi/codec.js";
import {
  AddressClass,
  BackendFlag,
  BackendState,
  Counters,
  Direction,
  Empty,
  FrontendFlag,
  NatFlag,
  NatState,
  NO_BACKEND,
  TICK_SHIFT,
} from "../abi/enums.gen.js";
import { type ChoiceWord, decodeChoice } from "../abi/hash.js";
import {
  type Backend4,
  FAMILY_CODECS,
  frontendCodec,
  type NatKey4,
  type NatValue4,
  type PtlConfig,
  serviceNameCodec,
  type Traffic,
  trafficCodec,
} from "../abi/layout.gen.js";
import type { MapName } from "../abi/maps.gen.js";
import type { Masquerade } from "../model/masquerade.js";
import type { KernelReads } from "../native/kernel.js";
import { cidrOf } from "../net/cidr.js";
import { compareIp, FAMILIES, type Family, type IpAddress, ipFromBytes, type Protocol } from "../net/ip.js";
import { protocolNumber, protocolOfNumber } from "../net/port.js";
import { masqueradeOf } from "./keys.js";

export interface ServiceId {
  /** Service index; names are empty when the index has none. */
  readonly index: number;
  readonly namespace: string;
  readonly name: string;
  /** A name of more than 23 bytes is stored as its beginning, "~" and a hash. */
  readonly portName: string;
  readonly protocol: Protocol | "";
}

/** What a backend's endpoint is (9.3): it serves, or it is still in a slice and does not. */
export type BackendStateName = "live" | "draining";

/** Section 4's two sets of endpoints. */
export type SetName = "cluster" | "local";

export interface BackendRow {
  readonly service: ServiceId;
  readonly family: Family;
  readonly address: string;
  readonly port: number;
  readonly local: boolean;
  /** A draining backend keeps its TCP flows, loses its UDP flows, and is given no new ones. */
  readonly state: BackendStateName;
  /** The sets it is in. Kept for service ports with session affinity alone: empty for all others. */
  readonly sets: readonly SetName[];
  readonly cell: number;
  readonly generation: number;
  /** Some frontend offers it to new flows. */
  readonly chosen: boolean;
  readonly traffic: Traffic;
}

export interface ChoiceView {
  readonly backends: readonly BackendRow[];
  /** Which of section 4's sets this is. */
  readonly set: SetName;
  /** What a new flow meets when there is no backend. */
  readonly whenEmpty: "reject" | "drop";
  /** Slots that name no live cell of this service port: a frontend in this state is being repaired, or nobody does. */
  readonly unreadable: number;
}

/** "External": an externalIP or a load balancer's address. The kernel treats them alike, so its maps do not tell them apart. */
export type FrontendKindName = "ClusterIP" | "External" | "NodePort";

/** Which new flows are given an address of the node (8.2, 8.4); hairpin flows always are (8.7). */

export interface ServiceRow {
  readonly service: ServiceId;
  readonly kind: FrontendKindName;
  readonly family: Family;
  /** Of a NodePort the family's all-zero address: it stands for the addresses of readNodePortAddresses(). */
  readonly address: string;
  readonly port: number;
  /** 0: no session affinity. */
  readonly affinitySeconds: number;
  readonly masquerade: Masquerade;
  /** Who may open a flow (6.15, 6.16), in the frontend's family; null: anyone. */
  readonly sourceRanges: readonly string[] | null;
  /** For senders inside the cluster, and outside. */
  readonly internal: ChoiceView;
  readonly external: ChoiceView;
  /** Of the service port, all its frontends together. */
  readonly traffic: Traffic;
}

export type FlowState = "opening" | "established" | "closing" | "closed" | "dead";

export interface FlowRow {
  readonly service: ServiceId | null;
  readonly family: Family;
  readonly protocol: Protocol | "";
  readonly client: Peer;
  /** What the client asked for. */
  readonly destination: Peer;
  /** Where its packets go. */
  readonly backend: Peer;
  /** The backend's cell and generation; null for a flow that has none. */
  readonly cell: number | null;
  readonly generation: number;
  /** The cell still holds the backend that the flow began with. */
  readonly backendPresent: boolean;
  /** "gone": it has left every slice, or the flow has none. */
  readonly backendState: BackendStateName | "gone";
  readonly state: FlowState;
  /** False: counts as absent everywhere, and may be taken over. */
  readonly live: boolean;
  /** Seconds since the last packet, to about a second. */
  readonly idleSeconds: number;
  /** The client's address as the backend sees it, where it was changed; a port of 0 has yet to be chosen. */
  readonly masqueradedAs: Peer | null;
  /** A client that uses a backend's own address, beside a flow by a Service. */
  readonly direct: boolean;
}

export interface Peer {
  readonly address: string;
  readonly port: number;
}

interface FrontendEntry {
  readonly address: string;
  readonly port: number;
  readonly service: number;
  readonly affinitySeconds: number;
  readonly flags: number;
  readonly internalSet: SetName;
  readonly externalSet: SetName;
  readonly internal: ChoiceWord;
  readonly external: ChoiceWord;
}

interface FamilyTables {
  readonly frontends: readonly FrontendEntry[];
  readonly slots: DataView;
  /** Cells in use: live and draining. */
  readonly cells: ReadonlyMap<number, Backend4>;
  /** By service index, sorted. */
  readonly sourceRanges: ReadonlyMap<number, readonly string[]>;
  readonly stats: ReadonlyMap<number, Traffic>;
}

/** A look at the maps; not atomic, so a row may be newer than another. */
export interface Tables {
  readonly services: ReadonlyMap<number, ServiceId>;
  readonly traffic: ReadonlyMap<number, Traffic>;
  readonly families: Readonly<Record<Family, FamilyTables>>;
}

const NO_TRAFFIC: Traffic = { flows: 0n, packets: 0n, bytes: 0n };

function protocolName(protocol: number): Protocol | "" {
  return protocolOfNumber(protocol) ?? "";
}

/** "namespace/name:port/PROTOCOL", as ServicePortImage.key; "#12" for an index without a name. */
export function serviceKey({ index, namespace, name, portName, protocol }: ServiceId): string {
  return name === "" ? `#${index}` : `${namespace}/${name}:${portName}/${protocol}`;
}

/** A service port whose index has no name. */
export function unnamed(index: number): ServiceId {
  return { index, namespace: "", name: "", portName: "", protocol: "" };
}

/** Entries read at a time: what is held of a map of any size. */
const CHUNK = 65_536;

/** Every entry of a map as views into the piece of it that was read last; `index` counts from 0. */
export async function* entries(
  kernel: KernelReads,
  map: MapName,
  limit?: number,
): AsyncGenerator<{ key: DataView; value: DataView; keyAt: number; valueAt: number; index: number }> {
  const { keySize, valueSize, maxEntries } = kernel.info(map);
  let index = 0;
  for await (const dump of kernel.dumpChunks(map, Math.min(CHUNK, limit ?? maxEntries), limit)) {
    const key = viewOf(dump.keys);
    const value = viewOf(dump.values);
    for (let i = 0; i < dump.count; i += 1, index += 1)
      yield { key, value, keyAt: i * keySize, valueAt: i * valueSize, index };
  }
}

/** Reads everything but what the kernel programs write (`nat`, `affinity`, …) and `addresses`. Rejects with what the kernel's maps reject with. */
export async function readTables(kernel: KernelReads): Promise<Tables> {
  const services = new Map<number, ServiceId>();
  let end = 0;
  for await (const { key, value, keyAt, valueAt } of entries(kernel, "services")) {
    const index = key.getUint32(keyAt, true);
    const { namespaceName, name, portName, protocol } = serviceNameCodec.decodeFrom(value, valueAt);
    services.set(index, {
      index,
      namespace: namespaceName,
      name,
      portName,
      protocol: protocolName(protocol),
    });
    end = Math.max(end, index + 1);
  }
  const traffic = new Map<number, Traffic>();
  const counters = await kernel.dump("counters", Counters.SERVICE_BASE + end);
  const counted = viewOf(counters.values);
  for (const index of services.keys()) {
    const at = (Counters.SERVICE_BASE + index) * trafficCodec.size;
    if (at + trafficCodec.size <= counted.byteLength)
      traffic.set(index, trafficCodec.decodeFrom(counted, at));
  }
  const four = await readFamily(kernel, 4);
  const six = await readFamily(kernel, 6);
  return { services, traffic, families: { 4: four, 6: six } };
}

async function readFamily(kernel: KernelReads, family: Family): Promise<FamilyTables> {
  const { addrPort, backend } = FAMILY_CODECS[family];
  const frontends: FrontendEntry[] = [];
  let slotEnd = 0;
  for await (const { key, value, keyAt, valueAt } of entries(kernel, `frontends${family}`)) {
    const { addr, port } = addrPort.decodeFrom(key, keyAt);
    const { internal, external, ...rest } = frontendCodec.decodeFrom(value, valueAt);
    const words = { internal: decodeChoice(internal), external: decodeChoice(external) };
    const set = (localFlag: number): SetName => (rest.flags & localFlag ? "local" : "cluster");
    const internalSet = set(FrontendFlag.FRONTEND_INTERNAL_LOCAL);
    const externalSet = set(FrontendFlag.FRONTEND_EXTERNAL_LOCAL);
    frontends.push({ address: ipFromBytes(addr).text, port, ...rest, internalSet, externalSet, ...words });
    for (const { base, count } of Object.values(words))
      if (count > 0) slotEnd = Math.max(slotEnd, base + count);
  }
  const slots = slotEnd > 0 ? (await kernel.dump(`slots${family}`, slotEnd)).values : new Uint8Array(0);
  const cells = new Map<number, Backend4>();
  let cellEnd = 0;
  const stateAt = backend.offsets.state as number;
  for await (const { value, valueAt, index: cell } of entries(kernel, `backends${family}`)) {
    if (value.getUint8(valueAt + stateAt) === BackendState.BACKEND_FREE) continue;
    cells.set(cell, backend.decodeFrom(value, valueAt));
    cellEnd = cell + 1;
  }
  const stats = new Map<number, Traffic>();
  if (cellEnd > 0) {
    const counted = viewOf((await kernel.dump(`backend_stats${family}`, cellEnd)).values);
    for (const cell of cells.keys())
      stats.set(cell, trafficCodec.decodeFrom(counted, cell * trafficCodec.size));
  }
  return {
    frontends,
    slots: viewOf(slots),
    cells,
    stats,
    sourceRanges: await readSourceRanges(kernel, family),
  };
}

/** A prefix length in the map counts the 32 bits of the service index too. */
const SERVICE_BITS = 32;

async function readSourceRanges(kernel: KernelReads, family: Family): Promise<Map<number, string[]>> {
  const { sourceRange } = FAMILY_CODECS[family];
  const ranges = new Map<number, string[]>();
  for await (const { key, keyAt } of entries(kernel, `source_ranges${family}`)) {
    const { prefixLength, service, addr } = sourceRange.decodeFrom(key, keyAt);
    const { text } = cidrOf(ipFromBytes(addr), prefixLength - SERVICE_BITS);
    const of = ranges.get(service);
    if (of === undefined) ranges.set(service, [text]);
    else of.push(text);
  }
  for (const of of ranges.values()) of.sort(compareText);
  return ranges;
}

/** The addresses of this node on which NodePorts are served (6.1 to 6.4), IPv4 first, ascending. */
export async function readNodePortAddresses(kernel: KernelReads): Promise<string[]> {
  const found: IpAddress[] = [];
  for (const family of FAMILIES) {
    const { addrPort } = FAMILY_CODECS[family];
    for await (const { key, value, keyAt, valueAt } of entries(kernel, `addresses${family}`)) {
      if ((value.getUint32(valueAt, true) & AddressClass.CLASS_NODE) === 0) continue;
      const { addr, port, protocol } = addrPort.decodeFrom(key, keyAt);
      if (port === 0 && protocol === 0) found.push(ipFromBytes(addr));
    }
  }
  return found.sort(compareIp).map(({ text }) => text);
}

/** Every cell in use, sorted by service, family, address bytes as text, port. */
export function backendsView(tables: Tables): BackendRow[] {
  return FAMILIES.flatMap((family) => [...backendRows(tables, family).values()]).sort(
    (a, b) =>
      compareServices(a.service, b.service) ||
      a.family - b.family ||
      compareText(a.address, b.address) ||
      a.port - b.port,
  );
}

function backendRows(tables: Tables, family: Family): Map<number, BackendRow> {
  const { cells, stats } = tables.families[family];
  const chosen = chosenCells(tables.families[family]);
  const rows = new Map<number, BackendRow>();
  for (const [cell, { addr, port, state, flags, generation, service }] of cells) {
    rows.set(cell, {
      service: tables.services.get(service) ?? unnamed(service),
      family,
      address: ipFromBytes(addr).text,
      port,
      local: (flags & BackendFlag.BACKEND_LOCAL) !== 0,
      state: backendStateName(state),
      sets: setsOf(flags),
      cell,
      generation,
      chosen: chosen.has(cell),
      traffic: stats.get(cell) ?? NO_TRAFFIC,
    });
  }
  return rows;
}

function backendStateName(state: number): BackendStateName {
  return state === BackendState.BACKEND_LIVE ? "live" : "draining";
}

function setsOf(flags: number): SetName[] {
  const sets: SetName[] = [];
  if (flags & BackendFlag.BACKEND_CLUSTER_SET) sets.push("cluster");
  if (flags & BackendFlag.BACKEND_LOCAL_SET) sets.push("local");
  return sets;
}

function cellsOf({ slots }: FamilyTables, { base, count }: ChoiceWord): number[] {
  const cells: number[] = [];
  for (let slot = base; slot < base + count && slot * 4 + 4 <= slots.byteLength; slot += 1)
    cells.push(slots.getUint32(slot * 4, true));
  return cells;
}

function chosenCells(tables: FamilyTables): Set<number> {
  const chosen = new Set<number>();
  for (const { internal, external } of tables.frontends)
    for (const word of [internal, external]) for (const cell of cellsOf(tables, word)) chosen.add(cell);
  return chosen;
}

/** Every frontend with what it offers, sorted by service, family, kind, address, port. */
export function servicesView(tables: Tables): ServiceRow[] {
  const rows: ServiceRow[] = [];
  for (const family of FAMILIES) {
    const backends = backendRows(tables, family);
    for (const frontend of tables.families[family].frontends)
      rows.push(serviceRow(tables, family, frontend, backends));
  }
  return rows.sort(
    (a, b) =>
      compareServices(a.service, b.service) ||
      a.family - b.family ||
      compareText(a.kind, b.kind) ||
      compareText(a.address, b.address) ||
      a.port - b.port,
  );
}

function serviceRow(
  tables: Tables,
  family: Family,
  frontend: FrontendEntry,
  backends: ReadonlyMap<number, BackendRow>,
): ServiceRow {
  const { service, address, port, affinitySeconds, flags } = frontend;
  const choice = (word: ChoiceWord, set: SetName): ChoiceView => ({
    ...choiceView(tables.families[family], backends, service, word),
    set,
  });
  return {
    service: tables.services.get(service) ?? unnamed(service),
    kind: kindOf(flags),
    family,
    address,
    port,
    affinitySeconds,
    masquerade: masqueradeOf(flags),
    sourceRanges:
      flags & FrontendFlag.FRONTEND_SOURCE_RANGES
        ? (tables.families[family].sourceRanges.get(service) ?? [])
        : null,
    internal: choice(frontend.internal, frontend.internalSet),
    external: choice(frontend.external, frontend.externalSet),
    traffic: tables.traffic.get(service) ?? NO_TRAFFIC,
  };
}

function kindOf(flags: number): FrontendKindName {
  if (flags & FrontendFlag.FRONTEND_NODE_PORT) return "NodePort";
  return flags & FrontendFlag.FRONTEND_CLUSTER_IP ? "ClusterIP" : "External";
}

function choiceView(
  tables: FamilyTables,
  backends: ReadonlyMap<number, BackendRow>,
  service: number,
  word: ChoiceWord,
): Omit<ChoiceView, "set"> {
  const rows = cellsOf(tables, word)
    .map((cell) => backends.get(cell))
    .filter((row) => row?.state === "live" && row.service.index === service) as BackendRow[];
  rows.sort((a, b) => compareText(a.address, b.address) || a.port - b.port);
  const whenEmpty = word.count === 0 && word.base === Empty.DROP ? "drop" : "reject";
  return { backends: rows, whenEmpty, unreadable: word.count - rows.length };
}

/** Negative when `a` goes first. */
export function compareServices(a: ServiceId, b: ServiceId): number {
  return (
    compareText(a.namespace, b.namespace) ||
    compareText(a.name, b.name) ||
    compareText(a.portName, b.portName) ||
    compareText(a.protocol, b.protocol) ||
    a.index - b.index
  );
}

/** Digits compare as numbers, so that 10.0.0.9 comes before 10.0.0.10. */
const collator = new Intl.Collator("en", { numeric: true });

export function compareText(a: string, b: string): number {
  return collator.compare(a, b);
}

export interface FlowOptions {
  /** What the programs were loaded with: an entry lives as long as they think it does. */
  readonly timeouts: Pick<
    PtlConfig,
    | "timeoutTcpOpening"
    | "timeoutTcpEstablished"
    | "timeoutTcpHalfClosed"
    | "timeoutTcpClosed"
    | "timeoutUdpUnreplied"
    | "timeoutUdpReplied"
  >;
  /** CLOCK_MONOTONIC in ticks of 2^30 ns; default: now. */
  readonly nowTicks?: number;
}

/** CLOCK_MONOTONIC in the ticks of `nat`. */
export function monotonicTicks(): number {
  return ticksOf(process.hrtime.bigint());
}

/** Nanoseconds of CLOCK_MONOTONIC in the ticks of `nat`. */
export function ticksOf(nanoseconds: bigint): number {
  return Number(nanoseconds >> BigInt(TICK_SHIFT)) >>> 0;
}

/** Every flow in `nat4` and `nat6`, the busiest moments last: sorted by idle time. */
export async function readFlows(
  kernel: KernelReads,
  tables: Tables,
  options: FlowOptions,
): Promise<FlowRow[]> {
  const four = await familyFlows(kernel, tables, options, 4);
  const six = await familyFlows(kernel, tables, options, 6);
  return [...four, ...six].sort((a, b) => a.idleSeconds - b.idleSeconds);
}

interface NatEntry {
  readonly key: NatKey4;
  readonly value: NatValue4;
}

async function familyFlows(
  kernel: KernelReads,
  tables: Tables,
  options: FlowOptions,
  family: Family,
): Promise<FlowRow[]> {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const flows: NatEntry[] = [];
  const masquerades = new Map<string, NatEntry>();
  for await (const { key, value, keyAt, valueAt } of entries(kernel, `nat${family}`)) {
    const entry = { key: natKey.decodeFrom(key, keyAt), value: natValue.decodeFrom(value, valueAt) };
    if (entry.value.flags & NatFlag.NAT_REPLY) continue;
    if (entry.value.flags & NatFlag.NAT_MASQUERADE) masquerades.set(masqueradeId(entry.key), entry);
    else if (entry.key.direction === Direction.IN || entry.value.flags & NatFlag.NAT_DIRECT)
      flows.push(entry);
  }
  return flows.map((entry) => flowRow(tables, family, entry, masquerades, options));
}

/** The tuple that egress sees, once ingress has rewritten the destination. */
function masqueradeId({
  src,
  sport,
  dst,
  dport,
  protocol,
}: Pick<NatKey4, "src" | "sport" | "dst" | "dport" | "protocol">): string {
  return `${src.join()} ${sport} ${dst.join()} ${dport} ${protocol}`;
}

function peer(address: Uint8Array, port: number): Peer {
  return { address: ipFromBytes(address).text, port };
}

function flowRow(
  tables: Tables,
  family: Family,
  { key, value }: NatEntry,
  masquerades: ReadonlyMap<string, NatEntry>,
  { timeouts, nowTicks = monotonicTicks() }: FlowOptions,
): FlowRow {
  const idleTicks = (nowTicks - value.lastSeen) | 0;
  const phase = phaseOf(key.protocol, value.state);
  const live = idleTicks < timeouts[phase.timeout];
  const cell = tables.families[family].cells.get(value.backend);
  const held = cell?.generation === value.generation ? cell : undefined;
  const inward = key.direction === Direction.IN;
  const masquerade = inward
    ? masquerades.get(masqueradeId({ ...key, sport: value.peerPort, dst: value.addr, dport: value.port }))
    : undefined;
  return {
    service: tables.services.get(value.service) ?? null,
    family,
    protocol: protocolName(key.protocol),
    client: peer(key.src, key.sport),
    destination: peer(key.dst, key.dport),
    backend: inward ? peer(value.addr, value.port) : peer(key.dst, key.dport),
    cell: value.backend === NO_BACKEND ? null : value.backend,
    generation: value.generation,
    backendPresent: held !== undefined,
    backendState: held === undefined ? "gone" : backendStateName(held.state),
    state: live ? phase.state : "dead",
    live,
    idleSeconds: Math.max(0, Math.round((idleTicks * 2 ** TICK_SHIFT) / 1e9)),
    masqueradedAs: masquerade ? peer(masquerade.value.addr, masquerade.value.port) : null,
    direct: (value.flags & NatFlag.NAT_DIRECT) !== 0,
  };
}

interface Phase {
  readonly state: Exclude<FlowState, "dead">;
  readonly timeout: keyof FlowOptions["timeouts"];
}

const FINS = NatState.FIN_FORWARD | NatState.FIN_REPLY;
const RSTS = NatState.RST_FORWARD | NatState.RST_REPLY;

/** The same decision as ptl_nat_live() in bpf/lib/common.bpf.h. */
function phaseOf(protocol: number, state: number): Phase {
  if (protocol === protocolNumber("UDP")) {
    return state & NatState.SEEN_REPLY
      ? { state: "established", timeout: "timeoutUdpReplied" }
      : { state: "opening", timeout: "timeoutUdpUnreplied" };
  }
  if (state & RSTS || (state & FINS) === FINS) return { state: "closed", timeout: "timeoutTcpClosed" };
  if (!(state & NatState.ESTABLISHED)) return { state: "opening", timeout: "timeoutTcpOpening" };
  if (state & FINS) return { state: "closing", timeout: "timeoutTcpHalfClosed" };
  return { state: "established", timeout: "timeoutTcpEstablished" };
}
