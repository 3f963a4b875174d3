/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The start of a flow at the XDP hook. Included once per family.
 *
 * A flow that is chosen a backend here is opened here, whichever way it goes: tc then finds its entry and chooses no other. Were it
 * tc that chose again, a backend behind the stack would get fewer flows than its share.
 */

#ifndef PTL_XDP_START_COMMON
#define PTL_XDP_START_COMMON
/* Neither a verdict nor a reason. */
#define PTL_XDP_AGAIN (-2)
#endif

/* Is this a refusal that is carried out here: silence? Whoever is to get an answer gets it from tc. */
static __always_inline bool FAM(xdp_silent)(int reason)
{
	return reason == PTL_REASON_DROP_SOURCE_RANGE || reason == PTL_REASON_DROP_POLICY ||
	       reason == PTL_REASON_DROP_UNALLOCATED || reason == PTL_REASON_DROP_LOOPBACK;
}

/* Refuses a first packet: drops it, or leaves the answer to tc, which finds the same reason. */
static __always_inline int FAM(xdp_refuse)(struct xdp_md *ctx, const struct FAM(start) *start, int reason)
{
	if (!FAM(xdp_silent)(reason))
		return ptl_pass(ctx, PTL_REASON_XDP_ANSWER);
	ptl_service_drop(start->target.service);
	FAM(ptl_tell)(ctx, PTL_TELL_DROPPED, reason);
	ptl_count(ctx, reason);
	return ptl_drop(ctx, PTL_REASON_XDP_DROPPED);
}

/*
 * The steps of a start are global functions, verified once each: they take the packet, the target and the entry from the family's
 * cells (start.bpf.h, xdp_family.bpf.h) and leave there what they find.
 */

/* The target of a first packet. PTL_CHOSEN, or the verdict. */
__noinline int FAM(ptl_xdp_find)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	int r;

	if (!start)
		return XDP_PASS;
	FAM(no_target)(&start->target);
	r = FAM(resolve)(&start->packet, ctx->ingress_ifindex, false, &start->target, &start->pass);
	if (r == PTL_NO_FRONTEND || (r == PTL_CHOSEN && start->target.flags & PTL_NAT_DIRECT))
		return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
	return r == PTL_CHOSEN ? PTL_CHOSEN : FAM(xdp_refuse)(ctx, start, r);
}

/*
 * Can both directions of a flow to the target be finished here? PTL_CHOSEN, with the way to the backend in the cell, or the reason
 * why not.
 */
__noinline int FAM(ptl_xdp_way)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	struct FAM(nat_key) *key;
	int r;

	if (!start || !work)
		return PTL_REASON_XDP_STACK_FLOW;
	if (!start->target.masquerade)
		return PTL_REASON_XDP_OWN_ADDRESS;
	if (work->header.ttl <= 1)
		return PTL_REASON_XDP_TTL;
	key = &work->out_key;
	/* the way back first: that to the backend stays in the cell */
	key->src = start->target.addr;
	key->dst = start->packet.key.src;
	key->sport = start->target.port;
	key->dport = start->packet.key.sport;
	key->protocol = start->packet.key.protocol;
	r = FAM(xdp_route)(ctx, &work->fib, key, 0);
	if (r != PTL_CHOSEN)
		return r;
	key->src = start->packet.key.src;
	key->dst = start->target.addr;
	key->sport = start->packet.key.sport;
	key->dport = start->target.port;
	return FAM(xdp_route)(ctx, &work->fib, key, work->header.length);
}

/* Opens the flow to the target, and counts and tells it. PTL_CHOSEN with the entry in the cell, or the reason why not. */
__noinline int FAM(ptl_xdp_open)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	int r;

	if (!start)
		return PTL_REASON_DROP_MAP_FULL;
	r = FAM(flow_open)(&start->packet, &start->target, &start->value);
	if (r != PTL_CHOSEN)
		return r;
	ptl_count(ctx, PTL_REASON_FLOW_NEW);
	FAM(nat_add)(&start->value, 0, 0, 1);
	FAM(tell_new)(ctx, start);
	return PTL_CHOSEN;
}

/*
 * Gives an opened flow its address of the node, as tc egress does when it meets the pending entry. PTL_CHOSEN, with that
 * entry in the cell; otherwise it stays pending, and the flow goes through the stack.
 */
__noinline int FAM(ptl_xdp_snat)(void)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	int r = PTL_CHOSEN;

	if (!start || !work)
		return PTL_REASON_XDP_STACK_FLOW;
	FAM(xdp_between)(&start->packet.key, &start->value, &work->out_key);
	if (!FAM(nat_lookup)(&work->out_key, &work->out))
		return PTL_REASON_XDP_STACK_FLOW;
	if (work->out.flags & PTL_NAT_PENDING) {
		work->out.flags |= PTL_NAT_XDP;
		r = FAM(masquerade)(&work->out_key, &work->out, work->fib.ifindex);
	} else if (!(work->out.flags & PTL_NAT_XDP)) {
		return PTL_REASON_XDP_STACK_FLOW; /* another CPU was faster, and chose so */
	}
	return r;
}

/* Removes what xdp_open_new() has inserted before it failed. */
static __always_inline int FAM(xdp_undo)(const struct FAM(nat_key) *one, const struct FAM(nat_key) *other, int result)
{
	ptl_delete(FAM(nat), one);
	if (other)
		ptl_delete(FAM(nat), other);
	return result;
}

/*
 * Marks what the four entries of a flow that is to be opened are about: nat_mark() of each. Global, for a verifier that would look at it once
 * for each way through xdp_open_new().
 */
__noinline int FAM(ptl_xdp_mark)(void)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	struct interface *iface;
	__u32 ifindex;

	if (!start || !work || start->packet.key.protocol != IPPROTO_TCP)
		return 0;
	ifindex = work->fib.ifindex;
	iface = ptl_look_up(interfaces, &ifindex);
	FAM(mark)(&start->packet.key.dst, PTL_MARK_IN);
	FAM(mark)(&start->target.addr, PTL_MARK_OUT);
	FAM(mark)(&start->target.addr, PTL_MARK_MASQUERADE);
	if (iface)
		FAM(mark)(&iface->FAM(masquerade), PTL_MARK_IN);
	return 0;
}

/*
 * Opens a flow of which there is no entry, and which is finished here: what flow_open() and masquerade() make of it, in one go and
 * without asking for what is known. The entry that the client's next packet finds is the last one, so whoever finds it finds all.
 *
 * PTL_CHOSEN, with the entries in the cells. PTL_XDP_AGAIN: some other flow is in the way, which they know how to deal with. Otherwise
 * the reason to leave the packet to tc.
 */
static __always_inline int FAM(xdp_open_new)(struct FAM(start) *start, struct FAM(xdp_work) *work)
{
	const struct FAM(nat_key) *key = &start->packet.key;
	__u32 ifindex = work->fib.ifindex;
	struct interface *iface = ptl_look_up(interfaces, &ifindex);
	struct FAM(nat_value) *in = &start->value, *out = &work->out, scratch;
	struct FAM(nat_key) client_key = {}, node_key = {};
	enum FAM(nat_use) use;

	if (!iface || FAM(addr_zero)(&iface->FAM(masquerade)))
		return PTL_XDP_AGAIN;
	in->addr = start->target.addr;
	in->port = start->target.port;
	in->peer_port = key->sport;
	in->backend = start->target.backend;
	in->generation = start->target.generation;
	in->service = start->target.service;
	in->flags = start->target.flags | PTL_NAT_ASKED;
	in->last_seen = ptl_now();
	in->state = PTL_SEEN_FORWARD;
	in->check = FAM(nat_check)(key, in);
	FAM(nat_opposite_key)(key, in, &client_key, true);
	FAM(nat_opposite_value)(key, in, &client_key, &scratch, true);
	/* not asked for before: only a second flow of the client's port to this backend is there, and is seldom */
	if (ptl_update(FAM(nat), &client_key, &scratch, BPF_NOEXIST))
		return PTL_XDP_AGAIN;
	FAM(xdp_between)(key, in, &work->out_key);
	*out = *in;
	out->addr = iface->FAM(masquerade);
	out->peer_port = in->port;
	out->flags = PTL_NAT_MASQUERADE | PTL_NAT_XDP;
	use = FAM(find_port)(&work->out_key, out, &node_key, in->last_seen, false);
	if (use == FAM(NAT_TAKEN))
		return FAM(xdp_undo)(&client_key, NULL, PTL_XDP_AGAIN);
	FAM(nat_opposite_value)(&work->out_key, out, &node_key, &scratch, false);
	if (FAM(nat_insert)(&node_key, &scratch, use == FAM(NAT_DEAD)))
		return FAM(xdp_undo)(&client_key, NULL, PTL_XDP_AGAIN);
	out->check = FAM(nat_check)(&work->out_key, out);
	if (ptl_update(FAM(nat), &work->out_key, out, BPF_ANY))
		return FAM(xdp_undo)(&client_key, &node_key, PTL_XDP_AGAIN);
	if (!ptl_update(FAM(nat), key, in, BPF_NOEXIST))
		return PTL_CHOSEN;
	ptl_delete(FAM(nat), &work->out_key);
	return FAM(xdp_undo)(&client_key, &node_key, PTL_REASON_XDP_STACK_FLOW); /* another CPU was faster: its choice holds */
}

/* Counts and tells of a flow that xdp_open_new() opens; its traffic is counted with its packet. The result is as there. */
__noinline int FAM(ptl_xdp_new)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	int r;

	if (!start || !work)
		return PTL_REASON_XDP_STACK_FLOW;
	FAM(ptl_xdp_mark)();
	r = FAM(xdp_open_new)(start, work);
	if (r != PTL_CHOSEN)
		return r;
	ptl_count(ctx, PTL_REASON_FLOW_NEW);
	ptl_count_at(PTL_REASON_MASQUERADED, 1, 0, 0);
	FAM(tell_new)(ctx, start);
	return PTL_CHOSEN;
}

/* Opens a flow as tc would, entry by entry, the last step included if XDP goes on with it (`way` is PTL_CHOSEN). The way that it takes. */
static __always_inline int FAM(xdp_open_known)(struct xdp_md *ctx, struct FAM(start) *start, struct FAM(xdp_work) *work, int way)
{
	if (FAM(ptl_xdp_open)(ctx) != PTL_CHOSEN)
		return PTL_REASON_XDP_STACK_FLOW; /* tc tries again, and says why not */
	work->opened = true;
	if (way == PTL_CHOSEN && !(start->value.flags & PTL_NAT_XDP && FAM(ptl_xdp_snat)() == PTL_CHOSEN))
		return PTL_REASON_XDP_STACK_FLOW;
	return way;
}

/*
 * The first packet of a flow, in the cell. PTL_CHOSEN: the flow is open, its entries in the cells, and it is finished here;
 * otherwise the verdict. `fresh`: there is no entry, not even a dead one.
 */
static __always_inline int FAM(xdp_begin)(struct xdp_md *ctx, struct FAM(start) *start, struct FAM(xdp_work) *work, bool fresh)
{
	int r = FAM(ptl_xdp_find)(ctx), way, opened = PTL_XDP_AGAIN;

	if (r != PTL_CHOSEN)
		return r;
	way = FAM(ptl_xdp_way)(ctx);
	if (way == PTL_CHOSEN) {
		start->target.flags |= PTL_NAT_XDP;
		if (fresh)
			opened = FAM(ptl_xdp_new)(ctx);
	}
	if (opened == PTL_XDP_AGAIN)
		opened = FAM(xdp_open_known)(ctx, start, work, way);
	return opened == PTL_CHOSEN ? PTL_CHOSEN : ptl_pass(ctx, opened);
}

/* A packet that may start a flow. `old` is the entry that it has; NULL: none. `stale`: whose backend has left. */
static __always_inline int FAM(xdp_first)(struct xdp_md *ctx, const struct FAM(packet) *p, const struct FAM(nat_value) *old,
					  bool stale)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	struct FAM(way) *way;
	int r;

	if (!start || !work)
		return XDP_PASS;
	if (!FAM(xdp_for_us)(ctx))
		return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
	work->opened = false;
	r = FAM(xdp_begin)(ctx, start, work, !old);
	if (stale && old && work->opened) {
		ptl_count_at(PTL_REASON_BACKEND_STALE, 1, 0, 0);
		FAM(tell)(ctx, p, old, PTL_TELL_GONE, PTL_REASON_BACKEND_STALE);
	}
	if (r != PTL_CHOSEN)
		return r;
	way = &work->way;
	FAM(way_of)(&p->key, &start->value, &work->out, way);
	return FAM(xdp_send)(ctx, p->key.protocol, way, &work->fib, !work->opened);
}
