// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
// Proves the machinery of the kernels lane itself: one program that every kernel must take, and one that every
// kernel must refuse. A lane that calls both "ok" would prove nothing about the real object.
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} self_packets SEC(".maps");

SEC("tc")
int self_good(struct __sk_buff *skb)
{
	__u32 index = 0;
	__u64 *packets = bpf_map_lookup_elem(&self_packets, &index);

	if (packets)
		__sync_fetch_and_add(packets, 1);
	return -1;
}

SEC("tc")
int self_bad(struct __sk_buff *skb)
{
	void *data = (void *)(long)skb->data;

	return *(__u8 *)data; /* no check against data_end */
}

char _license[] SEC("license") = "Dual BSD/GPL";
