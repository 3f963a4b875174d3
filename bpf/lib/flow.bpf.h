/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The start of a flow: its nat entries, and a source port of its own where it needs one. Included once per family. */

/* The entry of the replies' key stands for this very flow: the same client port and the same address it asked for. */
static __always_inline bool FAM(same_flow)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *reply)
{
	return reply->peer_port == key->sport && reply->port == key->dport && FAM(addr_equal)(&reply->addr, &key->dst);
}

/*
 * Puts an entry where there is none, or one that may be taken over (`dead`). Fails when another CPU was faster. Taking over
 * is two steps, removal and insertion, and the entry that a slower CPU removes may be the faster one's new flow: so it is
 * done under a lock, an entry whose key no packet has (PTL_NAT_LOCK). (Compare-and-swap would need Linux 5.12.)
 */
static __always_inline long FAM(nat_insert)(const struct FAM(nat_key) *key, const struct FAM(nat_value) *value, bool dead)
{
	struct FAM(nat_key) lock = *key;
	__u32 seen;
	long r = -1;

	if (!dead)
		return ptl_update(FAM(nat), key, value, BPF_NOEXIST);
	lock.pad = PTL_NAT_LOCK;
	if (ptl_update(FAM(nat), &lock, value, BPF_NOEXIST))
		return r;
	if (FAM(nat_use)(key, value->last_seen, &seen) != FAM(NAT_TAKEN)) {
		ptl_delete(FAM(nat), key);
		r = ptl_update(FAM(nat), key, value, BPF_NOEXIST);
	}
	ptl_delete(FAM(nat), &lock);
	return r;
}

/* Gives `value` this port: `in`, the one that IN writes into the client's packets (peer_port), otherwise OUT's. */
static __always_inline void FAM(try_port)(const struct FAM(nat_key) *key, struct FAM(nat_value) *value,
					  struct FAM(nat_key) *reply_key, __be16 port, bool in)
{
	if (in)
		value->peer_port = port;
	else
		value->port = port;
	FAM(nat_opposite_key)(key, value, reply_key, in);
}

/*
 * Looks for a source port by which the replies can be told apart from every other flow's: sets value's port and
 * *reply_key. When all that are tried are in use, that of the connection which ended first will do: a client that opens
 * connections faster than they are forgotten would wait for nothing. The one that ended last will not: its last packets
 * may be under way, and the backend answers a SYN with a challenge (1 or 2 stalls in 200,000, measured). NAT_TAKEN: none.
 * (Inserting would belong into the loop, but costs 105,000 verifier steps on 5.10.)
 */
static __always_inline enum FAM(nat_use) FAM(find_port)(const struct FAM(nat_key) *key, struct FAM(nat_value) *value,
						       struct FAM(nat_key) *reply_key, __u32 now, bool in)
{
	__u32 h = ptl_choice_tag(key, sizeof(*key) / 4);
	__be16 closed = 0;
	__s32 oldest = 0; /* ticks; one that ended on another CPU's next tick is younger than that */
	__u32 seen = 0;

	if (!ptl_snat_ports())
		return FAM(NAT_TAKEN);
	for (__u32 i = 0; i < PTL_PORT_TRIES; i++) {
		enum FAM(nat_use) use;
		__be16 port = ptl_probe_port(h, i);

		FAM(try_port)(key, value, reply_key, port, in);
		use = FAM(nat_use)(reply_key, now, &seen);
		if (use < FAM(NAT_CLOSED))
			return use;
		if (use == FAM(NAT_CLOSED) && (__s32)(now - seen) >= oldest) {
			oldest = now - seen;
			closed = port;
		}
	}
	if (!closed)
		return FAM(NAT_TAKEN);
	FAM(try_port)(key, value, reply_key, closed, in);
	return FAM(NAT_DEAD);
}

/*
 * Gives a flow a source port of its own, and inserts the replies' entry (*reply). PTL_CHOSEN, or the reason why not: no
 * port is free, or another flow has taken the same one at this very moment.
 */
static __always_inline int FAM(claim_port)(const struct FAM(nat_key) *key, struct FAM(nat_value) *value,
					   struct FAM(nat_key) *reply_key, struct FAM(nat_value) *reply, bool in)
{
	/* At ingress once: two flows with one client port are rare there, and twice costs 340,000 verifier steps on 5.10. */
	for (__u32 i = 0; i < (in ? 1 : PTL_CLAIM_TRIES); i++) {
		enum FAM(nat_use) use = FAM(find_port)(key, value, reply_key, value->last_seen, in);

		if (use == FAM(NAT_TAKEN))
			return PTL_REASON_DROP_NO_SOURCE_PORT;
		FAM(nat_opposite_value)(key, value, reply_key, reply, in);
		FAM(nat_mark)(reply_key, reply->flags, !in);
		if (!FAM(nat_insert)(reply_key, reply, use == FAM(NAT_DEAD)))
			return PTL_CHOSEN;
	}
	return PTL_REASON_DROP_MAP_FULL;
}

/*
 * Claims the replies' key for a flow. Replies of two flows to one backend from one client port would be one tuple:
 * the second flow gets a source port of its own (value->peer_port), which IN writes into its packets. Second is also
 * who looked at the same moment, on another CPU, and was slower.
 *
 * PTL_CHOSEN, or the reason why the flow cannot be kept apart from others.
 */
static __always_inline int FAM(claim_reply)(const struct FAM(nat_key) *key, struct FAM(nat_value) *value,
					    struct FAM(nat_key) *reply_key, struct FAM(nat_value) *scratch)
{
	enum FAM(nat_use) use;
	__u32 seen;
	bool mine;
	int r;

	FAM(nat_opposite_key)(key, value, reply_key, true);
	FAM(nat_mark)(reply_key, value->flags, false);
	use = FAM(nat_use)(reply_key, value->last_seen, &seen);
	mine = use != FAM(NAT_ABSENT) && FAM(nat_lookup)(reply_key, scratch) && FAM(same_flow)(key, scratch);
	if (mine) {
		FAM(nat_opposite_value)(key, value, reply_key, scratch, true);
		return ptl_update(FAM(nat), reply_key, scratch, BPF_ANY) ? PTL_REASON_DROP_MAP_FULL : PTL_CHOSEN;
	}
	if (use < FAM(NAT_CLOSED)) {
		FAM(nat_opposite_value)(key, value, reply_key, scratch, true);
		if (!FAM(nat_insert)(reply_key, scratch, use == FAM(NAT_DEAD)))
			return PTL_CHOSEN;
		if (FAM(nat_lookup)(reply_key, scratch) && FAM(same_flow)(key, scratch))
			return PTL_CHOSEN; /* the same flow's packet on another CPU: flow_open() finds its entry */
	}
	r = FAM(claim_port)(key, value, reply_key, scratch, true);
	if (r == PTL_CHOSEN)
		ptl_count_at(PTL_REASON_SOURCE_PORT_SHIFTED, 1, 0, 0);
	return r;
}

/* Removes the opposite of an entry (*scratch) that is to be replaced, unless another flow has taken that key over since. */
static __always_inline void FAM(forget_reply)(const struct FAM(nat_key) *key, struct FAM(nat_key) *reply_key,
					      struct FAM(nat_value) *scratch)
{
	FAM(nat_opposite_key)(key, scratch, reply_key, true);
	if (FAM(nat_lookup)(reply_key, scratch) && FAM(same_flow)(key, scratch))
		ptl_delete(FAM(nat), reply_key);
}

/* Turns the replies' key into that of the packets on their way to the backend. */
static __always_inline void FAM(forward_key)(struct FAM(nat_key) *key)
{
	ADDR client = key->dst;
	__be16 port = key->dport;

	key->dst = key->src;
	key->dport = key->sport;
	key->src = client;
	key->sport = port;
}

/*
 * Starts a flow to a target: inserts its entries and leaves in *value what to write into the packet. An entry `old` of
 * the same key (dead, or of a connection that this SYN replaces) goes, with its opposite.
 *
 * PTL_CHOSEN, or the reason to drop.
 */
static ptl_framed int FAM(flow_open)(const struct FAM(packet) *p, const struct FAM(target) *t,
				     struct FAM(nat_value) *value)
{
	struct FAM(nat_key) reply_key = {};
	struct FAM(nat_value) scratch;
	bool found = FAM(nat_lookup)(&p->key, &scratch);
	int r;

	if (found)
		FAM(forget_reply)(&p->key, &reply_key, &scratch);
	value->addr = t->addr;
	value->port = t->port;
	value->peer_port = p->key.sport;
	value->backend = t->backend;
	value->generation = t->generation;
	value->service = t->service;
	value->flags = t->masquerade ? t->flags | PTL_NAT_ASKED : t->flags;
	value->last_seen = ptl_now();
	value->state = PTL_SEEN_FORWARD;
	r = FAM(claim_reply)(&p->key, value, &reply_key, &scratch);
	if (r != PTL_CHOSEN)
		return r;
	value->check = FAM(nat_check)(&p->key, value);
	FAM(nat_mark)(&p->key, value->flags, true);
	if (ptl_update(FAM(nat), &p->key, value, found ? BPF_ANY : BPF_NOEXIST)) {
		/* Another CPU has started the same flow: its choice holds. */
		bool lost = !FAM(nat_lookup)(&p->key, &scratch);

		if (lost || scratch.check != value->check)
			ptl_delete(FAM(nat), &reply_key);
		if (lost)
			return PTL_REASON_DROP_MAP_FULL;
		*value = scratch;
		return PTL_CHOSEN;
	}
	if (!t->masquerade)
		return PTL_CHOSEN;
	FAM(forward_key)(&reply_key);
	return FAM(ask_masquerade)(&reply_key, value, &scratch) ? PTL_REASON_DROP_MAP_FULL : PTL_CHOSEN;
}

/*
 * Egress met an entry that waits for an address: chooses the interface's, and a port by which the replies can be told
 * apart. Whoever comes second to the same flow finds the entry filled.
 *
 * PTL_CHOSEN with *value filled, or the reason to drop.
 */
static __noinline int FAM(masquerade)(const struct FAM(nat_key) *key, struct FAM(nat_value) *value, __u32 ifindex)
{
	struct interface *iface = ptl_look_up(interfaces, &ifindex);
	struct FAM(nat_key) reply_key = {};
	struct FAM(nat_value) reply;
	int r;

	if (!iface || FAM(addr_zero)(&iface->FAM(masquerade)))
		return PTL_REASON_DROP_NO_ADDRESS;
	value->addr = iface->FAM(masquerade);
	value->flags &= ~PTL_NAT_PENDING;
	value->last_seen = ptl_now();
	r = FAM(claim_port)(key, value, &reply_key, &reply, false);
	if (r != PTL_CHOSEN)
		return r;
	value->check = FAM(nat_check)(key, value);
	FAM(nat_mark)(key, value->flags, false);
	if (ptl_update(FAM(nat), key, value, BPF_ANY))
		return PTL_REASON_DROP_MAP_FULL;
	ptl_count_at(PTL_REASON_MASQUERADED, 1, 0, 0);
	return PTL_CHOSEN;
}
