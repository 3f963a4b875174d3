/* SPDX-License-Identifier: Apache-2.0 */
/* Map infos, transactions and dumps. Batch commands where the kernel has them; otherwise, and where it must be known which
 * entry failed, one call an entry. */
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

/* Below this many entries a batch call saves nothing. */
#define BATCH_MIN 2
#define BUSY_RETRIES 8
#define TOKEN_SIZE sizeof(((struct ptl_cursor *)0)->token)

static int element(int command, const struct map *map, const void *key, const void *value, uint64_t flags)
{
	union bpf_attr attr = {};

	attr.map_fd = (uint32_t)map->fd;
	attr.key = (uintptr_t)key;
	attr.value = (uintptr_t)value;
	attr.flags = flags;
	return sys_bpf(command, &attr, sizeof(attr));
}

static bool is_unsupported(int result)
{
	return result == -KERNEL_ENOTSUPP || result == -EOPNOTSUPP || result == -EINVAL;
}

static uint32_t round_up_8(uint32_t size)
{
	return (size + 7) & ~7u;
}

/* ---- transactions ---- */

struct transaction {
	struct handle *handle;
	struct ptl_apply_result *result;
	bool batch;
	int cpus;
	uint8_t *per_cpu; /* one value for all CPUs */
};

static int write_one(struct transaction *t, const struct map *map, uint32_t kind, const void *key, const void *value)
{
	int result = 0;

	if (is_per_cpu(map->type) && kind != PTL_RUN_DELETE) {
		/* The sum over all CPUs is what was written. */
		memset(t->per_cpu, 0, (size_t)t->cpus * round_up_8(map->value_size));
		memcpy(t->per_cpu, value, map->value_size);
		value = t->per_cpu;
	}
	for (int i = 0; i < BUSY_RETRIES; i++) {
		t->result->system_calls++;
		if (kind == PTL_RUN_DELETE)
			result = element(BPF_MAP_DELETE_ELEM, map, key, NULL, 0);
		else
			result = element(BPF_MAP_UPDATE_ELEM, map, key, value, kind == PTL_RUN_CREATE ? BPF_NOEXIST : BPF_ANY);
		if (result != -EBUSY && result != -EAGAIN && result != -EINTR)
			break;
	}
	return kind == PTL_RUN_DELETE && result == -ENOENT ? 0 : result;
}

/* As many entries as one batch command takes before it meets one it does not like. */
static uint32_t write_batch(struct transaction *t, struct map *map, uint32_t kind, const uint8_t *keys,
			    const uint8_t *values, uint32_t count)
{
	union bpf_attr attr = {};

	attr.batch.keys = (uintptr_t)keys;
	attr.batch.values = kind == PTL_RUN_DELETE ? 0 : (uintptr_t)values;
	attr.batch.count = count;
	attr.batch.map_fd = (uint32_t)map->fd;
	t->result->system_calls++;
	int result = sys_bpf(kind == PTL_RUN_DELETE ? BPF_MAP_DELETE_BATCH : BPF_MAP_UPDATE_BATCH, &attr, sizeof(attr));

	if (result == 0)
		return count;
	/* An unsupported command leaves the count as it was. */
	if (attr.batch.count >= count) {
		if (is_unsupported(result))
			map->no_batch = true;
		return 0;
	}
	return attr.batch.count;
}

static int apply_run(struct transaction *t, uint32_t index, const struct ptl_run *run, const uint8_t *keys,
		     const uint8_t *values)
{
	struct map *map = &t->handle->maps[run->map];
	/* The kernel's batch update takes no BPF_NOEXIST. Per-CPU values need room that the caller's buffer does not have. */
	bool batch = t->batch && run->kind != PTL_RUN_CREATE && !is_per_cpu(map->type);
	uint32_t i = 0;

	while (i < run->count) {
		const uint8_t *key = keys + (size_t)i * map->key_size;
		const uint8_t *value = values + (size_t)i * map->value_size;

		if (batch && !map->no_batch && run->count - i >= BATCH_MIN) {
			uint32_t done = write_batch(t, map, run->kind, key, value, run->count - i);

			i += done;
			t->result->applied += done;
			if (i == run->count)
				return 0;
			key = keys + (size_t)i * map->key_size;
			value = values + (size_t)i * map->value_size;
		}
		/* The entry that stopped the batch: alone, it tells its own errno, or was only busy or missing. */
		int result = write_one(t, map, run->kind, key, value);

		if (result < 0) {
			t->result->failed_run = index;
			t->result->failed_entry = i;
			t->result->error = (uint32_t)-result;
			return result;
		}
		i++;
		t->result->applied++;
	}
	return 0;
}

/* Walks the runs; applies them, or only checks that the buffer is well formed. Returns 0 or -errno. */
static int walk(struct transaction *t, const uint8_t *buffer, uint32_t size, bool check, struct error *err)
{
	uint64_t at = 0;

	for (uint32_t index = 0; at < size; index++) {
		struct ptl_run run;

		if (at + sizeof(run) > size)
			return fail(err, EINVAL, PTL_E_ARGUMENT, "apply", "transaction", "Run %u is cut short", index);
		memcpy(&run, buffer + at, sizeof(run));
		at += sizeof(run);
		if (run.map >= t->handle->map_count || run.kind < PTL_RUN_UPDATE || run.kind > PTL_RUN_CREATE)
			return fail(err, EINVAL, PTL_E_ARGUMENT, "apply", "transaction", "Run %u: map %u, kind %u", index,
				    run.map, run.kind);
		const struct map *map = &t->handle->maps[run.map];
		uint64_t keys = ((uint64_t)run.count * map->key_size + 7) & ~7ull;
		uint64_t values = run.kind == PTL_RUN_DELETE ? 0 : ((uint64_t)run.count * map->value_size + 7) & ~7ull;

		if (at + keys + values > size)
			return fail(err, EINVAL, PTL_E_ARGUMENT, "apply", map->name, "Run %u: %u entries do not fit the buffer",
				    index, run.count);
		if (!check && apply_run(t, index, &run, buffer + at, buffer + at + keys) < 0)
			return 0; /* which entry, and why, is in the result */
		at += keys + values;
	}
	return 0;
}

EXPORT int ptl_apply(int number, const void *buffer, uint32_t size, uint32_t batch, void *result_out, char *text,
		     uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct ptl_apply_result result = {};
	struct handle *handle = handle_get(number);

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "apply", "handle", "No such handle: %d", number);
	struct transaction t = { .handle = handle, .result = &result, .batch = batch != 0, .cpus = possible_cpus() };
	uint32_t largest = 0;

	for (uint32_t i = 0; i < handle->map_count; i++)
		if (handle->maps[i].value_size > largest)
			largest = handle->maps[i].value_size;
	t.per_cpu = malloc((size_t)(t.cpus > 0 ? t.cpus : 1) * round_up_8(largest));
	int status = t.per_cpu && t.cpus > 0 ? walk(&t, buffer, size, true, &err) :
					       fail(&err, ENOMEM, PTL_E_KERNEL, "apply", "transaction", "Out of memory");

	if (status == 0)
		status = walk(&t, buffer, size, false, &err);
	free(t.per_cpu);
	memcpy(result_out, &result, sizeof(result));
	handle_put(handle);
	return status;
}

/* ---- dumps ---- */

static void sum_cpus(uint8_t *out, const uint8_t *values, uint32_t size, int cpus)
{
	for (uint32_t word = 0; word + 8 <= size; word += 8) {
		uint64_t sum = 0, one;

		for (int cpu = 0; cpu < cpus; cpu++) {
			memcpy(&one, values + (size_t)cpu * round_up_8(size) + word, 8);
			sum += one;
		}
		memcpy(out + word, &sum, 8);
	}
}

static int look_up(const struct map *map, const void *key, uint8_t *value, uint8_t *scratch, int cpus)
{
	if (!is_per_cpu(map->type))
		return element(BPF_MAP_LOOKUP_ELEM, map, key, value, 0);
	int result = element(BPF_MAP_LOOKUP_ELEM, map, key, scratch, 0);

	if (result == 0)
		sum_cpus(value, scratch, map->value_size, cpus);
	return result;
}

/* Array cells [cursor->seen, ...), one call each: what works on every kernel. */
static int dump_cells(const struct map *map, uint32_t limit, struct ptl_cursor *cursor, uint8_t *keys, uint8_t *values,
		      uint32_t capacity, uint8_t *scratch, int cpus)
{
	uint32_t count = 0;

	for (; count < capacity && cursor->seen < limit; count++, cursor->seen++) {
		int result = look_up(map, &cursor->seen, values + (size_t)count * map->value_size, scratch, cpus);

		if (result < 0)
			return result;
		memcpy(keys + (size_t)count * 4, &cursor->seen, 4);
	}
	return (int)count;
}

/* More keys than this were seen of a map with so many entries: it began anew so often that it would never end. */
#define MOST_READINGS 8

/* Key after key. When the last key vanishes the kernel starts again from the first, and what was seen comes once more: the
 * caller leaves that out. The end is reached in the end, or it is an error: what is read is never a part taken for the whole. */
static int dump_keys(const struct map *map, struct ptl_cursor *cursor, uint8_t *keys, uint8_t *values, uint32_t capacity,
		     uint8_t *scratch, int cpus)
{
	uint32_t count = 0;

	while (count < capacity) {
		uint8_t next[TOKEN_SIZE];
		union bpf_attr attr = {};

		attr.map_fd = (uint32_t)map->fd;
		attr.key = cursor->state == PTL_CURSOR_START ? 0 : (uintptr_t)cursor->token;
		attr.next_key = (uintptr_t)next;
		int result = sys_bpf(BPF_MAP_GET_NEXT_KEY, &attr, sizeof(attr));

		if (result == -ENOENT) {
			cursor->state = PTL_CURSOR_DONE;
			break;
		}
		if (cursor->seen / MOST_READINGS > map->max_entries)
			return -EAGAIN;
		if (result < 0)
			return result;
		memcpy(cursor->token, next, map->key_size);
		cursor->state = PTL_CURSOR_MORE;
		cursor->seen++;
		result = look_up(map, next, values + (size_t)count * map->value_size, scratch, cpus);
		if (result == -ENOENT)
			continue;
		if (result < 0)
			return result;
		memcpy(keys + (size_t)count * map->key_size, next, map->key_size);
		count++;
	}
	return (int)count;
}

/* One batch command; *count is what is wanted and what came. Returns 0, -ENOENT at the end, or -errno. */
static int look_up_batch(const struct map *map, struct ptl_cursor *cursor, void *keys, void *values, uint32_t *count)
{
	uint8_t next[TOKEN_SIZE] = {};
	union bpf_attr attr = {};

	attr.batch.in_batch = cursor->state == PTL_CURSOR_START ? 0 : (uintptr_t)cursor->token;
	attr.batch.out_batch = (uintptr_t)next;
	attr.batch.keys = (uintptr_t)keys;
	attr.batch.values = (uintptr_t)values;
	attr.batch.count = *count;
	attr.batch.map_fd = (uint32_t)map->fd;
	int result = sys_bpf(BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));

	if (result == 0 || result == -ENOENT) {
		*count = attr.batch.count;
		memcpy(cursor->token, next, sizeof(next));
		cursor->state = result == 0 ? PTL_CURSOR_MORE : PTL_CURSOR_DONE;
	}
	return result;
}

static int dump_hash_batch(const struct map *map, struct ptl_cursor *cursor, uint8_t *keys, uint8_t *values,
			   uint32_t capacity)
{
	uint32_t total = 0;

	while (total < capacity && cursor->state != PTL_CURSOR_DONE) {
		uint32_t count = capacity - total;
		int result = look_up_batch(map, cursor, keys + (size_t)total * map->key_size,
					   values + (size_t)total * map->value_size, &count);

		/* The next bucket does not fit: that is for the next call, unless nothing fitted. */
		if (result == -ENOSPC)
			return total ? (int)total : -ENOSPC;
		if (result < 0 && result != -ENOENT)
			return result;
		total += count;
	}
	return (int)total;
}

static int dump_array_batch(const struct map *map, uint32_t limit, struct ptl_cursor *cursor, uint8_t *keys,
			    uint8_t *values, uint32_t capacity)
{
	uint32_t total = 0;

	while (total < capacity && cursor->seen < limit) {
		uint32_t count = limit - cursor->seen < capacity - total ? limit - cursor->seen : capacity - total;
		/* The token of an array is the last index that was read. */
		uint32_t last = cursor->seen - 1;

		memcpy(cursor->token, &last, 4);
		cursor->state = cursor->seen ? PTL_CURSOR_MORE : PTL_CURSOR_START;
		int result = look_up_batch(map, cursor, keys + (size_t)total * 4, values + (size_t)total * map->value_size, &count);

		if (result < 0 && result != -ENOENT)
			return result;
		if (count == 0)
			break;
		total += count;
		cursor->seen += count;
	}
	return (int)total;
}

static int dump(struct map *map, uint32_t limit, bool batch, struct ptl_cursor *cursor, uint8_t *keys, uint8_t *values,
		uint32_t capacity)
{
	int cpus = possible_cpus();

	if (map->key_size > TOKEN_SIZE) /* some map types hand out a key as the token of a batch */
		return -E2BIG;
	uint8_t *scratch = malloc((size_t)(cpus > 0 ? cpus : 1) * round_up_8(map->value_size));
	int result = -KERNEL_ENOTSUPP;

	if (!scratch || cpus <= 0) {
		free(scratch);
		return -ENOMEM;
	}
	/* A trie has batch lookups since Linux 5.14 only, and is small: always key after key. */
	batch = batch && !is_per_cpu(map->type) && !map->no_batch && map->type != BPF_MAP_TYPE_LPM_TRIE;
	if (is_array(map->type)) {
		if (limit > map->max_entries)
			limit = map->max_entries;
		if (batch)
			result = dump_array_batch(map, limit, cursor, keys, values, capacity);
		if (is_unsupported(result))
			result = dump_cells(map, limit, cursor, keys, values, capacity, scratch, cpus);
		cursor->state = cursor->seen >= limit ? PTL_CURSOR_DONE : PTL_CURSOR_MORE;
	} else {
		if (batch)
			result = dump_hash_batch(map, cursor, keys, values, capacity);
		if (is_unsupported(result)) {
			if (batch)
				map->no_batch = true;
			result = dump_keys(map, cursor, keys, values, capacity, scratch, cpus);
		}
	}
	free(scratch);
	return result;
}

EXPORT int ptl_dump(int number, uint32_t index, uint32_t limit, uint32_t batch, void *cursor_bytes, void *keys,
		    void *values, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	struct ptl_cursor cursor;
	int result = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "dump", "handle", "No such handle: %d", number);
	if (index >= handle->map_count) {
		handle_put(handle);
		return fail(&err, EINVAL, PTL_E_ARGUMENT, "dump", "map", "No map has index %u", index);
	}
	memcpy(&cursor, cursor_bytes, sizeof(cursor));
	if (cursor.state != PTL_CURSOR_DONE)
		result = dump(&handle->maps[index], limit, batch != 0, &cursor, keys, values, capacity);
	memcpy(cursor_bytes, &cursor, sizeof(cursor));
	if (result < 0)
		fail(&err, result, PTL_E_KERNEL, "dump", handle->maps[index].name, "Cannot read the map: %s",
		     result == -EAGAIN ? "its entries come and go faster than they can be read" : strerror(-result));
	handle_put(handle);
	return result;
}

/* ---- single entries ---- */

EXPORT int ptl_look_up(int number, uint32_t index, const void *keys, uint32_t count, void *values, void *found, char *text,
		       uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	int hits = 0;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "look_up", "handle", "No such handle: %d", number);
	const struct map *map = index < handle->map_count ? &handle->maps[index] : NULL;
	int result = map && !is_per_cpu(map->type) ? 0 : fail(&err, EINVAL, PTL_E_ARGUMENT, "look_up", "map",
							      "No map has index %u, or it has a value for each CPU", index);

	for (uint32_t i = 0; i < count && result == 0; i++) {
		uint8_t *value = (uint8_t *)values + (size_t)i * map->value_size;

		result = element(BPF_MAP_LOOKUP_ELEM, map, (const uint8_t *)keys + (size_t)i * map->key_size, value, 0);
		((uint8_t *)found)[i] = result == 0;
		hits += result == 0;
		if (result == -ENOENT)
			result = 0;
		else if (result < 0)
			fail(&err, result, PTL_E_KERNEL, "look_up", map->name, "Cannot read the map: %s", strerror(-result));
	}
	handle_put(handle);
	return result < 0 ? result : hits;
}

/* ---- infos ---- */

static uint64_t charged_bytes(int fd)
{
	char path[64], line[256];
	unsigned long long bytes = 0;

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	FILE *file = fopen(path, "re");

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, "memlock: %llu", &bytes) == 1)
			break;
	if (file)
		fclose(file);
	return bytes;
}

/* An array is always full, and a ring buffer has no keys. */
static bool has_entries(uint32_t type)
{
	return !is_array(type) && type != BPF_MAP_TYPE_RINGBUF;
}

static int64_t count_entries_of(struct map *map)
{
	const uint32_t chunk = 16384;
	struct ptl_cursor cursor = {};
	uint8_t *keys = malloc((size_t)chunk * map->key_size);
	uint8_t *values = malloc((size_t)chunk * map->value_size);
	int64_t total = 0;

	while (keys && values && cursor.state != PTL_CURSOR_DONE) {
		int count = dump(map, 0, true, &cursor, keys, values, chunk);

		if (count < 0) {
			total = -1;
			break;
		}
		total += count;
	}
	if (!keys || !values)
		total = -1;
	free(keys);
	free(values);
	return total;
}

EXPORT int ptl_map_infos(int number, uint32_t count_entries, void *out, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);
	struct ptl_map_info *infos = out;

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "infos", "handle", "No such handle: %d", number);
	uint32_t count = handle->map_count;

	if (count > capacity) {
		handle_put(handle);
		return fail(&err, ENOSPC, PTL_E_ARGUMENT, "infos", "handle", "There are %u maps", count);
	}
	for (uint32_t i = 0; i < count; i++) {
		struct map *map = &handle->maps[i];
		struct ptl_map_info info = {
			.index = i,
			.type = map->type,
			.key_size = map->key_size,
			.value_size = map->value_size,
			.max_entries = map->max_entries,
			.flags = map->flags,
			.id = map->id,
			.bytes = charged_bytes(map->fd),
			.used = count_entries && has_entries(map->type) ? count_entries_of(map) : -1,
		};

		memcpy(info.name, map->name, sizeof(info.name));
		memcpy(&infos[i], &info, sizeof(info));
	}
	handle_put(handle);
	return (int)count;
}
