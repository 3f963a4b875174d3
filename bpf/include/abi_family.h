/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The layouts that hold an address, written once and included once per family by abi.h:
 * FAM(x) is x4 or x6, ADDR is struct addr4 or struct addr6. No include guard, on purpose.
 */

/* A transport address. As a key of `addresses`, port and protocol 0 mean "the address itself". */
struct FAM(addr_port) {
	ADDR addr;
	__be16 port;
	__u8 protocol; /* IPPROTO_* */
	__u8 pad;
};

/*
 * One backend of one service port. A cell is never rewritten while a slot that a frontend reaches
 * names it; `generation` grows by one whenever the cell stops being live.
 */
struct FAM(backend) {
	ADDR addr;
	__be16 port;
	__u8 state; /* enum ptl_backend_state */
	__u8 flags; /* enum ptl_backend_flag */
	__u32 generation;
	__u32 service; /* index of the service port that owns the cell */
};

/* The tuple of a packet as the hook sees it, before it is rewritten. */
struct FAM(nat_key) {
	ADDR src;
	ADDR dst;
	__be16 sport;
	__be16 dport;
	__u8 protocol;
	__u8 direction; /* enum ptl_direction */
	__u16 pad; /* PTL_NAT_LOCK: no packet's entry, but a lock while a dead one is taken over */
};

/*
 * What to write into the packet. IN rewrites the destination to addr:port and the source port to
 * peer_port; OUT rewrites the source to addr:port and the destination port to peer_port.
 * `check` covers the key and addr, port, peer_port (ptl_nat_check): BPF hash elements are recycled
 * under their readers, so a reader trusts a rewrite only when the check fits the key it looked up.
 */
struct FAM(nat_value) {
	ADDR addr;
	__be16 port;
	__be16 peer_port;
	__u32 check;
	__u32 backend;    /* backends index, or PTL_NO_BACKEND */
	__u32 generation; /* of that backend when the flow began */
	__u32 last_seen;  /* ticks, see PTL_TICK_SHIFT */
	__u16 state;      /* enum ptl_nat_state bits */
	__u16 flags;      /* enum ptl_nat_flag bits */
	__u32 service;    /* index of the service port, or PTL_NO_SERVICE */
};

/* A fragmented datagram as one hook sees it: what all its fragments have in common there. */
struct FAM(fragment_key) {
	ADDR src;
	ADDR dst;
	__u32 id; /* of the header, host byte order */
	__u8 protocol;
	__u8 direction; /* enum ptl_direction: between the hooks the ports may change and the addresses stay */
	__u16 pad;
};

/* The client of a service port: whatever VIP it used, and whatever port (5.1, 5.2). */
struct FAM(affinity_key) {
	ADDR client;
	__u32 service;
};

/* A key of `source_ranges`: an LPM trie whose first 32 bits are the service index. The value is 1. */
struct FAM(source_range) {
	__u32 prefix_length; /* 32 + that of the range */
	__u32 service;
	ADDR addr;
};

/* A key of `service_nets`: the ranges that ClusterIPs come from (ServiceCIDR objects). The value is 1. */
struct FAM(network) {
	__u32 prefix_length;
	ADDR addr;
};

/* What a socket was told, and what it talks to instead. */
struct FAM(socket_key) {
	__u32 cookie[2]; /* of the socket: low word, high word */
	ADDR addr;
	__be16 port;
	__u8 protocol;
	__u8 direction; /* IN: Service -> backend (UDP that is not connected), OUT: backend -> Service */
};

struct FAM(socket_value) {
	ADDR addr;
	__be16 port;
	__u16 pad;
	__u32 backend;
	__u32 generation;
};
