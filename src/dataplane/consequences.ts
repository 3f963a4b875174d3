// SPDX-License-Identifier: Apache-2.0
/** What a transaction does to those who are there already: flows, clients with session affinity, and the room in the maps. */
import type { MapName } from "../abi/maps.gen.js";
import type { MemoryKernel } from "../native/memory.js";
import { FAMILIES, type Family } from "../net/ip.js";
import { type FlowOptions, findFlows, type NatReads, readTables, type Tables } from "./view.js";
import { readAffinity } from "./view-affinity.js";

/** Flows whose backend is not what it was. "gone": it leaves every slice. "draining": it stays in one, and does not serve. */
export interface LostFlows {
  readonly service: string;
  readonly protocol: string;
  readonly backend: "gone" | "draining";
  flows: number;
}

/** Clients that keep their backend now, and are given one anew by their next connection. */
export interface LostClients {
  readonly service: string;
  clients: number;
}

export interface MapUse {
  readonly map: MapName;
  readonly before: number;
  readonly after: number;
  readonly maxEntries: number;
}

export interface Consequences {
  readonly flows: readonly LostFlows[];
  readonly clients: readonly LostClients[];
  /** Maps of which more or less is used. */
  readonly maps: readonly MapUse[];
}

/**
 * `source`: where the flows and clients are; null: there are none. `before` and `after`: the maps that Services are written
 * to. Reads in bounded memory.
 */
export async function consequencesOf(
  source: NatReads | null,
  before: MemoryKernel,
  after: MemoryKernel,
  options: FlowOptions & { readonly nowNs: bigint },
): Promise<Consequences> {
  const [was, is] = [await readTables(before), await readTables(after)];
  return {
    flows: source === null ? [] : await lostFlows(source, was, is, options),
    clients: source === null ? [] : await lostClients(source, was, is, options.nowNs),
    maps: mapUses(before, was, after, is),
  };
}

async function lostFlows(
  source: NatReads,
  was: Tables,
  is: Tables,
  options: FlowOptions,
): Promise<LostFlows[]> {
  const lost = new Map<string, LostFlows>();
  for await (const { row } of findFlows(source, was, options)) {
    const { live, cell, generation, backendState, family, service, protocol } = row;
    if (!live || cell === null || backendState === "gone") continue;
    const now = is.families[family].cells.get(cell);
    const kept = now?.generation === generation;
    const same = kept && now.state === was.families[family].cells.get(cell)?.state;
    if (same) continue;
    const name = service === null ? "" : `${service.namespace}/${service.name}`;
    const backend = kept ? "draining" : "gone";
    const key = `${name} ${protocol} ${backend}`;
    const count = lost.get(key) ?? { service: name, protocol, backend, flows: 0 };
    count.flows += 1;
    lost.set(key, count);
  }
  // Flows come in no order.
  const byName = Array.from(lost.entries()).sort(([a], [b]) => (a < b ? -1 : 1));
  return byName.map(([, count]) => count).sort((a, b) => b.flows - a.flows);
}

async function lostClients(source: NatReads, was: Tables, is: Tables, nowNs: bigint): Promise<LostClients[]> {
  const after = new Map(
    (await readAffinity(source, is, { nowNs })).map((row) => [
      `${row.service.index} ${row.family} ${row.client}`,
      row.state,
    ]),
  );
  const lost = new Map<string, LostClients>();
  for (const { service, family, client, state } of await readAffinity(source, was, { nowNs })) {
    if (state !== "valid" || after.get(`${service.index} ${family} ${client}`) === "valid") continue;
    const name = `${service.namespace}/${service.name}`;
    const count = lost.get(name) ?? { service: name, clients: 0 };
    count.clients += 1;
    lost.set(name, count);
  }
  const byName = Array.from(lost.values()).sort((a, b) => (a.service < b.service ? -1 : 1));
  return byName.sort((a, b) => b.clients - a.clients);
}

function mapUses(before: MemoryKernel, was: Tables, after: MemoryKernel, is: Tables): MapUse[] {
  const uses: MapUse[] = [];
  const use = (map: MapName, a: number, b: number): void => {
    if (a !== b) uses.push({ map, before: a, after: b, maxEntries: after.info(map).maxEntries });
  };
  for (const family of FAMILIES) {
    for (const map of ["frontends", "addresses", "source_ranges", "service_nets"] as const)
      use(`${map}${family}`, before.size(`${map}${family}`), after.size(`${map}${family}`));
    use(`backends${family}`, was.families[family].cells.size, is.families[family].cells.size);
    use(`slots${family}`, usedSlots(was, family), usedSlots(is, family));
  }
  use("services", before.size("services"), after.size("services"));
  return uses;
}

/** Frontends of a service port share their ranges. */
function usedSlots({ families }: Tables, family: Family): number {
  const ranges = new Map<number, number>();
  for (const { internal, external } of families[family].frontends)
    for (const { base, count } of [internal, external]) if (count > 0) ranges.set(base, count);
  return Array.from(ranges.values()).reduce((sum, count) => sum + count, 0);
}
