/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Events about packets. Included once per family. A packet and what became of it reach the function that writes the event in
 * the cell of start.bpf.h: it is a global function then, verified once.
 */

/* Writes an event about the packet and the target in the cell. Only kinds that somebody listens for cost more than a look. */
__noinline int FAM(ptl_tell)(PTL_CONTEXT *ctx, int kind, int reason)
{
	struct FAM(start) *s = FAM(start_cell)();
	struct flow_event *e = s ? ptl_event_begin(kind, reason) : NULL;

	ptl_uses(ctx);
	ptl_uses(kind);
	ptl_uses(reason);
	if (!e)
		return 0;
	FAM(ptl_event_addr)(&e->src, &s->packet.key.src);
	FAM(ptl_event_addr)(&e->dst, &s->packet.key.dst);
	FAM(ptl_event_addr)(&e->addr, &s->target.addr);
	e->sport = s->packet.key.sport;
	e->dport = s->packet.key.dport;
	e->port = s->target.port;
	e->family = sizeof(ADDR) == 4 ? 4 : 6;
	e->protocol = s->packet.key.protocol;
	e->direction = s->packet.key.direction;
	e->tcp_flags = s->packet.tcp_flags;
	e->ifindex = ptl_ifindex(ctx);
	e->length = ptl_length(ctx);
	e->service = s->target.service;
	e->backend = s->target.backend;
	e->generation = s->target.generation;
	e->nat_flags = s->target.flags;
	e->frontend_flags = s->target.frontend_flags;
	e->why = s->target.why;
	ptl_event_send(e);
	return 0;
}

/* The target that an entry of `nat` stands for. */
static __always_inline void FAM(entry_target)(struct FAM(target) *t, const struct FAM(nat_value) *v)
{
	t->addr = v->addr;
	t->port = v->port;
	t->flags = v->flags;
	t->backend = v->backend;
	t->generation = v->generation;
	t->service = v->service;
	t->frontend_flags = 0;
	t->why = 0;
}

/* Tells of a packet that belongs to an entry of `nat`; without one (NULL) all that is known is the packet. */
static __always_inline void FAM(tell)(PTL_CONTEXT *ctx, const struct FAM(packet) *p, const struct FAM(nat_value) *v,
				      enum ptl_tell kind, enum ptl_reason reason)
{
	struct FAM(start) *s;

	if (!ptl_listener(kind))
		return;
	s = FAM(start_cell)();
	if (!s)
		return;
	s->packet = *p;
	FAM(no_target)(&s->target);
	if (v)
		FAM(entry_target)(&s->target, v);
	FAM(ptl_tell)(ctx, kind, reason);
}

/* Counts, tells and drops. */
static __always_inline int FAM(drop)(PTL_CONTEXT *ctx, const struct FAM(packet) *p, const struct FAM(nat_value) *v,
				     enum ptl_reason reason)
{
	FAM(tell)(ctx, p, v, PTL_TELL_DROPPED, reason);
	return ptl_drop(ctx, reason);
}
