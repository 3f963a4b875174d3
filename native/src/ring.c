/* SPDX-License-Identifier: Apache-2.0 */
/* Reading a BPF ring buffer: libbpf maps it and walks it, and its records are copied into the caller's buffer. */
#include <pthread.h>
#include <stdlib.h>

#include <bpf/libbpf.h>

#include "internal.h"

#define MAX_RINGS 4

struct ring {
	struct ring_buffer *buffer;
	/* of the drain that is under way */
	uint8_t *out;
	uint32_t record_size;
	uint32_t capacity;
	uint32_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct ring *rings[MAX_RINGS];

/* libbpf counts a record as read even when it is told to stop there: so stop with the last one that fits. */
static int take(void *context, void *record, size_t size)
{
	struct ring *ring = context;

	if (size != ring->record_size)
		return 0;
	if (ring->out)
		memcpy(ring->out + (size_t)ring->count * size, record, size);
	ring->count++;
	return ring->count == ring->capacity ? -ENOSPC : 0;
}

static int consume(struct ring *ring, uint8_t *out, uint32_t record_size, uint32_t capacity)
{
	ring->out = out;
	ring->record_size = record_size;
	ring->capacity = capacity;
	ring->count = 0;
	int result = ring_buffer__consume(ring->buffer);

	return result < 0 && result != -ENOSPC ? result : (int)ring->count;
}

static int ring_open(struct error *err, const struct map *map)
{
	struct ring *ring = map->type == BPF_MAP_TYPE_RINGBUF ? calloc(1, sizeof(*ring)) : NULL;
	int number = -EMFILE;

	if (!ring)
		return fail(err, EINVAL, PTL_E_ARGUMENT, "ring", map->name, "Map %s is no ring buffer", map->name);
	ring->buffer = ring_buffer__new(map->fd, take, ring, NULL);
	if (!ring->buffer) {
		number = -errno;
	} else {
		pthread_mutex_lock(&lock);
		for (int i = 0; i < MAX_RINGS && number < 0; i++) {
			if (rings[i])
				continue;
			rings[i] = ring;
			number = i + 1;
		}
		pthread_mutex_unlock(&lock);
	}
	if (number > 0)
		return number;
	ring_buffer__free(ring->buffer);
	free(ring);
	return fail(err, number, PTL_E_KERNEL, "ring", map->name, "Cannot map the ring buffer: %s", strerror(-number));
}

EXPORT int ptl_ring_open(int number, uint32_t index, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct handle *handle = handle_get(number);

	if (!handle)
		return fail(&err, EBADF, PTL_E_ARGUMENT, "ring", "handle", "No such handle: %d", number);
	int result = index < handle->map_count ? ring_open(&err, &handle->maps[index]) :
						 fail(&err, EINVAL, PTL_E_ARGUMENT, "ring", "map", "No map has index %u", index);

	handle_put(handle);
	return result;
}

static struct ring *ring_get(int number)
{
	return number >= 1 && number <= MAX_RINGS ? rings[number - 1] : NULL;
}

EXPORT int ptl_ring_drain(int number, void *out, uint32_t record_size, uint32_t capacity, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);

	pthread_mutex_lock(&lock);
	struct ring *ring = ring_get(number);
	int result = !ring || !capacity ? -EINVAL : consume(ring, out, record_size, capacity);

	pthread_mutex_unlock(&lock);
	if (result < 0)
		return fail(&err, result, ring ? PTL_E_KERNEL : PTL_E_ARGUMENT, "drain", "ring",
			    "Cannot read the ring buffer: %s", strerror(-result));
	return result;
}

EXPORT int ptl_ring_close(int number)
{
	pthread_mutex_lock(&lock);
	struct ring *ring = ring_get(number);

	if (ring)
		rings[number - 1] = NULL;
	pthread_mutex_unlock(&lock);
	if (!ring)
		return -EBADF;
	ring_buffer__free(ring->buffer);
	free(ring);
	return 0;
}
