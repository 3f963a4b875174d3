/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What every other header here needs: verdicts, the clock, settings, counting. Knows no address family. */
#ifndef PTL_COMMON_BPF_H
#define PTL_COMMON_BPF_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "abi.h"
#include "access.bpf.h"

/* What a program is given: a socket buffer at the tc hooks, a frame at the XDP hook (bpf/xdp.bpf.c). */
#ifdef PTL_XDP
#define PTL_CONTEXT struct xdp_md
#define ptl_ifindex(ctx) ((ctx)->ingress_ifindex)
#define PTL_PASS XDP_PASS
#define PTL_DROP XDP_DROP
/* In one piece: the compiler keeps half of a pointer on the stack, and the verifier does not let it. */
static __always_inline __u32 ptl_length(const struct xdp_md *ctx)
{
	__u64 length, begin;

	asm volatile("%[length] = *(u32 *)(%[ctx] + %[data_end])\n\t"
		     "%[begin] = *(u32 *)(%[ctx] + %[data])\n\t"
		     "%[length] -= %[begin]"
		     : [length] "=&r"(length), [begin] "=&r"(begin)
		     : [ctx] "r"(ctx), [data_end] "i"(offsetof(struct xdp_md, data_end)), [data] "i"(offsetof(struct xdp_md, data)));
	return length;
}
#else
#define PTL_CONTEXT struct __sk_buff
#define ptl_length(ctx) ((ctx)->len)
#define ptl_ifindex(ctx) ((ctx)->ifindex)
/* Go on with the next program. TC_ACT_OK would hide every program behind ours (measured). */
#define PTL_PASS TC_ACT_UNSPEC
#define PTL_DROP TC_ACT_SHOT
#endif
/* No verdict yet: the packet is to be rewritten. */
#define PTL_REWRITE (-2)

/* Of linux/if_packet.h, which drags in others, and of linux/socket.h, which has them for user space only. */
#define PTL_PACKET_HOST 0
#define PTL_AF_INET 2
#define PTL_AF_INET6 10

/*
 * No verdict yet, either: no IN entry translates the packet (it is in the cell of start.bpf.h); it is to take the shortcut if
 * it may; it takes the shortcut; it does once its source is rewritten; it is an ICMP packet (in the cell).
 */
#define PTL_MISSED (-3)
#define PTL_FORWARD (-4)
#define PTL_SEND (-5)
#define PTL_SOURCE (-6)
#define PTL_ICMP (-7)

/* Frames start with an Ethernet header: the loader refuses other devices. */
#define PTL_L3_OFFSET ETH_HLEN

/* How often an element that was recycled under the reader is read again. */
#define PTL_READS 3

/* How many ports are tried before a flow is given up: with 70 % of the ports in use 1 flow in 90,000 finds none. */
#define PTL_PORT_TRIES 32
/* How often a masqueraded flow looks for a port when another CPU has taken the one it found. */
#define PTL_CLAIM_TRIES 2

/* The flags byte of a TCP header, and its bits. */
#define PTL_TCP_FLAGS_OFFSET 13
/* The byte before it: the header's length in words, in the upper half. */
#define PTL_TCP_WORDS_OFFSET 12
#define PTL_TCP_FIN 0x01
#define PTL_TCP_SYN 0x02
#define PTL_TCP_RST 0x04
#define PTL_TCP_ACK 0x10

/* Keeps the compiler from reading a map element again instead of the copy. */
#define ptl_barrier() asm volatile("" ::: "memory")

const volatile struct ptl_config config __weak = {};

/*
 * Whether the programs know the shortcut at all. Where they do not, the verifier removes what is behind this. The twin does not: it follows a packet through the
 * stack, and has no stack of its own to spare (512 bytes, of which noting takes a frame).
 */
#ifdef PTL_TRACE
#define ptl_shortcut() false
#else
#define ptl_shortcut() (config.options & PTL_OPTION_SHORTCUT)
#endif

/*
 * CLOCK_MONOTONIC in ticks. The coarse clock is what the kernel's timer has last written, up to 10 ms ago, and nothing beside a
 * tick of 1 s; the exact one reads the processor's counter, which waits for everything before it (docs/design/packet-cost.md).
 */
static __always_inline __u32 ptl_now(void)
{
	__u64 ns = config.options & PTL_OPTION_COARSE_CLOCK ? bpf_ktime_get_coarse_ns() : bpf_ktime_get_ns();

	return ns >> PTL_TICK_SHIFT;
}

static __always_inline void ptl_count_at(__u32 index, __u32 packets, __u32 bytes, __u32 flows)
{
	struct traffic *t = ptl_tally(counters, &index);

	if (t) {
		t->flows += flows;
		t->packets += packets;
		t->bytes += bytes;
	}
}

static __always_inline void ptl_count(const PTL_CONTEXT *ctx, enum ptl_reason reason)
{
	ptl_count_at(reason, 1, ptl_length(ctx), 0);
}

/* Counts and passes. */
static __always_inline int ptl_pass(const PTL_CONTEXT *ctx, enum ptl_reason reason)
{
	ptl_count(ctx, reason);
	return PTL_PASS;
}

/* Counts and drops. */
static __always_inline int ptl_drop(const PTL_CONTEXT *ctx, enum ptl_reason reason)
{
	ptl_count(ctx, reason);
	return PTL_DROP;
}

/* Does this packet open a connection? UDP has none: any packet may be its flow's first. */
static __always_inline bool ptl_opens(__u8 protocol, __u8 tcp_flags)
{
	return protocol == IPPROTO_UDP ||
	       (tcp_flags & (PTL_TCP_SYN | PTL_TCP_ACK | PTL_TCP_RST | PTL_TCP_FIN)) == PTL_TCP_SYN;
}

/* A number in [0, n) without a division. */
static __always_inline __u32 ptl_scale(__u32 random, __u32 n)
{
	return ((__u64)random * n) >> 32;
}

/* The n-th port of the masquerade ranges, n in [0, total). Network byte order. */
static __always_inline __be16 ptl_snat_port(__u32 n)
{
	__u32 first = config.snat_port_count[0];

	return bpf_htons(n < first ? config.snat_port_base[0] + n : config.snat_port_base[1] + (n - first));
}

static __always_inline __u32 ptl_snat_ports(void)
{
	return (__u32)config.snat_port_count[0] + config.snat_port_count[1];
}

/*
 * The i-th port to try for a flow with hash h: a fixed sequence for each flow, and flows that start at one port go on
 * to different ones, so that no cluster of used ports stops them all. There must be ports (ptl_snat_ports() > 0).
 */
static __always_inline __be16 ptl_probe_port(__u32 h, __u32 i)
{
	__u32 total = ptl_snat_ports();

	return ptl_snat_port(ptl_scale(ptl_mix(h, i * 0x9e3779b1u), total));
}

/* Which of config's timeouts a TCP or SCTP state has: an index from timeout_tcp_opening on. */
enum ptl_tcp_age { PTL_AGE_OPENING, PTL_AGE_ESTABLISHED, PTL_AGE_HALF_CLOSED, PTL_AGE_CLOSED };

_Static_assert(offsetof(struct ptl_config, timeout_tcp_closed) ==
		       offsetof(struct ptl_config, timeout_tcp_opening) + PTL_AGE_CLOSED * sizeof(__u32),
	       "the TCP timeouts lie in the order of enum ptl_tcp_age");
_Static_assert(offsetof(struct ptl_config, timeout_udp_replied) ==
		       offsetof(struct ptl_config, timeout_udp_unreplied) + sizeof(__u32),
	       "the UDP timeouts lie side by side");

#define PTL_RST_ANY (PTL_RST_FORWARD | PTL_RST_REPLY)
#define PTL_FIN_ANY (PTL_FIN_FORWARD | PTL_FIN_REPLY)
#define PTL_TCP_AGE(s)                                                                      \
	((s) & PTL_RST_ANY || ((s) & PTL_FIN_ANY) == PTL_FIN_ANY ? PTL_AGE_CLOSED :         \
	 !((s) & PTL_ESTABLISHED)				 ? PTL_AGE_OPENING :        \
	 (s) & PTL_FIN_ANY					 ? PTL_AGE_HALF_CLOSED :    \
								   PTL_AGE_ESTABLISHED)
#define PTL_TCP_AGE_4(s) PTL_TCP_AGE(s), PTL_TCP_AGE((s) + 1), PTL_TCP_AGE((s) + 2), PTL_TCP_AGE((s) + 3)
#define PTL_TCP_AGE_16(s) PTL_TCP_AGE_4(s), PTL_TCP_AGE_4((s) + 4), PTL_TCP_AGE_4((s) + 8), PTL_TCP_AGE_4((s) + 12)
#define PTL_TCP_STATES 128

/* A table and not a chain of ifs: the verifiers before Linux 6.2 follow every branch in every turn of a loop. */
static const volatile __u8 ptl_tcp_age[PTL_TCP_STATES] = {
	PTL_TCP_AGE_16(0),  PTL_TCP_AGE_16(16), PTL_TCP_AGE_16(32), PTL_TCP_AGE_16(48),
	PTL_TCP_AGE_16(64), PTL_TCP_AGE_16(80), PTL_TCP_AGE_16(96), PTL_TCP_AGE_16(112),
};

/*
 * Does an entry with this state and age (ticks) still stand for a flow? Dead counts as absent everywhere and may be
 * taken over. (A last_seen ahead of `now`, written by another CPU, is a negative age.)
 */
static __always_inline bool ptl_nat_live(__u8 protocol, __u16 state, __u32 last_seen, __u32 now)
{
	__u32 limit;

	if (protocol != IPPROTO_UDP)
		limit = (&config.timeout_tcp_opening)[ptl_tcp_age[state & (PTL_TCP_STATES - 1)] & PTL_AGE_CLOSED];
	else
		limit = (&config.timeout_udp_unreplied)[(state & PTL_SEEN_REPLY) / PTL_SEEN_REPLY];
	return (__s32)(now - last_seen) < (__s32)limit;
}

/* TCP: is a connection with this state still being opened (a SYN now is a retransmission)? */
static __always_inline bool ptl_opening(__u16 state)
{
	return !(state & (PTL_ESTABLISHED | PTL_RST_ANY | PTL_FIN_ANY));
}

/*
 * The state after one more packet. `reply`: it runs from backend to client. An RST is taken back when its sender goes
 * on talking: it was not the sender's own.
 */
static __always_inline __u16 ptl_next_state(__u16 state, bool reply, __u8 protocol, __u8 tcp_flags)
{
	__u16 rst = reply ? PTL_RST_REPLY : PTL_RST_FORWARD;

	if (protocol != IPPROTO_UDP) {
		if (tcp_flags & PTL_TCP_RST)
			state |= rst;
		else
			state &= ~rst;
		if (tcp_flags & PTL_TCP_FIN)
			state |= reply ? PTL_FIN_REPLY : PTL_FIN_FORWARD;
		if (!reply && (state & PTL_SEEN_REPLY) && (tcp_flags & PTL_TCP_ACK) && !(tcp_flags & PTL_TCP_SYN))
			state |= PTL_ESTABLISHED;
	}
	return state | (reply ? PTL_SEEN_REPLY : PTL_SEEN_FORWARD);
}

#endif /* PTL_COMMON_BPF_H */
