// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The tc programs: one pair for the host side of a pod's veth, one for interfaces that lead to other nodes. The role is
 * a constant of the program, so nothing is looked up to know it.
 */
#include "common.bpf.h"
#include "event.bpf.h"
#include "parse.bpf.h"
#include "sctp.bpf.h"

#define ADDR struct addr4
#define FAM(name) name##4
#include "family.bpf.h"
#include "reject4.bpf.h"
#include "hooks.bpf.h"
#undef ADDR
#undef FAM

#define ADDR struct addr6
#define FAM(name) name##6
#include "family.bpf.h"
#include "reject6.bpf.h"
#include "hooks.bpf.h"
#undef ADDR
#undef FAM

enum ptl_where { PTL_NET = 0, PTL_POD = 1 };

/* Global functions: the verifier looks at each once, with any argument, and not once for each caller. */
__noinline int ptl_ingress4(struct __sk_buff *skb, int where)
{
	return ingress4(skb, where == PTL_POD);
}

__noinline int ptl_ingress6(struct __sk_buff *skb, int where)
{
	return ingress6(skb, where == PTL_POD);
}

__noinline int ptl_egress4(struct __sk_buff *skb, int where)
{
	return egress4(skb, where == PTL_POD);
}

__noinline int ptl_egress6(struct __sk_buff *skb, int where)
{
	return egress6(skb, where == PTL_POD);
}

#ifdef PTL_TRACE
#define PTL_ONWARD(F, skb, where) ptl_ingress##F(skb, where)
#else
#define PTL_ONWARD(F, skb, where) ptl_onward##F(skb, ptl_ingress##F(skb, where), where == PTL_POD)
#endif

static __always_inline int ptl_in(struct __sk_buff *skb, enum ptl_where where)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return PTL_ONWARD(4, skb, where);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return PTL_ONWARD(6, skb, where);
	return ptl_pass(skb, PTL_REASON_PASS_NOT_IP);
}

static __always_inline int ptl_out(struct __sk_buff *skb, enum ptl_where where)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		return ptl_egress4(skb, where);
	if (skb->protocol == bpf_htons(ETH_P_IPV6))
		return ptl_egress6(skb, where);
	return ptl_pass(skb, PTL_REASON_PASS_NOT_IP);
}

SEC("tc")
int ptl_pod_in(struct __sk_buff *skb)
{
	return ptl_in(skb, PTL_POD);
}

SEC("tc")
int ptl_pod_out(struct __sk_buff *skb)
{
	return ptl_out(skb, PTL_POD);
}

SEC("tc")
int ptl_net_in(struct __sk_buff *skb)
{
	return ptl_in(skb, PTL_NET);
}

SEC("tc")
int ptl_net_out(struct __sk_buff *skb)
{
	return ptl_out(skb, PTL_NET);
}

char _license[] __weak SEC("license") = "Dual BSD/GPL";
