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

enum ptl_layout { PTL_LAYOUT_VERSION = 2 };

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

/*
 * What a scope is offered is the Cluster set or the Local set of the service port (kube-proxy's section 4). Which one is
 * said here, because session affinity asks whether a backend is in it.
 */
enum ptl_frontend_flag {
	PTL_FRONTEND_CLUSTER_IP = 1,
	PTL_FRONTEND_MASQUERADE = 2,           /* every new flow (8.2 masqueradeAll, 8.4) */
	PTL_FRONTEND_MASQUERADE_OUTSIDERS = 4, /* new flows of senders that are no local pods (8.2) */
	PTL_FRONTEND_SOURCE_RANGES = 8,        /* `source_ranges` decides who may */
	PTL_FRONTEND_INTERNAL_LOCAL = 16,      /* `internal` is the Local set */
	PTL_FRONTEND_EXTERNAL_LOCAL = 32,      /* `external` is the Local set */
	PTL_FRONTEND_NODE_PORT = 64,           /* the key's address is all zero: every address of class NODE */
};

/* Bits of a value of `addresses`. */
enum ptl_address_class {
	PTL_CLASS_VIP = 1,          /* some frontend has this address */
	PTL_CLASS_BACKEND = 2,      /* some backend has this address */
	PTL_CLASS_BACKEND_PORT = 4, /* key with port and protocol: this is a backend */
	PTL_CLASS_CLUSTER_IP = 8,   /* the address is a ClusterIP: its unknown ports are rejected (6.13) */
	PTL_CLASS_NODE = 16,        /* an address of this node on which NodePorts are served (6.1 to 6.4) */
};

enum ptl_backend_state {
	PTL_BACKEND_FREE = 0,
	PTL_BACKEND_LIVE = 1,     /* it serves (9.3): its flows stay */
	PTL_BACKEND_DRAINING = 2, /* still in a slice, but it does not serve: UDP flows leave it, TCP stays, nobody new */
};

/* The sets are kept for service ports with session affinity only. They may change while the cell is in use. */
enum ptl_backend_flag {
	PTL_BACKEND_LOCAL = 1,       /* on this node */
	PTL_BACKEND_CLUSTER_SET = 2, /* in the Cluster set */
	PTL_BACKEND_LOCAL_SET = 4,   /* in the Local set */
};

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
	PTL_NAT_ASKED = 16,   /* of a flow whose client's address is changed at egress */
	PTL_NAT_SHORTCUT = 32, /* of a flow that goes past the stack, both ways: decided when it began, and kept */
	PTL_NAT_XDP = 128,    /* of a flow that began in XDP: its packets are finished there, both ways */
};

/* nat_key.pad of a lock. */
#define PTL_NAT_LOCK 1

#define PTL_NO_BACKEND 0xffffffffu
#define PTL_NO_SERVICE 0xffffffffu

/* nat times are in ticks of 2^30 ns (about 1.07 s) of CLOCK_MONOTONIC. */
#define PTL_TICK_SHIFT 30

enum ptl_role {
	PTL_ROLE_POD = 1,     /* host side of a pod's veth */
	PTL_ROLE_UPLINK = 2,  /* leads to other hosts */
	PTL_ROLE_OVERLAY = 3, /* vxlan and the like */
	PTL_ROLE_BRIDGE = 4,  /* a bridge that pods hang on: known for its address, not hooked */
	PTL_ROLE_NODE = 5,    /* no interface: the node, key 0 */
};

/*
 * A value of `interfaces`, keyed by ifindex. An all-zero address: nothing to masquerade with. Key 0 is the node itself
 * (PTL_ROLE_NODE): the addresses that its own processes are taken to have, for source ranges and session affinity.
 */
struct interface {
	__u16 role; /* enum ptl_role */
	__u16 mtu;  /* bytes from the network header on; 0: not known */
	struct addr4 masquerade4;
	struct addr6 masquerade6;
	__u32 flags; /* enum ptl_interface_flag */
};

enum ptl_interface_flag {
	PTL_INTERFACE_LOCAL_PODS = 1, /* what comes in here is a local pod's (PTL_DETECT_INTERFACE) */
	PTL_INTERFACE_PEER = 2,       /* its other end is in another network namespace: bpf_redirect_peer reaches it */
	PTL_INTERFACE_SHORTCUT = 4,   /* new flows may take the shortcut by it (--forwarding) */
};

/*
 * A value of `xdp_devices`, keyed by ifindex: an interface that carries the XDP program, and is able to send what that one
 * redirects. A frame that is not for its hardware address is somebody else's.
 */
struct xdp_device {
	__u8 address[6];
	__u16 pad;
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

/* A value of `affinity4/6`. */
struct affinity {
	__u32 backend;
	__u32 generation;
	__u64 last_new; /* ns of CLOCK_MONOTONIC: the client's last new connection (5.5) */
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

/*
 * `flow_marks`: which addresses TCP entries of `nat` are about (bpf/lib/filter.bpf.h). One cell for each ptl_mark_index(), and one
 * behind them that is not 0 while every such entry has its mark; otherwise the marks say nothing.
 */
enum ptl_marks {
	PTL_MARKS_BITS = 18,
	PTL_MARKS_COUNT = 1 << PTL_MARKS_BITS,
	PTL_MARKS_COMPLETE = PTL_MARKS_COUNT,
};

/* Whose address is marked: what names an entry without naming a client, of whom there may be any number. */
enum ptl_mark {
	PTL_MARK_IN = 0,         /* an IN entry's destination: Service, backend, or the node's own for replies to it */
	PTL_MARK_OUT = 1,        /* an OUT entry's source: the backend */
	PTL_MARK_MASQUERADE = 2, /* the destination of an OUT entry that changes the client's address: the backend */
};

/* What a twin of the programs notes of a run (`portolan trace`). */
enum trace_op {
	PTL_TRACE_LOOK_UP = 1,
	PTL_TRACE_UPDATE = 2,
	PTL_TRACE_DELETE = 3,
	PTL_TRACE_TALLY = 4, /* a cell of `counters` or `backend_stats` that would have been added to */
};

/* Which map: its name without the family. */
enum trace_map {
	PTL_MAP_FRONTENDS = 1,
	PTL_MAP_SLOTS = 2,
	PTL_MAP_BACKENDS = 3,
	PTL_MAP_ADDRESSES = 4,
	PTL_MAP_NAT = 5,
	PTL_MAP_FRAGMENTS = 6,
	PTL_MAP_AFFINITY = 7,
	PTL_MAP_SOURCE_RANGES = 8,
	PTL_MAP_SERVICE_NETS = 9,
	PTL_MAP_INTERFACES = 10,
	PTL_MAP_COUNTERS = 11,
	PTL_MAP_BACKEND_STATS = 12,
};

/* Room for the longest key and value; how many records fit (a power of two). */
enum trace_size { PTL_TRACE_KEY_SIZE = 40, PTL_TRACE_VALUE_SIZE = 48, PTL_TRACE_RECORDS = 256 };

struct trace_record {
	__u8 op;    /* enum trace_op */
	__u8 map;   /* enum trace_map */
	__u8 found; /* a look-up found the key, a write succeeded */
	__u8 pad[5];
	__u8 key[40];
	__u8 value[48];
};

/*
 * What a twin is asked. Of a packet: `pod` alone. Of a socket that connects: the rest; IPv4 addresses are the first four bytes.
 */
struct trace_request {
	__u8 wanted[16];
	__u8 bound[16]; /* all zero: it is bound to none */
	__be16 port;
	__be16 bound_port;
	__u8 protocol;
	__u8 host; /* a socket of the node's own processes; 0: of a pod */
	__u8 pod;  /* the interface is the host side of a pod's veth; 0: it leads to other nodes */
	__u8 pad;
};

/* What the socket hook would do. */
struct trace_answer {
	__u8 addr[16]; /* TRANSLATED: where to */
	__be16 port;
	__u8 verdict; /* enum trace_verdict */
	__u8 pad;
	__s32 result; /* of choose(): -1 chosen, -2 no frontend, or an enum ptl_reason */
};

enum trace_verdict { PTL_TRACE_REFUSED = 0, PTL_TRACE_AS_IT_IS = 1, PTL_TRACE_TRANSLATED = 2 };

/* Who counts as a pod of this node (8.3), per family. */
enum ptl_detector {
	PTL_DETECT_NONE = 0,
	PTL_DETECT_NETWORK = 1,   /* source address in local_network/local_mask: ClusterCIDR, NodeCIDR */
	PTL_DETECT_INTERFACE = 2, /* PTL_INTERFACE_LOCAL_PODS: BridgeInterface, InterfaceNamePrefix */
};

/* Bits of ptl_config.options. */
enum ptl_option {
	PTL_OPTION_SOCKETS_PODS = 1,      /* --socket-lb full: sockets of pods too */
	PTL_OPTION_LOOPBACK_NODEPORT = 2, /* NodePorts on 127.0.0.0/8 for the node's own processes (6.5) */
	PTL_OPTION_RESET_REMOVED = 4,     /* --reset-removed-backends */
	PTL_OPTION_SET_RETVAL = 8,        /* the kernel has bpf_set_retval (5.18) */
	PTL_OPTION_SHORTCUT = 16,         /* there are flows that take the shortcut, or may be (--forwarding) */
	PTL_OPTION_COARSE_CLOCK = 32,     /* the kernel has bpf_ktime_get_coarse_ns (5.11) */
};

/* What an event tells: bits, of which a listener names those that it wants. */
enum ptl_tell {
	PTL_TELL_NEW = 1,        /* a backend was chosen for a new flow, or for a socket */
	PTL_TELL_TRANSLATED = 2, /* a packet was rewritten: sampled */
	PTL_TELL_REJECTED = 4,   /* its sender was told no */
	PTL_TELL_DROPPED = 8,
	PTL_TELL_GONE = 16,      /* a flow's backend has left: it was chosen anew, or reset */
};

/* Why a new flow has its backend, beside what the frontend's flags say. */
enum ptl_why {
	PTL_WHY_INSIDE = 1,         /* the sender is a local pod or process: the internal choice (4.12) */
	PTL_WHY_AFFINITY_KEPT = 2,  /* the client's last new flow went there (5.3) */
	PTL_WHY_AFFINITY_BOUND = 4, /* chosen by the client's address, and kept for its next flows */
};

/*
 * The value of `listener`: who reads `events`. No bit in `kinds`: nobody does. Whoever listens has to say so again before
 * `until`; a program that finds it past clears `kinds`, so a reader that was killed costs no more than none.
 */
struct listener {
	__u64 until;  /* ns of CLOCK_MONOTONIC */
	__u32 kinds;  /* enum ptl_tell */
	__u32 sample; /* of translated packets one in so many is told */
	__u32 pid;    /* the reader's, for people */
	__u32 pad;
};

/*
 * A record of `events`: a packet as a hook met it, or a socket as it asked. Addresses of IPv4 are in the first word; what is
 * not known is 0, or PTL_NO_BACKEND, PTL_NO_SERVICE.
 */
struct flow_event {
	__u64 time;         /* ns of CLOCK_MONOTONIC */
	__u64 cookie;       /* of the socket; 0: it is about a packet */
	struct addr6 src;   /* of a socket: what it is bound to */
	struct addr6 dst;
	struct addr6 addr;  /* what ingress writes for dst, egress for src */
	__be16 sport;
	__be16 dport;
	__be16 port;        /* of addr */
	__u8 family;        /* 4 or 6 */
	__u8 protocol;
	__u8 kind;          /* one of enum ptl_tell */
	__u8 direction;     /* enum ptl_direction */
	__u16 reason;       /* enum ptl_reason */
	__u32 ifindex;
	__u32 length;       /* bytes of the packet, its link header included */
	__u32 service;
	__u32 backend;
	__u32 generation;
	__u16 nat_flags;      /* enum ptl_nat_flag */
	__u16 frontend_flags; /* enum ptl_frontend_flag, of a new flow */
	__u16 why;            /* enum ptl_why, of a new flow */
	__u8 tcp_flags;
	__u8 pad;
};

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
	__u32 mark;    /* or'ed into the mark of every translated packet (8.11); 0: none */
	__u32 masquerade_mark; /* and this one too, from ingress to egress, where the flow is masqueraded (8.9) */
	__u32 options; /* enum ptl_option */
	__u32 host_netns[2]; /* cookie of the node's network namespace, low word first; 0: the initial one */
	__u32 detector4; /* enum ptl_detector */
	__u32 detector6;
	struct addr4 local_network4;
	struct addr4 local_mask4;
	struct addr6 local_network6;
	struct addr6 local_mask6;
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

/*
 * The cell of `flow_marks` for an address. Like ptl_nat_check the products do not wait for each other; the multiplication behind them
 * brings every bit to the upper ones, which count.
 */
static inline __attribute__((always_inline)) __u32 ptl_mark_index(const void *address, __u32 words, __u32 mark)
{
	const __u32 *w = address;
	__u32 sum = mark * 0x7feb352du;

	for (__u32 i = 0; i < words; i++)
		sum += (w[i] ^ i) * (0x9e3779b1u * (2 * i + 1));
	return (sum ^ (sum >> 15)) * 0x85ebca6bu >> (32 - PTL_MARKS_BITS);
}

#endif /* PTL_ABI_H */
