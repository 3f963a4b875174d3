/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The way out for packets that are not ours, in front of everything else: TCP that opens nothing, between addresses which no entry of
 * `nat` is about. Included once per family.
 *
 * It answers as the look-up would, only sooner. What it is not sure of goes the whole way: other protocols, what may start a flow (that
 * is a question of addresses and service networks), fragments, options, headers that contradict themselves or lie in
 * fragments of the skb, and everything as long as the marks are not complete (a map that is new, an agent that has just started).
 */

#ifndef PTL_FILTER_COMMON
#define PTL_FILTER_COMMON
#define PTL_IP4_PLAIN 0x45 /* version 4, no options */

#ifndef PTL_TRACE
static __always_inline bool ptl_marked(__u32 index)
{
	__u32 *mark = ptl_look_up(flow_marks, &index);

	return !mark || *mark;
}

/* A whole TCP segment behind a plain header, as parse4() and parse6() would take it? */
static __always_inline bool ptl_plain4(const struct iphdr *ip)
{
	return *(const __u8 *)ip == PTL_IP4_PLAIN && ip->protocol == IPPROTO_TCP &&
	       !(ip->frag_off & bpf_htons(PTL_IP_OFFSET | PTL_IP_MORE)) &&
	       bpf_ntohs(ip->tot_len) >= sizeof(*ip) + sizeof(struct tcphdr);
}

static __always_inline bool ptl_plain6(const struct ipv6hdr *ip)
{
	return *(const __u8 *)ip >> 4 == 6 && ip->nexthdr == IPPROTO_TCP &&
	       bpf_ntohs(ip->payload_len) >= sizeof(struct tcphdr);
}
#define PTL_IP_HEADER4 struct iphdr
#define PTL_IP_HEADER6 struct ipv6hdr
#endif
#endif

/* Is this certainly a packet that opens nothing and belongs to no flow of ours? `in`: at the ingress hook. */
static __always_inline bool FAM(no_flow)(const struct __sk_buff *skb, bool in)
{
#ifdef PTL_TRACE
	return false;
#else
	const void *end = (const void *)(long)skb->data_end;
	const FAM(PTL_IP_HEADER) *ip = (const void *)(long)skb->data + PTL_L3_OFFSET;
	const struct tcphdr *tcp = (const void *)(ip + 1);

	if ((const void *)(tcp + 1) > end || !FAM(ptl_plain)(ip))
		return false;
	if (tcp->doff * 4 < sizeof(*tcp) || ptl_opens(IPPROTO_TCP, ((const __u8 *)tcp)[PTL_TCP_FLAGS_OFFSET]))
		return false;
	{
		__u32 complete = PTL_MARKS_COMPLETE;
		__u32 *all = ptl_look_up(flow_marks, &complete);

		if (!all || !*all)
			return false;
	}
	if (in)
		return !ptl_marked(ptl_mark_index(&ip->daddr, sizeof(ADDR) / 4, PTL_MARK_IN)) &&
		       /* replies that take the shortcut are looked for here, too */
		       !(ptl_shortcut() && ptl_marked(ptl_mark_index(&ip->saddr, sizeof(ADDR) / 4, PTL_MARK_OUT)));
	return !ptl_marked(ptl_mark_index(&ip->saddr, sizeof(ADDR) / 4, PTL_MARK_OUT)) &&
	       !ptl_marked(ptl_mark_index(&ip->daddr, sizeof(ADDR) / 4, PTL_MARK_MASQUERADE));
#endif
}
