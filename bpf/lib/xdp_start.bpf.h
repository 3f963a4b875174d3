/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The start of a flow at the XDP hook. Included once per family.
 *
 * A flow that is chosen a backend here is opened here, whichever way it goes: tc then finds its entry and chooses no other. Were it
 * tc that chose again, a backend behind the stack would get fewer flows than its share.
 */

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
 * Gives an opened flow its address of the node, as tc egress does when it meets the pending entry, and counts its first packet.
 * PTL_CHOSEN; otherwise it stays pending, and the flow goes through the stack.
 */
__noinline int FAM(ptl_xdp_snat)(struct xdp_md *ctx)
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
	if (r == PTL_CHOSEN)
		FAM(nat_account)(ctx, &start->value, 0);
	return r;
}

/*
 * The first packet of a flow, in the cell. PTL_CHOSEN: the flow is open, its entry in the cell's value, and it is finished here;
 * otherwise the verdict.
 */
static __always_inline int FAM(xdp_begin)(struct xdp_md *ctx, struct FAM(start) *start, struct FAM(xdp_work) *work)
{
	int r = FAM(ptl_xdp_find)(ctx), way;

	if (r != PTL_CHOSEN)
		return r;
	way = FAM(ptl_xdp_way)(ctx);
	if (way == PTL_CHOSEN)
		start->target.flags |= PTL_NAT_XDP;
	if (FAM(ptl_xdp_open)(ctx) != PTL_CHOSEN)
		return ptl_pass(ctx, PTL_REASON_XDP_STACK_FLOW); /* tc tries again, and says why not */
	work->opened = true;
	if (way == PTL_CHOSEN && !(start->value.flags & PTL_NAT_XDP && FAM(ptl_xdp_snat)(ctx) == PTL_CHOSEN))
		way = PTL_REASON_XDP_STACK_FLOW;
	return way == PTL_CHOSEN ? PTL_CHOSEN : ptl_pass(ctx, way);
}

/* A packet that may start a flow. `old` is the entry that it has, if any; `stale`: whose backend has left. */
static __always_inline int FAM(xdp_first)(struct xdp_md *ctx, const struct FAM(packet) *p, const struct FAM(nat_value) *old,
					  bool stale)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	int r;

	if (!start || !work)
		return XDP_PASS;
	if (!FAM(xdp_for_us)(ctx))
		return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
	start->packet = *p;
	work->opened = false;
	r = FAM(xdp_begin)(ctx, start, work);
	if (stale && work->opened) {
		ptl_count_at(PTL_REASON_BACKEND_STALE, 1, 0, 0);
		FAM(tell)(ctx, p, old, PTL_TELL_GONE, PTL_REASON_BACKEND_STALE);
	}
	return r == PTL_CHOSEN ? FAM(xdp_send)(ctx, p, &start->value, work) : r;
}
