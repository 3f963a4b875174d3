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
	start->packet = *p;
	r = FAM(ptl_resolve)(skb, pod);
	if (r == PTL_NO_FRONTEND)
		return ptl_pass(skb, start->pass);
	/* only a datagram's first packet is answered (RFC 1122 3.2.2, RFC 4443 2.4) */
	if ((r == PTL_REASON_REJECT_NO_BACKEND || r == PTL_REASON_REJECT_NO_PORT) && p->part != PTL_LATER_FRAGMENT)
		return FAM(reject)(skb, p, r, false);
	if (r == PTL_CHOSEN)
		r = FAM(ptl_open)(skb);
	if (r != PTL_CHOSEN)
		return ptl_drop(skb, r);
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

/* Destination side. */
static __always_inline int FAM(ingress)(struct __sk_buff *skb, bool pod)
{
	struct FAM(packet) p = {};
	struct FAM(nat_value) v = {}, *e;
	__u32 now = ptl_now();
	int r = FAM(parse)(skb, PTL_L3_OFFSET, false, &p);

	p.key.direction = PTL_IN;
	if (r == PTL_PARSED && p.part != PTL_WHOLE && has_ports(p.key.protocol) && !FAM(fragment_ports)(&p))
		r = PTL_REASON_PASS_FRAGMENT;
	if (r != PTL_PARSED)
		return ptl_pass(skb, r);
	if (p.key.protocol == IPPROTO_ICMP || p.key.protocol == PTL_ICMPV6)
		return FAM(icmp_verdict)(skb, &p, FAM(icmp_in)(skb, &p));
	e = FAM(nat_lookup)(&p.key, &v);
	if (e && ptl_nat_live(p.key.protocol, v.state, v.last_seen, now) && !FAM(selects_anew)(skb, &p, &v)) {
		if (FAM(resets)(&p, &v))
			return FAM(reset)(skb, &p, e, &v, now);
		FAM(note)(skb, &p, e, &v, now, true);
	} else {
		if (!ptl_opens(p.key.protocol, p.tcp_flags))
			return ptl_pass(skb, PTL_REASON_PASS_TCP_NO_ENTRY);
		r = FAM(first_packet)(skb, &p, pod, &v);
		if (r != PTL_REWRITE)
			return r;
	}
	if (!(v.flags & PTL_NAT_DIRECT))
		skb->mark |= v.flags & PTL_NAT_ASKED ? config.mark | config.masquerade_mark : config.mark;
	return FAM(rewrite)(skb, &p, &v, false) ? FAM(drop)(skb, &p, &v, PTL_REASON_DROP_REWRITE) : PTL_PASS;
}

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
	__u32 now = ptl_now();
	int r = FAM(parse)(skb, PTL_L3_OFFSET, false, &p);

	p.key.direction = PTL_OUT;
	if (r == PTL_PARSED && p.part != PTL_WHOLE && has_ports(p.key.protocol) && !FAM(fragment_ports)(&p))
		r = PTL_REASON_PASS_FRAGMENT;
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
