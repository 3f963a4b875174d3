/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The life of a flow: what each packet changes in its entries. Included once per family.
 *
 * Both entries of a pair carry the state of the whole flow: a change of state and, once a tick, the time are written to
 * both; when the opposite has been evicted it is put back then.
 */

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
		FAM(nat_mark)(&opposite_key, wanted.flags, !in);
		if (!ptl_update(FAM(nat), &opposite_key, &wanted, BPF_NOEXIST))
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

/* Adds packets and flows to a service's and a backend's traffic. */
static __always_inline void FAM(nat_add)(const struct FAM(nat_value) *value, __u32 packets, __u32 bytes, __u32 flows)
{
	struct traffic *t;
	__u32 backend = value->backend;

	if (value->flags & (PTL_NAT_MASQUERADE | PTL_NAT_DIRECT))
		return; /* counted by the pair that changes the destination, or no Service's traffic */
	if (value->service != PTL_NO_SERVICE)
		ptl_count_at(PTL_COUNTERS_SERVICE_BASE + value->service, packets, bytes, flows);
	t = ptl_tally(FAM(backend_stats), &backend);
	if (t) {
		if (flows)
			__sync_fetch_and_add(&t->flows, flows);
		if (packets) { /* the compiler makes "or" of "add 0", which Linux 5.10 does not have */
			__sync_fetch_and_add(&t->packets, packets);
			__sync_fetch_and_add(&t->bytes, bytes);
		}
	}
}

/* Adds a translated packet to its service's and its backend's traffic. */
static __always_inline void FAM(nat_account)(const PTL_CONTEXT *ctx, const struct FAM(nat_value) *value, __u32 flows)
{
	FAM(nat_add)(value, 1, ptl_length(ctx), flows);
}

/* Is a live entry's flow over for this packet, so that it selects anew? `stale`: since its backend has left. */
static __always_inline bool FAM(flow_over)(const struct FAM(packet) *p, const struct FAM(nat_value) *v, bool *stale)
{
	if (v->flags & PTL_NAT_REPLY)
		return false; /* simultaneous open and the like are the endpoints' affair */
	if (!ptl_opens(p->key.protocol, p->tcp_flags))
		return false; /* an established connection keeps its backend to the end (9.10) */
	if (p->key.protocol != IPPROTO_UDP && !ptl_opening(v->state))
		return true;
	*stale = !FAM(backend_current)(v->backend, v->generation);
	return *stale;
}

/* Is this a packet of a connection whose client is to be told that its backend is gone (--reset-removed-backends)? */
static __always_inline bool FAM(resets)(const struct FAM(packet) *p, const struct FAM(nat_value) *v)
{
	return config.options & PTL_OPTION_RESET_REMOVED && p->key.protocol == IPPROTO_TCP && !(v->flags & PTL_NAT_REPLY) &&
	       p->part == PTL_WHOLE && !(p->tcp_flags & PTL_TCP_RST) && FAM(backend_removed)(v->backend, v->generation);
}
