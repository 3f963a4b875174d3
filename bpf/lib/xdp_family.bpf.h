/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The XDP hook of one address family. Included by xdp.bpf.c once per family, as family.bpf.h is by tc.bpf.c. */
#include "address.bpf.h"
#include "choice.bpf.h"
#include "nat.bpf.h"
#include "track.bpf.h"
#include "flow.bpf.h"
#include "start.bpf.h"
#include "xdp_way.bpf.h"

#ifndef PTL_XDP_FAMILY_COMMON
#define PTL_XDP_FAMILY_COMMON
#define PTL_XDP_LONGEST 0xffff
#endif

/* What is worked out about a packet beside its tuple, in a cell of each CPU and not on the stack. */
struct FAM(xdp_work) {
	struct ptl_xdp_header header;
	struct bpf_fib_lookup fib;
	struct FAM(way) way;
	struct FAM(nat_value) in;    /* the packet's two entries, and the key of the second: as tc egress would meet it */
	struct FAM(nat_key) out_key;
	struct FAM(nat_value) out;
	__u32 stale;  /* a first packet's: the backend of the flow that it had has left */
	__u32 opened; /* a first packet's: its flow was opened as tc would, and is counted, whichever way it goes */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct FAM(xdp_work));
} FAM(xdp_works) SEC(".maps");

static __always_inline struct FAM(xdp_work) *FAM(xdp_work)(void)
{
	__u32 only = 0;

	return ptl_own(FAM(xdp_works), &only);
}

/* Is the frame for this interface, and not one that a switch has flooded or that was sent to a group? */
static __always_inline bool FAM(xdp_for_us)(const struct xdp_md *ctx)
{
	const struct ethhdr *eth = (void *)(long)ctx->data;
	__u32 ifindex = ctx->ingress_ifindex;
	struct xdp_device *device = ptl_look_up(xdp_devices, &ifindex);

	if (!device || (const void *)(eth + 1) > (const void *)(long)ctx->data_end)
		return false;
	return !__builtin_memcmp(eth->h_dest, device->address, ETH_ALEN);
}

/* Why a route leads where XDP does not send. */
static __always_inline int FAM(xdp_elsewhere)(__u32 ifindex)
{
	struct interface *iface = ptl_look_up(interfaces, &ifindex);

	if (!iface)
		return PTL_REASON_XDP_ROUTE;
	if (iface->role == PTL_ROLE_OVERLAY)
		return PTL_REASON_XDP_OVERLAY;
	return iface->role == PTL_ROLE_POD || iface->role == PTL_ROLE_BRIDGE ? PTL_REASON_XDP_LOCAL : PTL_REASON_XDP_ROUTE;
}

/*
 * Asks the kernel's routing table, as the stack would between the hooks: source as it came, destination as it is to be. PTL_CHOSEN
 * with the route in *fib (interface and both hardware addresses), or the reason to leave the packet to tc. The frame is for us.
 */
static __always_inline int FAM(xdp_route)(struct xdp_md *ctx, struct bpf_fib_lookup *fib, const struct FAM(nat_key) *key,
					  __u32 length)
{
	__u32 ifindex;
	long r;

	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = sizeof(ADDR) == 4 ? PTL_AF_INET : PTL_AF_INET6;
	fib->l4_protocol = key->protocol;
	fib->sport = key->sport;
	fib->dport = key->dport;
	fib->tot_len = length < PTL_XDP_LONGEST ? length : PTL_XDP_LONGEST;
	fib->ifindex = ctx->ingress_ifindex;
	__builtin_memcpy(fib->ipv6_src, &key->src, sizeof(key->src)); /* a union with ipv4_src, and so is the next one */
	__builtin_memcpy(fib->ipv6_dst, &key->dst, sizeof(key->dst));
	r = bpf_fib_lookup(ctx, fib, sizeof(*fib), 0);
	if (r == BPF_FIB_LKUP_RET_NOT_FWDED)
		return PTL_REASON_XDP_LOCAL;
	if (r != BPF_FIB_LKUP_RET_SUCCESS && r != BPF_FIB_LKUP_RET_NO_NEIGH && r != BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return PTL_REASON_XDP_ROUTE;
	ifindex = fib->ifindex;
	/* the interface that it came in by is one: xdp_for_us() */
	if (ifindex != ctx->ingress_ifindex && !ptl_look_up(xdp_devices, &ifindex))
		return FAM(xdp_elsewhere)(ifindex);
	if (r == BPF_FIB_LKUP_RET_FRAG_NEEDED)
		return PTL_REASON_XDP_MTU;
	return r == BPF_FIB_LKUP_RET_NO_NEIGH ? PTL_REASON_XDP_NEIGHBOUR : PTL_CHOSEN;
}

/* The packet as it is between the hooks, once `in` has been written into it. */
static __always_inline void FAM(xdp_between)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *in,
					     struct FAM(nat_key) *out)
{
	out->src = key->src;
	out->dst = in->addr;
	out->sport = in->peer_port;
	out->dport = in->port;
	out->protocol = key->protocol;
	out->direction = PTL_OUT;
	out->pad = 0;
}

/* Writes both hooks' changes and the hardware addresses. False: the frame is too short, which the parser has seen to. */
static __always_inline bool FAM(xdp_rewrite)(struct xdp_md *ctx, __u8 protocol, const struct FAM(way) *way,
					     const struct bpf_fib_lookup *fib)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct FAM(ptl_ip) *ip = data + PTL_L3_OFFSET;
	struct ethhdr *eth = data;
	struct ptl_ports *ports = (void *)(ip + 1);
	bool udp = protocol == IPPROTO_UDP;
	__sum16 *check = (void *)(ip + 1) + (udp ? offsetof(struct udphdr, check) : offsetof(struct tcphdr, check));

	if ((void *)(ports + 1) > end || (void *)(check + 1) > end)
		return false;
	if (!udp || *check) { /* UDP: 0 is "no checksum", and stays; a sum that comes out as 0 is written as 0xffff */
		__sum16 mended = ptl_xdp_mended(*check, way->change);

		*check = udp && !mended ? 0xffff : mended;
	}
	*ports = way->ports;
	__builtin_memcpy(&ip->saddr, &way->src, sizeof(ADDR));
	__builtin_memcpy(&ip->daddr, &way->dst, sizeof(ADDR));
	FAM(ptl_xdp_hop)(ip, way->addresses);
	__builtin_memcpy(eth->h_dest, fib->dmac, ETH_ALEN);
	__builtin_memcpy(eth->h_source, fib->smac, ETH_ALEN);
	return true;
}

/* Counts a packet and sends it on. `flows`: with it one begins. */
static __always_inline int FAM(xdp_send)(struct xdp_md *ctx, __u8 protocol, const struct FAM(way) *way,
					 const struct bpf_fib_lookup *fib, __u32 flows)
{
	FAM(way_account)(ctx, way, flows);
	if (!FAM(xdp_rewrite)(ctx, protocol, way, fib))
		return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
	ptl_count(ctx, PTL_REASON_XDP_SENT);
	if (fib->ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect(fib->ifindex, 0);
}

#include "xdp_start.bpf.h"

/*
 * Looks up a packet's two entries and says in the cell what they are. PTL_CHOSEN when both say that it is finished here, with the elements
 * in *e and *o; PTL_MISSED when it may start a flow; otherwise the verdict.
 */
static __always_inline int FAM(xdp_entries)(struct xdp_md *ctx, const struct FAM(packet) *p, struct FAM(xdp_work) *work,
					    __u32 now, struct FAM(nat_value) **e, struct FAM(nat_value) **o)
{
	struct FAM(nat_value) *in = &work->in;
	bool stale = false;

	*e = FAM(nat_lookup)(&p->key, in);
	if (!*e || !ptl_nat_live(p->key.protocol, in->state, in->last_seen, now) || FAM(flow_over)(p, in, &stale)) {
		if (!ptl_opens(p->key.protocol, p->tcp_flags))
			return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
		work->stale = stale;
		return PTL_MISSED;
	}
	if (FAM(resets)(p, in))
		return ptl_pass(ctx, PTL_REASON_XDP_ANSWER);
	if (!(in->flags & PTL_NAT_XDP))
		return ptl_pass(ctx, PTL_REASON_XDP_STACK_FLOW);
	FAM(xdp_between)(&p->key, in, &work->out_key);
	*o = FAM(nat_lookup)(&work->out_key, &work->out);
	if (!*o || work->out.flags & PTL_NAT_PENDING || !(work->out.flags & PTL_NAT_XDP) ||
	    !ptl_nat_live(p->key.protocol, work->out.state, work->out.last_seen, now))
		return ptl_pass(ctx, PTL_REASON_XDP_STACK_FLOW);
	FAM(way_of)(&p->key, in, &work->out, &work->way);
	return PTL_CHOSEN;
}

/* Why a packet of a flow that is XDP's cannot be sent on; PTL_CHOSEN, with the route in the cell: it can. Nothing is changed before. */
static __always_inline int FAM(xdp_obstacle)(struct xdp_md *ctx, const struct FAM(packet) *p, struct FAM(xdp_work) *work)
{
	struct FAM(nat_key) key = {
		.src = p->key.src,
		.dst = work->way.dst,
		.sport = work->way.between.sport,
		.dport = work->way.between.dport,
		.protocol = p->key.protocol,
	};

	if (!FAM(xdp_for_us)(ctx))
		return PTL_REASON_XDP_OTHER;
	if (work->header.ttl <= 1)
		return PTL_REASON_XDP_TTL;
	return FAM(xdp_route)(ctx, &work->fib, &key, work->header.length);
}

/*
 * A packet in the cell of start.bpf.h: by the entries of its flow, in which it is noted as the two hooks do, or as the first of one.
 * The verdict.
 */
__noinline int FAM(ptl_xdp_serve)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	struct FAM(nat_value) *e = NULL, *o = NULL;
	const struct FAM(packet) *p;
	__u32 now = ptl_now();
	int r;

	if (!start || !work)
		return XDP_PASS;
	p = &start->packet;
	r = FAM(xdp_entries)(ctx, p, work, now, &e, &o);
	if (r == PTL_MISSED)
		return FAM(xdp_first)(ctx, p, e ? &work->in : NULL, work->stale);
	if (r != PTL_CHOSEN)
		return r;
	r = FAM(xdp_obstacle)(ctx, p, work);
	if (r != PTL_CHOSEN)
		return ptl_pass(ctx, r);
	FAM(nat_touch)(&p->key, e, &work->in, p->tcp_flags, now, true);
	FAM(nat_touch)(&work->out_key, o, &work->out, p->tcp_flags, now, false);
	return FAM(xdp_send)(ctx, p->key.protocol, &work->way, &work->fib, 0);
}

/* Reads a packet into the cells. PTL_PARSED, or the verdict. */
static __always_inline int FAM(xdp_read)(struct xdp_md *ctx)
{
	struct FAM(start) *start = FAM(start_cell)();
	struct FAM(xdp_work) *work = FAM(xdp_work)();
	struct FAM(packet) p = {};
	int r;

	if (!start || !work)
		return XDP_PASS; /* cannot be: the only cell of an array */
	r = FAM(xdp_parse)(ctx, &p, &work->header);
	if (r != PTL_PARSED)
		return ptl_pass(ctx, r);
	start->packet = p;
	return PTL_PARSED;
}
