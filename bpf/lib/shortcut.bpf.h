/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The shortcut: a flow between a pod of this node and a backend goes past the stack, in both directions or not at all
 * (PTL_NAT_SHORTCUT in its entries, decided when it starts). A backend or client on this node is reached through the other end
 * of its veth, other nodes through the neighbour. Included once per family.
 *
 * Which interface leads to an address is the routing table's word, asked once a tick for each address and kept in `paths`:
 * what a pod says of itself plays no part. What cannot be forwarded here (no hop left, too big, options) is left to the
 * stack, which answers as it always does; its answers are translated like any ICMP error.
 *
 * All of this is behind PTL_OPTION_SHORTCUT: without it the verifier removes every call.
 */

#ifndef PTL_SHORTCUT_COMMON
#define PTL_SHORTCUT_COMMON

#define PTL_SHORTCUT_TAKEN (-1)
#define PTL_SHORTCUT_MACS (2 * ETH_ALEN)
/* A length that fits every path: asks bpf_fib_lookup for the path's MTU (Linux 5.12; before, it stays what it was). */
#define PTL_ASK_MTU 1
#define PTL_HEADER4 sizeof(struct iphdr)
#define PTL_HEADER6 sizeof(struct ipv6hdr)
#define PTL_FRAGMENT_HEADER 8
/* gso_size of packets whose segments differ in size (SCTP): their sender has measured them itself. */
#define PTL_GSO_BY_FRAGS 0xffff
#define PTL_CHECK_STEP 0x0100 /* what one hop less does to the header's checksum (RFC 1624) */

enum ptl_path_kind {
	PTL_PATH_PEER = 1,      /* into the other end of a veth */
	PTL_PATH_NEIGHBOUR = 2, /* out by an interface, to a neighbour that the kernel resolves */
	PTL_PATH_BRIDGE = 3,    /* the same, by a bridge: whoever is reached so comes in by one of its ports */
};

/* Only what a pod's interface lets in is looked at for where it says it comes from; uplinks have rp_filter. */
struct ptl_hop {
	__u16 length; /* bytes from the network header on; 0: more than 16 bits hold */
	__u8 hops;
	__u8 transport; /* bytes in front of the transport header */
	__u8 protocol;
	bool plain; /* no options that the stack would look at */
};
#endif

/* How packets to an address go on. `check` covers the address and everything in front of it: see nat.bpf.h. */
struct FAM(path) {
	__u32 ifindex;
	__u8 macs[PTL_SHORTCUT_MACS]; /* destination, source */
	__u16 mtu;
	__u8 kind;   /* enum ptl_path_kind */
	__u8 family; /* of next_hop */
	__u32 next_hop[4];
	__u32 check;
	__u32 asked; /* tick in which the routing table was asked */
};
#define PTL_PATH_WORDS (offsetof(struct FAM(path), check) / 4)

/* Nobody else's: it is filled from the routing table as flows go on, and starts anew with the programs. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, PTL_DEFAULT_PATHS);
	__type(key, ADDR);
	__type(value, struct FAM(path));
} FAM(paths) SEC(".maps");

/* What is worked on, in a cell of each CPU and not on the stack: see start.bpf.h. */
struct FAM(walk) {
	ADDR to;
	ADDR from;
	__u32 by; /* ifindex by which packets from `from` come */
	struct FAM(path) path;
	struct bpf_fib_lookup fib;
	struct bpf_redir_neigh neighbour;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct FAM(walk));
} FAM(walks) SEC(".maps");

static __always_inline struct FAM(walk) *FAM(walk_cell)(void)
{
	__u32 only = 0;

	return ptl_own(FAM(walks), &only);
}

/* Copies a path. NULL: none is known, or the element was recycled under the reader. */
static __always_inline struct FAM(path) *FAM(path_find)(const ADDR *to, struct FAM(path) *copy)
{
	struct FAM(path) *e = ptl_own(FAM(paths), to);

	if (!e)
		return NULL;
	*copy = *e;
	ptl_barrier();
	return copy->check == ptl_nat_check(to, sizeof(*to) / 4, copy, PTL_PATH_WORDS) ? e : NULL;
}

static __always_inline void FAM(fib_question)(struct bpf_fib_lookup *fib, const ADDR *to, const ADDR *from, __u32 by)
{
	__builtin_memset(fib, 0, sizeof(*fib));
	fib->family = sizeof(ADDR) == 4 ? PTL_AF_INET : PTL_AF_INET6;
	fib->tot_len = PTL_ASK_MTU;
	fib->ifindex = by;
	__builtin_memcpy(fib->ipv6_src, from, sizeof(*from)); /* a union: IPv4's address is the first word */
	__builtin_memcpy(fib->ipv6_dst, to, sizeof(*to));
}

/* What the routing table's answer makes of a path. Not `resolved`: the kernel has yet to ask for the link address. 0, or the reason why it is none. */
static __always_inline int FAM(path_make)(const struct bpf_fib_lookup *fib, bool resolved, const ADDR *to, struct FAM(path) *path)
{
	__u32 ifindex = fib->ifindex;
	struct interface *iface = ptl_look_up(interfaces, &ifindex);

	if (!iface)
		return PTL_REASON_STACK_INTERFACE;
	__builtin_memset(path, 0, sizeof(*path));
	path->ifindex = ifindex;
	path->mtu = iface->mtu;
	if (fib->tot_len > PTL_ASK_MTU && fib->tot_len < path->mtu)
		path->mtu = fib->tot_len;
	__builtin_memcpy(path->macs, fib->dmac, ETH_ALEN);
	__builtin_memcpy(path->macs + ETH_ALEN, fib->smac, ETH_ALEN);
	path->kind = iface->role == PTL_ROLE_BRIDGE			? PTL_PATH_BRIDGE :
		     resolved && iface->flags & PTL_INTERFACE_PEER ? PTL_PATH_PEER :
								     PTL_PATH_NEIGHBOUR;
	path->family = fib->family;
	__builtin_memcpy(path->next_hop, fib->ipv6_dst, sizeof(path->next_hop));
	path->check = ptl_nat_check(to, sizeof(*to) / 4, path, PTL_PATH_WORDS);
	return 0;
}

/* A known path stays when only the neighbour is not resolved just now: traffic of the shortcut does not keep it so. */
static __always_inline bool FAM(path_stays)(const struct FAM(walk) *w)
{
	__u32 ifindex = w->path.ifindex;

	if (w->fib.ifindex != w->by && w->fib.ifindex != ifindex)
		return false;
	return ptl_look_up(interfaces, &ifindex) != NULL;
}

/*
 * Fills path in the cell for packets from `from`, which come by `by`, to `to`. 0, or the reason why there is none. Global, so that the verifier
 * looks at it once.
 */
__noinline int FAM(ptl_path)(struct __sk_buff *skb)
{
	struct FAM(walk) *w = FAM(walk_cell)();
	struct FAM(path) *known;
	__u32 now = ptl_now();
	long answer;
	int r;

	if (!w)
		return PTL_REASON_STACK_ROUTE;
	known = FAM(path_find)(&w->to, &w->path);
	if (known && w->path.asked == now)
		return 0;
	FAM(fib_question)(&w->fib, &w->to, &w->from, w->by);
	answer = bpf_fib_lookup(skb, &w->fib, sizeof(w->fib), 0);
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH) {
		if (known && FAM(path_stays)(w)) {
			known->asked = now;
			return 0;
		}
		if (w->fib.ifindex == w->by) /* before Linux 5.18 it is not told, or it came from there */
			return PTL_REASON_STACK_NEIGHBOUR;
	/* Before Linux 5.12 this packet was measured; we do that ourselves. */
	} else if (answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_FRAG_NEEDED) {
		return PTL_REASON_STACK_ROUTE;
	}
	r = FAM(path_make)(&w->fib, answer != BPF_FIB_LKUP_RET_NO_NEIGH, &w->to, &w->path);
	if (r)
		return r;
	w->path.asked = now;
	ptl_own_update(FAM(paths), &w->to, &w->path);
	return 0;
}

/* Did a packet that came in by this interface come from where the path leads? */
static __always_inline bool FAM(path_leads_back)(const struct FAM(path) *path, __u32 ifindex)
{
	return path->kind == PTL_PATH_BRIDGE || path->ifindex == ifindex;
}

/* May new flows take the shortcut by this interface? */
static __always_inline bool FAM(shortcut_open)(__u32 ifindex)
{
	struct interface *iface = ptl_look_up(interfaces, &ifindex);

	return iface && iface->flags & PTL_INTERFACE_SHORTCUT;
}

/* Which way a new flow goes: PTL_REASON_SHORTCUT_FLOW, or why through the stack. */
static __always_inline int FAM(way)(struct __sk_buff *skb, const struct FAM(start) *s, struct FAM(walk) *w, bool pod)
{
	__u32 header = sizeof(ADDR) == 4 ? PTL_HEADER4 : PTL_HEADER6;
	int r;

	if (!pod)
		return PTL_REASON_STACK_CLIENT;
	if (s->target.masquerade)
		return PTL_REASON_STACK_MASQUERADE;
	if (s->packet.part == PTL_WHOLE && s->packet.l4 - s->packet.l3 != header)
		return PTL_REASON_STACK_OPTIONS;
	if (!FAM(shortcut_open)(skb->ifindex))
		return PTL_REASON_STACK_INTERFACE;
	w->to = s->target.addr;
	w->from = s->packet.key.src;
	w->by = skb->ifindex;
	r = FAM(ptl_path)(skb);
	if (r)
		return r;
	if (!FAM(shortcut_open)(w->path.ifindex))
		return PTL_REASON_STACK_INTERFACE;
	w->to = s->packet.key.src;
	w->from = s->target.addr;
	w->by = w->path.ifindex;
	r = FAM(ptl_path)(skb);
	if (r)
		return r;
	if (!FAM(shortcut_open)(w->path.ifindex))
		return PTL_REASON_STACK_INTERFACE;
	return FAM(path_leads_back)(&w->path, skb->ifindex) ? PTL_REASON_SHORTCUT_FLOW : PTL_REASON_STACK_SENDER;
}

/* Decides the way of the flow that is about to be opened, in the cell of start.bpf.h. `pod`: as in hooks.bpf.h. */
__noinline int FAM(ptl_way)(struct __sk_buff *skb, int pod)
{
	struct FAM(start) *s = FAM(start_cell)();
	struct FAM(walk) *w = FAM(walk_cell)();
	int r;

	if (!s || !w || s->target.flags & PTL_NAT_DIRECT)
		return 0;
	r = FAM(way)(skb, s, w, pod);
	if (r == PTL_REASON_SHORTCUT_FLOW)
		s->target.flags |= PTL_NAT_SHORTCUT;
	ptl_count(skb, r);
	return 0;
}

#ifndef PTL_SHORTCUT_HEADERS
#define PTL_SHORTCUT_HEADERS
struct ptl_frame4 {
	__u8 macs[PTL_SHORTCUT_MACS];
	__be16 ethertype;
	struct iphdr ip;
} __attribute__((packed));

struct ptl_frame6 {
	__u8 macs[PTL_SHORTCUT_MACS];
	__be16 ethertype;
	struct ipv6hdr ip;
} __attribute__((packed));

static __always_inline void ptl_hop4(const struct ptl_frame4 *f, struct ptl_hop *hop, struct addr4 *from, struct addr4 *to)
{
	hop->length = bpf_ntohs(f->ip.tot_len);
	hop->hops = f->ip.ttl;
	hop->protocol = f->ip.protocol;
	hop->transport = PTL_HEADER4;
	hop->plain = f->ip.ihl * 4 == PTL_HEADER4;
	from->w[0] = f->ip.saddr;
	to->w[0] = f->ip.daddr;
}

static __always_inline void ptl_hop6(const struct ptl_frame6 *f, struct ptl_hop *hop, struct addr6 *from, struct addr6 *to)
{
	__u16 length = bpf_ntohs(f->ip.payload_len);

	hop->length = length ? length + PTL_HEADER6 : 0;
	hop->hops = f->ip.hop_limit;
	hop->protocol = f->ip.nexthdr;
	hop->transport = PTL_HEADER6;
	hop->plain = f->ip.nexthdr == IPPROTO_TCP || f->ip.nexthdr == IPPROTO_UDP || f->ip.nexthdr == IPPROTO_SCTP ||
		     f->ip.nexthdr == PTL_ICMPV6;
	__builtin_memcpy(from, &f->ip.saddr, sizeof(*from));
	__builtin_memcpy(to, &f->ip.daddr, sizeof(*to));
	if (f->ip.nexthdr != PTL_IPV6_FRAGMENT)
		return;
	hop->plain = true;
	hop->transport += PTL_FRAGMENT_HEADER;
}

/* One hop less, and new link addresses unless NULL (then the kernel writes them). 0, or an error: nothing was written. */
static __always_inline long ptl_take_hop4(struct __sk_buff *skb, struct ptl_frame4 *f, const __u8 *macs)
{
	__u32 check = f->ip.check + bpf_htons(PTL_CHECK_STEP);

	f->ip.check = check + (check >= 0xffff);
	f->ip.ttl--;
	if (!macs)
		return bpf_skb_store_bytes(skb, PTL_L3_OFFSET + offsetof(struct iphdr, ttl), &f->ip.ttl,
					   offsetof(struct iphdr, saddr) - offsetof(struct iphdr, ttl), 0);
	__builtin_memcpy(f->macs, macs, sizeof(f->macs));
	return bpf_skb_store_bytes(skb, 0, f, PTL_L3_OFFSET + offsetof(struct iphdr, saddr), 0);
}

/* IPv6's header has no checksum: what a network card has summed up moves with the field (two bytes: a sum has pairs). */
static __always_inline long ptl_take_hop6(struct __sk_buff *skb, struct ptl_frame6 *f, const __u8 *macs)
{
	f->ip.hop_limit--;
	if (bpf_skb_store_bytes(skb, PTL_L3_OFFSET + offsetof(struct ipv6hdr, nexthdr), &f->ip.nexthdr, 2,
				BPF_F_RECOMPUTE_CSUM))
		return -1;
	return macs ? bpf_skb_store_bytes(skb, 0, macs, PTL_SHORTCUT_MACS, 0) : 0;
}

/* Does a packet fit, and each segment of one that is still to be cut? */
static __always_inline bool ptl_fits(struct __sk_buff *skb, const struct ptl_hop *hop, __u16 mtu)
{
	__u8 words;

	if (!skb->gso_size)
		return hop->length && hop->length <= mtu;
	if (skb->gso_size == PTL_GSO_BY_FRAGS)
		return true;
	if (hop->protocol != IPPROTO_TCP)
		return skb->gso_size + hop->transport + sizeof(struct udphdr) <= mtu;
	if (bpf_skb_load_bytes(skb, PTL_L3_OFFSET + hop->transport + PTL_TCP_WORDS_OFFSET, &words, sizeof(words)))
		return false;
	return skb->gso_size + hop->transport + (words >> 4) * 4 <= mtu;
}
#endif

/* Reads what forwarding a packet takes, and whom it is from and to. False: it cannot be read. */
static __always_inline bool FAM(read_hop)(struct __sk_buff *skb, struct ptl_hop *hop, ADDR *from, ADDR *to)
{
	struct FAM(ptl_frame) frame;

	if (bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)))
		return false;
	FAM(ptl_hop)(&frame, hop, from, to);
	return true;
}

/*
 * May this packet of a shortcut's flow, whose addresses are the backend's and the client's, go past the stack? 0, with the path in
 * the cell, or the reason why not.
 */
__noinline int FAM(ptl_check)(struct __sk_buff *skb, int pod)
{
	struct FAM(walk) *w = FAM(walk_cell)();
	struct ptl_hop hop = {};
	ADDR from, to;
	int r;

	if (!w || !FAM(read_hop)(skb, &hop, &from, &to) || !hop.plain)
		return PTL_REASON_STACK_OPTIONS;
	if (hop.hops <= 1)
		return PTL_REASON_STACK_HOPS;
	w->by = skb->ifindex;
	if (pod) {
		/* Nobody sends in another pod's name: strict rp_filter's work, which the stack would do. */
		w->to = from;
		w->from = to;
		r = FAM(ptl_path)(skb);
		if (r)
			return r;
		if (!FAM(path_leads_back)(&w->path, skb->ifindex))
			return PTL_REASON_STACK_SENDER;
	}
	w->to = to;
	w->from = from;
	r = FAM(ptl_path)(skb);
	if (r)
		return r;
	return ptl_fits(skb, &hop, w->path.mtu) ? 0 : PTL_REASON_STACK_SIZE;
}

/* Sends a packet with one hop less on the path in the cell (ptl_check). The verdict. */
__noinline int FAM(ptl_send)(struct __sk_buff *skb)
{
	struct FAM(walk) *w = FAM(walk_cell)();
	struct FAM(ptl_frame) frame;
	bool peer;

	if (!w || bpf_skb_load_bytes(skb, 0, &frame, sizeof(frame)))
		return ptl_drop(skb, PTL_REASON_DROP_REWRITE);
	peer = w->path.kind == PTL_PATH_PEER;
	if (FAM(ptl_take_hop)(skb, &frame, peer ? w->path.macs : NULL))
		return ptl_drop(skb, PTL_REASON_DROP_REWRITE);
	ptl_count(skb, PTL_REASON_SHORTCUT);
	if (!peer) {
		w->neighbour.nh_family = w->path.family;
		__builtin_memcpy(w->neighbour.ipv6_nh, w->path.next_hop, sizeof(w->path.next_hop));
		return bpf_redirect_neigh(w->path.ifindex, &w->neighbour, sizeof(w->neighbour), 0);
	}
	/* A bridge port's packets are not the host's, and before Linux 6.15 the pod would drop them for that. */
	if (skb->pkt_type != PTL_PACKET_HOST)
		bpf_skb_change_type(skb, PTL_PACKET_HOST);
	skb->mark = 0; /* as veth does: it is this host's and not the pod's */
	return bpf_redirect_peer(w->path.ifindex, 0);
}
