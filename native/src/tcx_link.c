/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pinned tcx links: one per interface and direction, <pins>/links/<ifindex>-in and -out, so that it outlives the process;
 * the next life opens the pin and puts its program in by BPF_LINK_UPDATE: no packet finds the hook empty.
 */
#include <bpf/bpf.h>

#include "hooks.h"

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

int open_link(const char *path, uint32_t ifindex, bool out)
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

int tcx_put(const char *pins, uint32_t ifindex, bool out, int program_fd, uint32_t *change)
{
	char path[512];

	link_path(path, pins, ifindex, direction_name(out));
	int link = open_link(path, ifindex, out);

	if (link >= 0) {
		*change = PTL_CHANGE_REPLACED;
		return link_replace(link, program_fd);
	}
	if (link != -ENOENT)
		return link;
	link = tcx_link_create(program_fd, ifindex, out);
	if (link < 0)
		return link;
	int result = link_pin(link, path);

	if (result == 0)
		*change = PTL_CHANGE_NEW;
	return result;
}

int tcx_remove(const char *pins, uint32_t ifindex, bool out)
{
	return link_remove(pins, ifindex, direction_name(out));
}
