// SPDX-License-Identifier: Apache-2.0
/**
 * The publish order of a transaction. After every prefix of it each frontend names only slots that name live cells of its
 * own service port: what a frontend is about to name is written before it, what it named is let go after it.
 */
import { MAPS, type MapName } from "../abi/maps.gen.js";
import type { Step } from "../diff/transaction.js";
import type { OpKind } from "../native/kernel.js";
import type { Family } from "../net/ip.js";

/** Steps that both families have. */
export type FamilyStep =
  | "stats" // a cell that is used again starts its counts at zero, before it is live
  | "cells"
  | "slots"
  | "addresses" // classes that are added
  | "frontends"
  | "frontendDeletes"
  | "addressChanges" // classes that are taken away, others stay
  | "addressDeletes"
  | "retired"; // cells let go: FREE, with the next generation

export type StepName = "names" | "nameDeletes" | `${FamilyStep}${Family}`;

const ORDER: readonly (readonly [
  FamilyStep,
  "backend_stats" | "backends" | "slots" | "addresses" | "frontends",
  OpKind,
])[] = [
  ["stats", "backend_stats", "update"],
  ["cells", "backends", "update"],
  ["slots", "slots", "update"],
  ["addresses", "addresses", "update"],
  ["frontends", "frontends", "update"],
  ["frontendDeletes", "frontends", "delete"],
  ["addressChanges", "addresses", "update"],
  ["addressDeletes", "addresses", "delete"],
  ["retired", "backends", "update"],
];

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
