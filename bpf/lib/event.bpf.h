/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Events, for whoever listens (`portolan monitor`): where they are written, and nowhere else. Nobody listens, nearly always:
 * then all of it is one look at a cell. Knows no address family.
 *
 * Nothing here waits. A full ring is counted (PTL_REASON_EVENT_LOST), and nobody is woken: the reader looks by itself.
 */
#ifndef PTL_EVENT_BPF_H
#define PTL_EVENT_BPF_H

#include "common.bpf.h"

/* Of the record's addresses: IPv4 has one word. */
static __always_inline void ptl_event_addr4(struct addr6 *to, const struct addr4 *from)
{
	to->w[0] = from->w[0];
}

static __always_inline void ptl_event_addr6(struct addr6 *to, const struct addr6 *from)
{
	*to = *from;
}

/* Whoever listens for such events; NULL: nobody. */
static __always_inline struct listener *ptl_listener(__u32 kind)
{
	__u32 only = 0;
	struct listener *l = ptl_aside(listener, &only);

	return l && l->kinds & kind ? l : NULL;
}

/*
 * A fresh record, or NULL: nobody listens any more, the event is not among those sampled, or the ring is full. Whoever gets
 * one submits it (ptl_event_send).
 */
static __always_inline struct flow_event *ptl_event_begin(__u32 kind, __u32 reason)
{
	struct listener *l = ptl_listener(kind);
	__u64 now = bpf_ktime_get_ns();
	struct flow_event *e;

	if (!l)
		return NULL;
	if (l->until <= now) {
		l->kinds = 0;
		return NULL;
	}
	if (kind == PTL_TELL_TRANSLATED && ptl_scale(bpf_get_prandom_u32(), l->sample))
		return NULL;
	e = bpf_ringbuf_reserve(&events, sizeof(*e), 0);
	if (!e) {
		ptl_count_at(PTL_REASON_EVENT_LOST, 1, 0, 0);
		return NULL;
	}
	__builtin_memset(e, 0, sizeof(*e));
	e->time = now;
	e->kind = kind;
	e->reason = reason;
	return e;
}

static __always_inline void ptl_event_send(struct flow_event *e)
{
	bpf_ringbuf_submit(e, BPF_RB_NO_WAKEUP);
}

/* One more new flow of a Service that got no backend. Seldom, so it need not be a count for each CPU. */
static __always_inline void ptl_service_drop(__u32 service)
{
	__u64 *drops = ptl_aside(service_drops, &service);

	if (drops)
		__sync_fetch_and_add(drops, 1);
}

#endif /* PTL_EVENT_BPF_H */
