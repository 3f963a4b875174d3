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

struct reject6_segment {
	struct ipv6hdr ip;
	struct tcphdr tcp;
};

/*
 * Sends an RST ahead of the ICMPv6 answer to a SYN, and leaves the packet as it was but for TCP options and payload.
 *
 * The answer to a pod reaches its socket while connect() still owns it. The kernel forgets an ICMPv6 error then
 * (TcpExtLockDroppedIcmps; over IPv4 connect() notices all the same): measured, refused after 1,024 ms, when the SYN was
 * sent again. An RST waits in the socket's backlog: refused after 0.4 ms. Best effort: failing here leaves the ICMPv6.
 */
static __noinline int reject_reset6(struct __sk_buff *skb, const struct packet6 *p, __u64 redirect)
{
	struct reject6_segment original, h;
	__u16 pseudo;
	int spoilt;

	if (p->l4 - p->l3 != sizeof(original.ip) || bpf_skb_load_bytes(skb, p->l3, &original, sizeof(original)))
		return 0;
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(h.tcp), 0))
		return 0;
	__builtin_memcpy(&h.ip, &original.ip, sizeof(h.ip));
	__builtin_memset(&h.tcp, 0, sizeof(h.tcp));
	h.ip.payload_len = bpf_htons(sizeof(h.tcp));
	h.ip.hop_limit = PTL_REJECT_TTL;
	__builtin_memcpy(&h.ip.saddr, &p->key.dst, sizeof(h.ip.saddr));
	__builtin_memcpy(&h.ip.daddr, &p->key.src, sizeof(h.ip.daddr));
	h.tcp.source = p->key.dport;
	h.tcp.dest = p->key.sport;
	h.tcp.ack_seq = bpf_htonl(bpf_ntohl(original.tcp.seq) + 1);
	h.tcp.doff = sizeof(h.tcp) / 4;
	h.tcp.rst = 1;
	h.tcp.ack = 1;
	pseudo = pseudo_sum6(&p->key.src, &p->key.dst, IPPROTO_TCP, sizeof(h.tcp));
	if (ptl_partial(original.tcp.check, pseudo_sum6(&p->key.src, &p->key.dst, IPPROTO_TCP,
							bpf_ntohs(original.ip.payload_len))))
		h.tcp.check = pseudo; /* the kernel finishes it, as it would have finished the SYN's */
	else
		h.tcp.check = ~ptl_csum_fold(bpf_csum_diff(0, 0, (__be32 *)&h.tcp, sizeof(h.tcp), pseudo));
	spoilt = bpf_skb_store_bytes(skb, p->l3, &h, sizeof(h), 0);
	spoilt |= ptl_swap_macs(skb);
	if (!spoilt)
		bpf_clone_redirect(skb, skb->ifindex, redirect);
	spoilt |= ptl_swap_macs(skb);
	return spoilt | bpf_skb_store_bytes(skb, p->l3, &original, sizeof(original), 0);
}

/* 0: the packet is the answer now. Anything else: it is spoilt. */
static __noinline int reject_icmp6(struct __sk_buff *skb, const struct packet6 *p)
{
	bool udp = p->key.protocol == IPPROTO_UDP;
	__u32 quoted = udp ? PTL_QUOTE_UDP : PTL_QUOTE_LONG;
	__u32 header = p->l4 - p->l3;
	struct reject6_headers h = {};
	struct ptl_quote q = {};
	struct ipv6hdr original;
	__u16 pseudo = 0;
	__u64 sum;

	if (header > PTL_REJECT6_UNITS * 8)
		return -1;
	if (bpf_skb_load_bytes(skb, p->l3, &original, sizeof(original)))
		return -1;
	if (udp ? bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_UDP) : bpf_skb_load_bytes(skb, p->l4, &q, PTL_QUOTE_LONG))
		return -1;
	if (p->key.protocol != IPPROTO_SCTP)
		pseudo = pseudo_sum6(&p->key.src, &p->key.dst, p->key.protocol,
				     bpf_ntohs(original.payload_len) + PTL_IPV6_MIN_HEADER - header);
	sum = ptl_quote_sum(&q, p->key.protocol, pseudo);
	sum += reject_header_sum6(skb, p->l3, p->l4);
	if (bpf_skb_change_tail(skb, p->l4 + quoted, 0))
		return -1;
	if (udp ? bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_UDP, 0) : bpf_skb_store_bytes(skb, p->l4, &q, PTL_QUOTE_LONG, 0))
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

static __always_inline int reject_build6(struct __sk_buff *skb, const struct packet6 *p, __u64 redirect)
{
	if (p->key.protocol == IPPROTO_TCP && reject_reset6(skb, p, redirect))
		return -1;
	return reject_icmp6(skb, p);
}

#endif /* PTL_REJECT6_BPF_H */
