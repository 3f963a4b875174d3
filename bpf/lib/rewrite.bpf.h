/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Changing addresses and ports with every checksum kept right: full, partial (CHECKSUM_PARTIAL holds only the
 * pseudo-header's sum), absent (UDP 0) and complete. Included once per family.
 */

#ifndef PTL_REWRITE_COMMON
#define PTL_REWRITE_COMMON

/* Since Linux 6.16 (and stable trees before it); older kernels refuse the flag with EINVAL. */
#define PTL_BPF_F_IPV6 (1ULL << 7)

#define PTL_CSUM_OFFSET_TCP offsetof(struct tcphdr, check)
#define PTL_CSUM_OFFSET_UDP offsetof(struct udphdr, check)

static __always_inline __u32 ptl_l4_csum_offset(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? PTL_CSUM_OFFSET_TCP : PTL_CSUM_OFFSET_UDP;
}

/* UDP: 0 means "no checksum", so a sum that comes out as 0 is written as 0xffff, and a 0 stays. */
static __always_inline __u64 ptl_l4_csum_flags(__u8 protocol)
{
	return protocol == IPPROTO_UDP ? BPF_F_MARK_MANGLED_0 : 0;
}

static __always_inline __u16 ptl_csum_fold(__u64 sum)
{
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return sum;
}

/* Where the transport header of a packet without options or extensions is. */
#define PTL_PLAIN_L4(ADDR) (PTL_L3_OFFSET + (sizeof(ADDR) == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)))

/* What changes in the headers of a packet without options or extensions lies side by side, and is written at once. */
struct ptl_ends4 {
	__u16 pad;
	__sum16 check; /* from here on */
	struct addr4 src;
	struct addr4 dst;
	struct ptl_ports ports;
};

struct ptl_ends6 {
	struct addr6 src;
	struct addr6 dst;
	struct ptl_ports ports;
};

static __always_inline long ptl_store_ends4(struct __sk_buff *skb, const struct packet4 *p, struct ptl_ends4 *ends)
{
	__u64 sum = (__u16)~p->check;

	/* RFC 1624, equation 3; of the two addresses one changes */
	sum += (__u64)(__u32)~p->key.src.w[0] + ends->src.w[0] + (__u32)~p->key.dst.w[0] + ends->dst.w[0];
	ends->check = ~ptl_csum_fold(sum);
	return bpf_skb_store_bytes(skb, PTL_L3_OFFSET + offsetof(struct iphdr, check), &ends->check,
				   sizeof(*ends) - offsetof(struct ptl_ends4, check), 0);
}

static __always_inline long ptl_store_ends6(struct __sk_buff *skb, const struct packet6 *p, struct ptl_ends6 *ends)
{
	return bpf_skb_store_bytes(skb, PTL_L3_OFFSET + offsetof(struct ipv6hdr, saddr), ends, sizeof(*ends), 0);
}
#endif

/*
 * Adjusts the transport checksum at `offset` for an address that changes in the IP header.
 *
 * IPv6 and CHECKSUM_COMPLETE: there is no header checksum that cancels the new address out, so skb->csum must not move.
 * Kernels that know BPF_F_IPV6 see to that; on others bpf_l4_csum_replace takes the difference away from skb->csum and
 * bpf_csum_update (which acts on CHECKSUM_COMPLETE alone) gives it back.
 */
static __always_inline long FAM(csum_address)(struct __sk_buff *skb, __u32 offset, __u64 flags, const ADDR *from,
					      const ADDR *to)
{
	if (sizeof(ADDR) == 4)
		return bpf_l4_csum_replace(skb, offset, from->w[0], to->w[0], flags | BPF_F_PSEUDO_HDR | 4);

	__s64 diff = bpf_csum_diff((__be32 *)from, sizeof(*from), (__be32 *)to, sizeof(*to), 0);

	if (diff < 0)
		return diff;
	if (!bpf_l4_csum_replace(skb, offset, 0, diff, flags | BPF_F_PSEUDO_HDR | PTL_BPF_F_IPV6))
		return 0;
	if (bpf_l4_csum_replace(skb, offset, 0, diff, flags | BPF_F_PSEUDO_HDR))
		return -1;
	bpf_csum_update(skb, diff);
	return 0;
}

/*
 * Writes one address into the IP header at l3 and mends the IPv4 header checksum. `flags`, IPv6 only:
 * BPF_F_RECOMPUTE_CSUM where no checksum in the packet cancels the change out (see csum_address).
 */
static __always_inline long FAM(store_address)(struct __sk_buff *skb, __u32 l3, bool source, const ADDR *from,
					       const ADDR *to, __u64 flags)
{
	if (sizeof(ADDR) == 4) {
		if (bpf_l3_csum_replace(skb, l3 + offsetof(struct iphdr, check), from->w[0], to->w[0], 4))
			return -1;
		return bpf_skb_store_bytes(skb, l3 + (source ? offsetof(struct iphdr, saddr) : offsetof(struct iphdr, daddr)),
					   to, sizeof(*to), 0);
	}
	return bpf_skb_store_bytes(skb, l3 + (source ? offsetof(struct ipv6hdr, saddr) : offsetof(struct ipv6hdr, daddr)),
				   to, sizeof(*to), flags);
}

/*
 * Writes new ports into an SCTP packet; its checksum does not cover addresses. The sum of a fragmented packet takes bytes
 * that are not here: its ports cannot change.
 */
static __noinline long FAM(rewrite_sctp)(struct __sk_buff *skb, const struct FAM(packet) *p, struct ptl_ports before,
					 struct ptl_ports after)
{
	__u32 length;

	if (p->part == PTL_LATER_FRAGMENT || (before.sport == after.sport && before.dport == after.dport))
		return 0;
	length = ptl_transport_length(skb, p->l3, p->l4, sizeof(ADDR) != 4);
	if (p->part != PTL_WHOLE || !length)
		return -1;
	return ptl_sctp_ports(skb, p->l4, length, before, after);
}

/*
 * Rewrites a packet as a nat entry says: OUT its source (`source`), IN its destination; and the other end's
 * port. A later fragment has only an address to rewrite. `source` is a constant of the caller: the verifier knows no
 * pointer that is one of two places on the stack. 0, or an error with which the packet may be half written and must be
 * dropped.
 */
static __always_inline long FAM(rewrite)(struct __sk_buff *skb, const struct FAM(packet) *p,
					 const struct FAM(nat_value) *v, bool source)
{
	const ADDR *from = source ? &p->key.src : &p->key.dst;
	__u32 csum = p->l4 + ptl_l4_csum_offset(p->key.protocol);
	__u64 flags = ptl_l4_csum_flags(p->key.protocol);
	struct ptl_ports before = { p->key.sport, p->key.dport };
	struct ptl_ports after = { source ? v->port : v->peer_port, source ? v->peer_port : v->port };
	bool headless = p->part == PTL_LATER_FRAGMENT;
	bool moved;

	if (p->key.protocol == IPPROTO_SCTP)
		return FAM(rewrite_sctp)(skb, p, before, after) ||
		       FAM(store_address)(skb, p->l3, source, from, &v->addr, BPF_F_RECOMPUTE_CSUM);
	moved = !FAM(addr_equal)(from, &v->addr);
	if (headless)
		return moved ? FAM(store_address)(skb, p->l3, source, from, &v->addr, BPF_F_RECOMPUTE_CSUM) : 0;
	if (moved && FAM(csum_address)(skb, csum, flags, from, &v->addr))
		return -1;
	if (before.sport != after.sport || before.dport != after.dport) {
		__u32 old_word = before.sport | (__u32)before.dport << 16;
		__u32 new_word = after.sport | (__u32)after.dport << 16;

		if (bpf_l4_csum_replace(skb, csum, old_word, new_word, flags | 4))
			return -1;
	}
	if (p->l4 == PTL_PLAIN_L4(ADDR)) {
		struct FAM(ptl_ends) ends = { .src = p->key.src, .dst = p->key.dst, .ports = after };

		*(source ? &ends.src : &ends.dst) = v->addr;
		return FAM(ptl_store_ends)(skb, p, &ends);
	}
	if (moved && FAM(store_address)(skb, p->l3, source, from, &v->addr, 0))
		return -1;
	return bpf_skb_store_bytes(skb, p->l4, &after, sizeof(after), 0);
}
