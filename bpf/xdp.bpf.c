// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The XDP program, for uplinks: tc ingress and egress in one, over the same maps and by the same functions, for flows whose
 * packets come in here and go out again by an interface that carries this program too. Everything else passes to tc, untouched
 * and counted. Whether a flow is finished here is decided when it starts, for both directions, and kept in its entries
 * (PTL_NAT_XDP): the kernel's conntrack sees all of a flow, or nothing.
 */
#define PTL_XDP
#include "common.bpf.h"
#include "event.bpf.h"
#include "parse.bpf.h"
#include "xdp_frame.bpf.h"

/* tc.bpf.c has global functions of the same source. */
#define ptl_tell4 ptl_xdp_tell4
#define ptl_tell6 ptl_xdp_tell6

#define ADDR struct addr4
#define FAM(name) name##4
#include "xdp_family.bpf.h"
#undef ADDR
#undef FAM

#define ADDR struct addr6
#define FAM(name) name##6
#include "xdp_family.bpf.h"
#undef ADDR
#undef FAM

/* Global functions: the verifier looks at each once, as in tc.bpf.c. */
__noinline int ptl_xdp_read4(struct xdp_md *ctx)
{
	return xdp_read4(ctx);
}

__noinline int ptl_xdp_read6(struct xdp_md *ctx)
{
	return xdp_read6(ctx);
}

SEC("xdp")
int ptl_xdp(struct xdp_md *ctx)
{
	const struct ethhdr *eth = (void *)(long)ctx->data;
	int r;

	if ((const void *)(eth + 1) > (const void *)(long)ctx->data_end)
		return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
	if (eth->h_proto == bpf_htons(ETH_P_IP)) {
		r = ptl_xdp_read4(ctx);
		return r == PTL_PARSED ? ptl_xdp_serve4(ctx) : r;
	}
	if (eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		r = ptl_xdp_read6(ctx);
		return r == PTL_PARSED ? ptl_xdp_serve6(ctx) : r;
	}
	return ptl_pass(ctx, PTL_REASON_XDP_OTHER);
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
