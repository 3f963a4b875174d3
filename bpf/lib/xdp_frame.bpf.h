/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Frames of the XDP hook: reading headers where they lie, and what both families need to write them. A frame is all there
 * is: no offload, no fragments of a buffer, so headers are contiguous and every checksum is whole.
 *
 * xdp_parse4/6 fill a packet4/6 as parse4/6 do (parse.bpf.h), for packets without options or extension headers only. They return
 * PTL_PARSED, or the enum ptl_reason with which the packet passes to tc.
 */
#ifndef PTL_XDP_FRAME_BPF_H
#define PTL_XDP_FRAME_BPF_H

#include "parse.bpf.h"

/* The network header: struct FAM(ptl_ip). */
#define ptl_ip4 iphdr
#define ptl_ip6 ipv6hdr

/* What is read of a packet beside its tuple. */
struct ptl_xdp_header {
	__u32 length; /* from the network header on, as that says */
	__u32 ttl;    /* or hop limit */
};

/* Ports and TCP flags of the transport header at `l4`, behind which `length` bytes of the packet are left. */
static __always_inline int ptl_xdp_ports(const void *l4, const void *end, __u8 protocol, __u32 length, struct ptl_ports *ports,
					 __u8 *tcp_flags)
{
	const struct tcphdr *tcp = l4;
	const struct udphdr *udp = l4;

	*tcp_flags = 0;
	if (protocol == IPPROTO_TCP) {
		if ((const void *)(tcp + 1) > end || length < sizeof(*tcp) || tcp->doff * 4 < sizeof(*tcp))
			return PTL_REASON_XDP_OTHER;
		*tcp_flags = ((const __u8 *)tcp)[PTL_TCP_FLAGS_OFFSET];
	} else if (protocol == IPPROTO_UDP) {
		if ((const void *)(udp + 1) > end || length < sizeof(*udp) || bpf_ntohs(udp->len) < sizeof(*udp))
			return PTL_REASON_XDP_OTHER;
	} else {
		return PTL_REASON_XDP_PROTOCOL;
	}
	ports->sport = udp->source; /* TCP has its ports in the same place */
	ports->dport = udp->dest;
	return PTL_PARSED;
}

static __always_inline int xdp_parse4(const struct xdp_md *ctx, struct packet4 *p, struct ptl_xdp_header *header)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct iphdr *ip = data + PTL_L3_OFFSET;
	struct ptl_ports ports = {};
	int r;

	if ((const void *)(ip + 1) > end || ip->version != 4 || ip->ihl * 4 < sizeof(*ip))
		return PTL_REASON_XDP_OTHER;
	if (ip->ihl * 4 > sizeof(*ip))
		return PTL_REASON_XDP_OPTIONS;
	if (ip->frag_off & bpf_htons(PTL_IP_OFFSET | PTL_IP_MORE))
		return PTL_REASON_XDP_FRAGMENT;
	header->length = bpf_ntohs(ip->tot_len);
	header->ttl = ip->ttl;
	if (header->length < sizeof(*ip) || header->length > ptl_length(ctx) - PTL_L3_OFFSET)
		return PTL_REASON_XDP_OTHER;
	r = ptl_xdp_ports(ip + 1, end, ip->protocol, header->length - sizeof(*ip), &ports, &p->tcp_flags);
	p->key.src.w[0] = ip->saddr;
	p->key.dst.w[0] = ip->daddr;
	p->key.sport = ports.sport;
	p->key.dport = ports.dport;
	p->key.protocol = ip->protocol;
	p->key.direction = PTL_IN;
	p->key.pad = 0;
	p->l3 = PTL_L3_OFFSET;
	p->l4 = PTL_L3_OFFSET + sizeof(*ip);
	p->id = 0;
	p->part = PTL_WHOLE;
	return r;
}

static __always_inline int xdp_parse6(const struct xdp_md *ctx, struct packet6 *p, struct ptl_xdp_header *header)
{
	const void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct ipv6hdr *ip = data + PTL_L3_OFFSET;
	struct ptl_ports ports = {};
	int r;

	if ((const void *)(ip + 1) > end || ip->version != 6)
		return PTL_REASON_XDP_OTHER;
	if (ip->nexthdr == PTL_IPV6_FRAGMENT)
		return PTL_REASON_XDP_FRAGMENT;
	if (ip->nexthdr == PTL_IPV6_HOPOPTS || ip->nexthdr == PTL_IPV6_ROUTING || ip->nexthdr == PTL_IPV6_DSTOPTS)
		return PTL_REASON_XDP_OPTIONS;
	header->length = bpf_ntohs(ip->payload_len) + sizeof(*ip);
	header->ttl = ip->hop_limit;
	if (header->length > ptl_length(ctx) - PTL_L3_OFFSET)
		return PTL_REASON_XDP_OTHER;
	r = ptl_xdp_ports(ip + 1, end, ip->nexthdr, header->length - sizeof(*ip), &ports, &p->tcp_flags);
	__builtin_memcpy(&p->key.src, &ip->saddr, sizeof(p->key.src));
	__builtin_memcpy(&p->key.dst, &ip->daddr, sizeof(p->key.dst));
	p->key.sport = ports.sport;
	p->key.dport = ports.dport;
	p->key.protocol = ip->nexthdr;
	p->key.direction = PTL_IN;
	p->key.pad = 0;
	p->l3 = PTL_L3_OFFSET;
	p->l4 = PTL_L3_OFFSET + sizeof(*ip);
	p->id = 0;
	p->part = PTL_WHOLE;
	return r;
}

/* A ones' complement sum, not folded, that words of `to` are added to and words of `from` taken away from. */
static __always_inline __u64 ptl_xdp_change(__u64 sum, const void *from, const void *to, __u32 words)
{
	const __u32 *old = from, *new = to;

	for (__u32 i = 0; i < words; i++)
		sum += (__u64)(__u32)~old[i] + new[i];
	return sum;
}

/* The same in 32 bits. */
static __always_inline __u32 ptl_xdp_folded(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	return (sum & 0xffffffff) + (sum >> 32);
}

/* The checksum after a change of what it covers (RFC 1624, equation 3). */
static __always_inline __sum16 ptl_xdp_mended(__sum16 check, __u64 change)
{
	__u64 sum = (__u16)~check + change;

	sum = (sum & 0xffff) + (sum >> 16 & 0xffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

/* The network header's own share: one hop less, and over IPv4 the checksum that covers it and the addresses. */
static __always_inline void ptl_xdp_hop4(struct iphdr *ip, __u32 change)
{
	__be16 before = *(__be16 *)&ip->ttl, after;

	ip->ttl--;
	after = *(__be16 *)&ip->ttl;
	ip->check = ptl_xdp_mended(ip->check, (__u64)change + (__u16)~before + after);
}

static __always_inline void ptl_xdp_hop6(struct ipv6hdr *ip, __u32 change)
{
	ip->hop_limit--;
}

#endif /* PTL_XDP_FRAME_BPF_H */
