/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Sockets before packets: a local socket that asks for a Service is sent to a backend, and no packet of it is ever
 * touched. Included once per family. What a socket was told and what it talks to is kept in `socket_nat`, for
 * getpeername(2), recvmsg(2), and the next datagram of a socket that is not connected.
 */

#ifndef PTL_SOCKET_COMMON
#define PTL_SOCKET_COMMON

#define PTL_ECONNREFUSED 111

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
	ptl_update(FAM(socket_nat), &key, &value, BPF_ANY);
	if (connected)
		return;
	key.addr = *addr;
	key.port = port;
	key.direction = PTL_IN;
	value.addr = t->addr;
	value.port = t->port;
	ptl_update(FAM(socket_nat), &key, &value, BPF_ANY);
}

/* The backend that this socket's last datagram to the same Service went to, while that is its current one. */
static __always_inline bool FAM(socket_recall)(struct bpf_sock_addr *ctx, const ADDR *addr, __be16 port,
					       struct FAM(target) *t)
{
	struct FAM(socket_key) key;
	struct FAM(socket_value) *value;

	FAM(socket_key)(ctx, addr, port, PTL_IN, &key);
	value = ptl_look_up(FAM(socket_nat), &key);
	if (!value || !FAM(backend_current)(value->backend, value->generation))
		return false;
	t->addr = value->addr;
	t->port = value->port;
	return true;
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
	from.addr = FAM(ptl_bound)(ctx);
	bound = FAM(socket_sender)(&from);
	FAM(no_target)(t);
	r = FAM(socket_verdict)(FAM(choose)(&key, &from, t), class);
	if (r == PTL_SOCKET_REFUSE) {
		ptl_service_drop(t->service);
		FAM(socket_tell)(ctx, wanted, t, PTL_TELL_REJECTED, PTL_REASON_SOCKET_REFUSED);
		return ptl_socket_refuse();
	}
	if (r != PTL_SOCKET_TRANSLATED)
		return r;
	FAM(socket_remember)(ctx, &wanted->addr, wanted->port, t, connected);
	if (bound && ctx->sk)
		FAM(socket_masquerade)(&from, t, ctx->protocol, bpf_htons(ctx->sk->src_port));
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
	value = ptl_look_up(FAM(socket_nat), &key);
	if (!value)
		return false;
	*addr = value->addr;
	*port = value->port;
	return true;
}
