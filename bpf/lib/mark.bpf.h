/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Marks the addresses that TCP entries of `nat` are about, so that a packet of none of them need not be looked up (filter.bpf.h).
 * Included once per family.
 */

/*
 * Marks an address. A whole cell for each mark, since bits that two CPUs set at once would need an atomic "or" (Linux 5.12).
 */
static __always_inline void FAM(mark)(const ADDR *addr, enum ptl_mark as)
{
#ifndef PTL_TRACE /* the twin's entries are its own */
	__u32 index = ptl_mark_index(addr, sizeof(ADDR) / 4, as);
	__u32 *mark = ptl_look_up(flow_marks, &index);

	if (mark && !*mark)
		*mark = 1;
#endif
}

/*
 * To be called before an entry is written, by whoever writes one: a mark that is there is never wrong, one that is not there loses a
 * flow. `in`: the entry's direction, a constant of the caller.
 */
static __always_inline void FAM(nat_mark)(const struct FAM(nat_key) *key, __u16 flags, bool in)
{
	if (key->protocol != IPPROTO_TCP)
		return;
	if (in)
		FAM(mark)(&key->dst, PTL_MARK_IN);
	else if (flags & PTL_NAT_MASQUERADE)
		FAM(mark)(&key->dst, PTL_MARK_MASQUERADE);
	else
		FAM(mark)(&key->src, PTL_MARK_OUT);
}
