// SPDX-License-Identifier: Apache-2.0
/** The cells in use, one row for each. */
import { BackendFlag, BackendState } from "../../abi/enums.gen.js";
import type { ChoiceWord } from "../../abi/hash.js";
import type { Traffic } from "../../abi/layout.gen.js";
import { FAMILIES, type Family, ipFromBytes } from "../../net/ip.js";
import { compareServices, compareText, type ServiceId, unnamed } from "./names.js";
import { type FamilyTables, NO_TRAFFIC, type SetName, type Tables } from "./tables.js";

/** What a backend's endpoint is (9.3): it serves, or it is still in a slice and does not. */
export type BackendStateName = "live" | "draining";

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

/** By cell. */
export function backendRows(tables: Tables, family: Family): Map<number, BackendRow> {
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

export function backendStateName(state: number): BackendStateName {
  return state === BackendState.BACKEND_LIVE ? "live" : "draining";
}

/** By enum ptl_backend_flag. */
export function setsOf(flags: number): SetName[] {
  const sets: SetName[] = [];
  if (flags & BackendFlag.BACKEND_CLUSTER_SET) sets.push("cluster");
  if (flags & BackendFlag.BACKEND_LOCAL_SET) sets.push("local");
  return sets;
}

/** The cells that a choice word names, one for each slot. */
export function cellsOf({ slots }: FamilyTables, { base, count }: ChoiceWord): number[] {
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
