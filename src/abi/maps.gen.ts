// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.

export type MapName = "frontends4" | "slots4" | "backends4" | "backend_stats4" | "nat4" | "addresses4" | "fragments4" | "affinity4" | "source_ranges4" | "service_nets4" | "socket_nat4" | "frontends6" | "slots6" | "backends6" | "backend_stats6" | "nat6" | "addresses6" | "fragments6" | "affinity6" | "source_ranges6" | "service_nets6" | "socket_nat6" | "interfaces" | "xdp_devices" | "counters" | "services" | "service_drops" | "flow_marks" | "listener" | "events";

export type MapType = "array" | "hash" | "lpm_trie" | "lru_hash" | "percpu_array" | "ringbuf";

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
export const MAP_NAMES: readonly MapName[] = ["frontends4", "slots4", "backends4", "backend_stats4", "nat4", "addresses4", "fragments4", "affinity4", "source_ranges4", "service_nets4", "socket_nat4", "frontends6", "slots6", "backends6", "backend_stats6", "nat6", "addresses6", "fragments6", "affinity6", "source_ranges6", "service_nets6", "socket_nat6", "interfaces", "xdp_devices", "counters", "services", "service_drops", "flow_marks", "listener", "events"];

export const MAPS: Readonly<Record<MapName, MapSpec>> = {
  frontends4: { name: "frontends4", type: "hash", typeId: 1, keySize: 8, valueSize: 32, maxEntries: 65536, flags: 0, key: "addr_port4", value: "frontend" },
  slots4: { name: "slots4", type: "array", typeId: 2, keySize: 4, valueSize: 4, maxEntries: 524288, flags: 0, key: "u32", value: "u32" },
  backends4: { name: "backends4", type: "array", typeId: 2, keySize: 4, valueSize: 16, maxEntries: 131072, flags: 0, key: "u32", value: "backend4" },
  backend_stats4: { name: "backend_stats4", type: "array", typeId: 2, keySize: 4, valueSize: 24, maxEntries: 131072, flags: 0, key: "u32", value: "traffic" },
  nat4: { name: "nat4", type: "lru_hash", typeId: 9, keySize: 16, valueSize: 32, maxEntries: 524288, flags: 0, key: "nat_key4", value: "nat_value4" },
  addresses4: { name: "addresses4", type: "hash", typeId: 1, keySize: 8, valueSize: 4, maxEntries: 524288, flags: 1, key: "addr_port4", value: "u32" },
  fragments4: { name: "fragments4", type: "lru_hash", typeId: 9, keySize: 16, valueSize: 4, maxEntries: 8192, flags: 0, key: "fragment_key4", value: "fragment" },
  affinity4: { name: "affinity4", type: "lru_hash", typeId: 9, keySize: 8, valueSize: 16, maxEntries: 131072, flags: 0, key: "affinity_key4", value: "affinity" },
  source_ranges4: { name: "source_ranges4", type: "lpm_trie", typeId: 11, keySize: 12, valueSize: 4, maxEntries: 16384, flags: 1, key: "source_range4", value: "u32" },
  service_nets4: { name: "service_nets4", type: "lpm_trie", typeId: 11, keySize: 8, valueSize: 4, maxEntries: 64, flags: 1, key: "network4", value: "u32" },
  socket_nat4: { name: "socket_nat4", type: "lru_hash", typeId: 9, keySize: 16, valueSize: 16, maxEntries: 65536, flags: 0, key: "socket_key4", value: "socket_value4" },
  frontends6: { name: "frontends6", type: "hash", typeId: 1, keySize: 20, valueSize: 32, maxEntries: 65536, flags: 0, key: "addr_port6", value: "frontend" },
  slots6: { name: "slots6", type: "array", typeId: 2, keySize: 4, valueSize: 4, maxEntries: 524288, flags: 0, key: "u32", value: "u32" },
  backends6: { name: "backends6", type: "array", typeId: 2, keySize: 4, valueSize: 28, maxEntries: 131072, flags: 0, key: "u32", value: "backend6" },
  backend_stats6: { name: "backend_stats6", type: "array", typeId: 2, keySize: 4, valueSize: 24, maxEntries: 131072, flags: 0, key: "u32", value: "traffic" },
  nat6: { name: "nat6", type: "lru_hash", typeId: 9, keySize: 40, valueSize: 44, maxEntries: 524288, flags: 0, key: "nat_key6", value: "nat_value6" },
  addresses6: { name: "addresses6", type: "hash", typeId: 1, keySize: 20, valueSize: 4, maxEntries: 524288, flags: 1, key: "addr_port6", value: "u32" },
  fragments6: { name: "fragments6", type: "lru_hash", typeId: 9, keySize: 40, valueSize: 4, maxEntries: 8192, flags: 0, key: "fragment_key6", value: "fragment" },
  affinity6: { name: "affinity6", type: "lru_hash", typeId: 9, keySize: 20, valueSize: 16, maxEntries: 131072, flags: 0, key: "affinity_key6", value: "affinity" },
  source_ranges6: { name: "source_ranges6", type: "lpm_trie", typeId: 11, keySize: 24, valueSize: 4, maxEntries: 16384, flags: 1, key: "source_range6", value: "u32" },
  service_nets6: { name: "service_nets6", type: "lpm_trie", typeId: 11, keySize: 20, valueSize: 4, maxEntries: 64, flags: 1, key: "network6", value: "u32" },
  socket_nat6: { name: "socket_nat6", type: "lru_hash", typeId: 9, keySize: 28, valueSize: 28, maxEntries: 65536, flags: 0, key: "socket_key6", value: "socket_value6" },
  interfaces: { name: "interfaces", type: "hash", typeId: 1, keySize: 4, valueSize: 28, maxEntries: 4096, flags: 0, key: "u32", value: "interface" },
  xdp_devices: { name: "xdp_devices", type: "hash", typeId: 1, keySize: 4, valueSize: 8, maxEntries: 256, flags: 0, key: "u32", value: "xdp_device" },
  counters: { name: "counters", type: "percpu_array", typeId: 6, keySize: 4, valueSize: 24, maxEntries: 32832, flags: 0, key: "u32", value: "traffic" },
  services: { name: "services", type: "hash", typeId: 1, keySize: 4, valueSize: 160, maxEntries: 32768, flags: 1, key: "u32", value: "service_name" },
  service_drops: { name: "service_drops", type: "array", typeId: 2, keySize: 4, valueSize: 8, maxEntries: 32768, flags: 0, key: "u32", value: "u64" },
  flow_marks: { name: "flow_marks", type: "array", typeId: 2, keySize: 4, valueSize: 4, maxEntries: 262145, flags: 0, key: "u32", value: "u32" },
  listener: { name: "listener", type: "array", typeId: 2, keySize: 4, valueSize: 24, maxEntries: 1, flags: 0, key: "u32", value: "listener" },
  events: { name: "events", type: "ringbuf", typeId: 27, keySize: 0, valueSize: 0, maxEntries: 1048576, flags: 0, key: "", value: "" },
};
