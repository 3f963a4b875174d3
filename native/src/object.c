/* SPDX-License-Identifier: Apache-2.0 */
/* Loading an object with pin reuse, opening pins, and the layout that an object's BTF declares. */
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <dirent.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "internal.h"

/* libbpf explains itself through a callback only. Its words of this thread's current call: */
static __thread char warnings[2048];

static int keep_warning(enum libbpf_print_level level, const char *format, va_list arguments)
{
	size_t used = strlen(warnings);

	if (level == LIBBPF_WARN && used + 1 < sizeof(warnings))
		vsnprintf(warnings + used, sizeof(warnings) - used, format, arguments);
	return 0;
}

/* From the start: otherwise libbpf writes to stderr, also when it only attaches or detaches. */
__attribute__((constructor)) static void silence_libbpf(void)
{
	libbpf_set_print(keep_warning);
}

static bool is_statistics(const char *line)
{
	static const char *const starts[] = { "processed ", "verification time", "stack depth", "max_states", "-- " };

	for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++)
		if (!strncmp(line, starts[i], strlen(starts[i])))
			return true;
	return line[0] == 0;
}

/* The last line that says something about the program. */
static void last_meaningful_line(const char *log, char *out, size_t size)
{
	size_t end = strlen(log);

	out[0] = 0;
	while (end > 0) {
		size_t begin = end;

		while (begin > 0 && log[begin - 1] != '\n')
			begin--;
		snprintf(out, size, "%.*s", (int)(end - begin), log + begin);
		if (!is_statistics(out))
			return;
		out[0] = 0;
		end = begin > 0 ? begin - 1 : 0;
	}
}

struct bpf_object *object_open(struct error *err, const char *path, const char *pins, char *log)
{
	LIBBPF_OPTS(bpf_object_open_opts, options);

	warnings[0] = 0;
	options.pin_root_path = pins[0] ? pins : NULL;
	options.kernel_log_buf = log;
	options.kernel_log_size = log ? VERIFIER_LOG_SIZE : 0;
	struct bpf_object *object = bpf_object__open_file(path, &options);

	if (!object) {
		int number = errno;

		fail(err, number, PTL_E_OBJECT, "open", path, "Cannot read the BPF object: %s", strerror(number));
		fail_log(err, warnings);
		errno = number;
	}
	return object;
}

/* ---- layout ---- */

struct text {
	char *out;
	uint32_t size;
	uint32_t used;
	uint32_t done_count;
	uint32_t done[64];
};

static void put(struct text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void put(struct text *text, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	int length = vsnprintf(text->used < text->size ? text->out + text->used : NULL,
			       text->used < text->size ? text->size - text->used : 0, format, arguments);
	va_end(arguments);
	if (length > 0)
		text->used += (uint32_t)length;
}

static void put_struct(struct text *text, const struct btf *btf, uint32_t id)
{
	const struct btf_type *type = btf__type_by_id(btf, id);

	while (type && (btf_is_mod(type) || btf_is_typedef(type))) {
		id = type->type;
		type = btf__type_by_id(btf, id);
	}
	if (!type || !btf_is_struct(type) || !type->name_off)
		return;
	for (uint32_t i = 0; i < text->done_count; i++)
		if (text->done[i] == id)
			return;
	if (text->done_count == sizeof(text->done) / sizeof(text->done[0]))
		return;
	text->done[text->done_count++] = id;
	put(text, "struct %s %u\n", btf__name_by_offset(btf, type->name_off), type->size);
	const struct btf_member *member = btf_members(type);

	for (uint32_t i = 0; i < btf_vlen(type); i++, member++)
		put(text, "  %s %u %lld\n", btf__name_by_offset(btf, member->name_off),
		    btf_member_bit_offset(type, i) / 8, (long long)btf__resolve_size(btf, member->type));
}

EXPORT int ptl_object_layout(const char *path, void *out, uint32_t out_size, char *err_text, uint32_t err_size)
{
	struct error err = error_begin(err_text, err_size);
	struct text text = { .out = out, .size = out_size };
	struct bpf_object *object = object_open(&err, path, "", NULL);
	struct bpf_map *map;

	if (!object)
		return -errno;
	const struct btf *btf = bpf_object__btf(object);

	if (!btf) {
		bpf_object__close(object);
		return fail(&err, ENOENT, PTL_E_OBJECT, "layout", path, "The object has no BTF");
	}
	bpf_object__for_each_map(map, object) {
		put_struct(&text, btf, bpf_map__btf_key_type_id(map));
		put_struct(&text, btf, bpf_map__btf_value_type_id(map));
	}
	int section = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);

	if (section > 0) {
		const struct btf_type *type = btf__type_by_id(btf, (uint32_t)section);
		const struct btf_var_secinfo *variable = btf_var_secinfos(type);

		for (uint32_t i = 0; i < btf_vlen(type); i++, variable++)
			put_struct(&text, btf, btf__type_by_id(btf, variable->type)->type);
	}
	bpf_object__close(object);
	if (text.used >= text.size)
		return fail(&err, ENOSPC, PTL_E_ARGUMENT, "layout", path, "The layout has %u bytes", text.used);
	return (int)text.used;
}

/* ---- load ---- */

int object_set_config(struct error *err, struct bpf_object *object, const char *path, const void *config, uint32_t size)
{
	const struct btf *btf = bpf_object__btf(object);
	int section = btf ? btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC) : -ENOENT;
	struct bpf_map *map, *rodata = NULL;

	bpf_object__for_each_map(map, object) {
		const char *name = bpf_map__name(map);
		size_t length = strlen(name);

		if (bpf_map__is_internal(map) && length >= 7 && !strcmp(name + length - 7, ".rodata"))
			rodata = map;
	}
	if (section > 0 && rodata) {
		const struct btf_type *type = btf__type_by_id(btf, (uint32_t)section);
		const struct btf_var_secinfo *variable = btf_var_secinfos(type);
		size_t length;
		uint8_t *data = (uint8_t *)bpf_map__initial_value(rodata, &length);

		for (uint32_t i = 0; i < btf_vlen(type); i++, variable++) {
			const char *name = btf__name_by_offset(btf, btf__type_by_id(btf, variable->type)->name_off);

			if (strcmp(name, "config"))
				continue;
			if (variable->size != size || variable->offset + size > length)
				return fail(err, EINVAL, PTL_E_OBJECT, "config", path,
					    "The object's `config` has %u bytes, %u were given", variable->size, size);
			memcpy(data + variable->offset, config, size);
			return 0;
		}
	}
	return fail(err, ENOENT, PTL_E_OBJECT, "config", path, "The object has no .rodata variable `config`");
}

static int set_sizes(struct error *err, struct bpf_object *object, const struct ptl_size *sizes, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		char name[17] = {};

		memcpy(name, sizes[i].map, 16);
		struct bpf_map *map = bpf_object__find_map_by_name(object, name);

		if (!map)
			return fail(err, ENOENT, PTL_E_ARGUMENT, "size", name, "The object has no such map");
		int result = bpf_map__set_max_entries(map, sizes[i].max_entries);

		if (result < 0)
			return fail(err, result, PTL_E_ARGUMENT, "size", name, "Cannot ask for %u entries: %s",
				    sizes[i].max_entries, strerror(-result));
	}
	return 0;
}

static int check_pin(struct error *err, struct bpf_map *wanted, const char *pin)
{
	struct map pinned = { .fd = bpf_obj_get(pin) };

	if (pinned.fd < 0)
		return errno == ENOENT ? 0 : fail(err, errno, PTL_E_KERNEL, "open", pin, "Cannot open the pin: %s", strerror(errno));
	int result = map_fill_info(&pinned);

	close(pinned.fd);
	if (result < 0)
		return fail(err, EINVAL, PTL_E_MAP_SPEC, "open", pin, "The pin is not a map");
	const struct { const char *name; uint32_t pinned, wanted; } fields[] = {
		{ "type", pinned.type, bpf_map__type(wanted) },
		{ "key size", pinned.key_size, bpf_map__key_size(wanted) },
		{ "value size", pinned.value_size, bpf_map__value_size(wanted) },
		{ "flags", pinned.flags, bpf_map__map_flags(wanted) },
		{ "max_entries", pinned.max_entries, bpf_map__max_entries(wanted) },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (fields[i].pinned != fields[i].wanted)
			return fail(err, EEXIST, PTL_E_MAP_SPEC, "open", pin,
				    "Map %s: the pinned one has %s %u, wanted is %u (%s)", bpf_map__name(wanted),
				    fields[i].name, fields[i].pinned, fields[i].wanted, pin);
	return 0;
}

static void leave_out(struct bpf_object *object, enum bpf_prog_type type)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object)
		if (bpf_program__type(program) == type)
			bpf_program__set_autoload(program, false);
}

/* Which pins were there before: those must survive a failed load, the others must not. */
struct pin_state {
	char first_made[512];
	bool existed[MAX_MAPS];
};

static int prepare_pins(struct error *err, struct bpf_object *object, const char *pins, struct pin_state *state)
{
	struct bpf_map *map;
	uint32_t i = 0;

	if (!pins[0]) {
		bpf_object__for_each_map(map, object)
			bpf_map__set_pin_path(map, NULL);
		return 0;
	}
	int result = make_directories(pins, state->first_made, sizeof(state->first_made));

	if (result < 0)
		return fail(err, result, PTL_E_BPFFS, "mkdir", pins, "Cannot make the pin directory: %s", strerror(-result));
	if (!on_bpffs(pins))
		return fail(err, EINVAL, PTL_E_BPFFS, "open", pins, "The pin directory is not on a bpf file system");
	bpf_object__for_each_map(map, object) {
		const char *pin = bpf_map__pin_path(map);

		if (i < MAX_MAPS && pin)
			state->existed[i] = access(pin, F_OK) == 0;
		i++;
	}
	bpf_object__for_each_map(map, object) {
		const char *pin = bpf_map__pin_path(map);

		if (pin && (result = check_pin(err, map, pin)) < 0)
			return result;
	}
	return 0;
}

static void undo_pins(struct bpf_object *object, const char *pins, const struct pin_state *state)
{
	struct bpf_map *map;
	uint32_t i = 0;
	char path[512];

	if (!pins[0])
		return;
	bpf_object__for_each_map(map, object) {
		const char *pin = bpf_map__pin_path(map);

		if (i < MAX_MAPS && pin && !state->existed[i])
			unlink(pin);
		i++;
	}
	if (!state->first_made[0])
		return;
	snprintf(path, sizeof(path), "%s", pins);
	for (char *slash = path + strlen(path); slash; slash = strrchr(path, '/')) {
		*slash = 0;
		/* ENOENT: it was not even made, or the path has a slash too many. */
		if ((rmdir(path) < 0 && errno != ENOENT) || !strcmp(path, state->first_made))
			return;
	}
}

int object_load(struct error *err, struct bpf_object *object, const char *path, const char *log)
{
	char line[512];
	int result = bpf_object__load(object);

	if (result == 0)
		return 0;
	last_meaningful_line(log, line, sizeof(line));
	if (line[0]) {
		fail(err, result, PTL_E_VERIFIER, "load", path, "The kernel refused a program: %s", line);
		fail_log(err, warnings);
		fail_log(err, log);
	} else {
		fail(err, result, PTL_E_KERNEL, "load", path, "Cannot load the object: %s", strerror(-result));
		fail_log(err, warnings);
	}
	return result;
}

int object_keep_map(const struct bpf_map *map, const char *name, struct handle *handle)
{
	if (handle->map_count == MAX_MAPS)
		return -E2BIG;
	struct map *mine = &handle->maps[handle->map_count];

	mine->fd = dup(bpf_map__fd(map));
	if (mine->fd < 0)
		return -errno;
	handle->map_count++;
	snprintf(mine->name, sizeof(mine->name), "%.15s", name);
	return map_fill_info(mine);
}

int object_keep_programs(const struct bpf_object *object, struct handle *handle)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		struct program *mine = &handle->programs[handle->program_count];

		if (!bpf_program__autoload(program))
			continue;
		if (handle->program_count == MAX_PROGRAMS)
			return -E2BIG;
		mine->fd = dup(bpf_program__fd(program));
		if (mine->fd < 0)
			return -errno;
		handle->program_count++;
		snprintf(mine->name, sizeof(mine->name), "%.15s", bpf_program__name(program));
	}
	return 0;
}

/* Every map but libbpf's own, and the programs. */
static int take(const struct bpf_object *object, struct handle *handle)
{
	struct bpf_map *map;

	bpf_object__for_each_map(map, object) {
		int result = bpf_map__is_internal(map) ? 0 : object_keep_map(map, bpf_map__name(map), handle);

		if (result < 0)
			return result;
	}
	return object_keep_programs(object, handle);
}

static int finish(struct error *err, struct bpf_object *object, const char *path, const char *pins)
{
	struct handle *handle = handle_new();
	int result = handle ? take(object, handle) : -ENOMEM;

	if (result == 0) {
		snprintf(handle->pins, sizeof(handle->pins), "%s", pins);
		result = handle_publish(handle);
	}
	if (result < 0 && handle)
		handle_free(handle);
	if (result < 0)
		fail(err, result, PTL_E_KERNEL, "open", path, "Cannot keep the loaded object: %s", strerror(-result));
	return result;
}

EXPORT int ptl_open(const char *path, const char *pins, const void *config, uint32_t config_size, const void *sizes,
		    uint32_t size_count, uint32_t flags, char *err_text, uint32_t err_size)
{
	struct error err = error_begin(err_text, err_size);
	struct pin_state state = {};
	char *log = calloc(1, VERIFIER_LOG_SIZE);

	if (!log)
		return fail(&err, ENOMEM, PTL_E_KERNEL, "open", path, "Out of memory");
	if (strlen(pins) >= sizeof(((struct handle *)0)->pins)) {
		free(log);
		return fail(&err, ENAMETOOLONG, PTL_E_ARGUMENT, "open", pins, "The path of the pin directory is too long");
	}
	struct bpf_object *object = object_open(&err, path, pins, log);
	int result = object ? 0 : -errno;

	if (object) {
		if (flags & PTL_OPEN_NO_SOCKETS)
			leave_out(object, BPF_PROG_TYPE_CGROUP_SOCK_ADDR);
		if (flags & PTL_OPEN_NO_XDP)
			leave_out(object, BPF_PROG_TYPE_XDP);
		if (config_size)
			result = object_set_config(&err, object, path, config, config_size);
		if (result == 0)
			result = set_sizes(&err, object, sizes, size_count);
		if (result == 0) {
			result = prepare_pins(&err, object, pins, &state);
			if (result == 0)
				result = object_load(&err, object, path, log);
			if (result == 0)
				result = finish(&err, object, path, pins);
			if (result < 0)
				undo_pins(object, pins, &state);
		}
		bpf_object__close(object);
	}
	free(log);
	return result;
}

/* Pins are opened by their paths: those of a directory that took the place of the first would be another agent's. */
static bool is_still_there(DIR *directory, const char *path)
{
	struct stat before, now;

	return fstat(dirfd(directory), &before) == 0 && stat(path, &now) == 0 && before.st_dev == now.st_dev &&
	       before.st_ino == now.st_ino;
}

EXPORT int ptl_open_pins(const char *pins, uint32_t writable, char *err_text, uint32_t err_size)
{
	struct error err = error_begin(err_text, err_size);
	DIR *directory = opendir(pins);
	struct dirent *entry;
	int result = 0;

	if (!directory)
		return fail(&err, errno, PTL_E_PINS, "open", pins, "Cannot open the pin directory: %s", strerror(errno));
	struct handle *handle = handle_new();

	while (handle && result == 0 && (entry = readdir(directory))) {
		char pin[512];

		if (entry->d_type == DT_DIR || entry->d_name[0] == '.' || strlen(entry->d_name) > 15)
			continue;
		if (handle->map_count == MAX_MAPS)
			break;
		struct map *map = &handle->maps[handle->map_count];
		union bpf_attr attr = {};

		snprintf(pin, sizeof(pin), "%s/%s", pins, entry->d_name);
		attr.pathname = (uintptr_t)pin;
		attr.file_flags = writable ? 0 : BPF_F_RDONLY;
		map->fd = sys_bpf(BPF_OBJ_GET, &attr, sizeof(attr));
		if (map->fd < 0) {
			result = fail(&err, map->fd, map->fd == -ENOENT ? PTL_E_PINS : PTL_E_KERNEL, "open", pin,
				      "Cannot open the pin: %s", strerror(-map->fd));
			break;
		}
		handle->map_count++;
		memcpy(map->name, entry->d_name, strlen(entry->d_name) + 1);
		result = map_fill_info(map);
		if (result < 0)
			fail(&err, EINVAL, PTL_E_MAP_SPEC, "open", pin, "The pin is not a map");
	}
	if (handle && result == 0 && !is_still_there(directory, pins))
		result = fail(&err, ESTALE, PTL_E_PINS, "open", pins, "The pins were removed or replaced while they were opened");
	closedir(directory);
	if (!handle)
		return fail(&err, ENOMEM, PTL_E_KERNEL, "open", pins, "Out of memory");
	if (result == 0 && handle->map_count == 0)
		result = fail(&err, ENOENT, PTL_E_PINS, "open", pins, "%s holds no pinned map", pins);
	if (result == 0) {
		snprintf(handle->pins, sizeof(handle->pins), "%s", pins);
		result = handle_publish(handle);
	}
	if (result < 0)
		handle_free(handle);
	return result;
}
