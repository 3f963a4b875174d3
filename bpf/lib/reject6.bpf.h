/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The IPv6 answer of a REJECT: see reject.bpf.h. */
#ifndef PTL_REJECT6_BPF_H
#define PTL_REJECT6_BPF_H

struct reject6_headers {
	struct ipv6hdr ip;
	struct ptl_icmp icmp;
};

/* Sum of the quoted network header: extension headers included, in units of 8 bytes. */
static __always_inline __u64 reject_header_sum6(struct __sk_buff *skb, __u32 l3, __u32 l4)
{
	__u64 sum = 0;
	__u32 offset = l3;

	for (__u32 i = 0; i < PTL_REJECT6_UNITS; i++) {
		__u32 unit[2];

		if (offset >= l4)
			break;
		if (bpf_skb_load_bytes(skb, offset, unit, sizeof(unit)))
			break;
		sum += (__u64)unit[0] + unit[1];
		offset += sizeof(unit);
	}
	return sum;
}

/* 0: the packet is the answer now. Anything else: it is spoilt. */
static __noinline int reject_build6(struct __sk_buff *skb, const struct packet6 *p)
{
	bool tcp = p->key.protocol == IPPROTO_TCP;
	__u32 quoted = tcp ? PTL_QUOTE_TCP : PTL_QUOTE_UDP;
	__u32 header = p->l4 - p->l3;
	struct reject6_headers h = {};
	struct ptl_quote q = {};
	struct ipv6hdr original;
	__u64 sum;

	if (header > PTL_REJECT6_UNITS * 8)
		return -1;
	if (bpf_skb_load_bytes(skb, p->l3, &original, sizeof(original)))
		return -1;
	if (tcp ? bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_TCP) : bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_UDP))
		return -1;
	sum = ptl_quote_sum(&q, tcp, pseudo_sum6(&p->key.src, &p->key.dst, p->key.protocol,
						 bpf_ntohs(original.payload_len) + PTL_IPV6_MIN_HEADER - header));
	sum += reject_header_sum6(skb, p->l3, p->l4);
	if (bpf_skb_change_tail(skb, p->l4 + quoted, 0))
		return -1;
	if (tcp ? bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_TCP, 0) : bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_UDP, 0))
		return -1;
	if (bpf_skb_adjust_room(skb, sizeof(h), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	h.icmp.type = PTL_ICMP6_DEST_UNREACH;
	h.icmp.code = PTL_ICMP6_PORT_UNREACH;
	sum += ((__u16)h.icmp.type | (__u16)h.icmp.code << 8);
	sum += pseudo_sum6(&p->key.src, &p->key.dst, PTL_ICMPV6, sizeof(h.icmp) + header + quoted);
	h.icmp.check = ~ptl_csum_fold(sum);
	h.ip.version = 6;
	h.ip.payload_len = bpf_htons(sizeof(h.icmp) + header + quoted);
	h.ip.nexthdr = PTL_ICMPV6;
	h.ip.hop_limit = PTL_REJECT_TTL;
	__builtin_memcpy(&h.ip.saddr, &p->key.dst, sizeof(h.ip.saddr));
	__builtin_memcpy(&h.ip.daddr, &p->key.src, sizeof(h.ip.daddr));
	if (bpf_skb_store_bytes(skb, p->l3, &h, sizeof(h), 0))
		return -1;
	return ptl_swap_macs(skb);
}

#endif /* PTL_REJECT6_BPF_H */
