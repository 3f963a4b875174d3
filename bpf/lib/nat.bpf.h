/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The `nat` map: lookup, pairs, life of an entry. Included once per family.
 *
 * Every entry has an opposite that rewrites the other direction's packets, and each holds what is needed to name the
 * other's key. Both carry the state of the whole flow: a change of state and, once a tick, the time are written to
 * both; when the opposite has been evicted it is put back then.
 */

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
		struct FAM(nat_value) *e = bpf_map_lookup_elem(&FAM(nat), key);

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
 * element that is recycled just now counts as taken: whoever asks has other keys to try.
 */
static __always_inline enum FAM(nat_use) FAM(nat_use)(const struct FAM(nat_key) *key, __u32 now)
{
	struct FAM(nat_value) *e = bpf_map_lookup_elem(&FAM(nat), key);

	if (!e)
		return FAM(NAT_ABSENT);
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
 * Writes the state and the time of a flow to the opposite entry, and takes over what that one has seen. Happens when
 * the state changes and otherwise at most once a tick. Returns the state to store.
 */
static __always_inline __u16 FAM(nat_touch_opposite)(const struct FAM(nat_key) *key,
						     const struct FAM(nat_value) *value, __u16 state, __u32 now,
						     bool in)
{
	struct FAM(nat_key) opposite_key = {};
	struct FAM(nat_value) wanted, copy;
	struct FAM(nat_value) *e;

	FAM(nat_opposite_key)(key, value, &opposite_key, in);
	FAM(nat_opposite_value)(key, value, &opposite_key, &wanted, in);
	e = FAM(nat_lookup)(&opposite_key, &copy);
	if (!e) {
		wanted.state = state;
		wanted.last_seen = now;
		if (!bpf_map_update_elem(&FAM(nat), &opposite_key, &wanted, BPF_NOEXIST))
			ptl_count_at(PTL_REASON_PAIR_RESTORED, 1, 0, 0);
		return state;
	}
	if (copy.check != wanted.check)
		return state; /* another flow has that tuple now: never overwrite it */
	/* What only the other direction's packets show: they are counted there first. */
	__u16 theirs = value->flags & PTL_NAT_REPLY ? PTL_SEEN_FORWARD | PTL_ESTABLISHED | PTL_FIN_FORWARD | PTL_RST_FORWARD :
						      PTL_SEEN_REPLY | PTL_FIN_REPLY | PTL_RST_REPLY;
	state = (state & ~(theirs & (PTL_RST_FORWARD | PTL_RST_REPLY))) | (copy.state & theirs);
	e->state = state;
	e->last_seen = now;
	return state;
}

static __noinline __u16 FAM(nat_touch_in)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value, __u16 state,
					  __u32 now)
{
	return FAM(nat_touch_opposite)(key, value, state, now, true);
}

static __noinline __u16 FAM(nat_touch_out)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value, __u16 state,
					   __u32 now)
{
	return FAM(nat_touch_opposite)(key, value, state, now, false);
}

/* Notes one more packet of a live flow: state, time, and both for the opposite entry when they change. */
static __always_inline void FAM(nat_touch)(const struct FAM(nat_key) *key, struct FAM(nat_value) *e,
					   const struct FAM(nat_value) *copy, __u8 tcp_flags, __u32 now, bool in)
{
	__u16 state = ptl_next_state(copy->state, copy->flags & PTL_NAT_REPLY, key->protocol, tcp_flags);

	if (state == copy->state && copy->last_seen == now)
		return;
	if (!(copy->flags & PTL_NAT_PENDING))
		state = in ? FAM(nat_touch_in)(key, copy, state, now) : FAM(nat_touch_out)(key, copy, state, now);
	e->state = state;
	e->last_seen = now;
}

/* Adds a translated packet to its service's and its backend's traffic. */
static __always_inline void FAM(nat_account)(const struct __sk_buff *skb, const struct FAM(nat_value) *value, __u32 flows)
{
	struct traffic *t;
	__u32 backend = value->backend;

	if (value->flags & (PTL_NAT_MASQUERADE | PTL_NAT_DIRECT))
		return; /* counted by the pair that changes the destination, or no Service's traffic */
	if (value->service != PTL_NO_SERVICE)
		ptl_count_at(PTL_COUNTERS_SERVICE_BASE + value->service, 1, skb->len, flows);
	t = bpf_map_lookup_elem(&FAM(backend_stats), &backend);
	if (t) {
		if (flows)
			__sync_fetch_and_add(&t->flows, flows);
		__sync_fetch_and_add(&t->packets, 1);
		__sync_fetch_and_add(&t->bytes, skb->len);
	}
}
