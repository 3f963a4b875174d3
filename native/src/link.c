/* SPDX-License-Identifier: Apache-2.0 */
/* What pinned links of every kind have in common. */
#include <bpf/bpf.h>

#include "hooks.h"

int link_replace(int link, int program_fd)
{
	int result = bpf_link_update(link, program_fd, NULL) < 0 ? -errno : 0;

	close(link);
	return result;
}

int link_pin(int link, const char *path)
{
	int result = bpf_obj_pin(link, path) < 0 ? -errno : 0;

	close(link); /* without the pin the link goes with it */
	return result;
}

int link_remove(const char *pins, uint32_t ifindex, const char *suffix)
{
	char path[512];

	link_path(path, pins, ifindex, suffix);
	int link = bpf_obj_get(path);

	if (link < 0)
		return 0;
	int detached = bpf_link_detach(link) == 0;

	close(link);
	return unlink(path) == 0 && detached;
}
