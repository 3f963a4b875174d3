/* SPDX-License-Identifier: Apache-2.0 */
/* The twin of the programs (bpf/trace.bpf.c): loading it over the pinned maps, and running packets through it. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"
#include "trace.h"

#define LIVE "_live"
#define GONE "_gone"
#define AREA "area" /* the name of .bss in a handle */

static bool ends_with(const char *text, const char *end)
{
	size_t length = strlen(text), ending = strlen(end);

	return length >= ending && !strcmp(text + length - ending, end);
}

/* The map of that name and ending. */
static struct bpf_map *sibling(const struct bpf_object *object, const char *name, const char *ending)
{
	char other[32];

	snprintf(other, sizeof(other), "%s%s", name, ending);
	return bpf_object__find_map_by_name(object, other);
}

/* What programs count or tell in, or only sockets use: the twin refers to none of it, and the kernel would refuse it if it did. */
static bool is_left_out(const char *name)
{
	static const char *const names[] = { "counters", "backend_stats4", "backend_stats6", "socket_nat4",
					     "socket_nat6", "services", "service_drops", "listener",
					     "events", "flow_marks" };

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (!strcmp(name, names[i]))
			return true;
	return false;
}

/* Makes `map` the one that is pinned in `pins` under `name`. */
static int use_pinned(struct error *err, struct bpf_map *map, const char *pins, const char *name)
{
	char pin[512];
	int result;

	snprintf(pin, sizeof(pin), "%s/%s", pins, name);
	struct map pinned = { .fd = bpf_obj_get(pin) };

	if (pinned.fd < 0)
		return fail(err, errno, errno == ENOENT ? PTL_E_PINS : PTL_E_KERNEL, "open", pin, "Cannot open the pin: %s",
			    strerror(errno));
	result = map_fill_info(&pinned);
	if (result < 0 || pinned.type != bpf_map__type(map) || pinned.key_size != bpf_map__key_size(map) ||
	    pinned.value_size != bpf_map__value_size(map))
		result = fail(err, EINVAL, PTL_E_MAP_SPEC, "open", pin, "The pin is not the map %s of this build", name);
	else
		result = bpf_map__reuse_fd(map, pinned.fd);
	close(pinned.fd);
	if (result < 0)
		fail(err, result, PTL_E_KERNEL, "open", pin, "Cannot use the pinned map: %s", strerror(-result));
	return result;
}

/* What a map of the object is to the twin. */
enum map_role {
	ROLE_LEAVE,    /* libbpf's own, or a private one of no concern here */
	ROLE_PINNED,   /* the agent's: the pinned one */
	ROLE_LIVE,     /* below an overlay: the pinned one, under its name without "_live" */
	ROLE_OVERLAY,  /* private, over the live one */
	ROLE_GONE,     /* the keys that an overlay hides */
	ROLE_LEFT_OUT,
	ROLE_AREA,
};

struct map_choice {
	struct bpf_map *map;
	enum map_role role;
	char name[32]; /* libbpf renames a map that it is told to reuse */
};

struct map_choices {
	uint32_t count;
	struct map_choice all[MAX_MAPS];
};

static enum map_role role_of(const struct bpf_object *object, const struct bpf_map *map)
{
	const char *name = bpf_map__name(map);

	if (bpf_map__is_internal(map))
		return ends_with(name, ".bss") ? ROLE_AREA : ROLE_LEAVE;
	if (ends_with(name, LIVE))
		return ROLE_LIVE;
	if (ends_with(name, GONE))
		return ROLE_GONE;
	if (sibling(object, name, LIVE))
		return ROLE_OVERLAY;
	if (is_left_out(name))
		return ROLE_LEFT_OUT;
	return bpf_map__pin_path(map) ? ROLE_PINNED : ROLE_LEAVE;
}

static int prepare_map(struct error *err, const struct map_choice *choice, const char *pins)
{
	struct bpf_map *map = choice->map;
	char base[32];
	int result = 0;

	switch (choice->role) {
	case ROLE_PINNED:
		return use_pinned(err, map, pins, choice->name);
	case ROLE_LIVE:
		snprintf(base, sizeof(base), "%.*s", (int)(strlen(choice->name) - strlen(LIVE)), choice->name);
		return use_pinned(err, map, pins, base);
	case ROLE_OVERLAY:
		/* not an LRU: what a trace has written is not to be evicted */
		result = bpf_map__set_type(map, BPF_MAP_TYPE_HASH);
		if (result == 0)
			result = bpf_map__set_max_entries(map, PTL_OVERLAY_ENTRIES);
		if (result == 0)
			result = bpf_map__set_pin_path(map, NULL);
		break;
	case ROLE_LEFT_OUT:
		result = bpf_map__set_autocreate(map, false);
		break;
	default:
		break;
	}
	if (result < 0)
		fail(err, result, PTL_E_KERNEL, "open", choice->name, "Cannot prepare the map: %s", strerror(-result));
	return result;
}

static int choose_maps(struct error *err, struct bpf_object *object, const char *pins, struct map_choices *choices)
{
	struct bpf_map *map;
	int result = 0;

	bpf_object__for_each_map(map, object) {
		struct map_choice *choice = &choices->all[choices->count];

		if (choices->count == MAX_MAPS)
			return fail(err, E2BIG, PTL_E_OBJECT, "open", bpf_map__name(map), "The object has too many maps");
		choice->map = map;
		choice->role = role_of(object, map);
		snprintf(choice->name, sizeof(choice->name), "%s", bpf_map__name(map));
		choices->count++;
	}
	for (uint32_t i = 0; i < choices->count && result == 0; i++)
		result = prepare_map(err, &choices->all[i], pins);
	return result;
}

/* The object has the live programs' names too: nobody runs those. */
static void choose_programs(struct bpf_object *object, uint32_t family)
{
	struct bpf_program *program;

	bpf_object__for_each_program(program, object) {
		const char *name = bpf_program__name(program);

		bpf_program__set_autoload(program, !strncmp(name, "twin_", 5) && ends_with(name, family == 4 ? "4" : "6"));
	}
}

/* The handle has the overlays, the keys that are gone, and the area: nothing of the live dataplane. */
static int take(struct bpf_object *object, const struct map_choices *choices, struct handle *handle)
{
	for (uint32_t i = 0; i < choices->count; i++) {
		const struct map_choice *choice = &choices->all[i];
		int result = 0;

		if (choice->role == ROLE_AREA)
			result = object_keep_map(choice->map, AREA, handle);
		else if (choice->role == ROLE_OVERLAY || choice->role == ROLE_GONE)
			result = object_keep_map(choice->map, choice->name, handle);
		if (result < 0)
			return result;
	}
	return object_keep_programs(object, handle);
}

static int finish(struct error *err, struct bpf_object *object, const struct map_choices *choices, const char *path)
{
	struct handle *handle = handle_new();
	int result = handle ? take(object, choices, handle) : -ENOMEM;

	if (result == 0)
		result = handle_publish(handle);
	if (result < 0 && handle)
		handle_free(handle);
	if (result < 0)
		fail(err, result, PTL_E_KERNEL, "open", path, "Cannot keep the loaded object: %s", strerror(-result));
	return result;
}

EXPORT int ptl_trace_open(const char *path, const char *pins, uint32_t family, const void *config,
			  uint32_t config_size, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct map_choices choices = {};
	char *log = calloc(1, VERIFIER_LOG_SIZE);

	if (!log)
		return fail(&err, ENOMEM, PTL_E_KERNEL, "open", path, "Out of memory");
	struct bpf_object *object = object_open(&err, path, pins, log);
	int result = object ? 0 : -errno;

	if (object) {
		choose_programs(object, family);
		result = object_set_config(&err, object, path, config, config_size);
		if (result == 0)
			result = choose_maps(&err, object, pins, &choices);
		if (result == 0)
			result = object_load(&err, object, path, log);
		if (result == 0)
			result = finish(&err, object, &choices, path);
		bpf_object__close(object);
	}
	free(log);
	return result;
}

static struct map *find_map(struct handle *handle, const char *name)
{
	for (uint32_t i = 0; i < handle->map_count; i++)
		if (!strcmp(handle->maps[i].name, name))
			return &handle->maps[i];
	return NULL;
}

static int area_element(int command, const struct map *map, void *area)
{
	union bpf_attr attr = {};
	uint32_t zero = 0;

	attr.map_fd = (uint32_t)map->fd;
	attr.key = (uintptr_t)&zero;
	attr.value = (uintptr_t)area;
	return sys_bpf(command, &attr, sizeof(attr));
}

EXPORT int ptl_trace_run(int number, const char *name, const void *data_in, uint32_t data_in_size, void *data_out,
			 uint32_t data_out_size, void *ctx, uint32_t ctx_size, const void *request, uint32_t request_size,
			 void *result_out, void *answer, void *records, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	struct ptl_test_result result = {};
	union bpf_attr attr = {};

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "trace", "handle", "No such handle: %d", number);
	const struct program *program = handle_program(handle, name);
	const struct map *area_map = find_map(handle, AREA);
	struct trace_area *area = calloc(1, sizeof(*area));
	int status = area ? 0 : -ENOMEM;

	if (!program || !area_map || area_map->value_size != sizeof(*area) ||
	    request_size != sizeof(area->request))
		status = -EINVAL;
	attr.test.data_in = (uintptr_t)data_in;
	attr.test.data_size_in = data_in_size;
	attr.test.data_out = (uintptr_t)data_out;
	attr.test.data_size_out = data_out_size;
	attr.test.ctx_in = attr.test.ctx_out = (uintptr_t)ctx;
	attr.test.ctx_size_in = attr.test.ctx_size_out = ctx_size;
	attr.test.repeat = 1;
	if (status == 0) {
		memcpy(&area->request, request, request_size);
		status = area_element(BPF_MAP_UPDATE_ELEM, area_map, area);
	}
	if (status == 0)
		status = test_run(program, &attr, &result);
	if (status == 0)
		status = area_element(BPF_MAP_LOOKUP_ELEM, area_map, area);
	if (status == 0) {
		uint32_t kept = area->count < PTL_TRACE_RECORDS ? area->count : PTL_TRACE_RECORDS;

		memcpy(result_out, &result, sizeof(result));
		memcpy(answer, &area->answer, sizeof(area->answer));
		memcpy(records, area->records, (kept < capacity ? kept : capacity) * sizeof(area->records[0]));
		status = (int)area->count;
	} else {
		fail(&err, status, status == -EINVAL && !program ? PTL_E_ARGUMENT : PTL_E_KERNEL, "trace", name,
		     "Cannot run the twin of the program: %s", strerror(-status));
	}
	free(area);
	handle_put(handle);
	return status;
}

/* Deletes every key of a small hash. */
static int empty(const struct map *map)
{
	uint8_t key[64];
	int result = map->key_size <= sizeof(key) ? 0 : -E2BIG;

	while (result == 0 && bpf_map_get_next_key(map->fd, NULL, key) == 0)
		result = bpf_map_delete_elem(map->fd, key) < 0 ? -errno : 0;
	return result;
}

EXPORT int ptl_trace_reset(int number, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	int result = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "trace", "handle", "No such handle: %d", number);
	for (uint32_t i = 0; i < handle->map_count && result == 0; i++)
		if (!is_array(handle->maps[i].type))
			result = empty(&handle->maps[i]);
	if (result < 0)
		fail(&err, result, PTL_E_KERNEL, "trace", "overlay", "Cannot empty it: %s", strerror(-result));
	handle_put(handle);
	return result;
}
