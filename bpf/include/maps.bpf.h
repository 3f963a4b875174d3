/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every map, and nothing else. Sizes are defaults: the loader may change max_entries before creation.
 * All maps are pinned by name below the layout version's directory. They are weak because each program file defines
 * them: the linker keeps one of each, and refuses two that differ.
 */
#ifndef PTL_MAPS_BPF_H
#define PTL_MAPS_BPF_H

#include <bpf/bpf_helpers.h>

#include "abi.h"

enum {
	PTL_DEFAULT_SERVICES = 32768,
	PTL_DEFAULT_FRONTENDS = 65536,
	PTL_DEFAULT_BACKENDS = 131072,
	PTL_DEFAULT_SLOTS = 524288,
	PTL_DEFAULT_ADDRESSES = 524288,
	PTL_DEFAULT_NAT = 524288,
	PTL_DEFAULT_INTERFACES = 4096,
	PTL_DEFAULT_XDP_DEVICES = 256,
	PTL_DEFAULT_FRAGMENTS = 8192,
	PTL_DEFAULT_AFFINITY = 131072,
	PTL_DEFAULT_SOURCE_RANGES = 16384,
	PTL_DEFAULT_SERVICE_NETS = 64,
	PTL_DEFAULT_SOCKETS = 65536,
	PTL_DEFAULT_PATHS = 16384,
	PTL_DEFAULT_EVENT_BYTES = 1 << 20, /* a power of two, and whole pages: nearly 10,000 events */
};

#define PTL_FAMILY_MAPS(F)                                          \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_HASH);                    \
		__uint(max_entries, PTL_DEFAULT_FRONTENDS);         \
		__type(key, struct addr_port##F);                   \
		__type(value, struct frontend);                     \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} frontends##F __weak SEC(".maps");                         \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY);                   \
		__uint(max_entries, PTL_DEFAULT_SLOTS);             \
		__type(key, __u32);                                 \
		__type(value, __u32);                               \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} slots##F __weak SEC(".maps");                             \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY);                   \
		__uint(max_entries, PTL_DEFAULT_BACKENDS);          \
		__type(key, __u32);                                 \
		__type(value, struct backend##F);                   \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} backends##F __weak SEC(".maps");                          \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_ARRAY);                   \
		__uint(max_entries, PTL_DEFAULT_BACKENDS);          \
		__type(key, __u32);                                 \
		__type(value, struct traffic);                      \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} backend_stats##F __weak SEC(".maps");                     \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                \
		__uint(max_entries, PTL_DEFAULT_NAT);               \
		__type(key, struct nat_key##F);                     \
		__type(value, struct nat_value##F);                 \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} nat##F __weak SEC(".maps");                               \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_HASH);                    \
		__uint(map_flags, BPF_F_NO_PREALLOC);               \
		__uint(max_entries, PTL_DEFAULT_ADDRESSES);         \
		__type(key, struct addr_port##F);                   \
		__type(value, __u32);                               \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} addresses##F __weak SEC(".maps");                         \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                \
		__uint(max_entries, PTL_DEFAULT_FRAGMENTS);         \
		__type(key, struct fragment_key##F);                \
		__type(value, struct fragment);                     \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} fragments##F __weak SEC(".maps");                         \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                \
		__uint(max_entries, PTL_DEFAULT_AFFINITY);          \
		__type(key, struct affinity_key##F);                \
		__type(value, struct affinity);                     \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} affinity##F __weak SEC(".maps");                          \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                \
		__uint(map_flags, BPF_F_NO_PREALLOC);               \
		__uint(max_entries, PTL_DEFAULT_SOURCE_RANGES);     \
		__type(key, struct source_range##F);                \
		__type(value, __u32);                               \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} source_ranges##F __weak SEC(".maps");                     \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LPM_TRIE);                \
		__uint(map_flags, BPF_F_NO_PREALLOC);               \
		__uint(max_entries, PTL_DEFAULT_SERVICE_NETS);      \
		__type(key, struct network##F);                     \
		__type(value, __u32);                               \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} service_nets##F __weak SEC(".maps");                      \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                \
		__uint(max_entries, PTL_DEFAULT_SOCKETS);           \
		__type(key, struct socket_key##F);                  \
		__type(value, struct socket_value##F);              \
		__uint(pinning, LIBBPF_PIN_BY_NAME);                \
	} socket_nat##F __weak SEC(".maps");

PTL_FAMILY_MAPS(4)
PTL_FAMILY_MAPS(6)

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PTL_DEFAULT_INTERFACES);
	__type(key, __u32);
	__type(value, struct interface);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} interfaces __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, PTL_DEFAULT_XDP_DEVICES);
	__type(key, __u32);
	__type(value, struct xdp_device);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} xdp_devices __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, PTL_COUNTERS_SERVICE_BASE + PTL_DEFAULT_SERVICES);
	__type(key, __u32);
	__type(value, struct traffic);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counters __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, PTL_DEFAULT_SERVICES);
	__type(key, __u32);
	__type(value, struct service_name);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} services __weak SEC(".maps");

/* New flows of each service index that got no backend: rejected, dropped, or refused to a socket. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PTL_DEFAULT_SERVICES);
	__type(key, __u32);
	__type(value, __u64);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} service_drops __weak SEC(".maps");

/* Written by the programs before an entry of `nat`, and by the agent that has looked at all of them: filter.bpf.h. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, PTL_MARKS_COUNT + 1);
	__type(key, __u32);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} flow_marks __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct listener);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} listener __weak SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, PTL_DEFAULT_EVENT_BYTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events __weak SEC(".maps");

#endif /* PTL_MAPS_BPF_H */
