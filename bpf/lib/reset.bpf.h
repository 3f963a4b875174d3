/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * An RST to the sender of a segment, made from the segment itself (RFC 9293 section 3.10.7.1). Included once per family.
 */

#ifndef PTL_RESET_COMMON
#define PTL_RESET_COMMON

/* The IP header of an answer that ends with a TCP header: its length, and a whole way to go. */
static __always_inline long ptl_fresh_header4(struct __sk_buff *skb, __u32 l3, __u32 l4)
{
	__u32 check = l3 + offsetof(struct iphdr, check);
	__be16 before, after = bpf_htons(l4 - l3 + sizeof(struct tcphdr));
	struct {
		__u8 ttl;
		__u8 protocol;
	} hop, fresh = { PTL_REJECT_TTL, IPPROTO_TCP };

	if (bpf_skb_load_bytes(skb, l3 + offsetof(struct iphdr, tot_len), &before, sizeof(before)) ||
	    bpf_skb_load_bytes(skb, l3 + offsetof(struct iphdr, ttl), &hop, sizeof(hop)))
		return -1;
	if (bpf_l3_csum_replace(skb, check, before, after, sizeof(after)) ||
	    bpf_l3_csum_replace(skb, check, hop.ttl | hop.protocol << 8, fresh.ttl | fresh.protocol << 8, sizeof(fresh)))
		return -1;
	if (bpf_skb_store_bytes(skb, l3 + offsetof(struct iphdr, tot_len), &after, sizeof(after), 0))
		return -1;
	return bpf_skb_store_bytes(skb, l3 + offsetof(struct iphdr, ttl), &fresh, sizeof(fresh), 0);
}

static __always_inline long ptl_fresh_header6(struct __sk_buff *skb, __u32 l3, __u32 l4)
{
	__be16 length = bpf_htons(l4 - l3 - sizeof(struct ipv6hdr) + sizeof(struct tcphdr));
	__u8 hops = PTL_REJECT_TTL;

	if (bpf_skb_store_bytes(skb, l3 + offsetof(struct ipv6hdr, payload_len), &length, sizeof(length), 0))
		return -1;
	return bpf_skb_store_bytes(skb, l3 + offsetof(struct ipv6hdr, hop_limit), &hops, sizeof(hops), 0);
}
#endif

/* 0: the packet is the RST now. Anything else: it is spoilt. */
static __noinline int FAM(reset_build)(struct __sk_buff *skb, const struct FAM(packet) *p)
{
	struct tcphdr original, tcp = {};
	__u32 segment = ptl_transport_length(skb, p->l3, p->l4, sizeof(ADDR) != 4);
	__u16 pseudo;

	if (!segment || bpf_skb_load_bytes(skb, p->l4, &original, sizeof(original)))
		return -1;
	tcp.source = p->key.dport;
	tcp.dest = p->key.sport;
	tcp.doff = sizeof(tcp) / 4;
	tcp.rst = 1;
	if (original.ack) {
		tcp.seq = original.ack_seq;
	} else {
		tcp.ack = 1;
		tcp.ack_seq = bpf_htonl(bpf_ntohl(original.seq) + segment - original.doff * 4 + original.syn + original.fin);
	}
	pseudo = FAM(pseudo_sum)(&p->key.src, &p->key.dst, IPPROTO_TCP, sizeof(tcp));
	if (ptl_partial(original.check, FAM(pseudo_sum)(&p->key.src, &p->key.dst, IPPROTO_TCP, segment)))
		tcp.check = pseudo; /* the kernel finishes it, as it would have finished the segment's */
	else
		tcp.check = ~ptl_csum_fold(bpf_csum_diff(0, 0, (__be32 *)&tcp, sizeof(tcp), pseudo));
	if (bpf_skb_change_tail(skb, p->l4 + sizeof(tcp), 0) || FAM(ptl_fresh_header)(skb, p->l3, p->l4))
		return -1;
	if (FAM(store_address)(skb, p->l3, true, &p->key.src, &p->key.dst, 0) ||
	    FAM(store_address)(skb, p->l3, false, &p->key.dst, &p->key.src, 0))
		return -1;
	if (bpf_skb_store_bytes(skb, p->l4, &tcp, sizeof(tcp), 0))
		return -1;
	return ptl_swap_macs(skb);
}
