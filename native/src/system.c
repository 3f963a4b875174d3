/* SPDX-License-Identifier: Apache-2.0 */
/* bpf(2) and the bpf file system. */
#include <bpf/libbpf.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "internal.h"

#define BPF_FS 0xcafe4a11u

int sys_bpf(int command, void *attr, uint32_t size)
{
	long result = syscall(SYS_bpf, command, attr, size);

	return result < 0 ? -errno : (int)result;
}

int possible_cpus(void)
{
	return libbpf_num_possible_cpus();
}

EXPORT int ptl_libbpf_version(void)
{
	return (int)(libbpf_major_version() << 16 | libbpf_minor_version());
}

bool on_bpffs(const char *path)
{
	struct statfs info;

	return statfs(path, &info) == 0 && (uint32_t)info.f_type == BPF_FS;
}

/* mkdir -p. The first directory that had to be made goes to first_made (empty: all were there). */
int make_directories(const char *path, char *first_made, size_t first_made_size)
{
	char part[512];
	size_t length = strlen(path);

	first_made[0] = 0;
	if (length == 0 || length >= sizeof(part))
		return -ENAMETOOLONG;
	for (size_t i = 1; i <= length; i++) {
		if (path[i] != '/' && path[i] != 0)
			continue;
		memcpy(part, path, i);
		part[i] = 0;
		if (mkdir(part, 0700) == 0) {
			if (!first_made[0])
				snprintf(first_made, first_made_size, "%s", part);
		} else if (errno != EEXIST) {
			return -errno;
		}
	}
	return 0;
}

EXPORT int ptl_mount_bpffs(const char *path, char *text, uint32_t size)
{
	struct error err = error_begin(text, size);
	char made[512];

	if (on_bpffs(path))
		return 0;
	int result = make_directories(path, made, sizeof(made));

	if (result < 0)
		return fail(&err, result, PTL_E_BPFFS, "mkdir", path, "Cannot make the directory: %s", strerror(-result));
	if (mount("bpf", path, "bpf", 0, "mode=0700") < 0)
		return fail(&err, errno, PTL_E_BPFFS, "mount", path, "Cannot mount a bpf file system: %s", strerror(errno));
	return 1;
}

int map_fill_info(struct map *map)
{
	struct bpf_map_info info = {};
	union bpf_attr attr = {};

	attr.info.bpf_fd = (uint32_t)map->fd;
	attr.info.info_len = sizeof(info);
	attr.info.info = (uintptr_t)&info;
	int result = sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, sizeof(attr));

	if (result < 0)
		return result;
	map->type = info.type;
	map->key_size = info.key_size;
	map->value_size = info.value_size;
	map->max_entries = info.max_entries;
	map->flags = info.map_flags & ~(uint32_t)(BPF_F_RDONLY | BPF_F_WRONLY);
	map->id = info.id;
	return 0;
}
