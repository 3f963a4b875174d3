// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The cgroup programs, for sockets of the node's own processes and, if asked for, of pods. An IPv6 socket may ask for an
 * IPv4 address in its mapped form (::ffff:a.b.c.d): that is IPv4's affair.
 */
#include "common.bpf.h"
#include "event.bpf.h"

#define ADDR struct addr4
#define FAM(name) name##4
#include "address.bpf.h"
#include "choice.bpf.h"
#include "nat.bpf.h"
#include "socket_choice.bpf.h"
#include "socket.bpf.h"
#undef ADDR
#undef FAM

#define ADDR struct addr6
#define FAM(name) name##6
#include "address.bpf.h"
#include "choice.bpf.h"
#include "nat.bpf.h"
#include "socket_choice.bpf.h"
#include "socket.bpf.h"
#undef ADDR
#undef FAM

/* The third word of ::ffff:0:0/96. */
#define PTL_MAPPED_PREFIX bpf_htonl(0xffff)

static __always_inline bool ptl_mapped(const struct bpf_sock_addr *ctx)
{
	return !ctx->user_ip6[0] && !ctx->user_ip6[1] && ctx->user_ip6[2] == PTL_MAPPED_PREFIX;
}

static __always_inline struct addr6 ptl_user_ip6(const struct bpf_sock_addr *ctx)
{
	return (struct addr6){ { ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3] } };
}

static __always_inline void ptl_set_user_ip6(struct bpf_sock_addr *ctx, const struct addr6 *addr)
{
	ctx->user_ip6[0] = addr->w[0];
	ctx->user_ip6[1] = addr->w[1];
	ctx->user_ip6[2] = addr->w[2];
	ctx->user_ip6[3] = addr->w[3];
}

/* Sends a socket's destination to a backend: connect(2) and sendmsg(2). */
static __always_inline int ptl_to_backend4(struct bpf_sock_addr *ctx, bool connected)
{
	struct addr_port4 wanted = { { { ctx->user_ip4 } }, ctx->user_port, ctx->protocol, 0 };
	struct target4 t = {};
	int r = socket_choose4(ctx, &wanted, connected, &t);

	if (r != PTL_SOCKET_TRANSLATED)
		return r;
	ctx->user_ip4 = t.addr.w[0];
	ctx->user_port = t.port;
	return PTL_SOCKET_GO_ON;
}

static __always_inline int ptl_to_backend_mapped(struct bpf_sock_addr *ctx, bool connected)
{
	struct addr_port4 wanted = { { { ctx->user_ip6[3] } }, ctx->user_port, ctx->protocol, 0 };
	struct target4 t = {};
	int r = socket_choose4(ctx, &wanted, connected, &t);

	if (r != PTL_SOCKET_TRANSLATED)
		return r;
	ctx->user_ip6[3] = t.addr.w[0];
	ctx->user_port = t.port;
	return PTL_SOCKET_GO_ON;
}

static __always_inline int ptl_to_backend6(struct bpf_sock_addr *ctx, bool connected)
{
	struct addr_port6 wanted = { ptl_user_ip6(ctx), ctx->user_port, ctx->protocol, 0 };
	struct target6 t = {};
	int r = socket_choose6(ctx, &wanted, connected, &t);

	if (r != PTL_SOCKET_TRANSLATED)
		return r;
	ptl_set_user_ip6(ctx, &t.addr);
	ctx->user_port = t.port;
	return PTL_SOCKET_GO_ON;
}

/* Shows the Service where a backend would be seen: recvmsg(2) and getpeername(2). */
static __always_inline int ptl_to_service4(struct bpf_sock_addr *ctx)
{
	struct addr4 addr = { { ctx->user_ip4 } };
	__be16 port = ctx->user_port;

	if (socket_peer4(ctx, &addr, &port)) {
		ctx->user_ip4 = addr.w[0];
		ctx->user_port = port;
	}
	return PTL_SOCKET_GO_ON;
}

static __always_inline int ptl_to_service6(struct bpf_sock_addr *ctx)
{
	struct addr6 addr = ptl_user_ip6(ctx);
	__be16 port = ctx->user_port;

	if (ptl_mapped(ctx)) {
		struct addr4 mapped = { { addr.w[3] } };

		if (socket_peer4(ctx, &mapped, &port)) {
			ctx->user_ip6[3] = mapped.w[0];
			ctx->user_port = port;
		}
	} else if (socket_peer6(ctx, &addr, &port)) {
		ptl_set_user_ip6(ctx, &addr);
		ctx->user_port = port;
	}
	return PTL_SOCKET_GO_ON;
}

SEC("cgroup/connect4")
int ptl_connect4(struct bpf_sock_addr *ctx)
{
	return ptl_to_backend4(ctx, true);
}

SEC("cgroup/connect6")
int ptl_connect6(struct bpf_sock_addr *ctx)
{
	return ptl_mapped(ctx) ? ptl_to_backend_mapped(ctx, true) : ptl_to_backend6(ctx, true);
}

SEC("cgroup/sendmsg4")
int ptl_sendmsg4(struct bpf_sock_addr *ctx)
{
	return ptl_to_backend4(ctx, false);
}

SEC("cgroup/sendmsg6")
int ptl_sendmsg6(struct bpf_sock_addr *ctx)
{
	return ptl_mapped(ctx) ? ptl_to_backend_mapped(ctx, false) : ptl_to_backend6(ctx, false);
}

SEC("cgroup/recvmsg4")
int ptl_recvmsg4(struct bpf_sock_addr *ctx)
{
	return ptl_to_service4(ctx);
}

SEC("cgroup/recvmsg6")
int ptl_recvmsg6(struct bpf_sock_addr *ctx)
{
	return ptl_to_service6(ctx);
}

SEC("cgroup/getpeername4")
int ptl_peername4(struct bpf_sock_addr *ctx)
{
	return ptl_to_service4(ctx);
}

SEC("cgroup/getpeername6")
int ptl_peername6(struct bpf_sock_addr *ctx)
{
	return ptl_to_service6(ctx);
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
