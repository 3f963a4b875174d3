/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Ways: what both hooks do with a packet, as one change. Included once per family. */

/* What is done with a packet. */
struct FAM(way) {
	ADDR src; /* as it goes out */
	ADDR dst;
	struct ptl_ports ports;
	struct ptl_ports between; /* the hooks: with these the kernel is asked for a route */
	__u32 reply;
	__u32 addresses; /* ptl_xdp_change() of the addresses, and of addresses and ports */
	__u32 change;
	__u32 backend; /* of the entry that is counted */
	__u32 generation;
	__u32 service;
};

/* What the two entries of a packet say together. */
static __always_inline void FAM(way_of)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *in,
					const struct FAM(nat_value) *out, struct FAM(way) *way)
{
	const struct FAM(nat_value) *counted = in->flags & PTL_NAT_MASQUERADE ? out : in;
	struct ptl_ports before = { key->sport, key->dport };
	__u64 sum;

	way->src = out->addr;
	way->dst = in->addr;
	way->ports.sport = out->port;
	way->ports.dport = out->peer_port;
	way->between.sport = in->peer_port;
	way->between.dport = in->port;
	way->reply = in->flags & PTL_NAT_REPLY;
	sum = ptl_xdp_change(0, &key->src, &way->src, sizeof(ADDR) / 4);
	sum = ptl_xdp_change(sum, &key->dst, &way->dst, sizeof(ADDR) / 4);
	way->addresses = ptl_xdp_folded(sum);
	way->change = ptl_xdp_folded(ptl_xdp_change(sum, &before, &way->ports, 1));
	way->backend = counted->backend;
	way->generation = counted->generation;
	way->service = counted->service;
}

/* Adds a packet, or a flow's first one, to the traffic of what the way is counted for. */
static __always_inline void FAM(way_account)(const struct xdp_md *ctx, const struct FAM(way) *way, __u32 flows)
{
	__u32 backend = way->backend, length = ptl_length(ctx);
	struct traffic *t;

	if (way->service != PTL_NO_SERVICE)
		ptl_count_at(PTL_COUNTERS_SERVICE_BASE + way->service, 1, length, flows);
	t = ptl_tally(FAM(backend_stats), &backend);
	if (!t)
		return;
	if (flows)
		__sync_fetch_and_add(&t->flows, flows);
	__sync_fetch_and_add(&t->packets, 1);
	__sync_fetch_and_add(&t->bytes, length);
}
