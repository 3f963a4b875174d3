// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * What the benchmark of single packets puts before a program: BPF_PROG_TEST_RUN does not restore the packet between
 * repeats, so this does, gives each repeat another flow, and goes over to the program that is measured. What it costs
 * is measured too, with `bench_empty` behind it.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

#define FRAME_BYTES 128
/* Flows differ in the low bits of the client's port and, where these do not suffice, of its address. */
#define PORT_BITS 14
/* Odd, so that turns that follow each other reach each flow once, in no order that a cache could guess. */
#define STRIDE 0x9e3779b1u
#define LOOKUP_ENTRIES 65536
/* Returned when the program that is measured is not there. */
#define NO_TARGET 99

struct plan {
	__u32 flow_mask;
	__u32 port_offset;
	__u32 address_offset; /* of the last two bytes of the client's address */
	__u16 port;
	__u16 address;
	__u8 frame[FRAME_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plan SEC(".maps");

/* Of all CPUs: a run may be moved to another one between two repeats. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} turn SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} target_xdp SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, LOOKUP_ENTRIES);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

static __always_inline __u16 swapped(__u32 value)
{
	return __builtin_bswap16((__u16)value);
}

struct flow {
	__u16 port;
	__u16 address;
};

/* The flow of this turn, as its two fields stand in the frame. */
static __always_inline struct flow next_flow(const struct plan *p, __u32 *turns)
{
	__u32 flow = (++*turns * STRIDE) & p->flow_mask;

	return (struct flow){ swapped(p->port + (flow & ((1u << PORT_BITS) - 1))), swapped(p->address + (flow >> PORT_BITS)) };
}

SEC("tc")
int bench_restore(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct plan *p = bpf_map_lookup_elem(&plan, &zero);
	__u32 *turns = bpf_map_lookup_elem(&turn, &zero);

	if (!p || !turns)
		return NO_TARGET;
	struct flow flow = next_flow(p, turns);

	if (bpf_skb_store_bytes(skb, 0, p->frame, FRAME_BYTES, 0) ||
	    bpf_skb_store_bytes(skb, p->port_offset, &flow.port, sizeof(flow.port), 0) ||
	    bpf_skb_store_bytes(skb, p->address_offset, &flow.address, sizeof(flow.address), 0))
		return NO_TARGET;
	skb->mark = 0;
	bpf_tail_call(skb, &target, 0);
	return NO_TARGET;
}

SEC("xdp")
int bench_restore_x(struct xdp_md *ctx)
{
	__u32 zero = 0;
	struct plan *p = bpf_map_lookup_elem(&plan, &zero);
	__u32 *turns = bpf_map_lookup_elem(&turn, &zero);
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (!p || !turns || data + FRAME_BYTES > end)
		return NO_TARGET;
	__builtin_memcpy(data, p->frame, FRAME_BYTES);
	struct flow flow = next_flow(p, turns);
	__u8 *port = data + (p->port_offset & (FRAME_BYTES - 1));
	__u8 *address = data + (p->address_offset & (FRAME_BYTES - 1));

	if (port + sizeof(__u16) > end || address + sizeof(__u16) > end)
		return NO_TARGET;
	*(__u16 *)port = flow.port;
	*(__u16 *)address = flow.address;
	bpf_tail_call(ctx, &target_xdp, 0);
	return NO_TARGET;
}

SEC("xdp")
int bench_empty_xdp(struct xdp_md *ctx)
{
	return XDP_PASS;
}

/* The floor of every program. */
SEC("tc")
int bench_empty(struct __sk_buff *skb)
{
	return TC_ACT_UNSPEC;
}

/* The floor of every program that knows a flow: one look-up in a hash of 65,536 entries, by what tells flows apart. */
SEC("tc")
int bench_lookup(struct __sk_buff *skb)
{
	__u32 zero = 0;
	struct plan *p = bpf_map_lookup_elem(&plan, &zero);
	__u16 key[2];

	if (!p || bpf_skb_load_bytes(skb, p->port_offset, &key[0], sizeof(key[0])) ||
	    bpf_skb_load_bytes(skb, p->address_offset, &key[1], sizeof(key[1])))
		return NO_TARGET;
	__u64 *found = bpf_map_lookup_elem(&table, key);

	if (found) {
		*found += 1;
	} else {
		__u64 once = 1;

		bpf_map_update_elem(&table, key, &once, BPF_NOEXIST);
	}
	return TC_ACT_UNSPEC;
}

char _license[] SEC("license") = "Dual BSD/GPL";
