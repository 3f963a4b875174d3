// SPDX-License-Identifier: Apache-2.0
/** What the agent writes, read once and joined: names, frontends, slots, cells, source ranges; and what is counted of them. */
import { viewOf } from "../../abi/codec.js";
import { AddressClass, BackendState, Counters, FrontendFlag } from "../../abi/enums.gen.js";
import { type ChoiceWord, decodeChoice } from "../../abi/hash.js";
import {
  type Backend4,
  FAMILY_CODECS,
  frontendCodec,
  serviceNameCodec,
  type Traffic,
  trafficCodec,
} from "../../abi/layout.gen.js";
import type { KernelReads } from "../../native/kernel.js";
import { cidrOf } from "../../net/cidr.js";
import { compareIp, FAMILIES, type Family, type IpAddress, ipFromBytes } from "../../net/ip.js";
import { CHUNK, entries, FIRST } from "./entries.js";
import { compareText, protocolName, type ServiceId } from "./names.js";

/** Section 4's two sets of endpoints. */
export type SetName = "cluster" | "local";

export interface FrontendEntry {
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

export interface FamilyTables {
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

export const NO_TRAFFIC: Traffic = { flows: 0n, packets: 0n, bytes: 0n };

/** Reads everything but what the kernel programs write (`nat`, `affinity`, …) and `addresses`. Rejects with what the kernel's maps reject with. */
export async function readTables(kernel: KernelReads): Promise<Tables> {
  const services = await readServiceIds(kernel);
  const counted = await readServiceCounters(kernel, services);
  const traffic = new Map<number, Traffic>();
  for (const index of services.keys()) {
    const counts = serviceTraffic(counted, index);
    if (counts !== null) traffic.set(index, counts);
  }
  const four = await readFamily(kernel, 4);
  const six = await readFamily(kernel, 6);
  return { services, traffic, families: { 4: four, 6: six } };
}

/** The map `services`, by service index. */
export async function readServiceIds(kernel: KernelReads): Promise<Map<number, ServiceId>> {
  const services = new Map<number, ServiceId>();
  for await (const { key, value, keyAt, valueAt } of entries(kernel, "services")) {
    const index = key.getUint32(keyAt, true);
    const {
      namespaceName: namespace,
      name,
      portName,
      protocol,
    } = serviceNameCodec.decodeFrom(value, valueAt);
    services.set(index, { index, namespace, name, portName, protocol: protocolName(protocol) });
  }
  return services;
}

/** One above the last index; 0: there is none. */
export function endOf(byIndex: ReadonlyMap<number, unknown>): number {
  let end = 0;
  for (const index of byIndex.keys()) end = Math.max(end, index + 1);
  return end;
}

/** The values of the map `counters` as far as these service ports have theirs. */
export async function readServiceCounters(
  kernel: KernelReads,
  services: ReadonlyMap<number, unknown>,
): Promise<DataView> {
  return viewOf((await kernel.dump("counters", Counters.SERVICE_BASE + endOf(services))).values);
}

/** Null: the index lies outside of `counters`. */
export function serviceTraffic(counters: DataView, index: number): Traffic | null {
  const at = (Counters.SERVICE_BASE + index) * trafficCodec.size;
  return at + trafficCodec.size <= counters.byteLength ? trafficCodec.decodeFrom(counters, at) : null;
}

/** Cells in use, live and draining, ascending. */
export async function readCells(kernel: KernelReads, family: Family): Promise<Map<number, Backend4>> {
  const { backend } = FAMILY_CODECS[family];
  const stateAt = backend.offsets.state as number;
  const cells = new Map<number, Backend4>();
  let first = 0;
  // Not entry by entry: an array has all of its 131,072 cells, and most are free.
  for await (const { count, values } of kernel.dumpChunks(`backends${family}`, CHUNK, undefined, FIRST)) {
    const view = viewOf(values);
    for (let i = 0; i < count; i += 1) {
      const at = i * backend.size;
      if (view.getUint8(at + stateAt) !== BackendState.BACKEND_FREE)
        cells.set(first + i, backend.decodeFrom(view, at));
    }
    first += count;
  }
  return cells;
}

/** What is counted of these cells. */
export async function readCellStats(
  kernel: KernelReads,
  family: Family,
  cells: ReadonlyMap<number, unknown>,
): Promise<Map<number, Traffic>> {
  const stats = new Map<number, Traffic>();
  if (cells.size === 0) return stats;
  const counted = viewOf((await kernel.dump(`backend_stats${family}`, endOf(cells))).values);
  for (const cell of cells.keys())
    stats.set(cell, trafficCodec.decodeFrom(counted, cell * trafficCodec.size));
  return stats;
}

async function readFamily(kernel: KernelReads, family: Family): Promise<FamilyTables> {
  const { addrPort } = FAMILY_CODECS[family];
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
  const cells = await readCells(kernel, family);
  return {
    frontends,
    slots: viewOf(slots),
    cells,
    stats: await readCellStats(kernel, family, cells),
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
