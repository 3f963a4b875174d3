/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Filters at clsact: one of fixed preference and handle per direction, which the kernel replaces in place. What was done is
 * noted by empty directories below <pins>/links: <ifindex>-filter, and <ifindex>-clsact when the qdisc is ours.
 */
#include <bpf/libbpf.h>
#include <sys/stat.h>

#include "hooks.h"

#define FILTER_PRIORITY 10
#define FILTER_HANDLE 0x50544c /* "PTL" */

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

int filter_put(uint32_t ifindex, bool out, int program_fd, uint32_t *change, const char **code)
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

int filter_remove(uint32_t ifindex, bool out)
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

bool clsact_known(const char *pins, uint32_t ifindex)
{
	return remembers(pins, ifindex, "filter");
}

/* Everything is noted before it is done: whoever is killed in between leaves a note too many and nothing that is forgotten. */
int clsact_ensure(const char *pins, uint32_t ifindex, const char **code)
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

void clsact_forget(const char *pins, uint32_t ifindex)
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

int clsact_remove(const char *pins, uint32_t ifindex)
{
	int in = filter_remove(ifindex, false), out = filter_remove(ifindex, true);

	if (in >= 0 && out >= 0)
		clsact_forget(pins, ifindex);
	return (in > 0) + (out > 0);
}
