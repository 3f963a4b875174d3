/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The IPv4 answer of a REJECT: see reject.bpf.h. */
#ifndef PTL_REJECT4_BPF_H
#define PTL_REJECT4_BPF_H

struct reject4_headers {
	struct iphdr ip;
	struct ptl_icmp icmp;
};

/* 0: the packet is the answer now. Anything else: it is spoilt. */
static __noinline int reject_icmp4(struct __sk_buff *skb, const struct packet4 *p)
{
	bool udp = p->key.protocol == IPPROTO_UDP;
	__u32 quoted = udp ? PTL_QUOTE_UDP : PTL_QUOTE_LONG;
	__u32 header = p->l4 - p->l3;
	struct reject4_headers h = {};
	struct ptl_quote q = {};
	struct iphdr original;
	__u16 pseudo = 0;
	__u64 sum;

	if (bpf_skb_load_bytes(skb, p->l3, &original, sizeof(original)))
		return -1;
	if (udp ? bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_UDP) : bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_LONG))
		return -1;
	if (p->key.protocol != IPPROTO_SCTP)
		pseudo = pseudo_sum4(&p->key.src, &p->key.dst, p->key.protocol, bpf_ntohs(original.tot_len) - header);
	sum = ptl_quote_sum(&q, p->key.protocol, pseudo);
	if (bpf_skb_change_tail(skb, p->l4 + quoted, 0))
		return -1;
	if (udp ? bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_UDP, 0) : bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_LONG, 0))
		return -1;
	if (bpf_skb_adjust_room(skb, sizeof(h), BPF_ADJ_ROOM_MAC, 0))
		return -1;
	h.icmp.type = PTL_ICMP4_DEST_UNREACH;
	h.icmp.code = PTL_ICMP4_PORT_UNREACH;
	/* the quoted IPv4 header sums to nothing: that is what its own checksum is for */
	h.icmp.check = ~ptl_csum_fold(sum + ((__u16)h.icmp.type | (__u16)h.icmp.code << 8));
	h.ip.version = 4;
	h.ip.ihl = sizeof(h.ip) / 4;
	h.ip.tot_len = bpf_htons(sizeof(h) + header + quoted);
	h.ip.ttl = PTL_REJECT_TTL;
	h.ip.protocol = IPPROTO_ICMP;
	h.ip.saddr = p->key.dst.w[0];
	h.ip.daddr = p->key.src.w[0];
	h.ip.check = ~ptl_csum_fold(bpf_csum_diff(0, 0, (__be32 *)&h.ip, sizeof(h.ip), 0));
	if (bpf_skb_store_bytes(skb, p->l3, &h, sizeof(h), 0))
		return -1;
	return ptl_swap_macs(skb);
}

/* `redirect` is IPv6's affair: see reject_reset6. */
static __always_inline int reject_build4(struct __sk_buff *skb, const struct packet4 *p, __u64 redirect)
{
	return reject_icmp4(skb, p);
}

#endif /* PTL_REJECT4_BPF_H */
