// SPDX-License-Identifier: Apache-2.0
/** What is counted, read at one moment: two of these, some time apart, give rates. Seven FFI calls, whatever the sizes. */
import { viewOf } from "../../abi/codec.js";
import { BackendState, Counters, REASONS, type ReasonName } from "../../abi/enums.gen.js";
import { FAMILY_CODECS, serviceNameCodec, type Traffic, trafficCodec } from "../../abi/layout.gen.js";
import type { MapName } from "../../abi/maps.gen.js";
import type { KernelReads } from "../../native/kernel.js";
import { FAMILIES, type Family, ipFromBytes } from "../../net/ip.js";
import { type BackendStateName, backendStateName } from "./backends.js";
import { entries } from "./entries.js";
import { type Peer, protocolName, type ServiceId } from "./names.js";

/** Figures since the maps were made; of a service port all its frontends together. */
export interface ServiceCounts {
  readonly id: ServiceId;
  readonly traffic: Traffic;
  /** New flows that got no backend; null: these maps do not count them. */
  readonly drops: bigint | null;
}

export interface BackendCounts {
  readonly family: Family;
  readonly cell: number;
  readonly generation: number;
  /** Service index. */
  readonly service: number;
  readonly peer: Peer;
  readonly state: BackendStateName;
  readonly traffic: Traffic;
}

export interface TrafficReading {
  /** Milliseconds of a clock that never goes back. */
  readonly at: number;
  /** By service index. */
  readonly services: ReadonlyMap<number, ServiceCounts>;
  /** By backendKey(). */
  readonly backends: ReadonlyMap<string, BackendCounts>;
  /** Packets, by reason. */
  readonly reasons: ReadonlyMap<ReasonName, bigint>;
}

/** The maps, and which of them there are: those of an older agent lack some. */
export interface NamedReads extends KernelReads {
  readonly names: readonly MapName[];
}

/** Names a cell: `4:17`. */
export const backendKey = (family: Family, cell: number): string => `${family}:${cell}`;

/** Reads everything once. `now`: monotonic milliseconds. */
export async function readTraffic(kernel: NamedReads, now: () => number): Promise<TrafficReading> {
  const at = now();
  const services = new Map<number, ServiceCounts>();
  const names = new Map<number, ServiceId>();
  for await (const { key, value, keyAt, valueAt } of entries(kernel, "services")) {
    const index = key.getUint32(keyAt, true);
    const { namespaceName, name, portName, protocol } = serviceNameCodec.decodeFrom(value, valueAt);
    names.set(index, { index, namespace: namespaceName, name, portName, protocol: protocolName(protocol) });
  }
  const end = Math.max(-1, ...names.keys()) + 1;
  const counted = viewOf((await kernel.dump("counters", Counters.SERVICE_BASE + end)).values);
  const countsDrops = kernel.names.includes("service_drops") && end > 0;
  const drops = countsDrops ? viewOf((await kernel.dump("service_drops", end)).values) : null;
  for (const [index, id] of names) {
    const offset = (Counters.SERVICE_BASE + index) * trafficCodec.size;
    if (offset + trafficCodec.size > counted.byteLength) continue;
    const traffic = trafficCodec.decodeFrom(counted, offset);
    services.set(index, { id, traffic, drops: drops?.getBigUint64(index * 8, true) ?? null });
  }
  const reasons = new Map(
    REASONS.map(({ id, name }) => [name, trafficCodec.decodeFrom(counted, id * trafficCodec.size).packets]),
  );
  const backends = new Map<string, BackendCounts>();
  for (const family of FAMILIES) await readBackends(kernel, family, backends);
  return { at, services, backends, reasons };
}

async function readBackends(
  kernel: KernelReads,
  family: Family,
  into: Map<string, BackendCounts>,
): Promise<void> {
  const { backend } = FAMILY_CODECS[family];
  const stateAt = backend.offsets.state as number;
  const found: Omit<BackendCounts, "traffic">[] = [];
  for await (const { value, valueAt } of entries(kernel, `backends${family}`)) {
    if (value.getUint8(valueAt + stateAt) === BackendState.BACKEND_FREE) continue;
    const { addr, port, state, generation, service } = backend.decodeFrom(value, valueAt);
    const peer = { address: ipFromBytes(addr).text, port };
    const cell = valueAt / backend.size;
    found.push({ family, cell, generation, service, peer, state: backendStateName(state) });
  }
  const end = (found.at(-1)?.cell ?? -1) + 1;
  if (end === 0) return;
  const counted = viewOf((await kernel.dump(`backend_stats${family}`, end)).values);
  for (const each of found) {
    const traffic = trafficCodec.decodeFrom(counted, each.cell * trafficCodec.size);
    into.set(backendKey(family, each.cell), { ...each, traffic });
  }
}
