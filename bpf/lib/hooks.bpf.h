/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the two hooks do with one packet: the picture in docs/design/packet-path.md. Included once per family. `pod`: the
 * interface is the host side of a pod's veth; otherwise it leads to other nodes.
 */

/* Answers with port unreachable (and tells of nothing but its failure). `inward`: the sender is behind the stack, not behind the wire. */
static __always_inline int FAM(reject)(struct __sk_buff *skb, const struct FAM(packet) *p, enum ptl_reason reason,
				       bool inward)
{
	__u64 redirect = inward ? BPF_F_INGRESS : 0;

	ptl_count(skb, reason);
	if (FAM(reject_build)(skb, p, redirect))
		return FAM(drop)(skb, p, NULL, PTL_REASON_DROP_REJECT_FAILED);
	return bpf_redirect(skb->ifindex, redirect);
}

/* A packet that may start a flow: PTL_REWRITE with its entry in *value, or the verdict. */
static __always_inline int FAM(first_packet)(struct __sk_buff *skb, const struct FAM(packet) *p, bool pod,
					     struct FAM(nat_value) *value)
{
	struct FAM(start) *start = FAM(start_cell)();
	int r;

	if (!start)
		return PTL_DROP; /* cannot be: the only cell of an array */
	if (!ptl_shortcut()) /* otherwise it is there */
		start->packet = *p;
	r = FAM(ptl_resolve)(skb, pod);
	if (r == PTL_NO_FRONTEND)
		return ptl_pass(skb, start->pass);
	/* only a datagram's first packet is answered (RFC 1122 3.2.2, RFC 4443 2.4) */
	if ((r == PTL_REASON_REJECT_NO_BACKEND || r == PTL_REASON_REJECT_NO_PORT) && p->part != PTL_LATER_FRAGMENT)
		return FAM(reject)(skb, p, r, false);
	if (r == PTL_CHOSEN) {
#ifndef PTL_TRACE
		if (ptl_shortcut())
			FAM(ptl_way)(skb, pod);
#endif
		r = FAM(ptl_open)(skb);
	}
	if (r != PTL_CHOSEN)
		return ptl_drop(skb, r);
	if (!ptl_shortcut()) /* otherwise that is where it is wanted */
		*value = start->value;
	return PTL_REWRITE;
}

/* As flow_over(), counted and told. */
static __always_inline bool FAM(selects_anew)(struct __sk_buff *skb, const struct FAM(packet) *p,
					      const struct FAM(nat_value) *v)
{
	bool stale = false;

	if (!FAM(flow_over)(p, v, &stale))
		return false;
	if (stale) {
		ptl_count_at(PTL_REASON_BACKEND_STALE, 1, 0, 0);
		FAM(tell)(skb, p, v, PTL_TELL_GONE, PTL_REASON_BACKEND_STALE);
	}
	return true;
}

/* A packet of a live flow: notes it, counts it and tells of it. */
static __always_inline void FAM(note)(struct __sk_buff *skb, const struct FAM(packet) *p, struct FAM(nat_value) *e,
				      const struct FAM(nat_value) *v, __u32 now, bool in)
{
	FAM(nat_touch)(&p->key, e, v, p->tcp_flags, now, in);
	if (v->flags & PTL_NAT_DIRECT) {
		ptl_count(skb, PTL_REASON_PASS_DIRECT);
		return;
	}
	ptl_count(skb, PTL_REASON_TRANSLATED);
	FAM(tell)(skb, p, v, PTL_TELL_TRANSLATED, PTL_REASON_TRANSLATED);
	FAM(nat_account)(skb, v, 0);
}

/* Answers with an RST, which the entry remembers for a while: the client may not hear the first one. */
static __always_inline int FAM(reset)(struct __sk_buff *skb, const struct FAM(packet) *p, struct FAM(nat_value) *e,
				      const struct FAM(nat_value) *v, __u32 now)
{
	e->state |= PTL_RST_REPLY;
	e->last_seen = now;
	ptl_count(skb, PTL_REASON_RESET_REMOVED);
	FAM(tell)(skb, p, v, PTL_TELL_GONE, PTL_REASON_RESET_REMOVED);
	if (FAM(reset_build)(skb, p))
		return FAM(drop)(skb, p, v, PTL_REASON_DROP_REJECT_FAILED);
	return bpf_redirect(skb->ifindex, 0);
}

/*
 * A backend's packet of a flow that began in XDP, which is not there any more, or could not finish it? The stack has seen nothing of that
 * flow: it would take this for the first packet of a new one, and a CNI's rules would change its source. So it goes past the stack, too, to the
 * egress hook. (What the client sends tells the stack of the flow as it is.)
 */
static __always_inline bool FAM(of_xdp)(const struct FAM(nat_value) *v)
{
#ifdef PTL_TRACE
	return false;
#else
	return (v->flags & (PTL_NAT_XDP | PTL_NAT_REPLY)) == (PTL_NAT_XDP | PTL_NAT_REPLY);
#endif
}

/* Writes a flow's destination into its packet. The verdict, or PTL_FORWARD. */
static __always_inline int FAM(destine)(struct __sk_buff *skb, const struct FAM(packet) *p, const struct FAM(nat_value) *v)
{
	if (!(v->flags & PTL_NAT_DIRECT))
		skb->mark |= v->flags & PTL_NAT_ASKED ? config.mark | config.masquerade_mark : config.mark;
	if (FAM(rewrite)(skb, p, v, false))
		return FAM(drop)(skb, p, v, PTL_REASON_DROP_REWRITE);
	if (FAM(of_xdp)(v))
		return PTL_FORWARD;
	return ptl_shortcut() && v->flags & PTL_NAT_SHORTCUT ? PTL_FORWARD : PTL_PASS;
}

/* A packet of no flow: it may start one, whose entry is left in *v. PTL_REWRITE, or the verdict. */
static __always_inline int FAM(begin)(struct __sk_buff *skb, const struct FAM(packet) *p, bool pod, struct FAM(nat_value) *v)
{
	if (!ptl_opens(p->key.protocol, p->tcp_flags))
		return ptl_pass(skb, PTL_REASON_PASS_TCP_NO_ENTRY);
	return FAM(first_packet)(skb, p, pod, v);
}

/* Leaves a packet in the cell of start.bpf.h. Returns `result`. */
static __always_inline int FAM(missed)(const struct FAM(packet) *p, int result)
{
	struct FAM(start) *s = FAM(start_cell)();

	if (!s)
		return PTL_DROP;
	s->packet = *p;
	return result;
}

/* Reads a packet's headers; of a fragment without ports those of its datagram. PTL_PARSED, or the reason to pass. */
static __always_inline int FAM(read)(struct __sk_buff *skb, struct FAM(packet) *p, enum ptl_direction direction)
{
	int r = FAM(parse)(skb, PTL_L3_OFFSET, false, p);

	p->key.direction = direction;
	if (r == PTL_PARSED && p->part != PTL_WHOLE && has_ports(p->key.protocol) && !FAM(fragment_ports)(p))
		r = PTL_REASON_PASS_FRAGMENT;
	return r;
}

/* Destination side: the verdict, or what ptl_onward() is to do. */
static __always_inline int FAM(ingress)(struct __sk_buff *skb, bool pod)
{
	struct FAM(packet) p = {};
	struct FAM(nat_value) v = {}, *e;
	__u32 now;
	int r;

	if (FAM(no_flow)(skb, true))
		return ptl_pass(skb, PTL_REASON_PASS_TCP_NO_ENTRY);
	now = ptl_now();
	r = FAM(read)(skb, &p, PTL_IN);
	if (r != PTL_PARSED)
		return ptl_pass(skb, r);
	if (p.key.protocol == IPPROTO_ICMP || p.key.protocol == PTL_ICMPV6) {
		if (ptl_shortcut())
			return FAM(missed)(&p, PTL_ICMP);
		return FAM(icmp_verdict)(skb, &p, FAM(icmp_in)(skb, &p));
	}
	e = FAM(nat_lookup)(&p.key, &v);
	if (e && ptl_nat_live(p.key.protocol, v.state, v.last_seen, now) && !FAM(selects_anew)(skb, &p, &v)) {
		if (FAM(resets)(&p, &v))
			return FAM(reset)(skb, &p, e, &v, now);
		FAM(note)(skb, &p, e, &v, now, true);
	} else {
		if (ptl_shortcut())
			return FAM(missed)(&p, PTL_MISSED);
		r = FAM(begin)(skb, &p, pod, &v);
		if (r != PTL_REWRITE)
			return r;
	}
	return FAM(destine)(skb, &p, &v);
}

/*
 * What the ingress hook has left over: only with PTL_OPTION_SHORTCUT. Packet and entry are in the cell of start.bpf.h; each step is a global
 * function for the reason given there, and called by the program itself (ptl_onward): below ingress() the stack would not do.
 */

#ifndef PTL_TRACE
/*
 * No IN entry translates the packet: is it a reply that takes the shortcut? It meets no egress hook, so its source is rewritten here
 * (PTL_SOURCE). One that has to go through the stack stays as it is: the stack's answer, if it is one, is about a packet
 * that the backend knows, and egress is as ever. PTL_MISSED: it is none.
 */
__noinline int FAM(ptl_reply)(struct __sk_buff *skb, int pod)
{
	struct FAM(start) *s = FAM(start_cell)();
	struct FAM(nat_value) *e;
	__u32 now = ptl_now();
	int r;

	if (!s)
		return PTL_DROP; /* cannot be: the only cell of an array */
	s->packet.key.direction = PTL_OUT;
	e = FAM(nat_lookup)(&s->packet.key, &s->value);
	if (!e || !(s->value.flags & PTL_NAT_SHORTCUT) ||
	    !ptl_nat_live(s->packet.key.protocol, s->value.state, s->value.last_seen, now)) {
		s->packet.key.direction = PTL_IN;
		return PTL_MISSED;
	}
	r = FAM(ptl_check)(skb, pod);
	if (r)
		return ptl_pass(skb, r);
	FAM(note)(skb, &s->packet, e, &s->value, now, false);
	return PTL_SOURCE;
}

/* And when it is none: it may start a flow (PTL_REWRITE). */
__noinline int FAM(ptl_begin)(struct __sk_buff *skb, int pod)
{
	struct FAM(start) *s = FAM(start_cell)();

	return s ? FAM(begin)(skb, &s->packet, pod, &s->value) : PTL_DROP;
}

/* An ICMP packet: its error about a flow that takes the shortcut takes it, too. */
__noinline int FAM(ptl_icmp)(struct __sk_buff *skb, int pod)
{
	struct FAM(start) *s = FAM(start_cell)();
	bool back = false;
	__u16 flags;
	int r;

	if (!s)
		return PTL_DROP;
	r = FAM(icmp_in)(skb, &s->packet);
	flags = s->value.flags;
	if (r == PTL_REASON_PASS_ICMP && !FAM(ptl_check)(skb, pod)) {
		r = FAM(icmp_back)(skb, &s->packet);
		back = r == PTL_REASON_ICMP_TRANSLATED;
	}
	if (FAM(icmp_verdict)(skb, &s->packet, r) == PTL_DROP)
		return PTL_DROP;
	if (back)
		return PTL_SEND;
	return r == PTL_REASON_ICMP_TRANSLATED && flags & PTL_NAT_SHORTCUT ? PTL_FORWARD : PTL_PASS;
}

/* Rewrites the packet by the entry, both in the cell: its source, or its destination. */
__noinline int FAM(ptl_write)(struct __sk_buff *skb, int source)
{
	struct FAM(start) *s = FAM(start_cell)();
	struct FAM(nat_value) v;
	struct FAM(packet) p;

	if (!s)
		return PTL_DROP;
	p = s->packet; /* the verifier remembers what is on the stack, and would follow each question about the cell anew */
	v = s->value;
	if (!source)
		return FAM(destine)(skb, &p, &v);
	return FAM(rewrite)(skb, &p, &v, true) ? FAM(drop)(skb, &p, &v, PTL_REASON_DROP_REWRITE) : PTL_SEND;
}

/* Takes a packet on from where the ingress hook has left it. The verdict. */
static __always_inline int FAM(ptl_onward)(struct __sk_buff *skb, int result, int pod)
{
	/* without the shortcut only by an uplink, and only of_xdp() */
	if (!ptl_shortcut() && (pod || result != PTL_FORWARD))
		return result;
	if (result == PTL_ICMP)
		result = FAM(ptl_icmp)(skb, pod);
	if (result == PTL_MISSED)
		result = FAM(ptl_reply)(skb, pod);
	if (result == PTL_MISSED)
		result = FAM(ptl_begin)(skb, pod);
	if (result == PTL_SOURCE || result == PTL_REWRITE)
		result = FAM(ptl_write)(skb, result == PTL_SOURCE);
	if (result == PTL_FORWARD) {
		int r = FAM(ptl_check)(skb, pod);

		if (r)
			return ptl_pass(skb, r);
		result = PTL_SEND;
	}
	return result == PTL_SEND ? FAM(ptl_send)(skb) : result;
}
#endif

/*
 * A first packet that leaves the node as it is: does it go to a Service? Then no hook has seen its start, or a process of
 * the node was left to the silence that the Service's rules ask for. PTL_NO_FRONTEND, or the reason to reject or drop.
 */
static __noinline int FAM(guard)(const struct FAM(packet) *p)
{
	struct FAM(addr_port) key = { .addr = p->key.dst, .port = p->key.dport, .protocol = p->key.protocol };
	__u32 class = FAM(address_class)(&p->key.dst, 0, 0);
	struct frontend *f;
	__u64 word;

	if (!class)
		return FAM(unallocated)(&p->key.dst) ? PTL_REASON_DROP_UNALLOCATED : PTL_NO_FRONTEND;
	if (!(class & PTL_CLASS_VIP))
		return PTL_NO_FRONTEND;
	f = ptl_look_up(FAM(frontends), &key);
	if (!f)
		return class & PTL_CLASS_CLUSTER_IP ? PTL_REASON_REJECT_UNTRANSLATED : PTL_NO_FRONTEND;
	ptl_service_drop(f->service);
	word = f->internal;
	if (!PTL_CHOICE_COUNT(word) && PTL_CHOICE_BASE(word) == PTL_EMPTY_DROP)
		return PTL_REASON_DROP_POLICY;
	return f->flags & PTL_FRONTEND_SOURCE_RANGES ? PTL_REASON_DROP_SOURCE_RANGE : PTL_REASON_REJECT_UNTRANSLATED;
}

/* Source side. */
static __always_inline int FAM(egress)(struct __sk_buff *skb, bool pod)
{
	struct FAM(packet) p = {};
	struct FAM(nat_value) v = {}, *e;
	__u32 now;
	int r;

	if (FAM(no_flow)(skb, false))
		return ptl_pass(skb, PTL_REASON_PASS_EGRESS_MISS);
	now = ptl_now();
	r = FAM(read)(skb, &p, PTL_OUT);
	if (r != PTL_PARSED)
		return ptl_pass(skb, r);
	if (p.key.protocol == IPPROTO_ICMP || p.key.protocol == PTL_ICMPV6)
		return FAM(icmp_verdict)(skb, &p, FAM(icmp_out)(skb, &p));
	e = FAM(nat_lookup)(&p.key, &v);
	if (!e || !ptl_nat_live(p.key.protocol, v.state, v.last_seen, now)) {
		r = PTL_NO_FRONTEND;
		if (!pod && p.part != PTL_LATER_FRAGMENT && ptl_opens(p.key.protocol, p.tcp_flags))
			r = FAM(guard)(&p);
		if (r == PTL_NO_FRONTEND)
			return ptl_pass(skb, PTL_REASON_PASS_EGRESS_MISS);
		if (r != PTL_REASON_REJECT_UNTRANSLATED)
			return FAM(drop)(skb, &p, NULL, r);
		FAM(tell)(skb, &p, NULL, PTL_TELL_REJECTED, r);
		return FAM(reject)(skb, &p, r, true);
	}
	if (v.flags & PTL_NAT_MASQUERADE)
		skb->mark &= ~config.masquerade_mark;
	if (v.flags & PTL_NAT_PENDING) {
		r = FAM(masquerade)(&p.key, &v, skb->ifindex);
		if (r != PTL_CHOSEN)
			return FAM(drop)(skb, &p, &v, r);
	} else {
		FAM(note)(skb, &p, e, &v, now, false);
	}
	return FAM(rewrite)(skb, &p, &v, true) ? FAM(drop)(skb, &p, &v, PTL_REASON_DROP_REWRITE) : PTL_PASS;
}
