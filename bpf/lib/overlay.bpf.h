/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The maps as a twin of the programs sees them (access.bpf.h). What the agent writes is read where it is. What programs
 * write (nat, affinity, fragments) is an overlay: a private map of the same name that holds what this trace has written, over
 * the live one, `…_live`. The first look at a key copies the live entry, so that every pointer into such a map points to the
 * copy, and `…_gone` knows the keys that were deleted.
 *
 * Each access is noted in ptl_trace.records, by a global function: the verifier looks at it once, and the code that calls it
 * has no branch more than the live program's. (Arguments are handed over in ptl_trace: before Linux 5.12 such a function
 * takes no pointer.)
 */
#ifndef PTL_OVERLAY_BPF_H
#define PTL_OVERLAY_BPF_H

#include "trace.h"

struct trace_area ptl_trace;

static __always_inline struct trace_record *ptl_trace_next(__u8 op, __u8 map)
{
	__u32 n = ptl_trace.count++;
	struct trace_record *record = &ptl_trace.records[(n < PTL_TRACE_RECORDS ? n : PTL_TRACE_RECORDS - 1) & (PTL_TRACE_RECORDS - 1)];

	record->op = op;
	record->map = map;
	record->found = 1;
	__builtin_memcpy(record->key, ptl_trace.key, sizeof(record->key));
	return record;
}

/* Takes what the next access is about. The rest of the room is zero. */
#define PTL_TRACE_TAKE(room, from)                                             \
	({                                                                     \
		__builtin_memset(room, 0, sizeof(room));                       \
		__builtin_memcpy(room, (const void *)(from), sizeof(*(from))); \
	})
#define PTL_TRACE_KEY(from) PTL_TRACE_TAKE(ptl_trace.key, from)
#define PTL_TRACE_VALUE(from) PTL_TRACE_TAKE(ptl_trace.value, from)

/* Notes a look-up of the key, after `fetch`. */
#define PTL_TRACE_SEE(map, id, value_type, fetch)                                    \
	__noinline int ptl_see_##map(void)                                           \
	{                                                                            \
		struct trace_record *record = ptl_trace_next(PTL_TRACE_LOOK_UP, id); \
		value_type *v;                                                       \
                                                                                     \
		fetch;                                                               \
		v = bpf_map_lookup_elem(&map, ptl_trace.key);                        \
		record->found = v != NULL;                                           \
		if (v)                                                               \
			__builtin_memcpy(record->value, v, sizeof(*v));              \
		return 0;                                                            \
	}

/* A map that is only read. */
#define PTL_TRACE_READ(map, id, value_type) PTL_TRACE_SEE(map, id, value_type, (void)0)

/* The live map, the deleted keys, and the functions of an overlay. */
#define PTL_TRACE_OVERLAY(map, id, key_type, value_type)                                  \
	struct {                                                                          \
		__uint(type, BPF_MAP_TYPE_LRU_HASH);                                      \
		__uint(max_entries, PTL_OVERLAY_ENTRIES);                                 \
		__type(key, key_type);                                                    \
		__type(value, value_type);                                                \
	} map##_live SEC(".maps");                                                        \
	struct {                                                                          \
		__uint(type, BPF_MAP_TYPE_HASH);                                          \
		__uint(max_entries, PTL_OVERLAY_ENTRIES);                                 \
		__type(key, key_type);                                                    \
		__type(value, __u32);                                                     \
	} map##_gone SEC(".maps");                                                        \
                                                                                          \
	/* Copies the live entry of the key, unless this trace has written or deleted it. */ \
	static __always_inline void ptl_fetch_##map(void)                                 \
	{                                                                                 \
		value_type *v;                                                            \
                                                                                          \
		if (bpf_map_lookup_elem(&map, ptl_trace.key) ||                           \
		    bpf_map_lookup_elem(&map##_gone, ptl_trace.key))                      \
			return;                                                           \
		v = bpf_map_lookup_elem(&map##_live, ptl_trace.key);                      \
		if (v)                                                                    \
			bpf_map_update_elem(&map, ptl_trace.key, v, BPF_NOEXIST);         \
	}                                                                                 \
	PTL_TRACE_SEE(map, id, value_type, ptl_fetch_##map())                             \
	/* Writes key and value. 0, or what the helper says. */                           \
	__noinline int ptl_write_##map(int flags)                                         \
	{                                                                                 \
		struct trace_record *record = ptl_trace_next(PTL_TRACE_UPDATE, id);       \
		long r;                                                                   \
                                                                                          \
		ptl_fetch_##map();                                                        \
		__builtin_memcpy(record->value, ptl_trace.value, sizeof(value_type));     \
		r = bpf_map_update_elem(&map, ptl_trace.key, ptl_trace.value, flags == BPF_NOEXIST ? BPF_NOEXIST : BPF_ANY); \
		record->found = !r;                                                       \
		return r;                                                                 \
	}                                                                                 \
	__noinline int ptl_remove_##map(void)                                             \
	{                                                                                 \
		struct trace_record *record = ptl_trace_next(PTL_TRACE_DELETE, id);       \
		__u32 gone = 1;                                                           \
                                                                                          \
		ptl_fetch_##map();                                                        \
		bpf_map_update_elem(&map##_gone, ptl_trace.key, &gone, BPF_ANY);          \
		record->found = !bpf_map_delete_elem(&map, ptl_trace.key);                \
		return 0;                                                                 \
	}

#define PTL_TRACE_TALLIED(map, id)               \
	__noinline int ptl_tally_##map(void)     \
	{                                        \
		ptl_trace_next(PTL_TRACE_TALLY, id); \
		return 0;                        \
	}

#define PTL_TRACE_FAMILY(F)                                                                             \
	PTL_TRACE_READ(frontends##F, PTL_MAP_FRONTENDS, struct frontend)                                \
	PTL_TRACE_READ(slots##F, PTL_MAP_SLOTS, __u32)                                                  \
	PTL_TRACE_READ(backends##F, PTL_MAP_BACKENDS, struct backend##F)                                \
	PTL_TRACE_READ(addresses##F, PTL_MAP_ADDRESSES, __u32)                                          \
	PTL_TRACE_READ(source_ranges##F, PTL_MAP_SOURCE_RANGES, __u32)                                  \
	PTL_TRACE_READ(service_nets##F, PTL_MAP_SERVICE_NETS, __u32)                                    \
	PTL_TRACE_OVERLAY(nat##F, PTL_MAP_NAT, struct nat_key##F, struct nat_value##F)                  \
	PTL_TRACE_OVERLAY(fragments##F, PTL_MAP_FRAGMENTS, struct fragment_key##F, struct fragment)     \
	PTL_TRACE_OVERLAY(affinity##F, PTL_MAP_AFFINITY, struct affinity_key##F, struct affinity)       \
	PTL_TRACE_TALLIED(backend_stats##F, PTL_MAP_BACKEND_STATS)

PTL_TRACE_FAMILY(4)
PTL_TRACE_FAMILY(6)
PTL_TRACE_READ(interfaces, PTL_MAP_INTERFACES, struct interface)
PTL_TRACE_TALLIED(counters, PTL_MAP_COUNTERS)

#define PTL_PASTE_(a, b) a##b
#define PTL_PASTE(a, b) PTL_PASTE_(a, b)

#define ptl_look_up(map, key)                 \
	({                                    \
		PTL_TRACE_KEY(key);           \
		PTL_PASTE(ptl_see_, map)();   \
		bpf_map_lookup_elem(&map, key); \
	})
#define ptl_update(map, key, value, flags)           \
	({                                           \
		PTL_TRACE_KEY(key);                  \
		PTL_TRACE_VALUE(value);              \
		(long)PTL_PASTE(ptl_write_, map)(flags); \
	})
#define ptl_delete(map, key)                   \
	({                                     \
		PTL_TRACE_KEY(key);            \
		PTL_PASTE(ptl_remove_, map)(); \
	})
#define ptl_tally(map, key)                   \
	({                                    \
		PTL_TRACE_KEY(key);           \
		PTL_PASTE(ptl_tally_, map)(); \
		(void *)NULL;                 \
	})

#define ptl_aside(map, key) ((void)(key), (void *)NULL)
#define ptl_uses(argument) asm volatile("" ::"r"(argument))
#define ptl_framed __always_inline

#endif /* PTL_OVERLAY_BPF_H */
