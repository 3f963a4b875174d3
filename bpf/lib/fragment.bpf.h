/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Fragments, which the tc hooks see before the kernel puts them together: only the first carries ports. It leaves them in
 * `fragments` for those that come after it; one that comes before it passes, counted. Included once per family.
 */

/*
 * Gives a fragment its ports. False: they are not known. The id is turned here and not in the parser: there the same
 * costs 118,000 verifier steps on 5.10.
 */
static __noinline bool FAM(fragment_ports)(struct FAM(packet) *p)
{
	struct FAM(fragment_key) key = {
		.src = p->key.src, .dst = p->key.dst, .protocol = p->key.protocol,
		.id = sizeof(ADDR) == 4 ? bpf_ntohs(p->id) : bpf_ntohl(p->id),
		.direction = p->key.direction,
	};
	struct fragment ports = { p->key.sport, p->key.dport }, *known;

	if (p->part == PTL_FIRST_FRAGMENT) {
		ptl_update(FAM(fragments), &key, &ports, BPF_ANY);
		return true;
	}
	known = ptl_look_up(FAM(fragments), &key);
	if (!known)
		return false;
	p->key.sport = known->sport;
	p->key.dport = known->dport;
	return true;
}
