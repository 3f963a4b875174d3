// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The twin of the tc programs, for `portolan trace`: the same source, compiled so that it notes every access to a map and
 * writes to an overlay (overlay.bpf.h). It is only ever run by BPF_PROG_TEST_RUN, never attached. The live programs do not
 * have a single instruction for it.
 */
#define PTL_TRACE
#include "tc.bpf.c"

#define ADDR struct addr4
#define FAM(name) name##4
#include "socket_choice.bpf.h"
#include "socket_trace.bpf.h"
#undef ADDR
#undef FAM

#define ADDR struct addr6
#define FAM(name) name##6
#include "socket_choice.bpf.h"
#include "socket_trace.bpf.h"
#undef ADDR
#undef FAM

/*
 * A program for each family and direction, so that a trace loads no more than it needs. The role, a constant of the live programs,
 * comes with the request. (The family's code lies in the program itself: Linux 5.10 counts each frame as
 * 32 bytes at least, and what notes needs one more than the live programs have.)
 */
SEC("tc")
int twin_in4(struct __sk_buff *skb)
{
	return ingress4(skb, ptl_trace.request.pod);
}

SEC("tc")
int twin_in6(struct __sk_buff *skb)
{
	return ingress6(skb, ptl_trace.request.pod);
}

SEC("tc")
int twin_out4(struct __sk_buff *skb)
{
	return egress4(skb, ptl_trace.request.pod);
}

SEC("tc")
int twin_out6(struct __sk_buff *skb)
{
	return egress6(skb, ptl_trace.request.pod);
}

/* What the socket hooks would do with ptl_trace.request. The packet plays no part: the kernel cannot test-run those hooks. */
SEC("tc")
int twin_socket4(struct __sk_buff *skb)
{
	return ptl_socket4(skb);
}

SEC("tc")
int twin_socket6(struct __sk_buff *skb)
{
	return ptl_socket6(skb);
}
