// SPDX-License-Identifier: Apache-2.0
/** The frontends with what they offer, one row for each. */
import { Empty, FrontendFlag } from "../../abi/enums.gen.js";
import type { ChoiceWord } from "../../abi/hash.js";
import type { Traffic } from "../../abi/layout.gen.js";
import type { Masquerade } from "../../model/masquerade.js";
import { FAMILIES, type Family } from "../../net/ip.js";
import { masqueradeOf } from "../keys.js";
import { type BackendRow, backendRows, cellsOf } from "./backends.js";
import { compareServices, compareText, type ServiceId, unnamed } from "./names.js";
import { type FamilyTables, type FrontendEntry, NO_TRAFFIC, type SetName, type Tables } from "./tables.js";

export interface ChoiceView {
  readonly backends: readonly BackendRow[];
  /** Which of section 4's sets this is. */
  readonly set: SetName;
  /** What a new flow meets when there is no backend. */
  readonly whenEmpty: "reject" | "drop";
  /** Slots that name no live cell of this service port: a frontend in this state is being repaired, or nobody does. */
  readonly unreadable: number;
}

/** "External": an externalIP or a load balancer's address. The kernel treats them alike, so its maps do not tell them apart. */
export type FrontendKindName = "ClusterIP" | "External" | "NodePort";

export interface ServiceRow {
  readonly service: ServiceId;
  readonly kind: FrontendKindName;
  readonly family: Family;
  /** Of a NodePort the family's all-zero address: it stands for the addresses of readNodePortAddresses(). */
  readonly address: string;
  readonly port: number;
  /** 0: no session affinity. */
  readonly affinitySeconds: number;
  readonly masquerade: Masquerade;
  /** Who may open a flow (6.15, 6.16), in the frontend's family; null: anyone. */
  readonly sourceRanges: readonly string[] | null;
  /** For senders inside the cluster, and outside. */
  readonly internal: ChoiceView;
  readonly external: ChoiceView;
  /** Of the service port, all its frontends together. */
  readonly traffic: Traffic;
}

/** Every frontend with what it offers, sorted by service, family, kind, address, port. */
export function servicesView(tables: Tables): ServiceRow[] {
  const rows: ServiceRow[] = [];
  for (const family of FAMILIES) {
    const backends = backendRows(tables, family);
    for (const frontend of tables.families[family].frontends)
      rows.push(serviceRow(tables, family, frontend, backends));
  }
  return rows.sort(
    (a, b) =>
      compareServices(a.service, b.service) ||
      a.family - b.family ||
      compareText(a.kind, b.kind) ||
      compareText(a.address, b.address) ||
      a.port - b.port,
  );
}

function serviceRow(
  tables: Tables,
  family: Family,
  frontend: FrontendEntry,
  backends: ReadonlyMap<number, BackendRow>,
): ServiceRow {
  const { service, address, port, affinitySeconds, flags } = frontend;
  const choice = (word: ChoiceWord, set: SetName): ChoiceView => ({
    ...choiceView(tables.families[family], backends, service, word),
    set,
  });
  return {
    service: tables.services.get(service) ?? unnamed(service),
    kind: frontendKindName(flags),
    family,
    address,
    port,
    affinitySeconds,
    masquerade: masqueradeOf(flags),
    sourceRanges:
      flags & FrontendFlag.FRONTEND_SOURCE_RANGES
        ? (tables.families[family].sourceRanges.get(service) ?? [])
        : null,
    internal: choice(frontend.internal, frontend.internalSet),
    external: choice(frontend.external, frontend.externalSet),
    traffic: tables.traffic.get(service) ?? NO_TRAFFIC,
  };
}

/** By enum ptl_frontend_flag. */
export function frontendKindName(flags: number): FrontendKindName {
  if (flags & FrontendFlag.FRONTEND_NODE_PORT) return "NodePort";
  return flags & FrontendFlag.FRONTEND_CLUSTER_IP ? "ClusterIP" : "External";
}

function choiceView(
  tables: FamilyTables,
  backends: ReadonlyMap<number, BackendRow>,
  service: number,
  word: ChoiceWord,
): Omit<ChoiceView, "set"> {
  const rows = cellsOf(tables, word)
    .map((cell) => backends.get(cell))
    .filter((row) => row?.state === "live" && row.service.index === service) as BackendRow[];
  rows.sort((a, b) => compareText(a.address, b.address) || a.port - b.port);
  const whenEmpty = word.count === 0 && word.base === Empty.DROP ? "drop" : "reject";
  return { backends: rows, whenEmpty, unreadable: word.count - rows.length };
}
