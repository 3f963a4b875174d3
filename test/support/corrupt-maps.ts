// SPDX-License-Identifier: Apache-2.0
/** What somebody else can do to an entry of any map that an agent writes, on any kernel. */
import assert from "node:assert/strict";
import { BackendState } from "../../src/abi/enums.gen.js";
import { decodeChoice } from "../../src/abi/hash.js";
import { FAMILY_CODECS, frontendCodec } from "../../src/abi/layout.gen.js";
import type { MapName } from "../../src/abi/maps.gen.js";
import { MAPS } from "../../src/abi/maps.gen.js";
import type { KernelMaps, OpKind } from "../../src/native/kernel.js";
import { FAMILIES, type Family } from "../../src/net/ip.js";

/** Every map that an agent writes, but for the counts that it sets to zero. */
export const WRITTEN_MAPS: readonly MapName[] = [
  "services",
  "interfaces",
  ...FAMILIES.flatMap(
    (family) =>
      [
        `frontends${family}`,
        `slots${family}`,
        `backends${family}`,
        `addresses${family}`,
        `source_ranges${family}`,
        `service_nets${family}`,
      ] as const,
  ),
];

/** delete: one is gone (of an array: zero). alter: its value is another. add: one more, of nobody. */
export const MISHAPS = ["delete", "alter", "add"] as const;
export type Mishap = (typeof MISHAPS)[number];

/** Slots that nobody names are free room: nothing can be added to them. */
export const canHappen = (map: MapName, mishap: Mishap): boolean =>
  !(mishap === "add" && map.startsWith("slots"));

const u32 = (value: number): Uint8Array => new Uint8Array(Uint32Array.of(value).buffer);

/** Where in a value a change is seen: a byte that is read. */
const TELLING_BYTE: Readonly<Record<string, number>> = { frontends: 20, services: 0, interfaces: 4 };

export async function corrupt(kernel: KernelMaps, map: MapName, mishap: Mishap): Promise<void> {
  if (MAPS[map].type === "array") return await corruptArray(kernel, map, mishap);
  const { keySize, valueSize } = kernel.info(map);
  const { keys, values, count } = await kernel.dump(map);
  assert.ok(count > 0, `${map} is empty`);
  const key = Uint8Array.from(keys.subarray(0, keySize));
  const value = Uint8Array.from(values.subarray(0, valueSize));
  if (mishap === "delete") return await put(kernel, map, "delete", key, new Uint8Array());
  if (mishap === "add") foreignKey(map, key);
  else {
    const byte = TELLING_BYTE[map.replace(/[46]$/, "")] ?? 0;
    value[byte] = (value[byte] as number) ^ 1;
  }
  await put(kernel, map, "update", key, value);
}

/** Another key that the kernel takes: a prefix keeps its length, and gets other bits in front. */
function foreignKey(map: MapName, key: Uint8Array): void {
  if (map === "services" || map === "interfaces") key.set([77, 7, 0, 0]);
  else if (map.startsWith("source_ranges")) key[8] = (key[8] as number) ^ 0x40;
  else if (map.startsWith("service_nets")) key[4] = (key[4] as number) ^ 0x40;
  else key[1] = (key[1] as number) ^ 0x40;
}

async function corruptArray(kernel: KernelMaps, map: MapName, mishap: Mishap): Promise<void> {
  const family: Family = map.endsWith("4") ? 4 : 6;
  const slot = await namedSlot(kernel, family);
  if (map.startsWith("slots"))
    return await put(kernel, map, "update", u32(slot), u32(mishap === "delete" ? 0 : 4242));
  const slots = await kernel.dump(`slots${family}`, slot + 1);
  const cell = Buffer.from(slots.values).readUInt32LE(4 * slot);
  const { backend } = FAMILY_CODECS[family];
  const cells = await kernel.dump(map, cell + 1);
  const value = Uint8Array.from(cells.values.subarray(cell * backend.size));
  const state = backend.offsets.state as number;
  if (mishap === "delete") return await put(kernel, map, "update", u32(cell), new Uint8Array(backend.size));
  // Another port; or, where nothing is, a live backend of the same Service.
  value[state - 1] = (value[state - 1] as number) ^ 1;
  value[state] = BackendState.BACKEND_LIVE;
  await put(kernel, map, "update", u32(mishap === "alter" ? cell : 3333), value);
}

async function namedSlot(kernel: KernelMaps, family: Family): Promise<number> {
  const { count, values } = await kernel.dump(`frontends${family}`);
  for (let i = 0; i < count; i += 1) {
    const word = decodeChoice(frontendCodec.decode(values, i * frontendCodec.size).internal);
    if (word.count > 0) return word.base;
  }
  throw new Error(`no frontend of IPv${family} has a backend`);
}

async function put(
  kernel: KernelMaps,
  map: MapName,
  kind: OpKind,
  keys: Uint8Array,
  values: Uint8Array,
): Promise<void> {
  const { failure } = await kernel.apply([{ map, kind, count: 1, keys, values }]);
  assert.equal(failure, null, `${map} ${kind}`);
}
