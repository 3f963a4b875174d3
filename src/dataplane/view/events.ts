// SPDX-License-Identifier: Apache-2.0
/** Records of the ring buffer `events` as what they mean: whose flow, to which Service, by which backend, and why. Pure. */
import {
  Direction,
  FrontendFlag,
  NatFlag,
  NO_BACKEND,
  NO_SERVICE,
  REASONS,
  type ReasonName,
  Tell,
  Why,
} from "../../abi/enums.gen.js";
import type { FlowEvent } from "../../abi/layout.gen.js";
import { FAMILIES, type Family, ipFromBytes, type Protocol } from "../../net/ip.js";
import type { EventType } from "./event-types.js";
import { type Peer, peerOf, protocolName, type ServiceId, unnamed } from "./names.js";
import type { Tables } from "./tables.js";

/**
 * How a new flow came to its backend. "random", "affinity" (where the client's last one went), "affinity-new" (bound now);
 * "local" (traffic policy Local), "short-circuit" (a sender of this node's gets the Cluster set of a Local one, 4.12);
 * "masquerade" (it will be given an address of the node).
 */
export type WhyName = "random" | "affinity" | "affinity-new" | "local" | "short-circuit" | "masquerade";

export interface EventBackend extends Peer {
  /** Null: not known. */
  readonly cell: number | null;
  readonly generation: number;
}

export interface EventView {
  /** ns of CLOCK_MONOTONIC. */
  readonly time: bigint;
  readonly type: EventType;
  readonly reason: ReasonName | "";
  readonly family: Family;
  readonly protocol: Protocol | "ICMP" | "";
  readonly hook: "ingress" | "egress" | "socket";
  /** 0 for a socket. */
  readonly ifindex: number;
  readonly service: ServiceId | null;
  /** Null: a socket that is not bound, or a packet that does not tell. */
  readonly client: Peer | null;
  /** What the client asked for. */
  readonly destination: Peer | null;
  readonly backend: EventBackend | null;
  /** The client's address as the backend sees it, where this packet shows it. */
  readonly seenAs: Peer | null;
  /** The packet runs from the backend to the client. */
  readonly reply: boolean;
  readonly why: readonly WhyName[];
  /** Of the packet, its link header included; 0 for a socket. */
  readonly bytes: number;
  /** TCP's flags byte. */
  readonly tcpFlags: number;
  /** The socket's, as `ss -e` shows it; null for a packet. */
  readonly cookie: bigint | null;
}

const TYPES: ReadonlyMap<number, EventType> = new Map([
  [Tell.NEW, "new"],
  [Tell.TRANSLATED, "translated"],
  [Tell.REJECTED, "rejected"],
  [Tell.DROPPED, "dropped"],
  [Tell.GONE, "gone"],
]);

/** The bits of enum ptl_tell for some types. */
export function kindsOf(types: Iterable<EventType>): number {
  const wanted = new Set(types);
  let bits = 0;
  for (const [bit, type] of TYPES) if (wanted.has(type)) bits |= bit;
  return bits;
}

const ICMP_PROTOCOLS: readonly number[] = [1, 58];

/** Finds the Service of a record; null when none is known. */
export type FindService = (event: FlowEvent) => ServiceId | null;

/** Who is who in a record: the roles depend on the hook, and on which half of which pair of nat entries was met. */
function rolesOf(
  event: FlowEvent,
): Pick<EventView, "client" | "destination" | "backend" | "seenAs" | "reply"> {
  const { direction, natFlags, sport, dport, port, generation } = event;
  const peer = (bytes: Uint8Array, at: number): Peer =>
    peerOf(event.family === 4 ? bytes.subarray(0, 4) : bytes, at);
  const [src, dst, to] = [peer(event.src, sport), peer(event.dst, dport), peer(event.addr, port)];
  const cell = event.backend === NO_BACKEND ? null : event.backend;
  const backend = (at: Peer): EventBackend => ({ ...at, cell, generation });
  const reply = (natFlags & NatFlag.NAT_REPLY) !== 0;
  const inward = direction === Direction.IN;
  if (isZero(event.addr)) {
    const client = isZero(event.src) ? null : src;
    return { client, destination: dst, backend: null, seenAs: null, reply };
  }
  if (natFlags & NatFlag.NAT_MASQUERADE) {
    if (inward) return { client: to, destination: null, backend: backend(src), seenAs: dst, reply };
    const seenAs = natFlags & NatFlag.NAT_PENDING ? null : to;
    return { client: src, destination: null, backend: backend(dst), seenAs, reply };
  }
  if (reply) return { client: dst, destination: to, backend: backend(src), seenAs: null, reply };
  const client = isZero(event.src) ? null : src;
  return { client, destination: dst, backend: backend(to), seenAs: null, reply };
}

function whyOf({ kind, why, frontendFlags: flags, natFlags }: FlowEvent): WhyName[] {
  if (kind !== Tell.NEW) return [];
  const names: WhyName[] = [];
  if (why & Why.AFFINITY_KEPT) names.push("affinity");
  else names.push(why & Why.AFFINITY_BOUND ? "affinity-new" : "random");
  const inside = (why & Why.INSIDE) !== 0;
  const local = inside ? FrontendFlag.FRONTEND_INTERNAL_LOCAL : FrontendFlag.FRONTEND_EXTERNAL_LOCAL;
  if (flags & local) names.push("local");
  const shortCircuit = inside && !(flags & FrontendFlag.FRONTEND_CLUSTER_IP) && !(flags & local);
  if (shortCircuit && flags & FrontendFlag.FRONTEND_EXTERNAL_LOCAL) names.push("short-circuit");
  if (natFlags & NatFlag.NAT_ASKED) names.push("masquerade");
  return names;
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

/** A record decoded. */
export function eventView(event: FlowEvent, findService: FindService): EventView {
  const { time, cookie, reason, family, protocol, direction, ifindex, length, tcpFlags } = event;
  const hook = cookie !== 0n ? "socket" : direction === Direction.IN ? "ingress" : "egress";
  return {
    time,
    type: TYPES.get(event.kind) ?? "dropped",
    reason: REASONS.find(({ id }) => id === reason)?.name ?? "",
    family: family === 4 ? 4 : 6,
    protocol: ICMP_PROTOCOLS.includes(protocol) ? "ICMP" : protocolName(protocol),
    hook,
    ifindex,
    service: findService(event),
    ...rolesOf(event),
    why: whyOf(event),
    bytes: length,
    tcpFlags,
    cookie: cookie === 0n ? null : cookie,
  };
}

/** Whether a record names a Service, or a backend, that these tables do not have: they are older than it. */
export function isNews({ services }: Tables, { service }: FlowEvent): boolean {
  return service !== NO_SERVICE && !services.has(service);
}

/**
 * Finds Services by index; and what was refused before a Service was known by the frontend that has its destination, or
 * (a port that no Service port has, 6.13) by the address alone.
 */
export function serviceFinder(tables: Tables): FindService {
  const byFrontend = new Map<string, number>();
  const byAddress = new Map<string, number>();
  for (const family of FAMILIES) {
    for (const { address, port, service } of tables.families[family].frontends) {
      const protocol = tables.services.get(service)?.protocol ?? "";
      byFrontend.set(`${address} ${port} ${protocol}`, service);
      if (!byAddress.has(address)) byAddress.set(address, service);
    }
  }
  return ({ service, family, dst, dport, protocol }) => {
    if (service !== NO_SERVICE) return tables.services.get(service) ?? unnamed(service);
    const { text } = ipFromBytes(family === 4 ? dst.subarray(0, 4) : dst);
    const index = byFrontend.get(`${text} ${dport} ${protocolName(protocol)}`);
    if (index !== undefined) return tables.services.get(index) ?? null;
    const id = tables.services.get(byAddress.get(text) ?? -1);
    return id === undefined ? null : { ...id, portName: "", protocol: protocolName(protocol) };
  };
}
