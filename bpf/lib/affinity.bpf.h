/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Session affinity (section 5): a client's new flows go where its last one to the same service port went, by whichever
 * address it came. Included by choice.bpf.h, once per family.
 */

#ifndef PTL_AFFINITY_COMMON
#define PTL_AFFINITY_COMMON
#define PTL_NS_PER_SECOND 1000000000ull
/* Bits of a nanosecond clock that a "same moment" has: 8.6 s. */
#define PTL_AFFINITY_MOMENT 33
#endif

/*
 * The backend that the client's last new flow got: if that was less than the timeout ago, and the backend is in the set
 * that this flow is offered (5.3). The time slides (5.5). False: *salt tells this choice from the client's others.
 */
static __always_inline bool FAM(affinity_recall)(const struct FAM(affinity_key) *key, const struct FAM(choice) *choice,
						 __u32 set, __u64 now, struct FAM(target) *t, __u32 *salt)
{
	struct affinity *a = ptl_look_up(FAM(affinity), key);
	struct affinity seen;

	*salt = now >> PTL_AFFINITY_MOMENT;
	if (!a)
		return false;
	seen = *a;
	*salt = seen.last_new;
	/* signed: another CPU may have read the clock after this one */
	if ((__s64)(now - seen.last_new) >= (__s64)(choice->affinity_seconds * PTL_NS_PER_SECOND) ||
	    !FAM(take_cell)(seen.backend, choice->service, set, t) || t->generation != seen.generation)
		return false;
	a->last_new = now;
	t->why |= PTL_WHY_AFFINITY_KEPT;
	ptl_count_at(PTL_REASON_AFFINITY_KEPT, 1, 0, 0);
	return true;
}

/*
 * The choice of a client that is not bound is made of what every CPU sees alike, and not of a random number: flows that
 * begin at the same moment on two CPUs then get one backend, and write the same entry.
 */
static __always_inline bool FAM(affine_pick)(const struct FAM(choice) *choice, const struct FAM(sender) *from,
					     struct FAM(target) *t)
{
	bool local_set = choice->flags & (from->inside ? PTL_FRONTEND_INTERNAL_LOCAL : PTL_FRONTEND_EXTERNAL_LOCAL);
	struct FAM(affinity_key) key = { .client = from->addr, .service = choice->service };
	struct affinity fresh = { .last_new = bpf_ktime_get_ns() };
	__u32 salt;

	if (FAM(affinity_recall)(&key, choice, local_set ? PTL_BACKEND_LOCAL_SET : PTL_BACKEND_CLUSTER_SET, fresh.last_new, t,
				 &salt))
		return true;
	if (!FAM(pick)(choice, ptl_mix(ptl_choice_tag(&key, sizeof(key) / 4), salt), t))
		return false;
	t->why |= PTL_WHY_AFFINITY_BOUND;
	fresh.backend = t->backend;
	fresh.generation = t->generation;
	ptl_update(FAM(affinity), &key, &fresh, BPF_ANY);
	return true;
}
