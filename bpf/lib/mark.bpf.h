/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Marks the addresses that TCP entries of `nat` are about, so that a packet of none of them need not be looked up (filter.bpf.h).
 * Included once per family.
 */

/*
 * To be called before an entry is written, by whoever writes one: a mark that is there is never wrong, one that is not there loses a
 * flow. `in`: the entry's direction, a constant of the caller. A whole cell for each mark, since bits that two CPUs set at once
 * would need an atomic "or" (Linux 5.12).
 */
static __always_inline void FAM(nat_mark)(const struct FAM(nat_key) *key, __u16 flags, bool in)
{
#ifndef PTL_TRACE /* the twin's entries are its own */
	__u32 index, *mark;

	if (key->protocol != IPPROTO_TCP)
		return;
	if (in)
		index = ptl_mark_index(&key->dst, sizeof(ADDR) / 4, PTL_MARK_IN);
	else if (flags & PTL_NAT_MASQUERADE)
		index = ptl_mark_index(&key->dst, sizeof(ADDR) / 4, PTL_MARK_MASQUERADE);
	else
		index = ptl_mark_index(&key->src, sizeof(ADDR) / 4, PTL_MARK_OUT);
	mark = ptl_look_up(flow_marks, &index);
	if (mark && !*mark)
		*mark = 1;
#endif
}
