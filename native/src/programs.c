/* SPDX-License-Identifier: Apache-2.0 */
/* Which programs and maps are which: by their ids, as the kernel knows them, whatever has become of their pins. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <stdio.h>
#include <stdlib.h>

#include "hooks.h"

#define MAX_PROGRAM_MAPS 64

EXPORT int ptl_programs(int number, void *out, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	uint32_t count = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "programs", "handle", "No such handle: %d", number);
	for (; count < handle->program_count && count < capacity; count++) {
		struct bpf_prog_info info = {};
		struct ptl_program entry = {};
		uint32_t size = sizeof(info);

		if (bpf_obj_get_info_by_fd(handle->programs[count].fd, &info, &size) < 0) {
			int code = errno;

			fail(&err, code, PTL_E_KERNEL, "programs", handle->programs[count].name, "Cannot look at the program: %s",
			     strerror(code));
			handle_put(handle);
			return -code;
		}
		memcpy(entry.name, handle->programs[count].name, sizeof(entry.name));
		entry.id = info.id;
		memcpy(entry.tag, info.tag, sizeof(entry.tag));
		memcpy((uint8_t *)out + count * sizeof(entry), &entry, sizeof(entry));
	}
	handle_put(handle);
	return (int)count;
}

/* The variable `config` in a map of constants, which has one cell; its BTF says where. Nothing when there is none of this size. */
static void read_config(int fd, const struct bpf_map_info *info, void *config, uint32_t config_size)
{
	struct btf *btf = info->btf_id ? btf__load_from_kernel_by_id(info->btf_id) : NULL;
	const struct btf_type *section = btf ? btf__type_by_id(btf, info->btf_value_type_id) : NULL;
	uint8_t *value = calloc(1, info->value_size);
	uint32_t zero = 0;

	if (section && btf_is_datasec(section) && value && bpf_map_lookup_elem(fd, &zero, value) == 0) {
		const struct btf_var_secinfo *variable = btf_var_secinfos(section);

		for (uint32_t i = 0; i < btf_vlen(section); i++, variable++) {
			const char *name = btf__name_by_offset(btf, btf__type_by_id(btf, variable->type)->name_off);

			if (!strcmp(name, "config") && variable->size == config_size &&
			    variable->offset + config_size <= info->value_size)
				memcpy(config, value + variable->offset, config_size);
		}
	}
	free(value);
	btf__free(btf);
}

static int map_of_id(uint32_t id, struct map *map)
{
	memset(map, 0, sizeof(*map));
	map->fd = bpf_map_get_fd_by_id(id);
	if (map->fd < 0)
		return -errno;
	int result = map_fill_info(map);

	if (result < 0)
		close(map->fd);
	return result;
}

static int program_map_ids(uint32_t program_id, uint32_t ids[MAX_PROGRAM_MAPS])
{
	struct bpf_prog_info info = { .nr_map_ids = MAX_PROGRAM_MAPS, .map_ids = (uintptr_t)ids };
	uint32_t size = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(program_id);

	if (fd < 0)
		return -errno;
	int result = bpf_obj_get_info_by_fd(fd, &info, &size) < 0 ? -errno : 0;

	close(fd);
	if (result < 0)
		return result;
	return (int)(info.nr_map_ids < MAX_PROGRAM_MAPS ? info.nr_map_ids : MAX_PROGRAM_MAPS);
}

EXPORT int ptl_program_maps(uint32_t program_id, void *infos, uint32_t capacity, void *config, uint32_t config_size, char *text,
			    uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	uint32_t ids[MAX_PROGRAM_MAPS] = {};
	int count = program_map_ids(program_id, ids);
	char object[32];

	memset(config, 0, config_size);
	snprintf(object, sizeof(object), "program %u", program_id);
	if (count < 0)
		return fail(&err, count, PTL_E_KERNEL, "program_maps", object, "Cannot look at the program: %s", strerror(-count));
	if ((uint32_t)count > capacity)
		count = (int)capacity;
	for (int i = 0; i < count; i++) {
		struct bpf_map_info info = {};
		struct ptl_map_info entry = { .id = ids[i], .used = -1 };
		uint32_t size = sizeof(info);
		struct map map;
		int result = map_of_id(ids[i], &map);

		if (result < 0)
			return fail(&err, result, PTL_E_KERNEL, "program_maps", object, "Cannot look at map %u: %s", ids[i],
				    strerror(-result));
		if (bpf_obj_get_info_by_fd(map.fd, &info, &size) == 0)
			memcpy(entry.name, info.name, sizeof(entry.name));
		entry.type = map.type;
		entry.key_size = map.key_size;
		entry.value_size = map.value_size;
		entry.max_entries = map.max_entries;
		entry.flags = map.flags;
		if (strstr(entry.name, ".rodata") && map.type == BPF_MAP_TYPE_ARRAY)
			read_config(map.fd, &info, config, config_size);
		close(map.fd);
		memcpy((uint8_t *)infos + (size_t)i * sizeof(entry), &entry, sizeof(entry));
	}
	return count;
}

EXPORT int ptl_pinned_map(const char *path, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct map map = { .fd = bpf_obj_get(path) };

	if (map.fd < 0) {
		int number = errno;

		return number == ENOENT ? 0 : fail(&err, number, PTL_E_KERNEL, "pinned_map", path, "Cannot open the pin: %s",
						   strerror(number));
	}
	int result = map_fill_info(&map);

	close(map.fd);
	return result < 0 ? fail(&err, EINVAL, PTL_E_MAP_SPEC, "pinned_map", path, "The pin is not a map") : (int)map.id;
}

/* Pinned beside its place and moved there, so that whoever opens the path finds one map or the other. */
static int pin_at(int fd, const char *path)
{
	char next[512];

	if (bpf_obj_pin(fd, path) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	if (snprintf(next, sizeof(next), "%s-next", path) >= (int)sizeof(next))
		return -ENAMETOOLONG;
	unlink(next); /* of a life that ended right here */
	if (bpf_obj_pin(fd, next) < 0)
		return -errno;
	if (rename(next, path) == 0)
		return 0;
	int number = errno;

	unlink(next);
	return -number;
}

EXPORT int ptl_pin_map(uint32_t map_id, const char *path, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	char directory[512], made[512];
	struct map map;

	if (snprintf(directory, sizeof(directory), "%s", path) >= (int)sizeof(directory) || !strrchr(directory, '/'))
		return fail(&err, EINVAL, PTL_E_ARGUMENT, "pin_map", path, "The path of the pin is too long, or has no directory");
	*strrchr(directory, '/') = 0;
	int result = make_directories(directory, made, sizeof(made));

	if (result < 0)
		return fail(&err, result, PTL_E_BPFFS, "pin_map", directory, "Cannot make the directory: %s", strerror(-result));
	if (!on_bpffs(directory))
		return fail(&err, EINVAL, PTL_E_BPFFS, "pin_map", directory, "%s is not on a bpf file system", directory);
	result = map_of_id(map_id, &map);
	if (result < 0)
		return fail(&err, result, PTL_E_KERNEL, "pin_map", path, "There is no map with id %u: %s", map_id, strerror(-result));
	result = pin_at(map.fd, path);
	close(map.fd);
	return result < 0 ? fail(&err, result, PTL_E_KERNEL, "pin_map", path, "Cannot pin the map: %s", strerror(-result)) : 0;
}
