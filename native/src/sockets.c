/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The socket hooks of a cgroup. One pinned link each, <pins>/links/socket-<hook>, so that it outlives the process; the next
 * life opens the pins and puts its programs in by BPF_LINK_UPDATE: no connect(2) finds the hook empty.
 */
#include <bpf/bpf.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "hooks.h"

#define CGROUP2_MAGIC 0x63677270u
#define HOOK_COUNT (sizeof(hooks) / sizeof(hooks[0]))

/* In the order of attaching: what translates back comes first, so that a failure half way leaves no socket translated one
 * way only. Taken off in the reverse order. */
static const struct hook {
	const char *name; /* of the program, after "ptl_" */
	enum bpf_attach_type type;
} hooks[] = {
	{ "recvmsg4", BPF_CGROUP_UDP4_RECVMSG },       { "recvmsg6", BPF_CGROUP_UDP6_RECVMSG },
	{ "peername4", BPF_CGROUP_INET4_GETPEERNAME }, { "peername6", BPF_CGROUP_INET6_GETPEERNAME },
	{ "sendmsg4", BPF_CGROUP_UDP4_SENDMSG },       { "sendmsg6", BPF_CGROUP_UDP6_SENDMSG },
	{ "connect4", BPF_CGROUP_INET4_CONNECT },      { "connect6", BPF_CGROUP_INET6_CONNECT },
};

/* One hook while it is attached. */
struct work {
	char pin[512];
	char next[512]; /* where a link waits that is to take the pin's place */
	int program;
	int old; /* the pinned link, or -1 */
	uint64_t old_cgroup; /* 0: it is gone, and the link with it */
	int made; /* the link of this call, or -1 */
};

static void pin_path(char path[512], const char *pins, const struct hook *hook, const char *suffix)
{
	snprintf(path, 512, "%s/links/socket-%s%s", pins, hook->name, suffix);
}

/* Returns the fd of the pinned link, or -errno. */
static int open_pinned(const char *path, struct bpf_link_info *info)
{
	uint32_t size = sizeof(*info);
	int link = bpf_obj_get(path);

	if (link < 0)
		return -errno;
	memset(info, 0, sizeof(*info));
	int result = bpf_obj_get_info_by_fd(link, info, &size) < 0 ? -errno : 0;

	if (result == 0 && info->type != BPF_LINK_TYPE_CGROUP)
		result = -EINVAL;
	if (result < 0)
		close(link);
	return result < 0 ? result : link;
}

/* Returns the fd of a cgroup v2 directory and its id, which is what the kernel tells of links. */
static int open_cgroup(struct error *err, const char *path, uint64_t *id)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct statfs system;
	struct stat status;

	if (fd < 0)
		return fail(err, errno, PTL_E_CGROUP, "attach_sockets", path, "Cannot open the cgroup: %s", strerror(errno));
	if (fstatfs(fd, &system) < 0 || fstat(fd, &status) < 0) {
		int number = errno;

		close(fd);
		return fail(err, number, PTL_E_CGROUP, "attach_sockets", path, "Cannot look at the cgroup: %s", strerror(number));
	}
	if ((uint32_t)system.f_type != CGROUP2_MAGIC) {
		close(fd);
		return fail(err, EINVAL, PTL_E_CGROUP, "attach_sockets", path, "This is not a cgroup v2 directory");
	}
	*id = status.st_ino;
	return fd;
}

static int program_of(const struct handle *handle, const struct hook *hook)
{
	for (uint32_t i = 0; i < handle->program_count; i++)
		if (!strncmp(handle->programs[i].name, "ptl_", 4) && !strcmp(handle->programs[i].name + 4, hook->name))
			return handle->programs[i].fd;
	return -1;
}

static int prepare(struct error *err, const struct handle *handle, struct work work[HOOK_COUNT])
{
	for (size_t i = 0; i < HOOK_COUNT; i++)
		work[i].old = work[i].made = -1;
	for (size_t i = 0; i < HOOK_COUNT; i++) {
		struct bpf_link_info info = {};
		struct work *w = &work[i];

		pin_path(w->pin, handle->pins, &hooks[i], "");
		pin_path(w->next, handle->pins, &hooks[i], "-next");
		w->program = program_of(handle, &hooks[i]);
		if (w->program < 0)
			return fail(err, ENOENT, PTL_E_OBJECT, "attach_sockets", hooks[i].name,
				    "The object lacks the program ptl_%s, or it was loaded without socket programs", hooks[i].name);
		w->old = open_pinned(w->pin, &info);
		if (w->old < 0 && w->old != -ENOENT)
			return fail(err, w->old, PTL_E_KERNEL, "attach_sockets", w->pin, "Cannot open the pinned link: %s",
				    strerror(-w->old));
		w->old_cgroup = info.cgroup.cgroup_id;
	}
	return 0;
}

static int create_failed(struct error *err, int number, const char *hook, const char *cgroup)
{
	if (number == EPERM) /* not a matter of privileges: they were enough to load the programs */
		return fail(err, number, PTL_E_CGROUP_BUSY, "attach_sockets", cgroup,
			    "Cannot attach ptl_%s: another program holds this hook of the cgroup, or of one above it, alone", hook);
	if (number == EINVAL)
		return fail(err, number, PTL_E_KERNEL, "attach_sockets", cgroup,
			    "Cannot attach ptl_%s: this kernel has no such cgroup hook (CONFIG_CGROUP_BPF, Linux 5.8)", hook);
	if (number == ENODEV)
		return fail(err, number, PTL_E_CGROUP, "attach_sockets", cgroup, "Cannot attach ptl_%s: the cgroup is gone", hook);
	return fail(err, number, PTL_E_KERNEL, "attach_sockets", cgroup, "Cannot attach ptl_%s: %s", hook, strerror(number));
}

/* Links where there are none yet: until they are pinned, closing them takes them back. */
static int create_missing(struct error *err, struct work work[HOOK_COUNT], int cgroup, uint64_t id, const char *path)
{
	for (size_t i = 0; i < HOOK_COUNT; i++) {
		if (work[i].old >= 0 && work[i].old_cgroup == id)
			continue;
		work[i].made = bpf_link_create(work[i].program, cgroup, hooks[i].type, NULL);
		if (work[i].made < 0)
			return create_failed(err, errno, hooks[i].name, path);
	}
	return 0;
}

/* Gives the pin to a new link. A link that the pin had for another cgroup ends only then. */
static int take_pin(struct work *w)
{
	if (w->old < 0)
		return bpf_obj_pin(w->made, w->pin) < 0 ? -errno : 0;
	unlink(w->next); /* of a life that ended right here */
	if (bpf_obj_pin(w->made, w->next) < 0)
		return -errno;
	if (rename(w->next, w->pin) < 0) {
		int number = errno;

		unlink(w->next);
		return -number;
	}
	bpf_link_detach(w->old);
	return 0;
}

static int settle(struct error *err, struct work work[HOOK_COUNT], struct ptl_sockets_result *result)
{
	for (size_t i = 0; i < HOOK_COUNT; i++) {
		struct work *w = &work[i];
		int status = w->made >= 0 ? take_pin(w) : bpf_link_update(w->old, w->program, NULL) < 0 ? -errno : 0;

		if (status < 0)
			return fail(err, status, PTL_E_KERNEL, "attach_sockets", w->pin, "Cannot %s: %s",
				    w->made >= 0 ? "pin the link" : "replace the program", strerror(-status));
		if (w->made < 0)
			result->replaced++;
		else if (w->old >= 0 && w->old_cgroup)
			result->moved++;
		else
			result->added++;
	}
	return 0;
}

static int attach_sockets(struct error *err, const struct handle *handle, const char *path, struct ptl_sockets_result *result)
{
	struct work work[HOOK_COUNT] = {};
	int cgroup = open_cgroup(err, path, &result->cgroup_id);

	if (cgroup < 0)
		return cgroup;
	int status = prepare(err, handle, work);

	if (status == 0)
		status = create_missing(err, work, cgroup, result->cgroup_id, path);
	if (status == 0)
		status = settle(err, work, result);
	for (size_t i = 0; i < HOOK_COUNT; i++) {
		if (work[i].made >= 0)
			close(work[i].made);
		if (work[i].old >= 0)
			close(work[i].old);
	}
	close(cgroup);
	return status;
}

EXPORT int ptl_attach_sockets(int number, const char *cgroup, void *result_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct ptl_sockets_result result = {};
	struct handle *handle = handle_get(number);

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "attach_sockets", "handle", "No such handle: %d", number);
	int status = make_links_directory(&err, handle->pins);

	if (status == 0)
		status = attach_sockets(&err, handle, cgroup, &result);
	handle_put(handle);
	memcpy(result_out, &result, sizeof(result));
	return status;
}

int sockets_remove(const char *pins)
{
	int removed = 0;

	for (size_t i = HOOK_COUNT; i-- > 0;) {
		char path[512];

		pin_path(path, pins, &hooks[i], "-next");
		unlink(path);
		pin_path(path, pins, &hooks[i], "");
		int link = bpf_obj_get(path);

		if (link < 0)
			continue;
		bpf_link_detach(link);
		close(link);
		removed += unlink(path) == 0;
	}
	return removed;
}

EXPORT int ptl_detach_sockets(const char *pins, char *text, uint32_t text_size)
{
	error_begin(text, text_size);
	return sockets_remove(pins);
}

EXPORT int ptl_socket_links(const char *pins, void *out, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	uint32_t count = 0;

	for (size_t i = 0; i < HOOK_COUNT; i++) {
		struct ptl_socket_link entry = {};
		struct bpf_link_info info = {};
		struct program_info program;
		char path[512];

		pin_path(path, pins, &hooks[i], "");
		int link = open_pinned(path, &info);

		if (link == -ENOENT)
			continue;
		if (link < 0)
			return fail(&err, link, PTL_E_KERNEL, "socket_links", path, "Cannot open the pinned link: %s", strerror(-link));
		close(link);
		if (count == capacity)
			return fail(&err, ENOSPC, PTL_E_ARGUMENT, "socket_links", pins, "There is room for %u links only", capacity);
		snprintf(entry.hook, sizeof(entry.hook), "%s", hooks[i].name);
		entry.cgroup_id = info.cgroup.cgroup_id;
		entry.link_id = info.id;
		entry.program_id = info.prog_id;
		if (program_info(info.prog_id, &program) == 0) {
			memcpy(entry.name, program.name, sizeof(entry.name));
			memcpy(entry.tag, program.tag, sizeof(entry.tag));
		}
		memcpy((uint8_t *)out + count++ * sizeof(entry), &entry, sizeof(entry));
	}
	return (int)count;
}
