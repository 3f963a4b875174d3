// SPDX-License-Identifier: Apache-2.0
/** The translated flows, one row for each. */
import { Direction, NatFlag, NatState, NO_BACKEND, TICK_SHIFT } from "../../abi/enums.gen.js";
import { FAMILY_CODECS, type NatKey4, type NatValue4, type PtlConfig } from "../../abi/layout.gen.js";
import type { KernelReads } from "../../native/kernel.js";
import { type Family, ipFromBytes, type Protocol } from "../../net/ip.js";
import { protocolNumber } from "../../net/port.js";
import { type BackendStateName, backendStateName } from "./backends.js";
import { entries } from "./entries.js";
import { type Peer, protocolName, type ServiceId } from "./names.js";
import type { Tables } from "./tables.js";

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
