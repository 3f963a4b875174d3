/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * THE layouts that the kernel programs, the native library and TypeScript share. TypeScript codecs are
 * generated from this file's BTF (make abi); nothing is written down twice.
 *
 * Rules: fixed-width members, explicit padding, no hole, no bitfield, no pointer; __be16/__be32 are
 * network byte order and everything else is host byte order (little endian; big endian is refused).
 * A changed layout gets a new PTL_LAYOUT_VERSION: pins live below <bpf-root>/v<PTL_LAYOUT_VERSION>/.
 */
#ifndef PTL_ABI_H
#define PTL_ABI_H

#include <linux/types.h>

#include "reasons.h"

enum ptl_layout { PTL_LAYOUT_VERSION = 1 };

struct addr4 {
	__be32 w[1];
};
struct addr6 {
	__be32 w[4];
};

#define ADDR struct addr4
#define FAM(name) name##4
#include "abi_family.h"
#undef ADDR
#undef FAM

#define ADDR struct addr6
#define FAM(name) name##6
#include "abi_family.h"
#undef ADDR
#undef FAM

/*
 * A choice word: what a frontend offers to one scope of senders, in one naturally aligned u64 that is
 * replaced by one store:  tag (16) | count (20) | base (28).
 * count > 0: slots[base .. base+count) hold the backends. count == 0: base is an enum ptl_empty.
 * tag is ptl_choice_tag() of the frontend's key and is never 0; a reader whose tag does not fit has read
 * a recycled element and looks up again.
 */
enum ptl_choice {
	PTL_CHOICE_BASE_BITS = 28,
	PTL_CHOICE_COUNT_BITS = 20,
	PTL_CHOICE_TAG_BITS = 16,
};

/* What happens to a new flow when there is no backend to choose. */
enum ptl_empty { PTL_EMPTY_REJECT = 0, PTL_EMPTY_DROP = 1 };

struct frontend {
	__u64 internal; /* choice word for senders inside the cluster */
	__u64 external; /* choice word for senders outside */
	__u32 service;  /* index of the service port: `services`, `counters` */
	__u32 affinity_seconds; /* 0: sessionAffinity None */
	__u32 flags;    /* enum ptl_frontend_flag */
	__u32 pad;
};

enum ptl_frontend_flag {
	PTL_FRONTEND_CLUSTER_IP = 1,
};

/* Bits of a value of `addresses`. */
enum ptl_address_class {
	PTL_CLASS_VIP = 1,        /* the address is a ClusterIP: unknown ports are rejected */
	PTL_CLASS_BACKEND = 2,    /* some backend has this address */
	PTL_CLASS_BACKEND_PORT = 4, /* key with port and protocol: this is a backend */
};

enum ptl_backend_state { PTL_BACKEND_FREE = 0, PTL_BACKEND_LIVE = 1 };
enum ptl_backend_flag { PTL_BACKEND_LOCAL = 1 };

enum ptl_direction { PTL_IN = 0, PTL_OUT = 1 };

/* What a flow has shown so far. FORWARD is client to Service. */
enum ptl_nat_state {
	PTL_SEEN_FORWARD = 1,
	PTL_SEEN_REPLY = 2,
	PTL_ESTABLISHED = 4, /* TCP: the client has acknowledged the reply */
	PTL_FIN_FORWARD = 8,
	PTL_FIN_REPLY = 16,
	PTL_RST_FORWARD = 32,
	PTL_RST_REPLY = 64,
};

enum ptl_nat_flag {
	PTL_NAT_REPLY = 1,    /* this entry rewrites replies: its packets run from backend to client */
	PTL_NAT_PENDING = 2,  /* OUT: the egress hook has yet to choose address and port */
	PTL_NAT_DIRECT = 4,   /* a client uses a backend's own address */
	PTL_NAT_MASQUERADE = 8, /* half of the pair that changes the client's address */
};

#define PTL_NO_BACKEND 0xffffffffu
#define PTL_NO_SERVICE 0xffffffffu

/* nat times are in ticks of 2^30 ns (about 1.07 s) of CLOCK_MONOTONIC. */
#define PTL_TICK_SHIFT 30

enum ptl_role {
	PTL_ROLE_POD = 1,     /* host side of a pod's veth */
	PTL_ROLE_UPLINK = 2,  /* leads to other hosts */
	PTL_ROLE_OVERLAY = 3, /* vxlan and the like */
	PTL_ROLE_BRIDGE = 4,  /* a bridge that pods hang on: known for its address, not hooked */
};

/* A value of `interfaces`, keyed by ifindex. An all-zero address: nothing to masquerade with. */
struct interface {
	__u32 role; /* enum ptl_role */
	struct addr4 masquerade4;
	struct addr6 masquerade6;
};

/* A value of `services`: the name behind a service index. Strings end with NUL. */
struct service_name {
	char namespace_name[64];
	char name[64];
	char port_name[24];
	__u8 protocol;
	__u8 pad[7];
};

/* A value of `fragments4/6`: the ports, which only a datagram's first fragment carries. */
struct fragment {
	__be16 sport;
	__be16 dport;
};

/* A value of `counters` (per CPU) and of `backend_stats4/6` (added to atomically). */
struct traffic {
	__u64 flows;
	__u64 packets;
	__u64 bytes;
};

#define PTL_REASON_ENUM(id, name, text) PTL_REASON_##id,
enum ptl_reason { PTL_REASONS(PTL_REASON_ENUM) PTL_REASON_COUNT };
#undef PTL_REASON_ENUM

/* `counters` holds the reasons first and then, from this index on, one cell per service index. */
enum ptl_counters { PTL_COUNTERS_SERVICE_BASE = 64 };

/* Settings the loader writes into .rodata before the programs are verified. Times in ticks. */
struct ptl_config {
	/* two ranges of source ports that masquerading may use, host byte order; count 0: none */
	__u16 snat_port_base[2];
	__u16 snat_port_count[2];
	__u32 timeout_tcp_opening;     /* SYN without an answer */
	__u32 timeout_tcp_established;
	__u32 timeout_tcp_half_closed;
	__u32 timeout_tcp_closed;      /* both FINs or an RST */
	__u32 timeout_udp_unreplied;
	__u32 timeout_udp_replied;
};

/*
 * The mixing step of both hashes below. One 32-bit multiply and a shift a word: cheap enough for every
 * packet, and the same in BPF, C and JavaScript (Math.imul).
 */
static inline __attribute__((always_inline)) __u32 ptl_mix(__u32 h, __u32 word)
{
	h = (h ^ word) * 0x9e3779b1u;
	return h ^ (h >> 15);
}

/* Tag of a choice word: over the words of a struct addr_port4/6, first to last. 16 bits, never 0. */
static inline __attribute__((always_inline)) __u32 ptl_choice_tag(const void *key, __u32 words)
{
	const __u32 *w = key;
	__u32 h = 0x5bd1e995u;

	for (__u32 i = 0; i < words; i++)
		h = ptl_mix(h, w[i]);
	h >>= 16;
	return h ? h : 1;
}

/*
 * nat_value.check: over the words of a nat_key4/6 and then the words of addr, port and peer_port. Every word has an
 * odd multiplier of its own, so the products do not wait for each other.
 */
static inline __attribute__((always_inline)) __u32 ptl_nat_check(const void *key, __u32 key_words, const void *value,
								 __u32 value_words)
{
	const __u32 *k = key, *v = value;
	__u32 sum = 0x2545f491u;

	for (__u32 i = 0; i < key_words; i++)
		sum += (k[i] ^ i) * (0x9e3779b1u * (2 * i + 1));
	for (__u32 i = 0; i < value_words; i++)
		sum += (v[i] ^ i) * (0x85ebca6bu * (2 * i + 1));
	return sum ^ (sum >> 15);
}

#endif /* PTL_ABI_H */
