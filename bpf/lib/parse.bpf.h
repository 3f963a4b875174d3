/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * THE place where headers are read. A parser copies what it needs out of the packet (headers may lie in fragments of
 * the skb, and every rewrite would make packet pointers invalid) and never changes anything.
 *
 * parse4/parse6 fill a packet4/packet6: addresses and ports in network order, offsets in bytes from the start of the
 * frame. They return PTL_PARSED, or the enum ptl_reason with which the packet passes.
 */
#ifndef PTL_PARSE_BPF_H
#define PTL_PARSE_BPF_H

#include "common.bpf.h"

#define PTL_PARSED (-1)

/* How many IPv6 extension headers are followed. */
#define PTL_MAX_EXTENSIONS 8

/* linux/in6.h and linux/icmp.h drag in headers of the C library: these few are all we need. */
#define PTL_IPV6_HOPOPTS 0
#define PTL_IPV6_ROUTING 43
#define PTL_IPV6_FRAGMENT 44
#define PTL_IPV6_DSTOPTS 60
#define PTL_ICMPV6 58

#define PTL_IP_OFFSET 0x1fff
#define PTL_IP_MORE 0x2000
#define PTL_IPV6_OFFSET 0xfff8
#define PTL_IPV6_MORE 0x0001
#define PTL_IPV6_SEGMENTS_LEFT 0x00ff /* of a routing header, in the same place */

/* The longest packet without BIG TCP. */
#define PTL_MAX_PLAIN_LENGTH 65535

struct ptl_icmp {
	__u8 type;
	__u8 code;
	__sum16 check;
	__be32 rest;
};

struct ptl_ports {
	__be16 sport;
	__be16 dport;
};

/* linux/sctp.h is not for the kernel's users: the common header, and the type of the first chunk behind it. */
struct ptl_sctp {
	__be16 sport;
	__be16 dport;
	__be32 tag;
	__le32 checksum;
	__u8 chunk;
};
#define PTL_SCTP_HEADER 12
#define PTL_SCTP_INIT 1
#define PTL_SCTP_ABORT 6
#define PTL_SCTP_SHUTDOWN_COMPLETE 14

/* Which part of a datagram a packet is. */
enum ptl_part { PTL_WHOLE, PTL_FIRST_FRAGMENT, PTL_LATER_FRAGMENT };

struct packet4 {
	struct nat_key4 key; /* direction is the caller's */
	__u32 l3;
	__u32 l4;
	__u32 id;       /* of a fragmented datagram, network byte order; IPv4's are 16 bits */
	__u8 tcp_flags; /* SCTP's chunks are told in TCP's words: sctp_flags() */
	__u8 part;      /* enum ptl_part; a later fragment has no transport header, and no ports here */
	__sum16 check;  /* of the header, unless it is quoted */
};

struct packet6 {
	struct nat_key6 key;
	__u32 l3;
	__u32 l4;
	__u32 id;
	__u8 tcp_flags;
	__u8 part;
};

static __always_inline bool has_ports(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_SCTP;
}

/* What an SCTP packet's first chunk does to its association, as TCP flags: opens it, ends it, goes on. */
static __always_inline __u8 sctp_flags(__u8 chunk)
{
	if (chunk == PTL_SCTP_INIT)
		return PTL_TCP_SYN;
	return chunk == PTL_SCTP_ABORT || chunk == PTL_SCTP_SHUTDOWN_COMPLETE ? PTL_TCP_RST : PTL_TCP_ACK;
}

/*
 * Copies a header at a constant offset: out of the packet where it is all there, otherwise (headers in fragments of the skb, or
 * none) by the kernel. 0, or an error. The pointer says how the header is aligned: without that it is copied byte by byte.
 */
#define PTL_READ_AT(skb, offset, header)                                                          \
	({                                                                                        \
		const typeof(*(header)) *at = (void *)(long)(skb)->data + (offset);               \
		long failed = 0;                                                                  \
                                                                                                  \
		if ((const void *)(at + 1) <= (const void *)(long)(skb)->data_end)                \
			*(header) = *at;                                                          \
		else                                                                              \
			failed = bpf_skb_load_bytes(skb, offset, header, sizeof(*(header)));      \
		failed;                                                                           \
	})

/*
 * Ports, and for TCP and SCTP the flags. `inner`: of a packet quoted by ICMP, of which 8 bytes are enough. `fixed`: where l4 is in a
 * packet without options or extensions, nearly always.
 */
static __always_inline int parse_ports(struct __sk_buff *skb, __u32 l4, __u32 fixed, __u8 protocol, bool inner,
				       struct ptl_ports *ports, __u8 *tcp_flags)
{
	if (protocol == IPPROTO_TCP && !inner) {
		struct tcphdr tcp;

		if (l4 == fixed ? PTL_READ_AT(skb, fixed, &tcp) : bpf_skb_load_bytes(skb, l4, &tcp, sizeof(tcp)))
			return PTL_REASON_PASS_MALFORMED;
		if (tcp.doff * 4 < sizeof(tcp))
			return PTL_REASON_PASS_MALFORMED;
		ports->sport = tcp.source;
		ports->dport = tcp.dest;
		*tcp_flags = ((__u8 *)&tcp)[PTL_TCP_FLAGS_OFFSET];
		return PTL_PARSED;
	}
	if (inner) {
		__u8 first[8];

		if (bpf_skb_load_bytes(skb, l4, first, sizeof(first)))
			return PTL_REASON_PASS_MALFORMED;
		__builtin_memcpy(ports, first, sizeof(*ports));
		return PTL_PARSED;
	}
	if (protocol == IPPROTO_SCTP) {
		struct ptl_sctp sctp;

		if (bpf_skb_load_bytes(skb, l4, &sctp, PTL_SCTP_HEADER + 1))
			return PTL_REASON_PASS_MALFORMED;
		ports->sport = sctp.sport;
		ports->dport = sctp.dport;
		*tcp_flags = sctp_flags(sctp.chunk);
		return PTL_PARSED;
	}
	struct udphdr udp;

	if (l4 == fixed ? PTL_READ_AT(skb, fixed, &udp) : bpf_skb_load_bytes(skb, l4, &udp, sizeof(udp)))
		return PTL_REASON_PASS_MALFORMED;
	/* a length of 0 is a jumbogram's */
	if (udp.len && bpf_ntohs(udp.len) < sizeof(udp))
		return PTL_REASON_PASS_MALFORMED;
	ports->sport = udp.source;
	ports->dport = udp.dest;
	return PTL_PARSED;
}

/*
 * How long the packet says it is, from its network header on. Segmentation offload beyond 64 KiB writes 0 (BIG TCP);
 * elsewhere 0 is no length.
 */
static __always_inline __u32 parse_length(const struct __sk_buff *skb, __u32 l3, __u32 said, __u32 fixed)
{
	if (said)
		return said + fixed;
	return skb->len > PTL_MAX_PLAIN_LENGTH ? skb->len - l3 : fixed;
}

/* Bytes of a packet from l4 on, without what pads the frame. 0: the header at l3 cannot be read. */
static __always_inline __u32 ptl_transport_length(struct __sk_buff *skb, __u32 l3, __u32 l4, bool v6)
{
	__be16 said;

	if (bpf_skb_load_bytes(skb, l3 + (v6 ? offsetof(struct ipv6hdr, payload_len) : offsetof(struct iphdr, tot_len)), &said,
			       sizeof(said)))
		return 0;
	return parse_length(skb, l3, bpf_ntohs(said), v6 ? sizeof(struct ipv6hdr) : 0) - (l4 - l3);
}

/* What the transport header needs at least, by protocol. Padding behind a short packet is not read as ports. */
static __always_inline __u32 parse_minimum(__u8 protocol)
{
	if (protocol == IPPROTO_TCP)
		return sizeof(struct tcphdr);
	return protocol == IPPROTO_SCTP ? PTL_SCTP_HEADER + 1 : sizeof(struct udphdr);
}

/* An IPv4 packet whose header is at l3: PTL_L3_OFFSET unless it is quoted. ICMP: ports stay 0. */
static __always_inline int parse4(struct __sk_buff *skb, __u32 l3, bool inner, struct packet4 *p)
{
	struct iphdr ip;
	struct ptl_ports ports = {};
	__u32 header, length;
	int r = PTL_PARSED;

	if (inner ? bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) : PTL_READ_AT(skb, PTL_L3_OFFSET, &ip))
		return PTL_REASON_PASS_MALFORMED;
	header = ip.ihl * 4;
	if (ip.version != 4 || header < sizeof(ip))
		return PTL_REASON_PASS_MALFORMED;
	length = inner ? header : parse_length(skb, l3, bpf_ntohs(ip.tot_len), 0);
	if (length < header)
		return PTL_REASON_PASS_MALFORMED;
	p->l3 = l3;
	p->l4 = l3 + header;
	p->tcp_flags = 0;
	p->key.src.w[0] = ip.saddr;
	p->key.dst.w[0] = ip.daddr;
	p->key.protocol = ip.protocol;
	p->key.pad = 0;
	p->id = ip.id;
	p->check = ip.check;
	p->part = ip.frag_off & bpf_htons(PTL_IP_OFFSET) ? PTL_LATER_FRAGMENT :
		  ip.frag_off & bpf_htons(PTL_IP_MORE)	 ? PTL_FIRST_FRAGMENT :
							   PTL_WHOLE;
	if (p->part == PTL_LATER_FRAGMENT) {
		if (inner || !has_ports(ip.protocol))
			return PTL_REASON_PASS_FRAGMENT;
	} else if (has_ports(ip.protocol)) {
		if (!inner && length < header + parse_minimum(ip.protocol))
			return PTL_REASON_PASS_MALFORMED;
		r = parse_ports(skb, p->l4, PTL_L3_OFFSET + sizeof(ip), ip.protocol, inner, &ports, &p->tcp_flags);
	} else if (ip.protocol != IPPROTO_ICMP) {
		r = PTL_REASON_PASS_PROTOCOL;
	}
	p->key.sport = ports.sport;
	p->key.dport = ports.dport;
	return r;
}

/*
 * Follows extension headers from `next` at p->l4. Sets both to the transport header (or to where it would be, in a later
 * fragment). AH, ESP and "no next header" hide the transport: they come back as the protocol they are.
 */
static __always_inline int parse_extensions6(struct __sk_buff *skb, __u8 *next, struct packet6 *p)
{
	for (int i = 0; i < PTL_MAX_EXTENSIONS; i++) {
		struct {
			__u8 next;
			__u8 length;
			__be16 fragment;
			__be32 id;
		} ext;

		if (*next != PTL_IPV6_HOPOPTS && *next != PTL_IPV6_ROUTING && *next != PTL_IPV6_DSTOPTS &&
		    *next != PTL_IPV6_FRAGMENT)
			return PTL_PARSED;
		if (bpf_skb_load_bytes(skb, p->l4, &ext, sizeof(ext)))
			return PTL_REASON_PASS_MALFORMED;
		if (*next == PTL_IPV6_FRAGMENT) {
			/* an atomic fragment (neither offset nor more) is a whole packet */
			p->id = ext.id;
			p->l4 += sizeof(ext);
			*next = ext.next;
			if (ext.fragment & bpf_htons(PTL_IPV6_OFFSET)) {
				p->part = PTL_LATER_FRAGMENT;
				return PTL_PARSED;
			}
			if (ext.fragment & bpf_htons(PTL_IPV6_MORE))
				p->part = PTL_FIRST_FRAGMENT;
			continue;
		}
		/* the header's destination is a stop on the way, and the checksum is made for the last one */
		if (*next == PTL_IPV6_ROUTING && ext.fragment & bpf_htons(PTL_IPV6_SEGMENTS_LEFT))
			return PTL_REASON_PASS_PROTOCOL;
		p->l4 += (ext.length + 1) * 8;
		*next = ext.next;
	}
	return PTL_REASON_PASS_MALFORMED;
}

/* An IPv6 packet whose header is at l3: PTL_L3_OFFSET unless it is quoted. ICMPv6: ports stay 0. */
static __always_inline int parse6(struct __sk_buff *skb, __u32 l3, bool inner, struct packet6 *p)
{
	struct ipv6hdr ip;
	struct ptl_ports ports = {};
	__u8 next;
	int r;

	if (inner ? bpf_skb_load_bytes(skb, l3, &ip, sizeof(ip)) : PTL_READ_AT(skb, PTL_L3_OFFSET, &ip))
		return PTL_REASON_PASS_MALFORMED;
	if (ip.version != 6)
		return PTL_REASON_PASS_MALFORMED;
	p->l3 = l3;
	p->l4 = l3 + sizeof(ip);
	p->tcp_flags = 0;
	__builtin_memcpy(&p->key.src, &ip.saddr, sizeof(p->key.src));
	__builtin_memcpy(&p->key.dst, &ip.daddr, sizeof(p->key.dst));
	p->key.pad = 0;
	next = ip.nexthdr;
	p->id = 0;
	p->part = PTL_WHOLE;
	r = parse_extensions6(skb, &next, p);
	p->key.protocol = next;
	if (r != PTL_PARSED)
		return r;
	if (p->part == PTL_LATER_FRAGMENT) {
		if (inner || !has_ports(next))
			return PTL_REASON_PASS_FRAGMENT;
	} else if (has_ports(next)) {
		__u32 length = parse_length(skb, l3, bpf_ntohs(ip.payload_len), sizeof(ip));

		if (!inner && length < p->l4 - l3 + parse_minimum(next))
			return PTL_REASON_PASS_MALFORMED;
		r = parse_ports(skb, p->l4, PTL_L3_OFFSET + sizeof(ip), next, inner, &ports, &p->tcp_flags);
	} else if (next != PTL_ICMPV6) {
		r = PTL_REASON_PASS_PROTOCOL;
	}
	p->key.sport = ports.sport;
	p->key.dport = ports.dport;
	return r;
}

#endif /* PTL_PARSE_BPF_H */
