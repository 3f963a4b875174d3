/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libportolan: what the TypeScript side needs from the kernel, in few fat calls. Plain structs and byte buffers; no policy.
 *
 * Results: >= 0, or -errno. `err` (err_size bytes, the caller's) then holds text, NUL-terminated:
 *     CODE <tab> operation <tab> object <newline> message [<newline> log]
 * CODE is one of the PTL_E_* strings below. Nothing is kept in errno or in thread-local storage between calls.
 * Threads: every function may be called from any thread, also at the same time with one handle; ptl_close waits for nobody:
 * what is under way on other threads finishes on the maps it holds. No function keeps a caller's pointer after it returned.
 * Network namespace: interface functions act in that of the calling thread.
 * src/native/symbols.ts lists the same functions in the same order; a test compares them.
 */
#ifndef PORTOLAN_H
#define PORTOLAN_H

#include <linux/types.h>
#include <stdint.h>

#define PTL_E_KERNEL "E_NATIVE_KERNEL"            /* a system call failed: the errno says why */
#define PTL_E_ARGUMENT "E_NATIVE_ARGUMENT"        /* the caller's mistake: a bad handle, index, length */
#define PTL_E_OBJECT "E_NATIVE_OBJECT"            /* the object file is missing or not what it should be */
#define PTL_E_VERIFIER "E_NATIVE_VERIFIER"        /* the kernel refused a program; the log follows */
#define PTL_E_BPFFS "E_NATIVE_BPFFS"              /* the pin directory is not on a bpf file system */
#define PTL_E_MAP_SPEC "E_NATIVE_MAP_SPEC"        /* a pinned map has another type, key, value, size or flags than wanted */
#define PTL_E_PINS "E_NATIVE_PINS"                /* there are no pins, or not all of them */
#define PTL_E_NO_DEVICE "E_NATIVE_NO_DEVICE"      /* no interface with this index */
#define PTL_E_NO_TCX "E_NATIVE_NO_TCX"            /* tcx was asked for and the kernel has none (Linux 6.6) */
#define PTL_E_INGRESS_QDISC "E_NATIVE_INGRESS_QDISC" /* a qdisc `ingress` is where `clsact` must go */
#define PTL_E_FOREIGN_FILTER "E_NATIVE_FOREIGN_FILTER" /* somebody else's filter has our preference and handle */
#define PTL_E_FOREIGN_LINK "E_NATIVE_FOREIGN_LINK" /* the pin of the link serves an interface of another network namespace */

#define PTL_E_XDP_BUSY "E_NATIVE_XDP_BUSY"        /* another XDP program is at the interface */
#define PTL_E_XDP_UNSUPPORTED "E_NATIVE_XDP_NONE"  /* the driver has no XDP of this mode */
#define PTL_E_CGROUP "E_NATIVE_CGROUP"            /* the directory is missing, or none of cgroup v2 */
#define PTL_E_CGROUP_BUSY "E_NATIVE_CGROUP_BUSY"  /* somebody holds a socket hook of the cgroup, or of one above, alone */

/* What ptl_open may be told about a map: how many entries it shall have. */
struct ptl_size {
	char map[16];
	uint32_t max_entries;
	uint32_t pad;
};

/* ptl_open's `flags`. */
enum ptl_open_flag {
	PTL_OPEN_NO_SOCKETS = 1, /* the programs of cgroups' socket hooks are not loaded */
	PTL_OPEN_NO_XDP = 2,     /* the XDP program is not loaded */
};

struct ptl_map_info {
	char name[16];
	uint32_t index; /* its number in transactions and dumps of this handle */
	uint32_t type;  /* enum bpf_map_type */
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
	uint32_t flags;
	uint32_t id;
	uint32_t pad;
	uint64_t bytes; /* memory the kernel charges for it */
	int64_t used;   /* entries of a hash or a trie; -1: not counted, or an array */
};

/* Transaction: for each run this header, then count keys, then (not for deletes) count values; keys and values each
 * padded with zeros to 8 bytes. */
enum ptl_run_kind { PTL_RUN_UPDATE = 1, PTL_RUN_DELETE = 2, PTL_RUN_CREATE = 3 };
struct ptl_run {
	uint32_t map;
	uint32_t kind; /* enum ptl_run_kind */
	uint32_t count;
	uint32_t pad;
};

struct ptl_apply_result {
	uint64_t applied;      /* entries; a delete of a missing key counts */
	uint64_t system_calls;
	uint32_t failed_run;   /* meaningful when error != 0 */
	uint32_t failed_entry; /* within the run */
	uint32_t error;        /* 0, or the errno of that entry */
	uint32_t pad;
};

/* Where a dump stands. All zero: at the start. */
enum ptl_cursor_state { PTL_CURSOR_START = 0, PTL_CURSOR_MORE = 1, PTL_CURSOR_DONE = 2 };
struct ptl_cursor {
	uint32_t state; /* enum ptl_cursor_state */
	uint32_t seen;
	uint8_t token[64];
};

struct ptl_test_result {
	uint32_t retval;
	uint32_t duration_ns; /* mean of one run */
	uint32_t data_out_size;
	uint32_t ctx_out_size;
};

enum ptl_attach_mode { PTL_MODE_AUTO = 0, PTL_MODE_TCX = 1, PTL_MODE_CLSACT = 2 };
enum ptl_attach_change { PTL_CHANGE_NONE = 0, PTL_CHANGE_NEW = 1, PTL_CHANGE_REPLACED = 2 };

struct ptl_attach_request {
	uint32_t ifindex;
	uint32_t role; /* enum ptl_role: pods get ptl_pod_in/out, uplinks and overlays ptl_net_in/out */
	uint32_t mode; /* enum ptl_attach_mode */
	uint32_t pad;
};

struct ptl_attach_result {
	uint32_t error;  /* 0 or an errno */
	uint32_t mode;   /* what was used */
	uint32_t change; /* enum ptl_attach_change */
	uint32_t pad;
	char code[24];   /* PTL_E_* when error != 0 */
};

/* A program that an object has loaded, or what the kernel says of any. */
struct ptl_program {
	char name[16];
	uint32_t id;
	uint32_t pad;
	uint8_t tag[8]; /* hash of its instructions, as the kernel computes it when it loads them */
};

/* One program at one hook, in the order in which the kernel runs them. */
struct ptl_attachment {
	uint32_t ifindex;
	uint8_t out;  /* 0: ingress, 1: egress */
	uint8_t mode; /* PTL_MODE_TCX or PTL_MODE_CLSACT */
	uint8_t ours; /* the program's name begins with ptl_ */
	uint8_t pad;
	uint32_t position; /* from 0, per interface, direction and mode; tcx runs before clsact */
	uint32_t program_id; /* 0: a filter that is not BPF; `name` is its kind */
	uint32_t link_id;    /* tcx with a link */
	uint32_t priority;   /* clsact: preference */
	uint32_t handle;
	char name[16];
	uint8_t tag[8];
};

enum ptl_xdp_mode { PTL_XDP_NONE = 0, PTL_XDP_GENERIC = 1, PTL_XDP_NATIVE = 2, PTL_XDP_OTHER = 3 /* on the card, or several */ };

/* What is at the XDP hook of an interface. */
struct ptl_xdp_state {
	uint32_t ifindex;
	uint32_t mode; /* enum ptl_xdp_mode; NONE also where there is no such interface */
	uint32_t program_id;
	uint8_t address[6]; /* the interface's hardware address; all zero: it has none, or is gone */
	uint8_t ours; /* the program's name begins with ptl_ */
	uint8_t pad;
	char name[16];
	uint8_t tag[8];
};

/* What ptl_attach_sockets did, in hooks. */
struct ptl_sockets_result {
	uint64_t cgroup_id;
	uint32_t added;
	uint32_t replaced; /* the program in a link of an earlier life */
	uint32_t moved;    /* from another cgroup */
	uint32_t pad;
};

/* The pinned link of one socket hook. */
struct ptl_socket_link {
	char hook[16]; /* "connect4" …: the program's name without "ptl_" */
	uint64_t cgroup_id; /* 0: the cgroup is gone, and the link does nothing any more */
	uint32_t link_id;
	uint32_t program_id;
	char name[16];
	uint8_t tag[8];
};

/* A backend whose connected UDP sockets are to be destroyed. */
struct ptl_udp_target {
	uint64_t cookie; /* of the one socket that is meant; 0: every socket */
	uint8_t address[16]; /* v4: as ::ffff:a.b.c.d */
	uint8_t port[2]; /* network byte order */
	uint8_t pad[6];
};

struct ptl_destroy_result {
	uint32_t matched;
	uint32_t destroyed; /* fewer: some went away by themselves meanwhile */
	uint32_t unsupported; /* 1: the kernel cannot do it (CONFIG_INET_DIAG_DESTROY, CONFIG_INET_UDP_DIAG) */
	uint32_t pad;
};

/* A flow as the kernel's conntrack has it: as its first packet was, and as its replies are. */
struct ptl_tracked {
	uint8_t family; /* 4 or 6 */
	uint8_t protocol;
	uint8_t tcp_state; /* enum tcp_conntrack; 0 of other protocols */
	uint8_t pad;
	uint32_t status;  /* IPS_* bits */
	uint32_t timeout; /* seconds that are left */
	__be16 sport;
	__be16 dport;
	__be16 reply_sport;
	__be16 reply_dport;
	uint8_t src[16]; /* v4: the first 4 bytes, here and below */
	uint8_t dst[16];
	uint8_t reply_src[16];
	uint8_t reply_dst[16];
};

/* What ptl_tracked_delete and ptl_tracked_create did, in flows. */
struct ptl_tracked_result {
	uint32_t done;
	uint32_t failed;
	uint32_t error; /* errno of the first that failed, or 0 */
	uint32_t pad;
};

/* Kernel features. `value`: 1 yes, 0 no, negative: -errno, unknown. */
struct ptl_feature {
	char name[24];
	int32_t value;
	uint32_t pad;
};

enum ptl_event_kind {
	PTL_EVENT_LINK = 1,        /* new or changed */
	PTL_EVENT_LINK_GONE = 2,
	PTL_EVENT_ADDRESS = 3,
	PTL_EVENT_ADDRESS_GONE = 4,
	PTL_EVENT_ROUTE = 5,       /* some route changed */
	PTL_EVENT_RESYNC = 6,      /* events were lost: dump again */
};
enum ptl_event_group { PTL_GROUP_LINK = 1, PTL_GROUP_ADDRESS = 2, PTL_GROUP_ROUTE = 4 };

struct ptl_event {
	uint32_t kind; /* enum ptl_event_kind */
	uint32_t ifindex;
	uint32_t flags;  /* IFF_* */
	uint32_t master; /* ifindex of the bridge it belongs to, or 0 */
	uint8_t family;  /* 4, 6, or 0 */
	uint8_t prefix;
	uint8_t pad[6];
	uint8_t address[16];
	char name[16];
	uint8_t pad2[8];
};

struct ptl_link {
	uint32_t ifindex;
	uint32_t master;
	uint32_t flags;    /* IFF_* */
	uint32_t mtu;
	uint32_t arp_type; /* ARPHRD_* */
	uint32_t peer;     /* IFLA_LINK: the other end of a veth, the device below a vxlan; 0: none */
	int32_t peer_netns; /* IFLA_LINK_NETNSID, or -1: the same namespace */
	uint32_t pad;
	char name[16];
	char kind[16];       /* veth, bridge, vxlan …; empty for hardware */
	char master_kind[16]; /* "bridge" for a bridge port */
	char qdisc[16];       /* at its root; noqueue: packets leave as they come */
};

struct ptl_address {
	uint32_t ifindex;
	uint32_t flags; /* IFA_F_* */
	uint8_t family; /* 4 or 6 */
	uint8_t prefix;
	uint8_t scope;  /* RT_SCOPE_* */
	uint8_t pad[5];
	uint8_t address[16]; /* v4: the first 4 bytes */
};

/* Before the arrays of ptl_links_dump: how many of each there are. */
struct ptl_links_header {
	uint32_t links;
	uint32_t addresses;
};

/* Where the kernel would send a packet. */
struct ptl_route_request {
	uint8_t family; /* 4 or 6 */
	uint8_t protocol;
	uint8_t pad[2];
	uint32_t iif;  /* the interface it came in by; 0: it is the node's own */
	uint32_t mark;
	__be16 sport;
	__be16 dport;
	uint8_t src[16]; /* v4: the first 4 bytes, here and below; all zero: not known yet */
	uint8_t dst[16];
};

struct ptl_route {
	uint32_t type; /* RTN_UNICAST, RTN_LOCAL … */
	uint32_t oif;
	uint8_t gateway[16]; /* all zero: none */
	uint8_t source[16];  /* the preferred source address; all zero: none */
};

/* PTL_LAYOUT_VERSION of the headers the library was built from. */
int ptl_abi_version(void);
/* The layout hash of the same; writes 8 bytes. */
int ptl_abi_hash(void *out);
/* ptl_choice_tag() over `size` bytes of key (a multiple of 4). */
int ptl_choice_tag_of(const void *key, uint32_t size);
/* ptl_mark_index() of an address of `size` bytes. */
int ptl_mark_index_of(const void *address, uint32_t size, uint32_t mark);

/* The layout of an object's own BTF as lines "struct NAME SIZE" and "  FIELD OFFSET SIZE", for every struct that is a map's
 * key or value or a variable of .rodata. Returns the length of the text; -ENOSPC when it does not fit. */
int ptl_object_layout(const char *object, void *out, uint32_t out_size, char *err, uint32_t err_size);

/* The libbpf that is linked in: its major version in the upper 16 bits, the minor one below. */
int ptl_libbpf_version(void);

/* Mounts a bpf file system on `path` unless there is one. 1: mounted now, 0: it was there. */
int ptl_mount_bpffs(const char *path, char *err, uint32_t err_size);

/* The cookie of the calling thread's network namespace, as bpf_get_netns_cookie() tells it: writes 8 bytes. 1: known, 0: this
 * kernel does not tell (before Linux 5.14), and 0 is written. */
int ptl_netns_cookie(void *cookie, char *err, uint32_t err_size);

/* Kernel features; returns how many were written (at most `capacity`). */
int ptl_probe(void *features, uint32_t capacity, char *err, uint32_t err_size);

/*
 * Loads `object`: every map that is pinned by name goes below `pins` (made when missing) or is taken from there; `config`
 * replaces the .rodata variable `config` (empty: left as it is); `sizes` overrides max_entries. `pins` empty: nothing is
 * pinned, the maps are private and vanish with the handle. Returns a handle > 0, to be closed with ptl_close.
 * `flags`: enum ptl_open_flag bits.
 * PTL_E_MAP_SPEC names a pinned map that does not fit. When loading fails, pins and directories made by this call are removed.
 */
int ptl_open(const char *object, const char *pins, const void *config, uint32_t config_size, const void *sizes,
	     uint32_t size_count, uint32_t flags, char *err, uint32_t err_size);
/* The maps pinned in `pins`, for reading only or (`writable` not 0) for writing too; no programs. Returns a handle. -ENOENT with
 * PTL_E_PINS: none there. */
int ptl_open_pins(const char *pins, uint32_t writable, char *err, uint32_t err_size);
/* Maps stay while they are pinned, attached programs while their links are. -EBADF: no such handle. */
int ptl_close(int handle);

/* Infos of all maps of a handle in the order of their index. `count_entries`: also count the entries of hashes. */
int ptl_map_infos(int handle, uint32_t count_entries, void *infos, uint32_t capacity, char *err, uint32_t err_size);

/* Applies a transaction in order, until one entry fails. Returns 0 and fills the ptl_apply_result, also when an entry failed;
 * < 0 when the buffer is malformed: then nothing was written. `batch` 0: one system call an entry. */
int ptl_apply(int handle, const void *buffer, uint32_t size, uint32_t batch, void *result, char *err, uint32_t err_size);

/*
 * Copies up to `capacity` entries from `cursor` on into keys and values (packed) and moves the cursor. Arrays: the cells up to
 * `limit`. Per-CPU values are summed, u64 by u64. Returns the number of entries; the dump is complete when the cursor says
 * PTL_CURSOR_DONE. -ENOSPC: capacity is smaller than one hash bucket. `batch` as in ptl_apply.
 */
int ptl_dump(int handle, uint32_t map, uint32_t limit, uint32_t batch, void *cursor, void *keys, void *values,
	     uint32_t capacity, char *err, uint32_t err_size);

/*
 * Opens a map that is a BPF ring buffer for reading, through a writable handle. Returns a number for the two below. A ring
 * buffer has one reader: two that drain one share its records out between them.
 */
int ptl_ring_open(int handle, uint32_t map, char *err, uint32_t err_size);
/* Takes up to `capacity` records of `record_size` bytes out of the ring and into `out` (NULL: throws them away). Others are thrown
 * away. Returns their number and never waits. */
int ptl_ring_drain(int ring, void *out, uint32_t record_size, uint32_t capacity, char *err, uint32_t err_size);
/* The ring goes on without a reader. */
int ptl_ring_close(int ring);

/* The values of `count` keys (packed, both), for maps that have one value for all CPUs. `found`: a byte a key, 1 or 0. Returns how
 * many were found. */
int ptl_look_up(int handle, uint32_t map, const void *keys, uint32_t count, void *values, void *found, char *err,
		uint32_t err_size);

/* The programs of an opened object: up to `capacity` struct ptl_program. Returns how many. */
int ptl_programs(int handle, void *programs, uint32_t capacity, char *err, uint32_t err_size);
/* The maps that a loaded program works on, by the program's id: up to `capacity` struct ptl_map_info without `index` and `used`.
 * Returns how many. `config` gets the variable of that name in its constants; zeros when it has none of this size. */
int ptl_program_maps(uint32_t program_id, void *infos, uint32_t capacity, void *config, uint32_t config_size, char *err,
		     uint32_t err_size);
/* The id of the map that is pinned at `path`; 0: there is nothing. -EINVAL with PTL_E_MAP_SPEC: it is no map. */
int ptl_pinned_map(const char *path, char *err, uint32_t err_size);
/* Pins the map with this id at `path`, in the place of whatever is there; makes the directory when it is missing. */
int ptl_pin_map(uint32_t map_id, const char *path, char *err, uint32_t err_size);

/* BPF_PROG_TEST_RUN of a program of an opened object. `ctx` is a struct __sk_buff or empty; it is read and written.
 * `flags` are the kernel's BPF_F_TEST_*. */
int ptl_test_run(int handle, const char *program, const void *data_in, uint32_t data_in_size, void *data_out,
		 uint32_t data_out_size, void *ctx, uint32_t ctx_size, uint32_t repeat, uint32_t flags, void *result,
		 char *err, uint32_t err_size);

/*
 * Loads the twin of the programs: maps that the agent writes are those pinned in `pins`, what programs write goes to private
 * copies, what they count in is not there at all (bpf/lib/overlay.bpf.h). Only the programs of one `family` (4 or 6) are loaded:
 * twin_in4, twin_out4, twin_socket4. Returns a handle for the two functions below and ptl_close. PTL_E_PINS: a map is not
 * pinned; PTL_E_MAP_SPEC: it has another layout.
 */
int ptl_trace_open(const char *object, const char *pins, uint32_t family, const void *config, uint32_t config_size, char *err,
		   uint32_t err_size);
/* As ptl_test_run, once, with a struct trace_request. Fills `answer` (a struct trace_answer)
 * and up to `capacity` records (struct trace_record). Returns how many accesses were noted. */
int ptl_trace_run(int handle, const char *program, const void *data_in, uint32_t data_in_size, void *data_out,
		  uint32_t data_out_size, void *ctx, uint32_t ctx_size, const void *request, uint32_t request_size,
		  void *result, void *answer, void *records, uint32_t capacity, char *err, uint32_t err_size);
/* Forgets what earlier runs of a twin have written. */
int ptl_trace_reset(int handle, char *err, uint32_t err_size);
/* Where the kernel sends a packet, in the calling thread's network namespace: fills a struct ptl_route from a ptl_route_request.
 * -ENETUNREACH, -EHOSTUNREACH, -EACCES …: the routing table's own answers; -EXDEV, -EINVAL: it is refused by that interface. */
int ptl_route_get(const void *request, void *route, char *err, uint32_t err_size);

/* Attaches both directions of each interface, replacing what this object's earlier life left there, without a gap. A failed
 * interface does not stop the others; what was at work there before stays, and it is not left with one direction alone:
 * `results` has one entry a request, `err` the first failure. Returns the number that succeeded. tcx links are pinned below
 * <pins>/links, so they outlive the process. */
int ptl_attach(int handle, const void *requests, uint32_t count, void *results, char *err, uint32_t err_size);
/* Takes our programs off these interfaces, with pins, and the clsact qdisc if we made it and nothing else uses it.
 * An interface that is gone is no error. Returns the number of hooks that were taken off. */
int ptl_detach(const char *pins, const void *ifindexes, uint32_t count, char *err, uint32_t err_size);
/* Puts the XDP program on an interface, in the mode (PTL_XDP_NATIVE or PTL_XDP_GENERIC) and no other; one of an earlier life is replaced
 * in place. The link is pinned below <pins>/links. Returns an enum ptl_attach_change. PTL_E_XDP_BUSY: another program is there, and
 * stays; PTL_E_XDP_UNSUPPORTED: the driver has none; PTL_E_OBJECT: opened with PTL_OPEN_NO_XDP; PTL_E_NO_DEVICE. */
int ptl_xdp_attach(int handle, uint32_t ifindex, uint32_t mode, char *err, uint32_t err_size);
/* Takes it off these interfaces, with pins. Nothing there is no error. Returns how many were taken off. */
int ptl_xdp_detach(const char *pins, const void *ifindexes, uint32_t count, char *err, uint32_t err_size);
/* What is at the XDP hooks of these interfaces, ours or not: one struct ptl_xdp_state each. */
int ptl_xdp_states(const void *ifindexes, uint32_t count, void *states, char *err, uint32_t err_size);
/* Everything at the hooks of these interfaces, ours or not. Returns the number of entries, or -ENOSPC. */
int ptl_attachments(const void *ifindexes, uint32_t count, void *attachments, uint32_t capacity, char *err,
		    uint32_t err_size);
/* Removes the leftovers of interfaces that are gone. Links that serve an interface anywhere stay. Returns how many. */
int ptl_sweep(const char *pins, char *err, uint32_t err_size);
/* Detaches everything that <pins>/links knows, and removes every pin and the directory. Idempotent. Returns the number of
 * pins and hooks removed. */
int ptl_cleanup(const char *pins, char *err, uint32_t err_size);

/*
 * Attaches the eight socket programs to a cgroup v2 directory by links that are pinned below <pins>/links. A link that is there
 * already gets the new program in place; one that belongs to another cgroup ends after the new one has begun. Fills the
 * ptl_sockets_result. When a hook cannot be attached, nothing new stays and what was at work goes on. PTL_E_CGROUP,
 * PTL_E_CGROUP_BUSY; PTL_E_OBJECT when the object has no such programs.
 */
int ptl_attach_sockets(int handle, const char *cgroup, void *result, char *err, uint32_t err_size);
/* Takes the socket programs off, with their pins. Idempotent. Returns how many. ptl_cleanup does it too. */
int ptl_detach_sockets(const char *pins, char *err, uint32_t err_size);
/* The pinned links of socket hooks: up to 8 struct ptl_socket_link. Returns how many. */
int ptl_socket_links(const char *pins, void *links, uint32_t capacity, char *err, uint32_t err_size);

/*
 * Destroys the connected UDP sockets of the calling thread's network namespace whose remote end is one of `targets` (struct
 * ptl_udp_target), IPv6 sockets with v4-mapped addresses too: their next receive fails with ECONNABORTED. Fills the
 * ptl_destroy_result; that the kernel cannot do it is said there and is no error.
 */
int ptl_destroy_udp(const void *targets, uint32_t count, void *result, char *err, uint32_t err_size);

/*
 * The flows of one protocol, of both families, whose status has all bits of `status`: writes the first `capacity` of them
 * (struct ptl_tracked) and returns how many there are. The table may change meanwhile: a flow can be missing or twice.
 */
int ptl_tracked_dump(uint32_t protocol, uint32_t status, void *out, uint32_t capacity, char *err, uint32_t err_size);
/* Makes the kernel forget flows, named by their first packet. One that it does not know is no failure, and is not counted. */
int ptl_tracked_delete(const void *flows, uint32_t count, void *result, char *err, uint32_t err_size);
/* Makes the kernel translate flows from now on: those that it has tracked without translation, too. Needs that the namespace has
 * a NAT chain, in which no rule is necessary. */
int ptl_tracked_create(const void *flows, uint32_t count, void *result, char *err, uint32_t err_size);
/* Fills in nat_value4/6.check of packed entries of the map nat4/6. */
int ptl_nat_seal(uint32_t family, const void *keys, void *values, uint32_t count);

/* The number of the last change to nftables' rules (iptables-nft's, too) in this namespace: writes 4 bytes. 0: there have been none. */
int ptl_nft_generation(void *generation, char *err, uint32_t err_size);

/* Links and addresses of the namespace: ptl_links_header, then the links, then the addresses. Returns the bytes needed;
 * nothing but the header is written when that is more than `size`. */
int ptl_links_dump(void *out, uint32_t size, char *err, uint32_t err_size);

/* Starts a thread that writes struct ptl_event into a pipe. *fd gets the reading end, which becomes the caller's. Returns a
 * handle for ptl_events_close. `groups`: enum ptl_event_group bits. */
int ptl_events_open(uint32_t groups, void *fd, char *err, uint32_t err_size);
/* Stops the thread and closes the writing end. */
int ptl_events_close(int events);

#endif /* PORTOLAN_H */
