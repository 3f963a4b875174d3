/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PTL_ENTER_CGROUP_H
#define PTL_ENTER_CGROUP_H

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

/* Moves this process into a cgroup, by its directory. 0, or -1 with errno. */
static inline int enter_cgroup(const char *directory)
{
	char path[PATH_MAX];
	int fd, r;

	snprintf(path, sizeof(path), "%s/cgroup.procs", directory);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	r = write(fd, "0", 1) == 1 ? 0 : -1;
	close(fd);
	return r;
}

#endif
