/* SPDX-License-Identifier: Apache-2.0 */
/* What is at the hooks of interfaces, ours or not. */
#include <bpf/bpf.h>
#include <stdlib.h>

#include "hooks.h"

int program_info(uint32_t id, struct program_info *out)
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

bool is_ours(uint32_t program_id)
{
	struct program_info info;

	return program_id && program_info(program_id, &info) == 0 && !strncmp(info.name, "ptl_", 4);
}

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
