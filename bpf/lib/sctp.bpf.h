/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * SCTP's checksum is a CRC32c over the whole packet (RFC 9260 section 6.8), without addresses. A CRC is linear: changed
 * ports change it by the CRC of "the difference, and then as many zero bytes as follow", which takes the packet's length
 * and not its contents.
 */
#ifndef PTL_SCTP_BPF_H
#define PTL_SCTP_BPF_H

#include "parse.bpf.h"

#define PTL_CRC32C_POLY 0x82f63b78u /* reflected */
#define PTL_SCTP_LENGTH_BITS 16

/* a(x) * b(x) modulo the polynomial, both reflected: bit 31 is x^0. Global: the verifier looks at its 32 turns once, and not once for each call. */
__noinline __u32 ptl_crc_times(__u32 a, __u32 b)
{
	__u32 product = 0;

	for (int i = 0; i < 32; i++) {
		product ^= b & -(a >> 31);
		a <<= 1;
		b = (b >> 1) ^ (PTL_CRC32C_POLY & -(b & 1));
	}
	return product;
}

/* The CRC32c of words as they lie in a packet. */
static __always_inline __u32 ptl_crc32c_words(const __u32 *words, __u32 count)
{
	__u32 crc = ~0u;

	for (__u32 i = 0; i < count; i++)
		crc = ptl_crc_times(PTL_CRC32C_POLY, crc ^ words[i]); /* the polynomial is x^32 modulo itself */
	return ~crc;
}

/* x^(8 * 2^k) modulo the polynomial: each is the square of the one before it, and the first is x^8. */
static const volatile __u32 ptl_crc32c_power[PTL_SCTP_LENGTH_BITS] = {
	0x00800000u, 0x00008000u, 0x82f63b78u, 0x6ea2d55cu, 0x18b8ea18u, 0x510ac59au, 0xb82be955u, 0xb8fdb1e7u,
	0x88e56f72u, 0x74c360a4u, 0xe4172b16u, 0x0d65762au, 0x35d73a62u, 0x28461564u, 0xbf455269u, 0xe2ea32dcu,
};

/* The CRC of `word` (as the CRC register) followed by `zeros` zero bytes: word * x^(8 zeros). */
static __always_inline __u32 ptl_crc32c_zeros(__u32 word, __u32 zeros)
{
	for (int i = 0; i < PTL_SCTP_LENGTH_BITS; i++) {
		__u32 set = -(zeros >> i & 1);

		/* no branch: old verifiers would follow both ways in every turn */
		word = (ptl_crc_times(ptl_crc32c_power[i], word) & set) | (word & ~set);
	}
	return word;
}

/*
 * Writes new ports into an SCTP packet and mends its checksum. `length`: bytes from the SCTP header to the end of the
 * packet (padding of the frame not included).
 *
 * A checksum of 0 stays: the kernel is still to fill it in (CHECKSUM_PARTIAL, csum_not_inet), and takes the CRC over the
 * field as it stands. One packet in 2^32 has that sum of its own; it is lost if its ports change.
 */
static __always_inline long ptl_sctp_ports(struct __sk_buff *skb, __u32 l4, __u32 length, struct ptl_ports before,
					   struct ptl_ports after)
{
	__u32 difference = (before.sport ^ after.sport) | (__u32)(before.dport ^ after.dport) << 16;
	__le32 checksum;

	if (length < PTL_SCTP_HEADER ||
	    bpf_skb_load_bytes(skb, l4 + offsetof(struct ptl_sctp, checksum), &checksum, sizeof(checksum)))
		return -1;
	/* four bytes went into the register: x^32 ahead of the zeros that follow them */
	if (checksum)
		checksum ^= ptl_crc32c_zeros(difference, length);
	/* nothing cancels these changes out of a CHECKSUM_COMPLETE */
	if (bpf_skb_store_bytes(skb, l4 + offsetof(struct ptl_sctp, checksum), &checksum, sizeof(checksum),
				BPF_F_RECOMPUTE_CSUM))
		return -1;
	return bpf_skb_store_bytes(skb, l4, &after, sizeof(after), BPF_F_RECOMPUTE_CSUM);
}

#endif /* PTL_SCTP_BPF_H */
