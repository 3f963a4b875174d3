/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hooks. With tcx a link per interface and direction, pinned as <pins>/links/<ifindex>-in and -out, so that it outlives the
 * process; the next life opens the pin and puts its program in by BPF_LINK_UPDATE: no packet finds the hook empty. With
 * clsact one filter of fixed preference and handle per direction, which the kernel also replaces in place. What was done on
 * clsact is remembered by empty directories: <ifindex>-filter, and <ifindex>-clsact when the qdisc is ours.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "abi.h"
#include "internal.h"

#define FILTER_PRIORITY 10
#define FILTER_HANDLE 0x50544c /* "PTL" */
#define MAX_AT_HOOK 64

static const char *direction_name(bool out)
{
	return out ? "out" : "in";
}

static void link_path(char path[512], const char *pins, uint32_t ifindex, const char *suffix)
{
	snprintf(path, 512, "%s/links/%u-%s", pins, ifindex, suffix);
}

struct program_info {
	char name[16];
	uint8_t tag[8];
};

static int program_info(uint32_t id, struct program_info *out)
{
	struct bpf_prog_info info = {};
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	memset(out, 0, sizeof(*out));
	if (fd < 0)
		return -errno;
	int result = bpf_obj_get_info_by_fd(fd, &info, &size);

	close(fd);
	if (result < 0)
		return -errno;
	memcpy(out->name, info.name, sizeof(out->name));
	memcpy(out->tag, info.tag, sizeof(out->tag));
	return 0;
}

static bool is_ours(uint32_t program_id)
{
	struct program_info info;

	return program_id && program_info(program_id, &info) == 0 && !strncmp(info.name, "ptl_", 4);
}

/* The kernel's id of a link, and the interface it is at: 0 when that is gone. Returns 0 or -errno. */
static int link_place(int link, uint32_t *id, uint32_t *ifindex)
{
	struct bpf_link_info info = {};
	uint32_t size = sizeof(info);

	if (bpf_obj_get_info_by_fd(link, &info, &size) < 0)
		return -errno;
	*id = info.id;
	*ifindex = info.xdp.ifindex; /* of tcx it is at the same place, which older headers have no name for */
	return 0;
}

/* 1: the link is at this hook of this namespace, 0: it is not, -errno: the kernel does not say. */
static int is_at_hook(uint32_t link_id, uint32_t ifindex, bool out)
{
	struct tcx_entry entries[MAX_AT_HOOK];
	int count = tcx_query(ifindex, out, entries, MAX_AT_HOOK);

	for (int i = 0; i < count; i++)
		if (entries[i].link_id == link_id)
			return 1;
	return count < 0 && count != -ENODEV ? count : 0;
}

/*
 * The pinned link of a hook when it is at this interface of this namespace. -ENOENT: there is no pin, or its interface went
 * and the dead pin was removed. Anything else keeps the pin, for with it a program would go that may be at work: -EXDEV
 * means at an interface of another namespace.
 */
static int open_link(const char *path, uint32_t ifindex, bool out)
{
	uint32_t id = 0, place = 0;
	int link = bpf_obj_get(path);

	if (link < 0)
		return -errno;
	int result = link_place(link, &id, &place);

	if (result == 0)
		result = is_at_hook(id, ifindex, out);
	if (result == 1)
		return link;
	if (result == 0) /* asked again: the interface may have gone since */
		result = link_place(link, &id, &place);
	close(link);
	if (result < 0)
		return result;
	if (place)
		return -EXDEV;
	return unlink(path) < 0 ? -errno : -ENOENT;
}

/* `change` is left alone when nothing of ours is there, neither from before nor from now. */
static int tcx_put(const char *pins, uint32_t ifindex, bool out, int program_fd, uint32_t *change)
{
	char path[512];

	link_path(path, pins, ifindex, direction_name(out));
	int link = open_link(path, ifindex, out);

	if (link >= 0) {
		int result = bpf_link_update(link, program_fd, NULL) < 0 ? -errno : 0;

		close(link);
		*change = PTL_CHANGE_REPLACED;
		return result;
	}
	if (link != -ENOENT)
		return link;
	link = tcx_link_create(program_fd, ifindex, out);
	if (link < 0)
		return link;
	int result = bpf_obj_pin(link, path) < 0 ? -errno : 0;

	close(link); /* without the pin the link goes with it */
	if (result == 0)
		*change = PTL_CHANGE_NEW;
	return result;
}

static int tcx_remove(const char *pins, uint32_t ifindex, bool out)
{
	char path[512];

	link_path(path, pins, ifindex, direction_name(out));
	int link = bpf_obj_get(path);

	if (link < 0)
		return 0;
	int detached = bpf_link_detach(link) == 0;

	close(link);
	return unlink(path) == 0 && detached;
}

/* ---- clsact ---- */

/* 1: our filter is there, 0: it is not, -EEXIST: somebody else's is in its place, other -errno: the kernel does not say. */
static int our_filter(uint32_t ifindex, bool out)
{
	struct filter list[MAX_AT_HOOK];
	int count = filters(ifindex, out, FILTER_PRIORITY, list, MAX_AT_HOOK);

	for (int i = 0; i < count; i++)
		if (list[i].handle == FILTER_HANDLE)
			return is_ours(list[i].program_id) ? 1 : -EEXIST;
	return count < 0 ? count : 0;
}

/* `change` is left alone when nothing of ours is there, neither from before nor from now. */
static int filter_put(uint32_t ifindex, bool out, int program_fd, uint32_t *change, const char **code)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = out ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY, .prog_fd = program_fd,
		    .flags = BPF_TC_F_REPLACE);
	int there = our_filter(ifindex, out);

	if (there < 0) {
		if (there == -EEXIST)
			*code = PTL_E_FOREIGN_FILTER;
		return there;
	}
	int result = bpf_tc_attach(&hook, &options);

	if (there)
		*change = PTL_CHANGE_REPLACED;
	else if (result == 0)
		*change = PTL_CHANGE_NEW;
	return result;
}

/* 1: taken off, 0: there was none of ours, -errno: it may still be there. */
static int filter_remove(uint32_t ifindex, bool out)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = out ? BPF_TC_EGRESS : BPF_TC_INGRESS);
	LIBBPF_OPTS(bpf_tc_opts, options, .handle = FILTER_HANDLE, .priority = FILTER_PRIORITY);
	int there = our_filter(ifindex, out);

	if (there <= 0)
		return there == -EEXIST || there == -ENODEV ? 0 : there;
	int result = bpf_tc_detach(&hook, &options);

	return result < 0 ? result : 1;
}

static int remember(const char *pins, uint32_t ifindex, const char *suffix)
{
	char path[512];

	link_path(path, pins, ifindex, suffix);
	return mkdir(path, 0700) < 0 && errno != EEXIST ? -errno : 0;
}

static void forget(const char *pins, uint32_t ifindex, const char *suffix)
{
	char path[512];

	link_path(path, pins, ifindex, suffix);
	rmdir(path);
}

static bool remembers(const char *pins, uint32_t ifindex, const char *suffix)
{
	struct stat info;
	char path[512];

	link_path(path, pins, ifindex, suffix);
	return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

/* Everything is noted before it is done: whoever is killed in between leaves a note too many and nothing that is forgotten. */
static int clsact_ensure(const char *pins, uint32_t ifindex, const char **code)
{
	LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = BPF_TC_INGRESS | BPF_TC_EGRESS);
	char kind[16];
	int result = qdisc_kind(ifindex, kind);

	if (result < 0)
		return result;
	if (kind[0] && strcmp(kind, "clsact")) {
		*code = PTL_E_INGRESS_QDISC;
		return -EBUSY;
	}
	if (!kind[0]) {
		result = remember(pins, ifindex, "clsact");
		if (result == 0)
			result = bpf_tc_hook_create(&hook);
		if (result < 0)
			forget(pins, ifindex, "clsact");
		if (result < 0 && result != -EEXIST) /* -EEXIST: somebody was quicker, and it is theirs */
			return result;
	}
	return remember(pins, ifindex, "filter");
}

/* Of an interface without filters of ours: the notes, and the qdisc if it is ours. */
static void clsact_forget(const char *pins, uint32_t ifindex)
{
	struct filter list[1];

	forget(pins, ifindex, "filter");
	if (!remembers(pins, ifindex, "clsact"))
		return;
	/* Others may have moved in: a filter of anybody keeps it (-ENOSPC says there is more than one). */
	if (filters(ifindex, false, 0, list, 1) == 0 && filters(ifindex, true, 0, list, 1) == 0)
		qdisc_remove_clsact(ifindex);
	forget(pins, ifindex, "clsact");
}

/* Returns how many filters were taken off. */
static int clsact_remove(const char *pins, uint32_t ifindex)
{
	int in = filter_remove(ifindex, false), out = filter_remove(ifindex, true);

	if (in >= 0 && out >= 0)
		clsact_forget(pins, ifindex);
	return (in > 0) + (out > 0);
}

/* ---- attach ---- */

static int program_fd(const struct handle *handle, uint32_t role, bool out)
{
	char name[16];

	snprintf(name, sizeof(name), "ptl_%s_%s", role == PTL_ROLE_POD ? "pod" : "net", direction_name(out));
	for (uint32_t i = 0; i < handle->program_count; i++)
		if (!strcmp(handle->programs[i].name, name))
			return handle->programs[i].fd;
	return -ENOENT;
}

/*
 * Both ways of attaching put egress first: a reply that passes an interface half attached must find its way back. When
 * ingress then fails, an egress that is new goes again, for one direction without the other would translate and never
 * translate back. What an earlier life left stays, whatever fails: it works.
 */
static int attach_tcx(const char *pins, uint32_t ifindex, const int fds[2], uint32_t *change)
{
	uint32_t in = PTL_CHANGE_NONE, out = PTL_CHANGE_NONE;
	int status = tcx_put(pins, ifindex, true, fds[1], &out);

	if (status == 0)
		status = tcx_put(pins, ifindex, false, fds[0], &in);
	if (status < 0 && out == PTL_CHANGE_NEW && in == PTL_CHANGE_NONE)
		tcx_remove(pins, ifindex, true);
	if (status == 0 && remembers(pins, ifindex, "filter"))
		clsact_remove(pins, ifindex); /* of an earlier life in the other mode */
	*change = in > out ? in : out;
	return status;
}

static int attach_clsact(const char *pins, uint32_t ifindex, const int fds[2], uint32_t *change, const char **code)
{
	uint32_t in = PTL_CHANGE_NONE, out = PTL_CHANGE_NONE;
	bool known = remembers(pins, ifindex, "filter");
	int status = clsact_ensure(pins, ifindex, code);

	if (status == 0)
		status = filter_put(ifindex, true, fds[1], &out, code);
	if (status == 0)
		status = filter_put(ifindex, false, fds[0], &in, code);
	if (status < 0 && out == PTL_CHANGE_NEW && in == PTL_CHANGE_NONE)
		filter_remove(ifindex, true);
	if (status < 0 && !known && out != PTL_CHANGE_REPLACED && in == PTL_CHANGE_NONE)
		clsact_forget(pins, ifindex);
	if (status == 0) { /* of an earlier life in the other mode */
		tcx_remove(pins, ifindex, false);
		tcx_remove(pins, ifindex, true);
	}
	*change = in > out ? in : out;
	return status;
}

static int attach_one(const struct handle *handle, const struct ptl_attach_request *request, struct ptl_attach_result *result,
		      bool tcx, const char **code)
{
	int fds[2] = { program_fd(handle, request->role, false), program_fd(handle, request->role, true) };
	char name[IF_NAMESIZE];

	*code = PTL_E_KERNEL;
	if (fds[0] < 0 || fds[1] < 0) {
		*code = PTL_E_OBJECT;
		return -ENOENT;
	}
	if (!if_indextoname(request->ifindex, name)) {
		*code = PTL_E_NO_DEVICE;
		return -ENODEV;
	}
	if (request->mode == PTL_MODE_TCX && !tcx) {
		*code = PTL_E_NO_TCX;
		return -EOPNOTSUPP;
	}
	result->mode = tcx && request->mode != PTL_MODE_CLSACT ? PTL_MODE_TCX : PTL_MODE_CLSACT;
	int status = result->mode == PTL_MODE_TCX ?
			     attach_tcx(handle->pins, request->ifindex, fds, &result->change) :
			     attach_clsact(handle->pins, request->ifindex, fds, &result->change, code);

	if (status == -EXDEV)
		*code = PTL_E_FOREIGN_LINK;
	/* The interface may go while we are at it. */
	if (status < 0 && !if_indextoname(request->ifindex, name)) {
		*code = PTL_E_NO_DEVICE;
		return -ENODEV;
	}
	return status;
}

static const char *explain(const char *code, int status)
{
	if (!strcmp(code, PTL_E_INGRESS_QDISC))
		return "a qdisc `ingress` is in the way of clsact";
	if (!strcmp(code, PTL_E_FOREIGN_FILTER))
		return "another program's filter has our preference and handle";
	if (!strcmp(code, PTL_E_FOREIGN_LINK))
		return "the pin of its link serves an interface of another network namespace";
	if (!strcmp(code, PTL_E_NO_DEVICE))
		return "there is no such interface";
	if (!strcmp(code, PTL_E_NO_TCX))
		return "this kernel has no tcx";
	if (!strcmp(code, PTL_E_OBJECT))
		return "the object lacks the program for this role";
	return strerror(-status);
}

static int make_links_directory(struct error *err, const char *pins)
{
	char path[512], made[512];

	if (!pins[0])
		return fail(err, EINVAL, PTL_E_ARGUMENT, "attach", "handle", "Programs are attached only from an object with pins");
	snprintf(path, sizeof(path), "%s/links", pins);
	int result = make_directories(path, made, sizeof(made));

	return result < 0 ? fail(err, result, PTL_E_BPFFS, "attach", path, "Cannot make the directory: %s", strerror(-result)) : 0;
}

EXPORT int ptl_attach(int number, const void *requests, uint32_t count, void *results, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	int succeeded = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "attach", "handle", "No such handle: %d", number);
	int status = make_links_directory(&err, handle->pins);

	if (status < 0) {
		handle_put(handle);
		return status;
	}
	int tcx = tcx_available();

	/* Not to be guessed: clsact would then take the place of links that are at work. */
	if (tcx < 0) {
		handle_put(handle);
		return fail(&err, tcx, PTL_E_KERNEL, "attach", "tcx", "Cannot find out whether the kernel has tcx: %s", strerror(-tcx));
	}
	for (uint32_t i = 0; i < count; i++) {
		const char *code;
		struct ptl_attach_request request;
		struct ptl_attach_result result = {};

		memcpy(&request, (const uint8_t *)requests + i * sizeof(request), sizeof(request));
		status = attach_one(handle, &request, &result, tcx > 0, &code);
		if (status < 0) {
			char object[32];

			result.error = (uint32_t)-status;
			snprintf(result.code, sizeof(result.code), "%s", code);
			snprintf(object, sizeof(object), "ifindex %u", request.ifindex);
			fail(&err, status, code, "attach", object, "Cannot attach: %s", explain(code, status));
		} else {
			succeeded++;
		}
		memcpy((uint8_t *)results + i * sizeof(result), &result, sizeof(result));
	}
	handle_put(handle);
	return succeeded;
}

EXPORT int ptl_detach(const char *pins, const void *ifindexes, uint32_t count, char *text, uint32_t text_size)
{
	int removed = 0;

	error_begin(text, text_size);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t ifindex;

		memcpy(&ifindex, (const uint8_t *)ifindexes + i * 4, 4);
		removed += tcx_remove(pins, ifindex, false) + tcx_remove(pins, ifindex, true);
		removed += clsact_remove(pins, ifindex);
	}
	return removed;
}

/* ---- listing ---- */

struct list {
	struct ptl_attachment *out;
	struct filter *filters; /* of one hook; as many as `out` may have */
	uint32_t capacity;
	uint32_t count;
};

static int add(struct list *list, struct ptl_attachment entry)
{
	struct program_info info;

	if (list->count == list->capacity)
		return -ENOSPC;
	if (entry.program_id && program_info(entry.program_id, &info) == 0) {
		memcpy(entry.name, info.name, sizeof(entry.name));
		memcpy(entry.tag, info.tag, sizeof(entry.tag));
		entry.ours = !strncmp(info.name, "ptl_", 4);
	}
	memcpy(&list->out[list->count++], &entry, sizeof(entry));
	return 0;
}

static int list_hook(struct list *list, uint32_t ifindex, bool out)
{
	struct tcx_entry entries[MAX_AT_HOOK];
	int count = tcx_query(ifindex, out, entries, MAX_AT_HOOK);

	if (count < 0 && count != -EINVAL && count != -ENODEV) /* -EINVAL: no tcx in this kernel */
		return count;
	for (int i = 0; i < count; i++) {
		struct ptl_attachment entry = { .ifindex = ifindex, .out = out, .mode = PTL_MODE_TCX, .position = (uint32_t)i,
						.program_id = entries[i].program_id, .link_id = entries[i].link_id };

		if (add(list, entry) < 0)
			return -ENOSPC;
	}
	count = filters(ifindex, out, 0, list->filters, list->capacity);
	for (int i = 0; i < count; i++) {
		struct ptl_attachment entry = { .ifindex = ifindex, .out = out, .mode = PTL_MODE_CLSACT, .position = (uint32_t)i,
						.program_id = list->filters[i].program_id,
						.priority = list->filters[i].priority, .handle = list->filters[i].handle };

		memcpy(entry.name, list->filters[i].kind, sizeof(entry.name));
		if (add(list, entry) < 0)
			return -ENOSPC;
	}
	return count < 0 && count != -ENODEV ? count : 0;
}

EXPORT int ptl_attachments(const void *ifindexes, uint32_t count, void *attachments, uint32_t capacity, char *text,
			   uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct list list = { .out = attachments, .capacity = capacity, .filters = calloc(capacity, sizeof(*list.filters)) };
	int result = list.filters || capacity == 0 ? 0 : -ENOMEM;
	uint32_t ifindex = 0;

	for (uint32_t i = 0; i < count * 2 && result == 0; i++) {
		memcpy(&ifindex, (const uint8_t *)ifindexes + i / 2 * 4, 4);
		result = list_hook(&list, ifindex, i % 2);
	}
	free(list.filters);
	if (result < 0)
		return fail(&err, result, PTL_E_KERNEL, "attachments", "hooks", "Cannot list the hooks of ifindex %u: %s", ifindex,
			    strerror(-result));
	return (int)list.count;
}

/* ---- sweep and cleanup ---- */

/* Calls `act` for each name in <pins>/links: "<ifindex>-<suffix>". Names are collected first: acting removes them. */
static int for_each_link(const char *pins, int (*act)(const char *pins, uint32_t ifindex, const char *suffix))
{
	char path[512];
	int total = 0;

	snprintf(path, sizeof(path), "%s/links", pins);
	if (!on_bpffs(path)) /* not there, or ordinary files, which are none of ours */
		return 0;
	for (;;) {
		DIR *directory = opendir(path);
		struct dirent *entry;
		int now = 0;

		while (directory && (entry = readdir(directory))) {
			uint32_t ifindex;
			char suffix[16];

			if (sscanf(entry->d_name, "%u-%15s", &ifindex, suffix) == 2)
				now += act(pins, ifindex, suffix);
		}
		if (directory)
			closedir(directory);
		total += now;
		if (now == 0)
			return total;
	}
}

static int remove_name(const char *pins, uint32_t ifindex, const char *suffix)
{
	char path[512];

	link_path(path, pins, ifindex, suffix);
	return unlink(path) == 0 || rmdir(path) == 0;
}

static int sweep_one(const char *pins, uint32_t ifindex, const char *suffix)
{
	char path[512], name[IF_NAMESIZE];

	link_path(path, pins, ifindex, suffix);
	if (!strcmp(suffix, "in") || !strcmp(suffix, "out")) {
		int link = open_link(path, ifindex, !strcmp(suffix, "out"));

		if (link >= 0)
			close(link);
		return link < 0 && access(path, F_OK) < 0; /* open_link removes a dead pin */
	}
	return !if_indextoname(ifindex, name) && remove_name(pins, ifindex, suffix);
}

static int cleanup_one(const char *pins, uint32_t ifindex, const char *suffix)
{
	int removed = tcx_remove(pins, ifindex, false) + tcx_remove(pins, ifindex, true) + clsact_remove(pins, ifindex);

	return removed + remove_name(pins, ifindex, suffix);
}

EXPORT int ptl_sweep(const char *pins, char *text, uint32_t text_size)
{
	error_begin(text, text_size);
	return for_each_link(pins, sweep_one);
}

EXPORT int ptl_cleanup(const char *pins, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	char path[512];
	DIR *directory = opendir(pins);
	struct dirent *entry;

	if (!directory)
		return errno == ENOENT ? 0 : fail(&err, errno, PTL_E_KERNEL, "cleanup", pins, "Cannot open the directory: %s", strerror(errno));
	if (!on_bpffs(pins)) { /* never delete ordinary files */
		closedir(directory);
		return fail(&err, EINVAL, PTL_E_BPFFS, "cleanup", pins, "The directory is not on a bpf file system");
	}
	int removed = for_each_link(pins, cleanup_one);

	snprintf(path, sizeof(path), "%s/links", pins);
	rmdir(path);
	while ((entry = readdir(directory))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", pins, entry->d_name);
		if (unlink(path) == 0) {
			removed++;
			rewinddir(directory);
		}
	}
	closedir(directory);
	if (rmdir(pins) < 0 && errno != ENOENT)
		return fail(&err, errno, PTL_E_KERNEL, "cleanup", pins, "Cannot remove the directory: %s", strerror(errno));
	return removed;
}
