/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles are numbers: slot | generation << 8. A number that was closed, or never was one, is -EBADF and not a crash.
 * An operation holds a reference, so that closing never takes a map away under it.
 */
#include <pthread.h>
#include <stdlib.h>

#include "internal.h"

#define SLOTS 64

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct handle *slots[SLOTS];
static uint32_t generations[SLOTS];

struct handle *handle_new(void)
{
	struct handle *handle = calloc(1, sizeof(*handle));

	if (handle)
		handle->references = 1;
	return handle;
}

void handle_free(struct handle *handle)
{
	for (uint32_t i = 0; i < handle->map_count; i++)
		close(handle->maps[i].fd);
	for (uint32_t i = 0; i < handle->program_count; i++)
		close(handle->programs[i].fd);
	free(handle);
}

int handle_publish(struct handle *handle)
{
	int number = -EMFILE;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < SLOTS; i++) {
		if (slots[i])
			continue;
		slots[i] = handle;
		generations[i] = (generations[i] + 1) & 0x3fffff;
		number = (int)(i | generations[i] << 8);
		break;
	}
	pthread_mutex_unlock(&lock);
	return number;
}

struct handle *handle_get(int number)
{
	uint32_t slot = (uint32_t)number & 0xff;
	struct handle *handle = NULL;

	if (number <= 0 || slot >= SLOTS)
		return NULL;
	pthread_mutex_lock(&lock);
	if (slots[slot] && generations[slot] == (uint32_t)number >> 8) {
		handle = slots[slot];
		handle->references++;
	}
	pthread_mutex_unlock(&lock);
	return handle;
}

const struct program *handle_program(const struct handle *handle, const char *name)
{
	for (uint32_t i = 0; i < handle->program_count; i++)
		if (!strcmp(handle->programs[i].name, name))
			return &handle->programs[i];
	return NULL;
}

void handle_put(struct handle *handle)
{
	pthread_mutex_lock(&lock);
	bool last = --handle->references == 0;
	pthread_mutex_unlock(&lock);
	if (last)
		handle_free(handle);
}

EXPORT int ptl_close(int number)
{
	struct handle *handle = handle_get(number);

	if (!handle)
		return -EBADF;
	pthread_mutex_lock(&lock);
	/* Two threads may close at once: the slot is given up, and its reference dropped, once. */
	bool mine = slots[(uint32_t)number & 0xff] == handle;
	if (mine) {
		slots[(uint32_t)number & 0xff] = NULL;
		handle->references--;
	}
	pthread_mutex_unlock(&lock);
	handle_put(handle);
	return mine ? 0 : -EBADF;
}
