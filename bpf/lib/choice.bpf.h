/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Choosing a backend. Included once per family, by the packet programs and by the socket programs.
 *
 * Elements of a BPF hash are recycled under their readers, so nothing read from `frontends` is believed before the
 * choice word's tag fits the key. Cells of `slots` and `backends` are never rewritten while a published word reaches
 * them, so one read of the word gives the whole old set or the whole new set.
 */

#ifndef PTL_CHOICE_COMMON
#define PTL_CHOICE_COMMON

#define PTL_CHOICE_BASE(word) ((__u32)((word) & ((1u << PTL_CHOICE_BASE_BITS) - 1)))
#define PTL_CHOICE_COUNT(word) ((__u32)((word) >> PTL_CHOICE_BASE_BITS) & ((1u << PTL_CHOICE_COUNT_BITS) - 1))

/* choose() found a target. Other results are PTL_NO_FRONTEND, or the enum ptl_reason of a refusal. */
#define PTL_CHOSEN (-1)
#define PTL_NO_FRONTEND (-2)
#endif

enum FAM(choice_result) { FAM(CHOICE_NONE), FAM(CHOICE_TORN), FAM(CHOICE_EMPTY), FAM(CHOICE_SLOTS) };

/* What a frontend offers to one scope of senders, read as one. */
struct FAM(choice) {
	__u64 word;
	__u32 service;
	__u32 affinity_seconds;
	__u32 flags;
};

/*
 * Reads a frontend's choice for a scope, once.
 *
 * CHOICE_NONE: there is no such frontend. CHOICE_TORN: the element was recycled under the reader, ask again.
 * CHOICE_EMPTY: it has no backend, the word's base says what to do. CHOICE_SLOTS: the word names slots. The members beside
 * the word lie between two reads of it that are equal; they are hints until a backend's own cell says the same service.
 */
static __always_inline int FAM(choice_read)(const struct FAM(addr_port) *key, bool external, struct FAM(choice) *choice)
{
	volatile struct frontend *f = ptl_look_up(FAM(frontends), key);
	__u64 word;

	if (!f)
		return FAM(CHOICE_NONE);
	word = external ? f->external : f->internal;
	choice->service = f->service;
	choice->affinity_seconds = f->affinity_seconds;
	choice->flags = f->flags;
	choice->word = external ? f->external : f->internal;
#ifndef PTL_NO_TAG_CHECK
	if (word != choice->word ||
	    word >> (PTL_CHOICE_BASE_BITS + PTL_CHOICE_COUNT_BITS) != ptl_choice_tag(key, sizeof(*key) / 4)) {
		ptl_count_at(PTL_REASON_READ_RETRIED, 1, 0, 0);
		return FAM(CHOICE_TORN);
	}
#endif
	return PTL_CHOICE_COUNT(word) ? FAM(CHOICE_SLOTS) : FAM(CHOICE_EMPTY);
}

/* What a new flow is sent to. */
struct FAM(target) {
	ADDR addr;
	__be16 port;
	__u16 flags;      /* enum ptl_nat_flag */
	__u32 backend;    /* or PTL_NO_BACKEND */
	__u32 generation;
	__u32 service;    /* or PTL_NO_SERVICE */
	__u32 masquerade; /* not 0: egress gives the flow an address of the node */
	__u16 frontend_flags; /* enum ptl_frontend_flag */
	__u16 why;            /* enum ptl_why */
};

/* A target that says that there is none. */
static __always_inline void FAM(no_target)(struct FAM(target) *t)
{
	*t = (struct FAM(target)){ .backend = PTL_NO_BACKEND, .service = PTL_NO_SERVICE };
}

/* Who asks. */
struct FAM(sender) {
	ADDR addr;
	bool inside; /* a local pod or a process of this node: short-circuited to the Cluster set (4.12) */
};

/*
 * Makes a cell the target, if it is a live one of the service port and has these flags (enum ptl_backend_flag).
 */
static __always_inline bool FAM(take_cell)(__u32 cell, __u32 service, __u32 flags, struct FAM(target) *t)
{
	struct FAM(backend) *b = ptl_look_up(FAM(backends), &cell);

	if (!b || b->state != PTL_BACKEND_LIVE || b->service != service || (b->flags & flags) != flags)
		return false;
	t->backend = cell;
	t->addr = b->addr;
	t->port = b->port;
	t->generation = b->generation;
	return true;
}

/* The one of the slots that a choice names which a number, equally distributed over 32 bits, falls on. */
static __always_inline bool FAM(pick)(const struct FAM(choice) *choice, __u32 number, struct FAM(target) *t)
{
	__u32 index = PTL_CHOICE_BASE(choice->word) + ptl_scale(number, PTL_CHOICE_COUNT(choice->word));
	__u32 *slot = ptl_look_up(FAM(slots), &index);

	return slot && FAM(take_cell)(*slot, choice->service, 0, t);
}

#include "affinity.bpf.h"

/* May this sender use a load balancer address of the service port (6.16)? */
static __always_inline bool FAM(source_allowed)(const ADDR *sender, __u32 service)
{
	struct FAM(source_range) key = { .prefix_length = 32 + 8 * sizeof(ADDR), .service = service, .addr = *sender };

	return ptl_look_up(FAM(source_ranges), &key) != NULL;
}

/*
 * Chooses a backend for a new flow to a frontend: PTL_CHOSEN, PTL_NO_FRONTEND, or the reason why the flow gets none; then
 * t->service says whose it is.
 * Who may not come in learns nothing of what is behind (6.18): source ranges are looked at first.
 */
static __always_inline int FAM(choose)(const struct FAM(addr_port) *key, const struct FAM(sender) *from,
				       struct FAM(target) *t)
{
	struct FAM(choice) choice;

	for (int i = 0; i < PTL_READS; i++) {
		int r = FAM(choice_read)(key, !from->inside, &choice);

		if (r == FAM(CHOICE_NONE))
			return PTL_NO_FRONTEND;
		if (r == FAM(CHOICE_TORN))
			continue;
		t->service = choice.service;
		if (choice.flags & PTL_FRONTEND_SOURCE_RANGES && !FAM(source_allowed)(&from->addr, choice.service))
			return PTL_REASON_DROP_SOURCE_RANGE;
		if (r == FAM(CHOICE_EMPTY))
			return PTL_CHOICE_BASE(choice.word) == PTL_EMPTY_DROP ? PTL_REASON_DROP_POLICY :
										PTL_REASON_REJECT_NO_BACKEND;
		t->flags = 0;
		t->frontend_flags = choice.flags;
		t->why = from->inside ? PTL_WHY_INSIDE : 0;
		t->masquerade = choice.flags & (from->inside ? PTL_FRONTEND_MASQUERADE :
							       PTL_FRONTEND_MASQUERADE | PTL_FRONTEND_MASQUERADE_OUTSIDERS);
		if (choice.affinity_seconds ? FAM(affine_pick)(&choice, from, t) : FAM(pick)(&choice, bpf_get_prandom_u32(), t))
			return PTL_CHOSEN;
		ptl_count_at(PTL_REASON_READ_RETRIED, 1, 0, 0);
	}
	return PTL_REASON_DROP_BACKEND_CELL;
}

/* Is the backend of a flow still the one it was, in the cell and generation it had when the flow began, and serving? */
static __always_inline bool FAM(backend_current)(__u32 index, __u32 generation)
{
	struct FAM(backend) *b;

	if (index == PTL_NO_BACKEND)
		return true;
	b = ptl_look_up(FAM(backends), &index);
	return b && b->state == PTL_BACKEND_LIVE && b->generation == generation;
}

/* Has the backend of a flow left every slice? One that only no longer serves has not. */
static __always_inline bool FAM(backend_removed)(__u32 index, __u32 generation)
{
	struct FAM(backend) *b;

	if (index == PTL_NO_BACKEND)
		return false;
	b = ptl_look_up(FAM(backends), &index);
	return b && (b->state == PTL_BACKEND_FREE || b->generation != generation);
}

/*
 * The key of the frontend that a destination is: of its address or, where that has none, of a NodePort (6.7). `class` is
 * the address's.
 */
static __always_inline void FAM(frontend_key)(const ADDR *addr, __be16 port, __u8 protocol, __u32 class,
					      struct FAM(addr_port) *key)
{
	key->addr = *addr;
	key->port = port;
	key->protocol = protocol;
	key->pad = 0;
	if (class & PTL_CLASS_NODE && !(class & PTL_CLASS_VIP && ptl_look_up(FAM(frontends), key)))
		key->addr = (ADDR){};
}
