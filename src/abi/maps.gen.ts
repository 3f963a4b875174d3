// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.

export type MapName = "frontends4" | "slots4" | "backends4" | "backend_stats4" | "nat4" | "addresses4" | "fragments4" | "frontends6" | "slots6" | "backends6" | "backend_stats6" | "nat6" | "addresses6" | "fragments6" | "interfaces" | "counters" | "services";

export type MapType = "array" | "hash" | "lru_hash" | "percpu_array";

export interface MapSpec {
  readonly name: MapName;
  readonly type: MapType;
  /** enum bpf_map_type. */
  readonly typeId: number;
  /** Bytes. */
  readonly keySize: number;
  /** Bytes; of a per-CPU map the size of one CPU's value. */
  readonly valueSize: number;
  /** The default; the loader may be told otherwise. */
  readonly maxEntries: number;
  readonly flags: number;
  /** Name of the struct, or of a number type such as "u32" (host byte order). */
  readonly key: string;
  readonly value: string;
}

/** In the order of maps.bpf.h; the position is the map's number in a transaction. */
export const MAP_NAMES: readonly MapName[] = ["frontends4", "slots4", "backends4", "backend_stats4", "nat4", "addresses4", "fragments4", "frontends6", "slots6", "backends6", "backend_stats6", "nat6", "addresses6", "fragments6", "interfaces", "counters", "services"];

export const MAPS: Readonly<Record<MapName, MapSpec>> = {
  frontends4: { name: "frontends4", type: "hash", typeId: 1, keySize: 8, valueSize: 32, maxEntries: 65536, flags: 0, key: "addr_port4", value: "frontend" },
  slots4: { name: "slots4", type: "array", typeId: 2, keySize: 4, valueSize: 4, maxEntries: 524288, flags: 0, key: "u32", value: "u32" },
  backends4: { name: "backends4", type: "array", typeId: 2, keySize: 4, valueSize: 16, maxEntries: 131072, flags: 0, key: "u32", value: "backend4" },
  backend_stats4: { name: "backend_stats4", type: "array", typeId: 2, keySize: 4, valueSize: 24, maxEntries: 131072, flags: 0, key: "u32", value: "traffic" },
  nat4: { name: "nat4", type: "lru_hash", typeId: 9, keySize: 16, valueSize: 32, maxEntries: 524288, flags: 0, key: "nat_key4", value: "nat_value4" },
  addresses4: { name: "addresses4", type: "hash", typeId: 1, keySize: 8, valueSize: 4, maxEntries: 524288, flags: 1, key: "addr_port4", value: "u32" },
  fragments4: { name: "fragments4", type: "lru_hash", typeId: 9, keySize: 16, valueSize: 4, maxEntries: 8192, flags: 0, key: "fragment_key4", value: "fragment" },
  frontends6: { name: "frontends6", type: "hash", typeId: 1, keySize: 20, valueSize: 32, maxEntries: 65536, flags: 0, key: "addr_port6", value: "frontend" },
  slots6: { name: "slots6", type: "array", typeId: 2, keySize: 4, valueSize: 4, maxEntries: 524288, flags: 0, key: "u32", value: "u32" },
  backends6: { name: "backends6", type: "array", typeId: 2, keySize: 4, valueSize: 28, maxEntries: 131072, flags: 0, key: "u32", value: "backend6" },
  backend_stats6: { name: "backend_stats6", type: "array", typeId: 2, keySize: 4, valueSize: 24, maxEntries: 131072, flags: 0, key: "u32", value: "traffic" },
  nat6: { name: "nat6", type: "lru_hash", typeId: 9, keySize: 40, valueSize: 44, maxEntries: 524288, flags: 0, key: "nat_key6", value: "nat_value6" },
  addresses6: { name: "addresses6", type: "hash", typeId: 1, keySize: 20, valueSize: 4, maxEntries: 524288, flags: 1, key: "addr_port6", value: "u32" },
  fragments6: { name: "fragments6", type: "lru_hash", typeId: 9, keySize: 40, valueSize: 4, maxEntries: 8192, flags: 0, key: "fragment_key6", value: "fragment" },
  interfaces: { name: "interfaces", type: "hash", typeId: 1, keySize: 4, valueSize: 24, maxEntries: 4096, flags: 0, key: "u32", value: "interface" },
  counters: { name: "counters", type: "percpu_array", typeId: 6, keySize: 4, valueSize: 24, maxEntries: 32832, flags: 0, key: "u32", value: "traffic" },
  services: { name: "services", type: "hash", typeId: 1, keySize: 4, valueSize: 160, maxEntries: 32768, flags: 1, key: "u32", value: "service_name" },
};
