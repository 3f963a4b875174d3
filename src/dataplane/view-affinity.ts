// SPDX-License-Identifier: Apache-2.0
/**
 * Session affinity as the kernel programs remember it (section 5): which backend a client's next flow goes to.
 *
 *   readAffinity(kernel, tables, { nowNs? }) -> Promise<AffinityRow[]>   one row for each client of a service port
 */
import { BackendFlag, BackendState } from "../abi/enums.gen.js";
import { type Affinity, affinityCodec, type Backend4, FAMILY_CODECS } from "../abi/layout.gen.js";
import type { KernelReads } from "../native/kernel.js";
import { FAMILIES, type Family, ipFromBytes } from "../net/ip.js";
import {
  compareServices,
  compareText,
  entries,
  type Peer,
  type ServiceId,
  type Tables,
  unnamed,
} from "./view.js";

/**
 * "valid": the client's next flow goes there. Otherwise it is given a backend anew, because
 * "expired": its last new flow is too long ago (5.5); "gone": the backend has left every slice (5.7); "draining": it does
 * not serve; "unchosen": no frontend of the service port offers the set that it is in (5.3); "off": the service port has
 * no session affinity (5.10).
 */
export type AffinityState = "valid" | "expired" | "gone" | "draining" | "unchosen" | "off";

export interface AffinityRow {
  readonly service: ServiceId;
  readonly family: Family;
  /** As seen before any masquerading (5.1). */
  readonly client: string;
  /** Null when it is gone: its cell is free, or another backend's. */
  readonly backend: Peer | null;
  readonly cell: number;
  readonly generation: number;
  /** Seconds since the client's last new flow. */
  readonly ageSeconds: number;
  /** 0: no session affinity. */
  readonly timeoutSeconds: number;
  readonly state: AffinityState;
}

/** What the frontends of a service port ask of a remembered backend. */
interface Demand {
  timeoutSeconds: number;
  /** Bits of BackendFlag: the sets that they offer. */
  sets: number;
}

export interface AffinityOptions {
  /** CLOCK_MONOTONIC in nanoseconds; default: now. A function is asked after the maps have been read. */
  readonly nowNs?: bigint | (() => bigint);
}

/** Every remembered client, sorted by service, family and client. Rejects with what the kernel's maps reject with. */
export async function readAffinity(
  kernel: KernelReads,
  tables: Tables,
  { nowNs }: AffinityOptions = {},
): Promise<AffinityRow[]> {
  const rows: AffinityRow[] = [];
  const now = typeof nowNs === "function" ? nowNs : () => nowNs ?? process.hrtime.bigint();
  for (const family of FAMILIES) {
    const { affinityKey } = FAMILY_CODECS[family];
    const demands = demandsOf(tables, family);
    for await (const { key, value, keyAt, valueAt } of entries(kernel, `affinity${family}`)) {
      const { client, service } = affinityKey.decodeFrom(key, keyAt);
      const remembered = affinityCodec.decodeFrom(value, valueAt);
      // Read after the dump: no entry of it can be from the future.
      const age = now() - remembered.lastNew;
      const demand = demands.get(service) ?? { timeoutSeconds: 0, sets: 0 };
      rows.push(affinityRow(tables, family, { client, service, remembered, age, demand }));
    }
  }
  return rows.sort(
    (a, b) => compareServices(a.service, b.service) || a.family - b.family || compareText(a.client, b.client),
  );
}

function demandsOf(tables: Tables, family: Family): Map<number, Demand> {
  const demands = new Map<number, Demand>();
  for (const { service, affinitySeconds, internalSet, externalSet } of tables.families[family].frontends) {
    const sets = SET_FLAGS[internalSet] | SET_FLAGS[externalSet];
    const before = demands.get(service) ?? { timeoutSeconds: 0, sets: 0 };
    const timeoutSeconds = Math.max(before.timeoutSeconds, affinitySeconds);
    demands.set(service, { timeoutSeconds, sets: before.sets | sets });
  }
  return demands;
}

const SET_FLAGS = {
  cluster: BackendFlag.BACKEND_CLUSTER_SET,
  local: BackendFlag.BACKEND_LOCAL_SET,
} as const;

interface Entry {
  readonly client: Uint8Array;
  readonly service: number;
  readonly remembered: Affinity;
  /** Nanoseconds. */
  readonly age: bigint;
  readonly demand: Demand;
}

function affinityRow(tables: Tables, family: Family, entry: Entry): AffinityRow {
  const { client, service, remembered, age, demand } = entry;
  const { backend: cell, generation } = remembered;
  const found = tables.families[family].cells.get(cell);
  const held = found?.generation === generation && found.service === service ? found : undefined;
  return {
    service: tables.services.get(service) ?? unnamed(service),
    family,
    client: ipFromBytes(client).text,
    backend: held === undefined ? null : { address: ipFromBytes(held.addr).text, port: held.port },
    cell,
    generation,
    ageSeconds: Math.max(0, Math.floor(Number(age) / 1e9)),
    timeoutSeconds: demand.timeoutSeconds,
    state: stateOf(held, age, demand),
  };
}

/** The same decision as affinity_recall() in bpf/lib/affinity.bpf.h, for all frontends of the service port together. */
function stateOf(held: Backend4 | undefined, age: bigint, { timeoutSeconds, sets }: Demand): AffinityState {
  if (timeoutSeconds === 0) return "off";
  if (held === undefined) return "gone";
  if (age >= BigInt(timeoutSeconds) * 1_000_000_000n) return "expired";
  if (held.state !== BackendState.BACKEND_LIVE) return "draining";
  return held.flags & sets ? "valid" : "unchosen";
}
