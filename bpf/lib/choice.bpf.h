/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Choosing a backend. Included once per family (family.bpf.h).
 *
 * Elements of a BPF hash are recycled under their readers, so nothing read from `frontends` is believed before the
 * choice word's tag fits the key. Cells of `slots` and `backends` are never rewritten while a published word reaches
 * them, so one read of the word gives the whole old set or the whole new set.
 */

enum FAM(choice_result) { FAM(CHOICE_NONE), FAM(CHOICE_EMPTY), FAM(CHOICE_SLOTS) };

/*
 * Reads the choice word of a frontend.
 *
 * CHOICE_NONE: there is no such frontend. CHOICE_EMPTY: it has no backend, *word's base says what to do.
 * CHOICE_SLOTS: *word names slots. *service is only a hint until a backend's own says the same.
 */
static __always_inline int FAM(choice_read)(const struct FAM(addr_port) *key, bool external, __u64 *word, __u32 *service)
{
	__u32 tag = ptl_choice_tag(key, sizeof(*key) / 4);

	for (int i = 0; i < PTL_READS; i++) {
		struct frontend *f = bpf_map_lookup_elem(&FAM(frontends), key);

		if (!f)
			return FAM(CHOICE_NONE);
		*word = external ? *(volatile __u64 *)&f->external : *(volatile __u64 *)&f->internal;
		*service = *(volatile __u32 *)&f->service;
#ifndef PTL_NO_TAG_CHECK
		if (*word >> (PTL_CHOICE_BASE_BITS + PTL_CHOICE_COUNT_BITS) != tag) {
			ptl_count_at(PTL_REASON_READ_RETRIED, 1, 0, 0);
			continue;
		}
#endif
		return (*word >> PTL_CHOICE_BASE_BITS) & ((1u << PTL_CHOICE_COUNT_BITS) - 1) ? FAM(CHOICE_SLOTS) :
											      FAM(CHOICE_EMPTY);
	}
	return FAM(CHOICE_NONE);
}

/* What a new flow is sent to. */
struct FAM(target) {
	ADDR addr;
	__be16 port;
	__u16 flags;      /* enum ptl_nat_flag */
	__u32 backend;    /* or PTL_NO_BACKEND */
	__u32 generation;
	__u32 service;    /* or PTL_NO_SERVICE */
};

#ifndef PTL_CHOSEN
/* choose() found a target. 0 is no frontend; anything else is the enum ptl_reason of a refusal. */
#define PTL_CHOSEN (-1)
#define PTL_NO_FRONTEND (-2)
#endif

/*
 * Chooses a backend for a new flow to a frontend: PTL_CHOSEN, PTL_NO_FRONTEND, or the reason why the flow gets none.
 */
static __always_inline int FAM(choose)(const struct FAM(addr_port) *key, bool external, struct FAM(target) *t)
{
	for (int i = 0; i < PTL_READS; i++) {
		__u64 word;
		__u32 service, base, count, index, *slot;
		struct FAM(backend) *b;
		int r = FAM(choice_read)(key, external, &word, &service);

		if (r == FAM(CHOICE_NONE))
			return PTL_NO_FRONTEND;
		base = word & ((1u << PTL_CHOICE_BASE_BITS) - 1);
		t->service = service;
		if (r == FAM(CHOICE_EMPTY))
			return base == PTL_EMPTY_DROP ? PTL_REASON_DROP_POLICY : PTL_REASON_REJECT_NO_BACKEND;
		count = (word >> PTL_CHOICE_BASE_BITS) & ((1u << PTL_CHOICE_COUNT_BITS) - 1);
		index = base + ptl_scale(bpf_get_prandom_u32(), count);
		slot = bpf_map_lookup_elem(&FAM(slots), &index);
		if (!slot)
			continue;
		t->backend = *slot;
		b = bpf_map_lookup_elem(&FAM(backends), &t->backend);
		if (!b || b->state != PTL_BACKEND_LIVE || b->service != service) {
			ptl_count_at(PTL_REASON_READ_RETRIED, 1, 0, 0);
			continue;
		}
		t->addr = b->addr;
		t->port = b->port;
		t->generation = b->generation;
		t->flags = 0;
		return PTL_CHOSEN;
	}
	return PTL_REASON_DROP_BACKEND_CELL;
}

/* Is the backend of a flow still the one it was, in the cell and generation it had when the flow began? */
static __always_inline bool FAM(backend_current)(__u32 index, __u32 generation)
{
	struct FAM(backend) *b;

	if (index == PTL_NO_BACKEND)
		return true;
	b = bpf_map_lookup_elem(&FAM(backends), &index);
	return b && b->state == PTL_BACKEND_LIVE && b->generation == generation;
}

/* The classes of an address (port 0, protocol 0) or of an address with port. 0: none of ours. */
static __always_inline __u32 FAM(address_class)(const ADDR *addr, __be16 port, __u8 protocol)
{
	struct FAM(addr_port) key = { .addr = *addr, .port = port, .protocol = protocol };
	__u32 *class = bpf_map_lookup_elem(&FAM(addresses), &key);

	return class ? *class : 0;
}
