/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets before packets: a local socket that asks for a Service is sent to a backend, and no packet of it is ever
 * touched. Included once per family. What a socket was told and what it talks to is kept in `socket_nat`, for
 * getpeername(2), recvmsg(2), and the next datagram of a socket that is not connected.
 */

#ifndef PTL_SOCKET_COMMON
#define PTL_SOCKET_COMMON

/* Verdicts of a sock_addr program. */
#define PTL_SOCKET_REFUSE 0
#define PTL_SOCKET_GO_ON 1
/* Our own: go on, to the target. */
#define PTL_SOCKET_TRANSLATED 2

#define PTL_ECONNREFUSED 111
/* The key of `interfaces` under which the node's own addresses are. */
#define PTL_NODE_IFINDEX 0

/* Is this a socket of the node's own network namespace? */
static __always_inline bool ptl_host_socket(struct bpf_sock_addr *ctx)
{
	__u64 host = config.host_netns[0] | (__u64)config.host_netns[1] << 32;

	return bpf_get_netns_cookie(ctx) == (host ? host : bpf_get_netns_cookie(NULL));
}

/* Refuses with ECONNREFUSED. Before Linux 5.18 a program cannot choose the error, and the caller sees EPERM. */
static __always_inline int ptl_socket_refuse(void)
{
	ptl_count_at(PTL_REASON_SOCKET_REFUSED, 1, 0, 0);
	if (config.options & PTL_OPTION_SET_RETVAL)
		bpf_set_retval(-PTL_ECONNREFUSED);
	return PTL_SOCKET_REFUSE;
}

/* The address that a socket is bound to; all zero: none. */
static __always_inline struct addr4 ptl_bound4(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return (struct addr4){ { sk ? sk->src_ip4 : 0 } };
}

static __always_inline struct addr6 ptl_bound6(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	if (!sk)
		return (struct addr6){};
	return (struct addr6){ { sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3] } };
}
#endif

static __always_inline void FAM(socket_key)(struct bpf_sock_addr *ctx, const ADDR *addr, __be16 port, __u8 direction,
					    struct FAM(socket_key) *key)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);

	key->cookie[0] = cookie;
	key->cookie[1] = cookie >> 32;
	key->addr = *addr;
	key->port = port;
	key->protocol = ctx->protocol;
	key->direction = direction;
}

/* Remembers both ways of a translated socket. */
static __always_inline void FAM(socket_remember)(struct bpf_sock_addr *ctx, const ADDR *addr, __be16 port,
						 const struct FAM(target) *t, bool connected)
{
	struct FAM(socket_key) key;
	struct FAM(socket_value) value = {
		.addr = *addr, .port = port, .backend = t->backend, .generation = t->generation
	};

	FAM(socket_key)(ctx, &t->addr, t->port, PTL_OUT, &key);
	bpf_map_update_elem(&FAM(socket_nat), &key, &value, BPF_ANY);
	if (connected)
		return;
	key.addr = *addr;
	key.port = port;
	key.direction = PTL_IN;
	value.addr = t->addr;
	value.port = t->port;
	bpf_map_update_elem(&FAM(socket_nat), &key, &value, BPF_ANY);
}

/* The backend that this socket's last datagram to the same Service went to, while that is its current one. */
static __always_inline bool FAM(socket_recall)(struct bpf_sock_addr *ctx, const ADDR *addr, __be16 port,
					       struct FAM(target) *t)
{
	struct FAM(socket_key) key;
	struct FAM(socket_value) *value;

	FAM(socket_key)(ctx, addr, port, PTL_IN, &key);
	value = bpf_map_lookup_elem(&FAM(socket_nat), &key);
	if (!value || !FAM(backend_current)(value->backend, value->generation))
		return false;
	t->addr = value->addr;
	t->port = value->port;
	return true;
}

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
	struct frontend *f = bpf_map_lookup_elem(&FAM(frontends), key);
	__u32 needs = PTL_FRONTEND_MASQUERADE | PTL_FRONTEND_SOURCE_RANGES;

	if (config.FAM(detector) == PTL_DETECT_NONE)
		needs |= PTL_FRONTEND_MASQUERADE_OUTSIDERS;
	return f && (f->affinity_seconds || f->flags & needs);
}

/* The address that a socket's packets will have: the one it is bound to (true), or the node's. */
static __always_inline bool FAM(socket_sender)(struct bpf_sock_addr *ctx, struct FAM(sender) *from)
{
	__u32 node = PTL_NODE_IFINDEX;
	struct interface *self;

	from->addr = FAM(ptl_bound)(ctx);
	if (!FAM(addr_zero)(&from->addr))
		return true;
	self = bpf_map_lookup_elem(&interfaces, &node);
	if (self)
		from->addr = self->FAM(masquerade);
	return false;
}

/*
 * A socket may be bound to an address to which a backend's replies would not come back: a load balancer's on this node, or
 * a loopback one. Its packets get an address of the node at egress (8.4, 8.5, 6.5).
 */
static __always_inline void FAM(socket_masquerade)(struct bpf_sock_addr *ctx, const struct FAM(sender) *from,
						   const struct FAM(target) *t)
{
	struct bpf_sock *sk = ctx->sk;
	struct FAM(nat_key) key = { .src = from->addr, .dst = t->addr, .dport = t->port, .direction = PTL_OUT };
	struct FAM(nat_value) value = { .backend = t->backend, .generation = t->generation, .service = t->service }, entry;

	if (!sk || !(FAM(loopback)(&from->addr) || FAM(address_class)(&from->addr, 0, 0) & PTL_CLASS_VIP))
		return;
	key.protocol = ctx->protocol;
	key.sport = bpf_htons(sk->src_port);
	value.last_seen = ptl_now();
	value.state = PTL_SEEN_FORWARD;
	FAM(ask_masquerade)(&key, &value, &entry);
}

/* Tells of a socket: what it wanted, and what it got. Its own address is known only if it is bound. */
static __always_inline void FAM(socket_tell)(struct bpf_sock_addr *ctx, const struct FAM(addr_port) *wanted,
					     const struct FAM(target) *t, enum ptl_tell kind, enum ptl_reason reason)
{
	struct flow_event *e;
	ADDR bound;

	if (!ptl_listener(kind))
		return;
	bound = FAM(ptl_bound)(ctx);
	e = ptl_event_begin(kind, reason);
	if (!e)
		return;
	FAM(ptl_event_addr)(&e->src, &bound);
	FAM(ptl_event_addr)(&e->dst, &wanted->addr);
	FAM(ptl_event_addr)(&e->addr, &t->addr);
	e->dport = wanted->port;
	e->port = t->port;
	e->family = sizeof(ADDR) == 4 ? 4 : 6;
	e->protocol = wanted->protocol;
	e->service = t->service;
	e->backend = t->backend;
	e->generation = t->generation;
	e->frontend_flags = t->frontend_flags;
	e->why = t->why;
	e->cookie = bpf_get_socket_cookie(ctx);
	ptl_event_send(e);
}

/*
 * Chooses a backend for a socket that wants `wanted`: PTL_SOCKET_TRANSLATED with *t, PTL_SOCKET_GO_ON, or
 * PTL_SOCKET_REFUSE. A flow that is to get no answer goes on as it is, and meets the guard of the uplinks.
 */
static __noinline int FAM(socket_choose)(struct bpf_sock_addr *ctx, const struct FAM(addr_port) *wanted, bool connected,
					 struct FAM(target) *t)
{
	bool host = ptl_host_socket(ctx);
	struct FAM(sender) from = { .inside = host || config.FAM(detector) != PTL_DETECT_NONE };
	struct FAM(addr_port) key;
	bool bound;
	__u32 class;
	int r;

	/* UDP of pods is tc's: there each datagram sees whether its backend is still there */
	if (!host && (!(config.options & PTL_OPTION_SOCKETS_PODS) || wanted->protocol != IPPROTO_TCP))
		return PTL_SOCKET_GO_ON;
	if (!FAM(socket_frontend)(wanted, host, &class, &key) || (!host && FAM(socket_leaves_to_tc)(&key)))
		return PTL_SOCKET_GO_ON;
	if (!connected && FAM(socket_recall)(ctx, &wanted->addr, wanted->port, t))
		return PTL_SOCKET_TRANSLATED;
	bound = FAM(socket_sender)(ctx, &from);
	t->service = PTL_NO_SERVICE;
	t->backend = PTL_NO_BACKEND;
	r = FAM(choose)(&key, &from, t);
	if (r == PTL_REASON_REJECT_NO_BACKEND || (r == PTL_NO_FRONTEND && class & PTL_CLASS_CLUSTER_IP)) {
		ptl_service_drop(t->service);
		FAM(socket_tell)(ctx, wanted, t, PTL_TELL_REJECTED, PTL_REASON_SOCKET_REFUSED);
		return ptl_socket_refuse();
	}
	if (r != PTL_CHOSEN)
		return PTL_SOCKET_GO_ON;
	FAM(socket_remember)(ctx, &wanted->addr, wanted->port, t, connected);
	if (bound)
		FAM(socket_masquerade)(ctx, &from, t);
	ptl_count_at(PTL_REASON_SOCKET_TRANSLATED, 1, 0, 0);
	ptl_count_at(PTL_COUNTERS_SERVICE_BASE + t->service, 0, 0, 1);
	FAM(socket_tell)(ctx, wanted, t, PTL_TELL_NEW, PTL_REASON_SOCKET_TRANSLATED);
	return PTL_SOCKET_TRANSLATED;
}

/* What the socket asked for, for a peer that it sees. False: nothing of ours. */
static __always_inline bool FAM(socket_peer)(struct bpf_sock_addr *ctx, ADDR *addr, __be16 *port)
{
	struct FAM(socket_key) key;
	struct FAM(socket_value) *value;

	FAM(socket_key)(ctx, addr, *port, PTL_OUT, &key);
	value = bpf_map_lookup_elem(&FAM(socket_nat), &key);
	if (!value)
		return false;
	*addr = value->addr;
	*port = value->port;
	return true;
}
