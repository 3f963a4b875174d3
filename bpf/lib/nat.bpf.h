/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The `nat` map: lookup, and pairs of entries. Included once per family.
 *
 * Every entry has an opposite that rewrites the other direction's packets, and each holds what is needed to name the
 * other's key.
 */

#include "mark.bpf.h"

static __always_inline __u32 FAM(nat_check)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value)
{
	_Static_assert(offsetof(struct FAM(nat_value), check) == sizeof(ADDR) + 4, "ports lie between address and check");
	return ptl_nat_check(key, sizeof(*key) / 4, value, offsetof(struct FAM(nat_value), check) / 4);
}

/*
 * Looks up an entry and copies it. NULL: none. The pointer is for writing last_seen and state; everything that
 * decides is in the copy, whose rewrite is known to belong to this key.
 */
static __always_inline struct FAM(nat_value) *FAM(nat_lookup)(const struct FAM(nat_key) *key,
							      struct FAM(nat_value) *copy)
{
	for (int i = 0; i < PTL_READS; i++) {
		struct FAM(nat_value) *e = ptl_look_up(FAM(nat), key);

		if (!e)
			return NULL;
		*copy = *e;
		ptl_barrier();
		if (copy->check == FAM(nat_check)(key, copy))
			return e;
		ptl_count_at(PTL_REASON_READ_RETRIED, 1, 0, 0);
	}
	return NULL;
}

/* From CLOSED on a key is not free. */
enum FAM(nat_use) { FAM(NAT_ABSENT), FAM(NAT_DEAD), FAM(NAT_CLOSED), FAM(NAT_TAKEN) };

/*
 * Is a key free for a new flow? CLOSED: its connection has ended, but so lately that its last packets may be under way. An
 * element that is recycled just now counts as taken: whoever asks has other keys to try. *last_seen is in ticks.
 */
static __always_inline enum FAM(nat_use) FAM(nat_use)(const struct FAM(nat_key) *key, __u32 now, __u32 *last_seen)
{
	struct FAM(nat_value) *e = ptl_look_up(FAM(nat), key);

	if (!e)
		return FAM(NAT_ABSENT);
	*last_seen = e->last_seen;
	if (!ptl_nat_live(key->protocol, e->state, e->last_seen, now))
		return FAM(NAT_DEAD);
	return ptl_tcp_age[e->state & (PTL_TCP_STATES - 1)] == PTL_AGE_CLOSED ? FAM(NAT_CLOSED) : FAM(NAT_TAKEN);
}

/* Looks up an entry and copies it if it still stands for a flow. */
static __always_inline bool FAM(nat_find_live)(const struct FAM(nat_key) *key, struct FAM(nat_value) *copy)
{
	return FAM(nat_lookup)(key, copy) && ptl_nat_live(key->protocol, copy->state, copy->last_seen, ptl_now());
}

/*
 * The key of the opposite entry. IN: packets client -> addr; their rewritten form is client:peer_port -> value, so the
 * replies run value -> client:peer_port. OUT likewise, the other way round. `in`, here and below, is a constant of the
 * caller and says the same as key->direction: a branch on it would double the paths that the verifier follows.
 */
static __always_inline void FAM(nat_opposite_key)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value,
						  struct FAM(nat_key) *opposite, bool in)
{
	opposite->src = in ? value->addr : key->dst;
	opposite->sport = in ? value->port : value->peer_port;
	opposite->dst = in ? key->src : value->addr;
	opposite->dport = in ? value->peer_port : value->port;
	opposite->protocol = key->protocol;
	opposite->direction = in ? PTL_OUT : PTL_IN;
	opposite->pad = 0;
}

/*
 * The opposite entry's value: it rewrites the replies' source (or destination) back to what the sender of `key` wrote.
 */
static __always_inline void FAM(nat_opposite_value)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value,
						    const struct FAM(nat_key) *opposite_key,
						    struct FAM(nat_value) *opposite, bool in)
{
	*opposite = *value;
	opposite->addr = in ? key->dst : key->src;
	opposite->port = in ? key->dport : key->sport;
	opposite->peer_port = in ? key->sport : key->dport;
	opposite->flags ^= PTL_NAT_REPLY;
	opposite->check = FAM(nat_check)(opposite_key, opposite);
}

/*
 * The client's address must not reach the backend (8.2, 8.4; hairpin, 8.7). The egress hook, which knows the interface,
 * gives the flow an address of the node: this asks it to. A packet that is delivered on the node itself meets no egress
 * hook and needs none (8.10). `key` is that of the packets on their way to the backend.
 */
static __always_inline long FAM(ask_masquerade)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *in,
						struct FAM(nat_value) *scratch)
{
	*scratch = *in;
	scratch->addr = key->src;
	scratch->port = key->sport;
	scratch->peer_port = key->dport;
	scratch->flags = PTL_NAT_PENDING | PTL_NAT_MASQUERADE;
	scratch->check = FAM(nat_check)(key, scratch);
	FAM(nat_mark)(key, scratch->flags, false);
	return ptl_update(FAM(nat), key, scratch, BPF_ANY);
}
