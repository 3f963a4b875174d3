// SPDX-License-Identifier: Apache-2.0
/**
 * The publish order of a transaction. After every prefix of it each frontend names only slots that name live cells of its
 * own service port, and whoever the old state and the new one both let in is let in: what a frontend is about to name or to
 * ask is written before it, what it named or asked is let go after it.
 */
import { MAPS, type MapName } from "../abi/maps.gen.js";
import type { Step } from "../diff/transaction.js";
import type { OpKind } from "../native/kernel.js";
import type { Family } from "../net/ip.js";

/** Steps that both families have. */
export type FamilyStep =
  | "stats" // a cell that is used again starts its counts at zero, before it is live
  | "cells" // new ones; of those that stay what they gain: LIVE, membership of a set
  | "slots"
  | "sourceRanges" // before the frontend that asks for them
  | "addresses" // classes that are added
  | "frontends"
  | "serviceNets" // an address in one that has no class is dropped: every ClusterIP has its class by now
  | "frontendDeletes"
  | "settled" // what cells that stay lose: DRAINING, membership of a set
  | "sourceRangeDeletes"
  | "serviceNetDeletes"
  | "addressChanges" // classes that are taken away, others stay
  | "addressDeletes"
  | "retired"; // cells let go: FREE, with the next generation

export type StepName = "names" | "nameDeletes" | `${FamilyStep}${Family}`;

const ORDER: readonly (readonly [
  FamilyStep,
  "backend_stats" | "backends" | "slots" | "addresses" | "frontends" | "source_ranges" | "service_nets",
  OpKind,
])[] = [
  ["stats", "backend_stats", "update"],
  ["cells", "backends", "update"],
  ["slots", "slots", "update"],
  ["sourceRanges", "source_ranges", "update"],
  ["addresses", "addresses", "update"],
  ["frontends", "frontends", "update"],
  ["serviceNets", "service_nets", "update"],
  ["frontendDeletes", "frontends", "delete"],
  ["settled", "backends", "update"],
  ["sourceRangeDeletes", "source_ranges", "delete"],
  ["serviceNetDeletes", "service_nets", "delete"],
  ["addressChanges", "addresses", "update"],
  ["addressDeletes", "addresses", "delete"],
  ["retired", "backends", "update"],
];

/** The steps that both families have, in order. */
export const FAMILY_STEPS: readonly FamilyStep[] = ORDER.map(([name]) => name);

function step(name: StepName, map: MapName, kind: OpKind): Step<StepName> {
  const { keySize, valueSize } = MAPS[map];
  return { name, map, kind, keySize, valueSize: kind === "update" ? valueSize : 0 };
}

export const PUBLISH_ORDER: readonly Step<StepName>[] = [
  step("names", "services", "update"),
  ...ORDER.flatMap(([name, map, kind]) => [
    step(`${name}4`, `${map}4`, kind),
    step(`${name}6`, `${map}6`, kind),
  ]),
  step("nameDeletes", "services", "delete"),
];
