/* SPDX-License-Identifier: Apache-2.0 */
/* What is left of interfaces that are gone, and of an agent that is not to come back. */
#include <dirent.h>
#include <net/if.h>

#include "hooks.h"

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
	if (!strcmp(suffix, "xdp"))
		return xdp_sweep(pins, ifindex);
	return !if_indextoname(ifindex, name) && remove_name(pins, ifindex, suffix);
}

static int cleanup_one(const char *pins, uint32_t ifindex, const char *suffix)
{
	int removed = tcx_remove(pins, ifindex, false) + tcx_remove(pins, ifindex, true) + clsact_remove(pins, ifindex) +
		      xdp_remove(pins, ifindex);

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
		return fail(&err, EINVAL, PTL_E_BPFFS, "cleanup", pins, "%s is not on a bpf file system", pins);
	}
	int removed = for_each_link(pins, cleanup_one) + sockets_remove(pins);

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
