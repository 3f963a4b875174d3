// SPDX-License-Identifier: Apache-2.0
/** How many flows are alive, counted in passing: no entry of `nat` is kept, so half a million cost no more memory than one piece. */
import { viewOf } from "../../abi/codec.js";
import { Direction, NatFlag } from "../../abi/enums.gen.js";
import { FAMILY_CODECS } from "../../abi/layout.gen.js";
import type { KernelReads, MapDump } from "../../native/kernel.js";
import { FAMILIES, type Family } from "../../net/ip.js";
import { inSlices, type Sliced } from "../../util/slices.js";
import { phaseOf } from "./flow-state.js";
import type { FlowOptions } from "./flows.js";
import { backendKey } from "./traffic.js";

export interface ActiveFlows {
  readonly total: number;
  /** By service index. */
  readonly services: ReadonlyMap<number, number>;
  /** By backendKey(); flows of a backend that has gone are under the cell that it had. */
  readonly backends: ReadonlyMap<string, number>;
}

/** Entries of one FFI call: half a million in four calls, and 11 MB of IPv6 at a time. */
const CHUNK = 131_072;
/** Entries looked at between two chances to pause. */
const STRIDE = 1024;

interface Counts {
  total: number;
  readonly services: Map<number, number>;
  readonly backends: Map<string, number>;
}

/** Counts the live flows from a client to a Service. One FFI call for each 131,072 entries of a family, rounded up. */
export async function countActiveFlows(
  kernel: KernelReads,
  { timeouts, nowTicks }: Required<FlowOptions>,
): Promise<ActiveFlows> {
  const counts: Counts = { total: 0, services: new Map(), backends: new Map() };
  for (const family of FAMILIES) {
    const cells = new Map<number, number>();
    for await (const dump of kernel.dumpChunks(`nat${family}`, CHUNK))
      await inSlices(countIn(dump, family, counts, cells, { timeouts, nowTicks }));
    for (const [cell, count] of cells) counts.backends.set(backendKey(family, cell), count);
  }
  return counts;
}

/** Entries that are no packets' from a client to a Service. */
const OTHERS = NatFlag.NAT_REPLY | NatFlag.NAT_MASQUERADE | NatFlag.NAT_DIRECT;

function* countIn(
  dump: MapDump,
  family: Family,
  counts: Counts,
  cells: Map<number, number>,
  { timeouts, nowTicks }: Required<FlowOptions>,
): Sliced<void> {
  const { natKey, natValue } = FAMILY_CODECS[family];
  const [keys, values] = [viewOf(dump.keys), viewOf(dump.values)];
  const at = (offsets: Readonly<Record<string, number>>, field: string): number => offsets[field] as number;
  const protocol = at(natKey.offsets, "protocol");
  const direction = at(natKey.offsets, "direction");
  const [flags, state] = [at(natValue.offsets, "flags"), at(natValue.offsets, "state")];
  const [seen, service, backend] = ["lastSeen", "service", "backend"].map((field) =>
    at(natValue.offsets, field),
  ) as [number, number, number];
  for (let i = 0; i < dump.count; i += 1) {
    if (i % STRIDE === STRIDE - 1) yield;
    const [key, value] = [i * natKey.size, i * natValue.size];
    if (keys.getUint8(key + direction) !== Direction.IN) continue;
    if (values.getUint16(value + flags, true) & OTHERS) continue;
    const { timeout } = phaseOf(keys.getUint8(key + protocol), values.getUint16(value + state, true));
    if (((nowTicks - values.getUint32(value + seen, true)) | 0) >= timeouts[timeout]) continue;
    counts.total += 1;
    add(counts.services, values.getUint32(value + service, true));
    add(cells, values.getUint32(value + backend, true));
  }
}

function add(counts: Map<number, number>, key: number): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}
