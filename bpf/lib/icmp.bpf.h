/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * ICMP errors about flows of ours: outer and inner headers are rewritten together, both directions, every checksum
 * right. Included once per family.
 *
 * An error runs against the packet that it quotes, so the entry that belongs to it is the one of the quoted packet's
 * replies: IN at ingress, OUT at egress. Redirects are never translated: one about a flow of ours is dropped, since it
 * would teach the client a wrong route to the Service.
 */

#ifndef PTL_ICMP_COMMON
#define PTL_ICMP_COMMON

#define PTL_ICMP4_REDIRECT 5
#define PTL_ICMP4_TIME_EXCEEDED 11
#define PTL_ICMP4_PARAMETER 12
#define PTL_ICMP6_LAST_ERROR 4 /* unreachable, too big, time exceeded, parameter problem */
#define PTL_ICMP6_REDIRECT 137
#define PTL_ICMP_CHECK offsetof(struct ptl_icmp, check)

/* An IPv6 redirect's options begin behind target and destination address; option 4 quotes the packet. */
#define PTL_ND_REDIRECT_OPTIONS 40
#define PTL_ND_OPTION_REDIRECTED 4
#define PTL_ND_REDIRECTED_PACKET 8
#define PTL_ND_MAX_OPTIONS 4

enum ptl_icmp_kind { PTL_ICMP_OTHER, PTL_ICMP_ERROR, PTL_ICMP_IS_REDIRECT };

static __always_inline enum ptl_icmp_kind ptl_icmp_kind4(__u8 type)
{
	if (type == PTL_ICMP4_DEST_UNREACH || type == PTL_ICMP4_TIME_EXCEEDED || type == PTL_ICMP4_PARAMETER)
		return PTL_ICMP_ERROR;
	return type == PTL_ICMP4_REDIRECT ? PTL_ICMP_IS_REDIRECT : PTL_ICMP_OTHER;
}

static __always_inline enum ptl_icmp_kind ptl_icmp_kind6(__u8 type)
{
	if (type >= PTL_ICMP6_DEST_UNREACH && type <= PTL_ICMP6_LAST_ERROR)
		return PTL_ICMP_ERROR;
	return type == PTL_ICMP6_REDIRECT ? PTL_ICMP_IS_REDIRECT : PTL_ICMP_OTHER;
}

/*
 * Where the packet begins that an ICMP message at l4 quotes. 0: nowhere.
 */
static __always_inline __u32 ptl_quoted_at(struct __sk_buff *skb, __u32 l4, enum ptl_icmp_kind kind, bool v6)
{
	__u32 offset = l4 + PTL_ND_REDIRECT_OPTIONS;

	if (kind == PTL_ICMP_ERROR || !v6)
		return l4 + sizeof(struct ptl_icmp);
	for (int i = 0; i < PTL_ND_MAX_OPTIONS; i++) {
		struct {
			__u8 type;
			__u8 length; /* in units of 8 bytes */
		} option;

		if (bpf_skb_load_bytes(skb, offset, &option, sizeof(option)) || !option.length)
			return 0;
		if (option.type == PTL_ND_OPTION_REDIRECTED)
			return offset + PTL_ND_REDIRECTED_PACKET;
		offset += option.length * 8;
	}
	return 0;
}
#endif

/* Replaces one address of the outer header; ICMPv6's checksum covers it. */
static __always_inline long FAM(icmp_outer_address)(struct __sk_buff *skb, const struct FAM(packet) *outer, bool source,
						    const ADDR *to)
{
	const ADDR *from = source ? &outer->key.src : &outer->key.dst;

	if (sizeof(ADDR) != 4 && FAM(csum_address)(skb, outer->l4 + PTL_ICMP_CHECK, 0, from, to))
		return -1;
	return FAM(store_address)(skb, outer->l3, source, from, to, 0);
}

/*
 * Replaces one address of the quoted packet. The ICMP checksum covers quoted bytes: an IPv4 header's own checksum
 * cancels the change out, the transport checksum does too where it is quoted, and what is left is mended.
 */
static __always_inline long FAM(icmp_inner_address)(struct __sk_buff *skb, __u32 icmp_check,
						    const struct FAM(packet) *inner, bool source, const ADDR *from,
						    const ADDR *to)
{
	if (sizeof(ADDR) != 4) {
		__s64 diff = bpf_csum_diff((__be32 *)from, sizeof(*from), (__be32 *)to, sizeof(*to), 0);

		if (diff < 0 || bpf_l4_csum_replace(skb, icmp_check, 0, diff, 0))
			return -1;
	}
	return FAM(store_address)(skb, inner->l3, source, from, to, 0);
}

/* Replaces the quoted ports, and the quoted transport checksum for the ports and the address, where it is there. */
static __always_inline long FAM(icmp_inner_ports)(struct __sk_buff *skb, __u32 icmp_check,
						  const struct FAM(packet) *inner, struct ptl_ports to,
						  const ADDR *addr_from, const ADDR *addr_to)
{
	__u32 old_word = inner->key.sport | (__u32)inner->key.dport << 16;
	__u32 new_word = to.sport | (__u32)to.dport << 16;
	__u32 at = inner->l4 + ptl_l4_csum_offset(inner->key.protocol);
	__u16 before, after;
	__s64 diff;

	if (bpf_l4_csum_replace(skb, icmp_check, old_word, new_word, 4))
		return -1;
	if (bpf_skb_store_bytes(skb, inner->l4, &to, sizeof(to), 0))
		return -1;
	if (inner->key.protocol == IPPROTO_SCTP)
		return 0; /* a CRC over the whole packet, of which this is the beginning */
	if (bpf_skb_load_bytes(skb, at, &before, sizeof(before)))
		return 0; /* a short quote */
	if (!before && inner->key.protocol == IPPROTO_UDP)
		return 0;
	diff = bpf_csum_diff((__be32 *)addr_from, sizeof(*addr_from), (__be32 *)addr_to, sizeof(*addr_to), 0);
	if (diff < 0)
		return -1;
	/* RFC 1624: new = ~(~old + ~removed + added) */
	after = ~ptl_csum_fold((__u64)(__u16)~before + (__u32)~old_word + new_word + (__u32)diff);
	if (!after && inner->key.protocol == IPPROTO_UDP)
		after = 0xffff;
	if (bpf_l4_csum_replace(skb, icmp_check, before, after, 2))
		return -1;
	return bpf_skb_store_bytes(skb, at, &after, sizeof(after), 0);
}

/* Rewrites an ICMP error by the entry of the quoted packet's replies. 0, or an error: the packet is spoilt. */
static __always_inline long FAM(icmp_rewrite)(struct __sk_buff *skb, const struct FAM(packet) *outer,
					      const struct FAM(packet) *inner, const struct FAM(nat_value) *v, bool in)
{
	__u32 check = outer->l4 + PTL_ICMP_CHECK;
	/* IN: the quoted packet was sent by what the replies' destination stands for; OUT: it was sent to the Service. */
	const ADDR *from = in ? &inner->key.src : &inner->key.dst;
	struct ptl_ports ports = { in ? v->port : v->peer_port, in ? v->peer_port : v->port };

	if (FAM(icmp_inner_ports)(skb, check, inner, ports, from, &v->addr))
		return -1;
	if (FAM(icmp_inner_address)(skb, check, inner, in, from, &v->addr))
		return -1;
	if (in)
		return FAM(icmp_outer_address)(skb, outer, false, &v->addr);
	/* a router's error keeps its sender; the backend's own comes from the Service */
	if (FAM(addr_equal)(&outer->key.src, from))
		return FAM(icmp_outer_address)(skb, outer, true, &v->addr);
	return 0;
}

/*
 * An ICMP packet at the ingress (`in`) or egress hook. Returns the reason under which to count it. The entry that it was
 * translated by is left in the cell of start.bpf.h when somebody listens: to tell of it here would take too much stack.
 * `shortcut`: only if the flow takes the shortcut.
 */
static __always_inline int FAM(icmp)(struct __sk_buff *skb, const struct FAM(packet) *outer, bool in, bool shortcut)
{
	struct FAM(packet) inner = {};
	struct FAM(nat_key) key = {};
	struct FAM(nat_value) value;
	enum ptl_icmp_kind kind;
	__u32 quoted;
	__u8 type;

	if (bpf_skb_load_bytes(skb, outer->l4, &type, sizeof(type)))
		return PTL_REASON_PASS_MALFORMED;
	kind = FAM(ptl_icmp_kind)(type);
	if (kind == PTL_ICMP_OTHER)
		return PTL_REASON_PASS_ICMP;
	quoted = ptl_quoted_at(skb, outer->l4, kind, sizeof(ADDR) != 4);
	if (!quoted || FAM(parse)(skb, quoted, true, &inner) != PTL_PARSED)
		return PTL_REASON_PASS_ICMP;
	key.src = inner.key.dst;
	key.dst = inner.key.src;
	key.sport = inner.key.dport;
	key.dport = inner.key.sport;
	key.protocol = inner.key.protocol;
	key.direction = in ? PTL_IN : PTL_OUT;
	if (!FAM(nat_find_live)(&key, &value) || value.flags & PTL_NAT_PENDING)
		return PTL_REASON_PASS_ICMP;
	if (shortcut && !(value.flags & PTL_NAT_SHORTCUT))
		return PTL_REASON_PASS_ICMP;
	if (ptl_shortcut() && in) {
		struct FAM(start) *s = FAM(start_cell)();

		if (s)
			s->value.flags = value.flags;
	}
	if (ptl_listener(PTL_TELL_DROPPED | PTL_TELL_TRANSLATED)) {
		struct FAM(start) *s = FAM(start_cell)();

		if (s)
			FAM(entry_target)(&s->target, &value);
	}
	if (kind == PTL_ICMP_IS_REDIRECT)
		return PTL_REASON_DROP_REDIRECT;
	return FAM(icmp_rewrite)(skb, outer, &inner, &value, in) ? PTL_REASON_DROP_REWRITE : PTL_REASON_ICMP_TRANSLATED;
}

static __noinline int FAM(icmp_in)(struct __sk_buff *skb, const struct FAM(packet) *outer)
{
	return FAM(icmp)(skb, outer, true, false);
}

static __noinline int FAM(icmp_out)(struct __sk_buff *skb, const struct FAM(packet) *outer)
{
	return FAM(icmp)(skb, outer, false, false);
}

#ifndef PTL_TRACE
/* At ingress, and as egress would: an error about what a shortcut's client has sent meets no egress hook. */
static __noinline int FAM(icmp_back)(struct __sk_buff *skb, const struct FAM(packet) *outer)
{
	return FAM(icmp)(skb, outer, false, true);
}
#endif

/* Counts an ICMP packet under the reason that it was given, tells of it, and returns the verdict. */
static __always_inline int FAM(icmp_verdict)(struct __sk_buff *skb, const struct FAM(packet) *p, int reason)
{
	bool drop = reason == PTL_REASON_DROP_REDIRECT || reason == PTL_REASON_DROP_REWRITE;
	__u32 kind = drop ? PTL_TELL_DROPPED : PTL_TELL_TRANSLATED;
	struct FAM(start) *s;

	if ((drop || reason == PTL_REASON_ICMP_TRANSLATED) && ptl_listener(kind)) {
		s = FAM(start_cell)();
		if (s)
			s->packet = *p;
		FAM(ptl_tell)(skb, kind, reason);
	}
	ptl_count(skb, reason);
	return drop ? PTL_DROP : PTL_PASS;
}
