/* SPDX-License-Identifier: Apache-2.0 */
/* Shared by the library's own files. Nothing here is exported: names do not begin with ptl_. */
#ifndef PTL_INTERNAL_H
#define PTL_INTERNAL_H

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <linux/bpf.h>

#include "portolan.h"

#define EXPORT __attribute__((visibility("default")))
#define MAX_MAPS 64
#define MAX_PROGRAMS 32
#define KERNEL_ENOTSUPP 524 /* not in user space's errno.h, but the kernel returns it */

struct nlmsghdr;
struct rtattr;

struct error {
	char *text;
	uint32_t size;
};

/* Writes CODE, operation, object and message; returns -number. A second report does not overwrite the first. */
int fail(struct error *err, int number, const char *code, const char *op, const char *object, const char *format, ...)
	__attribute__((format(printf, 6, 7)));
/* Appends a log behind the message: its end, when it does not fit. */
void fail_log(struct error *err, const char *log);
static inline struct error error_begin(char *text, uint32_t size)
{
	if (text && size)
		text[0] = 0;
	return (struct error){ text, text ? size : 0 };
}

struct map {
	char name[16];
	int fd;
	uint32_t type;
	uint32_t key_size;
	uint32_t value_size;
	uint32_t max_entries;
	uint32_t flags;
	uint32_t id;
	bool no_batch; /* the kernel has refused batch commands on it */
};

struct program {
	char name[16];
	int fd;
};

struct handle {
	unsigned int references;
	uint32_t map_count;
	uint32_t program_count;
	char pins[256];
	struct map maps[MAX_MAPS];
	struct program programs[MAX_PROGRAMS];
};

/* handle.c */
struct handle *handle_new(void);
void handle_free(struct handle *handle);
int handle_publish(struct handle *handle);
struct handle *handle_get(int number);
void handle_put(struct handle *handle);
/* NULL: it has none of that name. */
const struct program *handle_program(const struct handle *handle, const char *name);

static inline bool is_per_cpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_PERCPU_HASH;
}
static inline bool is_array(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_ARRAY || type == BPF_MAP_TYPE_ARRAY;
}

/* Returns the fd or result, or -errno. */
int sys_bpf(int command, void *attr, uint32_t size);
int map_fill_info(struct map *map);
int possible_cpus(void);
bool on_bpffs(const char *path);
int make_directories(const char *path, char *first_made, size_t first_made_size);

/* object.c */
#define VERIFIER_LOG_SIZE (8u << 20)
struct bpf_object;
struct bpf_map;
/* NULL and errno: the error is reported. `log` has VERIFIER_LOG_SIZE bytes, or is NULL. */
struct bpf_object *object_open(struct error *err, const char *path, const char *pins, char *log);
/* Replaces the .rodata variable `config`. */
int object_set_config(struct error *err, struct bpf_object *object, const char *path, const void *config, uint32_t size);
int object_load(struct error *err, struct bpf_object *object, const char *path, const char *log);
/* A loaded object's map under this name, and its programs, for the handle: with file descriptors of its own, for libbpf closes the
 * object's. 0 or -errno. */
int object_keep_map(const struct bpf_map *map, const char *name, struct handle *handle);
int object_keep_programs(const struct bpf_object *object, struct handle *handle);

/* run.c */
int test_run(const struct program *program, union bpf_attr *attr, struct ptl_test_result *result);

/* tcx.c: what the kernel headers of Debian 12 do not know yet. */
#define TCX_INGRESS 46
#define TCX_EGRESS 47
int tcx_link_create(int program_fd, uint32_t ifindex, bool out);
struct tcx_entry {
	uint32_t program_id;
	uint32_t link_id;
};
/* The programs at a hook in order. Returns the number or -errno (-EINVAL: no tcx in this kernel). */
int tcx_query(uint32_t ifindex, bool out, struct tcx_entry *entries, uint32_t capacity);
/* 1: the kernel has tcx, 0: it has none, -errno: it does not say. */
int tcx_available(void);

/* socket_diag.c */
/* 1: UDP sockets can be destroyed, 0: they cannot, -errno: the kernel does not say. */
int probe_udp_destroy(void);

/* netlink.c */
typedef int (*netlink_visit)(const void *message, void *context);
/* One dump request; visits every answer and the NLMSG_DONE that ends them. Returns 0 or -errno. */
int netlink_dump(const void *request, uint32_t size, netlink_visit visit, void *context);
/* One request that is answered by a message and then acknowledged. */
int netlink_ask(void *request, uint32_t size, netlink_visit visit, void *context);
/* A request with an acknowledgement. */
int netlink_request(void *request, uint32_t size);
/* Whether a message begins and ends within what is left; NLMSG_OK, but for a signed number. */
bool netlink_ok(const struct nlmsghdr *message, int left);
/* Whether a message is long enough for a fixed header of that size. */
bool netlink_has(const struct nlmsghdr *message, size_t size);
/* A text with its end, cut to the room; a 32-bit number, which stays as it was when the attribute is too short for one. */
void netlink_text(char *out, size_t size, const struct rtattr *attribute);
void netlink_number(void *out, const struct rtattr *attribute);
/* The same to another netlink family, such as NETLINK_SOCK_DIAG. */
int netlink_dump_of(int protocol, const void *request, uint32_t size, netlink_visit visit, void *context);
int netlink_request_to(int protocol, void *request, uint32_t size);
/* The kind of the qdisc at the ingress hook: "", "ingress", "clsact". */
int qdisc_kind(uint32_t ifindex, char kind[16]);
int qdisc_remove_clsact(uint32_t ifindex);
struct filter {
	uint32_t priority;
	uint32_t handle;
	uint32_t program_id;
	char kind[16];
};
/* The filters at a clsact hook in order, those of one priority or (0) all. Returns the number or -errno (-ENOSPC: there are
 * more). */
int filters(uint32_t ifindex, bool out, uint32_t priority, struct filter *list, uint32_t capacity);

#endif
