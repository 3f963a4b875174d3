/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The first packet of a flow: whose it is and where it goes. Included once per family. */

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
			ptl_delete(FAM(nat), &key);
			return PTL_NO_FRONTEND;
		}
	}
	t->addr = p->key.dst;
	t->port = p->key.dport;
	t->flags = PTL_NAT_DIRECT;
	t->backend = PTL_NO_BACKEND;
	t->generation = 0;
	t->service = PTL_NO_SERVICE;
	t->masquerade = 0;
	return PTL_CHOSEN;
}

/* Is the sender a pod of this node, as the configured detector sees it (8.3)? */
static __always_inline bool FAM(local_pod)(const ADDR *src, __u32 ifindex)
{
	__u32 outside = 0;

	if (config.FAM(detector) == PTL_DETECT_INTERFACE) {
		struct interface *iface = ptl_look_up(interfaces, &ifindex);

		return iface && iface->flags & PTL_INTERFACE_LOCAL_PODS;
	}
	if (config.FAM(detector) != PTL_DETECT_NETWORK)
		return false;
	for (__u32 i = 0; i < sizeof(ADDR) / 4; i++)
		outside |= (src->w[i] & config.FAM(local_mask).w[i]) ^ config.FAM(local_network).w[i];
	return !outside;
}

/*
 * What a first packet is sent to: PTL_CHOSEN with *t, or PTL_NO_FRONTEND with *pass to pass, or the reason to reject or
 * drop.
 */
static __always_inline int FAM(resolve)(const struct FAM(packet) *p, __u32 ifindex, bool pod, struct FAM(target) *t,
					__u32 *pass)
{
	__u32 class = FAM(address_class)(&p->key.dst, 0, 0);

	*pass = PTL_REASON_PASS_NO_SERVICE;
	if (!class && FAM(loopback)(&p->key.dst))
		return PTL_REASON_DROP_LOOPBACK; /* with route_localnet the kernel would take it from a wire (6.6) */
	if (!class)
		return FAM(unallocated)(&p->key.dst) ? PTL_REASON_DROP_UNALLOCATED : PTL_NO_FRONTEND;
	if (class & (PTL_CLASS_VIP | PTL_CLASS_NODE)) {
		struct FAM(sender) from = { .addr = p->key.src, .inside = FAM(local_pod)(&p->key.src, ifindex) };
		struct FAM(addr_port) key;
		int r;

		FAM(frontend_key)(&p->key.dst, p->key.dport, p->key.protocol, class, &key);
		r = FAM(choose)(&key, &from, t);
		if (r == PTL_CHOSEN && FAM(addr_equal)(&t->addr, &p->key.src))
			t->masquerade = 1; /* hairpin (8.7): the reply would never leave the pod */
		if (r != PTL_NO_FRONTEND)
			return r;
	}
	if ((class & PTL_CLASS_BACKEND) &&
	    FAM(address_class)(&p->key.dst, p->key.dport, p->key.protocol) & PTL_CLASS_BACKEND_PORT) {
		*pass = PTL_REASON_PASS_DIRECT;
		return FAM(direct)(p, pod, t);
	}
	return class & PTL_CLASS_CLUSTER_IP ? PTL_REASON_REJECT_NO_PORT : PTL_NO_FRONTEND;
}

/*
 * The start of a flow, worked out in a cell of each CPU and not on the stack: the global functions that do it
 * (tc.bpf.c) are verified once, with any packet, instead of once for each way that a packet can be parsed.
 */
struct FAM(start) {
	struct FAM(packet) packet;
	struct FAM(target) target;
	struct FAM(nat_value) value;
	__u32 pass; /* resolve(): the reason to pass */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct FAM(start));
} FAM(starts) __weak SEC(".maps"); /* the hooks of one packet run one after the other */

static __always_inline struct FAM(start) *FAM(start_cell)(void)
{
	__u32 only = 0;

	return ptl_own(FAM(starts), &only);
}

#include "tell.bpf.h"

/* What a refusal tells. */
static __always_inline enum ptl_tell FAM(refusal)(int reason)
{
	return reason == PTL_REASON_REJECT_NO_BACKEND || reason == PTL_REASON_REJECT_NO_PORT ? PTL_TELL_REJECTED :
											      PTL_TELL_DROPPED;
}

/* Tells of a flow that was just opened. */
static __always_inline void FAM(tell_new)(PTL_CONTEXT *ctx, struct FAM(start) *start)
{
	if (start->value.flags & PTL_NAT_DIRECT || !ptl_listener(PTL_TELL_NEW))
		return;
	/* another CPU may have opened the same flow, to its own choice */
	start->target.addr = start->value.addr;
	start->target.port = start->value.port;
	start->target.backend = start->value.backend;
	start->target.generation = start->value.generation;
	start->target.flags = start->value.flags;
	FAM(ptl_tell)(ctx, PTL_TELL_NEW, PTL_REASON_FLOW_NEW);
}

#ifndef PTL_XDP
/* The two steps below take the packet from the cell. `pod`: as in hooks.bpf.h. Result and *target as of resolve(). */
__noinline int FAM(ptl_resolve)(PTL_CONTEXT *ctx, int pod)
{
	struct FAM(start) *start = FAM(start_cell)();
	int r;

	if (!start)
		return PTL_REASON_DROP_MAP_FULL;
	FAM(no_target)(&start->target);
	r = FAM(resolve)(&start->packet, ptl_ifindex(ctx), pod, &start->target, &start->pass);
	if (r < 0)
		return r;
	ptl_service_drop(start->target.service);
	FAM(ptl_tell)(ctx, FAM(refusal)(r), r);
	return r;
}

/* Opens the flow to the target and counts it. PTL_CHOSEN with the entry in the cell's value, or the reason to drop. */
__noinline int FAM(ptl_open)(PTL_CONTEXT *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	int r;

	ptl_uses(ctx);
	if (!start)
		return PTL_REASON_DROP_MAP_FULL;
	r = FAM(flow_open)(&start->packet, &start->target, &start->value);
	if (r != PTL_CHOSEN) {
		ptl_service_drop(start->target.service);
		FAM(ptl_tell)(ctx, PTL_TELL_DROPPED, r);
		return r;
	}
	ptl_count(ctx, start->value.flags & PTL_NAT_DIRECT ? PTL_REASON_PASS_DIRECT : PTL_REASON_FLOW_NEW);
	FAM(nat_account)(ctx, &start->value, 1);
	FAM(tell_new)(ctx, start);
	return PTL_CHOSEN;
}
#endif
