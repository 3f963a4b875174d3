/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the two hooks do with one packet: the picture of DESIGN.md section 2. Included once per family. `pod`: the
 * interface is the host side of a pod's veth; otherwise it leads to other nodes.
 */

/* Answers with port unreachable. `inward`: the sender is behind the stack, not behind the wire. */
static __always_inline int FAM(reject)(struct __sk_buff *skb, const struct FAM(packet) *p, enum ptl_reason reason,
				       bool inward)
{
	__u64 redirect = inward ? BPF_F_INGRESS : 0;

	ptl_count(skb, reason);
	if (FAM(reject_build)(skb, p, redirect))
		return ptl_drop(skb, PTL_REASON_DROP_REJECT_FAILED);
	return bpf_redirect(skb->ifindex, redirect);
}

/*
 * A client uses a backend's own address. Replies to a Service flow of the same client port would be one tuple with the
 * replies to this one: the later flow gets a source port of its own. From pods, the direct flow is remembered, so that
 * a Service flow that comes later sees it.
 *
 * PTL_CHOSEN: *t is this flow's own destination; otherwise the packet passes.
 */
static __always_inline int FAM(direct)(const struct FAM(packet) *p, bool pod, struct FAM(target) *t)
{
	struct FAM(nat_key) key = p->key;
	struct FAM(nat_value) reply;

	/* It may be a reply itself, to a client whose port is a backend's too. */
	key.direction = PTL_OUT;
	if (FAM(nat_find_live)(&key, &reply))
		return PTL_NO_FRONTEND;
	key.src = p->key.dst;
	key.dst = p->key.src;
	key.sport = p->key.dport;
	key.dport = p->key.sport;
	if (!FAM(nat_find_live)(&key, &reply)) {
		if (!pod) {
			bpf_map_delete_elem(&FAM(nat), &key);
			return PTL_NO_FRONTEND;
		}
	}
	t->addr = p->key.dst;
	t->port = p->key.dport;
	t->flags = PTL_NAT_DIRECT;
	t->backend = PTL_NO_BACKEND;
	t->generation = 0;
	t->service = PTL_NO_SERVICE;
	return PTL_CHOSEN;
}

/*
 * What a first packet is sent to: PTL_CHOSEN with *t, or PTL_NO_FRONTEND with *reason to pass, or the reason to reject
 * or drop.
 */
static __noinline int FAM(resolve)(const struct FAM(packet) *p, bool pod, struct FAM(target) *t,
				   enum ptl_reason *reason)
{
	__u32 class = FAM(address_class)(&p->key.dst, 0, 0);

	*reason = PTL_REASON_PASS_NO_SERVICE;
	if (!class)
		return PTL_NO_FRONTEND;
	if (class & PTL_CLASS_VIP) {
		struct FAM(addr_port) frontend = {
			.addr = p->key.dst, .port = p->key.dport, .protocol = p->key.protocol
		};
		int r = FAM(choose)(&frontend, !pod, t);

		if (r != PTL_NO_FRONTEND)
			return r;
	}
	if ((class & PTL_CLASS_BACKEND) &&
	    FAM(address_class)(&p->key.dst, p->key.dport, p->key.protocol) & PTL_CLASS_BACKEND_PORT) {
		*reason = PTL_REASON_PASS_DIRECT;
		return FAM(direct)(p, pod, t);
	}
	return class & PTL_CLASS_VIP ? PTL_REASON_REJECT_NO_PORT : PTL_NO_FRONTEND;
}

/* A packet that may start a flow: PTL_REWRITE with its entry in *value, or the verdict. */
static __always_inline int FAM(first_packet)(struct __sk_buff *skb, const struct FAM(packet) *p, bool pod,
					     struct FAM(nat_value) *value)
{
	struct FAM(target) target = {};
	enum ptl_reason pass = PTL_REASON_PASS_NO_SERVICE;
	int r = FAM(resolve)(p, pod, &target, &pass);

	if (r == PTL_NO_FRONTEND)
		return ptl_pass(skb, pass);
	/* only a datagram's first packet is answered (RFC 1122 3.2.2, RFC 4443 2.4) */
	if ((r == PTL_REASON_REJECT_NO_BACKEND || r == PTL_REASON_REJECT_NO_PORT) && p->part != PTL_LATER_FRAGMENT)
		return FAM(reject)(skb, p, r, false);
	if (r != PTL_CHOSEN)
		return ptl_drop(skb, r);
	r = FAM(flow_open)(p, &target, value);
	if (r != PTL_CHOSEN)
		return ptl_drop(skb, r);
	ptl_count(skb, value->flags & PTL_NAT_DIRECT ? PTL_REASON_PASS_DIRECT : PTL_REASON_FLOW_NEW);
	FAM(nat_account)(skb, value, 1);
	return PTL_REWRITE;
}

/* Is a live entry's flow over for this packet, so that it selects anew? */
static __always_inline bool FAM(selects_anew)(const struct FAM(packet) *p, const struct FAM(nat_value) *v)
{
	if (v->flags & PTL_NAT_REPLY)
		return false; /* simultaneous open and the like are the endpoints' affair */
	if (!ptl_opens(p->key.protocol, p->tcp_flags))
		return false; /* an established connection keeps its backend to the end (9.10) */
	if (p->key.protocol != IPPROTO_UDP && !ptl_opening(v->state))
		return true;
	if (FAM(backend_current)(v->backend, v->generation))
		return false;
	ptl_count_at(PTL_REASON_BACKEND_STALE, 1, 0, 0);
	return true;
}

/* A packet of a live flow: notes it and counts it. */
static __always_inline void FAM(note)(const struct __sk_buff *skb, const struct FAM(packet) *p, struct FAM(nat_value) *e,
				      const struct FAM(nat_value) *v, __u32 now, bool in)
{
	FAM(nat_touch)(&p->key, e, v, p->tcp_flags, now, in);
	ptl_count(skb, v->flags & PTL_NAT_DIRECT ? PTL_REASON_PASS_DIRECT : PTL_REASON_TRANSLATED);
	FAM(nat_account)(skb, v, 0);
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
		return FAM(icmp_in)(skb, &p);
	e = FAM(nat_lookup)(&p.key, &v);
	if (e && ptl_nat_live(p.key.protocol, v.state, v.last_seen, now) && !FAM(selects_anew)(&p, &v)) {
		FAM(note)(skb, &p, e, &v, now, true);
	} else {
		if (!ptl_opens(p.key.protocol, p.tcp_flags))
			return ptl_pass(skb, PTL_REASON_PASS_TCP_NO_ENTRY);
		r = FAM(first_packet)(skb, &p, pod, &v);
		if (r != PTL_REWRITE)
			return r;
	}
	return FAM(rewrite)(skb, &p, &v, false) ? ptl_drop(skb, PTL_REASON_DROP_REWRITE) : PTL_PASS;
}

/* A packet to a Service address that leaves the node as it is: no hook has seen its start. */
static __always_inline bool FAM(untranslated)(const struct FAM(packet) *p)
{
	return ptl_opens(p->key.protocol, p->tcp_flags) && FAM(address_class)(&p->key.dst, 0, 0) & PTL_CLASS_VIP;
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
		return FAM(icmp_out)(skb, &p);
	e = FAM(nat_lookup)(&p.key, &v);
	if (!e || !ptl_nat_live(p.key.protocol, v.state, v.last_seen, now)) {
		if (!pod && p.part != PTL_LATER_FRAGMENT && FAM(untranslated)(&p))
			return FAM(reject)(skb, &p, PTL_REASON_REJECT_UNTRANSLATED, true);
		return ptl_pass(skb, PTL_REASON_PASS_EGRESS_MISS);
	}
	if (v.flags & PTL_NAT_PENDING) {
		r = FAM(masquerade)(&p.key, &v, skb->ifindex);
		if (r != PTL_CHOSEN)
			return ptl_drop(skb, r);
	} else {
		FAM(note)(skb, &p, e, &v, now, false);
	}
	return FAM(rewrite)(skb, &p, &v, true) ? ptl_drop(skb, PTL_REASON_DROP_REWRITE) : PTL_PASS;
}
