/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What a socket that asks for an address is to get, as far as it can be said without the socket: the socket programs
 * (socket.bpf.h) and their twin decide by the same lines. Included once per family.
 */

#ifndef PTL_SOCKET_CHOICE_COMMON
#define PTL_SOCKET_CHOICE_COMMON

/* Verdicts of a sock_addr program. */
#define PTL_SOCKET_REFUSE 0
#define PTL_SOCKET_GO_ON 1
/* Our own: go on, to the target. */
#define PTL_SOCKET_TRANSLATED 2

/* The key of `interfaces` under which the node's own addresses are. */
#define PTL_NODE_IFINDEX 0
#endif

/*
 * The frontend that a socket's destination is. False: none of ours. Loopback addresses are node addresses for processes
 * of this host, if NodePorts are served there (6.5).
 */
static __always_inline bool FAM(socket_frontend)(const struct FAM(addr_port) *wanted, bool host, __u32 *class,
						 struct FAM(addr_port) *key)
{
	*class = FAM(address_class)(&wanted->addr, 0, 0);
	if (host && config.options & PTL_OPTION_LOOPBACK_NODEPORT && FAM(loopback)(&wanted->addr))
		*class |= PTL_CLASS_NODE;
	FAM(frontend_key)(&wanted->addr, wanted->port, wanted->protocol, *class, key);
	return *class & (PTL_CLASS_VIP | PTL_CLASS_NODE);
}

/*
 * Must this frontend be left to tc for a pod's socket? Masquerading, source ranges and affinity need the client's
 * address, which a socket that is not connected yet does not have.
 */
static __always_inline bool FAM(socket_leaves_to_tc)(const struct FAM(addr_port) *key)
{
	struct frontend *f = ptl_look_up(FAM(frontends), key);
	__u32 needs = PTL_FRONTEND_MASQUERADE | PTL_FRONTEND_SOURCE_RANGES;

	if (config.FAM(detector) == PTL_DETECT_NONE)
		needs |= PTL_FRONTEND_MASQUERADE_OUTSIDERS;
	return f && (f->affinity_seconds || f->flags & needs);
}

/* The address that a socket's packets will have: the one it is bound to (true), or the node's, which is filled in. */
static __always_inline bool FAM(socket_sender)(struct FAM(sender) *from)
{
	__u32 node = PTL_NODE_IFINDEX;
	struct interface *self;

	if (!FAM(addr_zero)(&from->addr))
		return true;
	self = ptl_look_up(interfaces, &node);
	if (self)
		from->addr = self->FAM(masquerade);
	return false;
}

/*
 * A socket may be bound to an address to which a backend's replies would not come back: a load balancer's on this node, or
 * a loopback one. Its packets get an address of the node at egress (8.4, 8.5, 6.5).
 */
static __always_inline void FAM(socket_masquerade)(const struct FAM(sender) *from, const struct FAM(target) *t, __u8 protocol,
						   __be16 sport)
{
	struct FAM(nat_key) key = {
		.src = from->addr, .dst = t->addr, .sport = sport, .dport = t->port, .protocol = protocol, .direction = PTL_OUT
	};
	struct FAM(nat_value) value = { .backend = t->backend, .generation = t->generation, .service = t->service }, entry;

	if (!(FAM(loopback)(&from->addr) || FAM(address_class)(&from->addr, 0, 0) & PTL_CLASS_VIP))
		return;
	value.last_seen = ptl_now();
	value.state = PTL_SEEN_FORWARD;
	FAM(ask_masquerade)(&key, &value, &entry);
}

/* What choose()'s result is to a socket that wants an address of this class: PTL_SOCKET_*. */
static __always_inline int FAM(socket_verdict)(int r, __u32 class)
{
	if (r == PTL_CHOSEN)
		return PTL_SOCKET_TRANSLATED;
	if (r == PTL_REASON_REJECT_NO_BACKEND || (r == PTL_NO_FRONTEND && class & PTL_CLASS_CLUSTER_IP))
		return PTL_SOCKET_REFUSE;
	return PTL_SOCKET_GO_ON;
}
