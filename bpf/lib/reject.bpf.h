/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * REJECT: the packet becomes an ICMP port unreachable from the Service address back to its sender, for TCP too (7.4).
 * Included once per family.
 *
 * The answer quotes the network header and the first bytes of the transport header. The kernel may still fill in a
 * partial transport checksum inside the quote when the answer is sent (ip_summed survives), so a quote that looks
 * partial gets the final sum, and the ICMP checksum is made for that.
 */

#ifndef PTL_REJECT_COMMON
#define PTL_REJECT_COMMON

#define PTL_ICMP4_DEST_UNREACH 3
#define PTL_ICMP4_PORT_UNREACH 3
#define PTL_ICMP6_DEST_UNREACH 1
#define PTL_ICMP6_PORT_UNREACH 4
#define PTL_REJECT_TTL 64
#define PTL_IPV6_MIN_HEADER sizeof(struct ipv6hdr)

/* The longest network header that is quoted: IPv6 with extension headers, in units of 8 bytes. */
#define PTL_REJECT6_UNITS 32

/*
 * How much of the transport header is quoted: all of TCP's fixed part (its checksum lies in it), all of UDP's, and of
 * SCTP as much as TCP's: the INIT's tag ends there, by which its sender knows the error for its own (RFC 9260 section 10).
 */
#define PTL_QUOTE_LONG sizeof(struct tcphdr)
#define PTL_QUOTE_UDP sizeof(struct udphdr)

/* The quoted start of a transport header, and where its checksum is. */
struct ptl_quote {
	union {
		__u8 bytes[PTL_QUOTE_LONG];
		__u32 words[PTL_QUOTE_LONG / 4];
		struct tcphdr tcp;
		struct udphdr udp;
		struct ptl_sctp sctp;
	};
};

/* A transport checksum that equals the folded sum of the pseudo header is partial (CHECKSUM_PARTIAL). */
static __always_inline bool ptl_partial(__u16 check, __u16 pseudo)
{
	return check && check == pseudo;
}

/*
 * Sum of the quote as it will be on the wire; `pseudo` is the folded sum of the original packet's pseudo header, 0 for a
 * protocol without one. A partial checksum is finished here, over the bytes that remain; SCTP's (0) is only summed as the
 * kernel will finish it, since that takes the CRC over the field as it stands. A receiver that sees it unfinished checks
 * no sum.
 */
static __always_inline __u64 ptl_quote_sum(struct ptl_quote *q, __u8 protocol, __u16 pseudo)
{
	__u64 sum = 0;
	__u16 *check = protocol == IPPROTO_TCP ? &q->tcp.check : &q->udp.check;

	sum = (__u64)q->words[0] + q->words[1];
	if (protocol != IPPROTO_UDP)
		sum += (__u64)q->words[2] + q->words[3] + q->words[4];
	if (protocol == IPPROTO_SCTP && !q->sctp.checksum)
		sum += ptl_crc32c_words(q->words, PTL_QUOTE_LONG / 4);
	if (ptl_partial(*check, pseudo)) {
		__u16 final = ~ptl_csum_fold(sum);

		sum += (__u64)final + (__u16)~*check;
		*check = final;
	}
	return sum;
}

/* Turns the Ethernet header round. 0, or an error. */
static __always_inline long ptl_swap_macs(struct __sk_buff *skb)
{
	__u8 macs[2 * ETH_ALEN], swapped[2 * ETH_ALEN];

	if (bpf_skb_load_bytes(skb, 0, macs, sizeof(macs)))
		return -1;
	__builtin_memcpy(swapped, macs + ETH_ALEN, ETH_ALEN);
	__builtin_memcpy(swapped + ETH_ALEN, macs, ETH_ALEN);
	return bpf_skb_store_bytes(skb, 0, swapped, sizeof(swapped), 0);
}
#endif

/* Folded sum of the pseudo header of the packet that is rejected, with the transport length `length`. */
static __always_inline __u16 FAM(pseudo_sum)(const ADDR *a, const ADDR *b, __u8 protocol, __u32 length)
{
	__u64 sum = bpf_htonl(length);

	sum += bpf_htonl(protocol);
	for (__u32 i = 0; i < sizeof(*a) / 4; i++)
		sum += (__u64)a->w[i] + b->w[i];
	return ptl_csum_fold(sum);
}
