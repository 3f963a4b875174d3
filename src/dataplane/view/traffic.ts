// SPDX-License-Identifier: Apache-2.0
/** What is counted, read at one moment: two of these, some time apart, give rates. Seven FFI calls, whatever the sizes. */
import { viewOf } from "../../abi/codec.js";
import { REASONS, type ReasonName } from "../../abi/enums.gen.js";
import { type Traffic, trafficCodec } from "../../abi/layout.gen.js";
import type { MapName } from "../../abi/maps.gen.js";
import type { KernelReads } from "../../native/kernel.js";
import { FAMILIES, type Family } from "../../net/ip.js";
import { type BackendStateName, backendStateName } from "./backends.js";
import { type Peer, peerOf, type ServiceId } from "./names.js";
import {
  endOf,
  NO_TRAFFIC,
  readCellStats,
  readCells,
  readServiceCounters,
  readServiceIds,
  serviceTraffic,
} from "./tables.js";

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
  const ids = await readServiceIds(kernel);
  const counted = await readServiceCounters(kernel, ids);
  const countsDrops = kernel.names.includes("service_drops") && ids.size > 0;
  const drops = countsDrops ? viewOf((await kernel.dump("service_drops", endOf(ids))).values) : null;
  const services = new Map<number, ServiceCounts>();
  for (const [index, id] of ids) {
    const traffic = serviceTraffic(counted, index);
    if (traffic === null) continue;
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
  const cells = await readCells(kernel, family);
  const stats = await readCellStats(kernel, family, cells);
  for (const [cell, { addr, port, state, generation, service }] of cells) {
    into.set(backendKey(family, cell), {
      family,
      cell,
      generation,
      service,
      peer: peerOf(addr, port),
      state: backendStateName(state),
      traffic: stats.get(cell) ?? NO_TRAFFIC,
    });
  }
}
