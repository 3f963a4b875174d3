// SPDX-License-Identifier: Apache-2.0
/** From two readings of the counters to what happened in between, a second. Pure. */
import type { ReasonName } from "../../../abi/enums.gen.js";
import type { Traffic } from "../../../abi/layout.gen.js";
import {
  type ActiveFlows,
  type BackendCounts,
  type ServiceId,
  serviceKey,
  type TrafficReading,
} from "../../../dataplane/view.js";

/** Per second. Null: not known, as of what has just appeared. */
export interface Rates {
  readonly flows: number | null;
  readonly packets: number | null;
  readonly bytes: number | null;
  /** New flows that got no backend; null for a backend: they never came that far. */
  readonly drops: number | null;
}

export interface ServiceLine {
  readonly id: ServiceId;
  readonly rates: Rates;
  /** Live flows; null: they have not been counted yet. */
  readonly active: number | null;
}

export interface BackendLine {
  readonly id: ServiceId;
  readonly backend: Pick<BackendCounts, "family" | "cell" | "generation" | "peer" | "state">;
  readonly rates: Rates;
  readonly active: number | null;
}

export interface DropLine {
  readonly reason: ReasonName;
  /** Packets a second. */
  readonly perSecond: number;
}

/** One interval. */
export interface Interval {
  readonly seconds: number;
  readonly services: readonly ServiceLine[];
  readonly backends: readonly BackendLine[];
  /** Of the whole node; what did not happen is left out. */
  readonly refused: readonly DropLine[];
  readonly totals: Rates;
  readonly active: number | null;
}

/** A Service, or a service port of it, is shown when this says so. */
export type IsWanted = (id: ServiceId) => boolean;

const UNKNOWN: Rates = { flows: null, packets: null, bytes: null, drops: null };
const REFUSALS: ReadonlySet<ReasonName> = new Set<ReasonName>([
  "no_backend",
  "no_port",
  "vip_untranslated",
  "policy_local",
  "redirect_translated_flow",
  "source_port_exhausted",
  "masquerade_no_address",
  "nat_insert_failed",
  "backend_unreadable",
  "rewrite_failed",
  "reject_failed",
  "source_range",
  "service_address_unused",
  "backend_removed",
  "socket_refused",
  "loopback_from_outside",
]);

/**
 * What happened between two readings. An index or a cell that another service port has now begins without rates; a counter
 * that went back began anew, and what it shows has happened since.
 */
export function intervalOf(
  before: TrafficReading,
  after: TrafficReading,
  active: ActiveFlows | null,
  isWanted: IsWanted,
): Interval {
  const seconds = (after.at - before.at) / 1000;
  const services: ServiceLine[] = [];
  for (const [index, { id, traffic, drops }] of after.services) {
    if (!isWanted(id)) continue;
    const old = before.services.get(index);
    const known = old !== undefined && serviceKey(old.id) === serviceKey(id);
    const rates = known ? trafficRates(old.traffic, traffic, seconds) : UNKNOWN;
    const dropped = known && drops !== null && old.drops !== null ? rate(old.drops, drops, seconds) : null;
    const count = active === null ? null : (active.services.get(index) ?? 0);
    services.push({ id, rates: { ...rates, drops: dropped }, active: count });
  }
  const backends = backendLines(before, after, active, isWanted, seconds);
  return {
    seconds,
    services,
    backends,
    refused: refusals(before, after, seconds),
    totals: totalOf(services.map(({ rates }) => rates)),
    active: active === null ? null : sum(services.map((line) => line.active)),
  };
}

function backendLines(
  before: TrafficReading,
  after: TrafficReading,
  active: ActiveFlows | null,
  isWanted: IsWanted,
  seconds: number,
): BackendLine[] {
  const lines: BackendLine[] = [];
  for (const [key, counts] of after.backends) {
    const service = after.services.get(counts.service);
    if (service === undefined || !isWanted(service.id)) continue;
    const old = before.backends.get(key);
    const same = old?.generation === counts.generation && old.service === counts.service;
    const rates = same ? trafficRates(old.traffic, counts.traffic, seconds) : UNKNOWN;
    const { family, cell, generation, peer, state } = counts;
    const count = active === null ? null : (active.backends.get(key) ?? 0);
    lines.push({ id: service.id, backend: { family, cell, generation, peer, state }, rates, active: count });
  }
  return lines;
}

function refusals(before: TrafficReading, after: TrafficReading, seconds: number): DropLine[] {
  const lines: DropLine[] = [];
  for (const [reason, packets] of after.reasons) {
    if (!REFUSALS.has(reason)) continue;
    const perSecond = rate(before.reasons.get(reason) ?? 0n, packets, seconds);
    if (perSecond > 0) lines.push({ reason, perSecond });
  }
  return lines.sort((a, b) => b.perSecond - a.perSecond || (a.reason < b.reason ? -1 : 1));
}

function rate(before: bigint, after: bigint, seconds: number): number {
  if (seconds <= 0) return 0;
  return Number(after >= before ? after - before : after) / seconds;
}

function trafficRates(before: Traffic, after: Traffic, seconds: number): Rates {
  return {
    flows: rate(before.flows, after.flows, seconds),
    packets: rate(before.packets, after.packets, seconds),
    bytes: rate(before.bytes, after.bytes, seconds),
    drops: null,
  };
}

/** Null when there is nothing known to add up. */
function sum(values: readonly (number | null)[]): number | null {
  const known = values.filter((value) => value !== null);
  return known.length === 0 && values.length > 0 ? null : known.reduce((total, value) => total + value, 0);
}

function totalOf(rates: readonly Rates[]): Rates {
  return {
    flows: sum(rates.map(({ flows }) => flows)),
    packets: sum(rates.map(({ packets }) => packets)),
    bytes: sum(rates.map(({ bytes }) => bytes)),
    drops: sum(rates.map(({ drops }) => drops)),
  };
}
