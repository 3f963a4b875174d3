// SPDX-License-Identifier: Apache-2.0
/** Random images, and what somebody else may do to the maps that hold them. */
import fc from "fast-check";
import { MAPS, type MapName } from "../../../src/abi/maps.gen.js";
import type { Image } from "../../../src/image/types.js";
import type { MemoryKernel } from "../../../src/native/memory.js";
import { WRITTEN_MAPS } from "../../support/corrupt-maps.js";
import { ImageBuilder, type NodeSpec, nodeSpec, PORTS, type PortSpec, portSpec } from "./images.js";

/** Every map that a reconciler writes; what it writes into `backend_stats` is a zero before the programs count. */
export const WRITTEN: readonly MapName[] = WRITTEN_MAPS.filter((map) => map !== "interfaces");

export const SIZES = { backends4: 400, backends6: 400, slots4: 900, slots6: 900 };

export interface Corruption {
  readonly map: MapName;
  readonly kind: "delete" | "alter" | "add";
  /** Which of the entries that are there. */
  readonly entry: number;
  /** Which byte of its value, and what is added to it. */
  readonly byte: number;
  readonly change: number;
}

export const corruption: fc.Arbitrary<Corruption> = fc.record({
  map: fc.constantFrom(...WRITTEN),
  kind: fc.constantFrom("delete" as const, "alter" as const, "add" as const),
  entry: fc.nat(1000),
  byte: fc.nat(1000),
  change: fc.integer({ min: 1, max: 255 }),
});

export interface World {
  readonly ports: readonly (readonly [port: number, spec: PortSpec])[];
  readonly node: NodeSpec;
}

export const world: fc.Arbitrary<World> = fc.record({
  ports: fc.array(fc.tuple(fc.integer({ min: 0, max: PORTS - 1 }), portSpec), { minLength: 1, maxLength: 6 }),
  node: nodeSpec,
});

export function imageOf({ ports, node }: World): Image {
  const builder = new ImageBuilder();
  for (const [port, spec] of ports) builder.set(port, spec);
  builder.setNode(node);
  const image = builder.build();
  // A compile leaves out service ports without a frontend of their own.
  const servicePorts = new Map([...image.servicePorts].filter(([, { frontends }]) => frontends.length > 0));
  return { ...image, servicePorts };
}

const isArray = (map: MapName): boolean => MAPS[map].type === "array";

/** Does it; false: there is nothing that could be changed in this way. */
export async function corrupt(
  kernel: MemoryKernel,
  { map, kind, entry, byte, change }: Corruption,
): Promise<boolean> {
  const there = [...kernel.entries(map)];
  const chosen = there[entry % Math.max(1, there.length)];
  if (chosen === undefined) return false;
  const [key, value] = chosen;
  if (kind === "delete" && isArray(map)) value.fill(0);
  else if (kind === "delete") {
    await kernel.apply([{ map, kind, count: 1, keys: key, values: new Uint8Array() }]);
    return true;
  } else value[byte % value.length] = ((value[byte % value.length] as number) + change) & 255;
  // A key of somebody's own: like one of ours, and another. The first four bytes of a prefix are its length.
  if (kind === "add") key[key.length - 1 - (byte % (key.length - 4 || 1))] = change;
  if (kind === "add" && isArray(map)) return false;
  await kernel.apply([{ map, kind: "update", count: 1, keys: key, values: value }]);
  return true;
}

/** Entries that one of two kernels has and the other has not, or otherwise: entryId() of each. */
export function differingEntries(before: MemoryKernel, after: MemoryKernel): Set<string> {
  const differing = new Set<string>();
  for (const map of WRITTEN) {
    const [a, b] = [valuesOf(before, map), valuesOf(after, map)];
    for (const id of [...a.keys(), ...b.keys()]) if (a.get(id) !== b.get(id)) differing.add(id);
  }
  return differing;
}

export const entryId = (map: MapName, key: Uint8Array): string =>
  `${map} ${Buffer.from(key).toString("hex")}`;

function valuesOf(kernel: MemoryKernel, map: MapName): Map<string, string> {
  return new Map(
    Array.from(kernel.entries(map), ([key, value]) => [
      entryId(map, key),
      Buffer.from(value).toString("hex"),
    ]),
  );
}
