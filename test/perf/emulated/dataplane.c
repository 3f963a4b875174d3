/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Portolan's programs and maps in the machine of `make bench-qemu`, where no Node.js is: libportolan (linked in) does what the
 * agent has it do.
 *
 *   dataplane start OBJECT CONFIG INTERFACES LINK…   loads, pins, attaches to the pods' links. CONFIG: a struct ptl_config.
 *                                                    INTERFACES: a struct interface, which all these links get
 *   dataplane apply FILE                             writes that were recorded: struct write, keys, values; padded to 8 bytes
 *   dataplane counters                               prints the packets of each reason, as JSON
 */
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "portolan.h"

#define PINS "/sys/fs/bpf/portolan/v1"

enum { MAX_MAPS = 64, MAX_LINKS = 8 };

/* Before the keys and values of one run, as test/perf/emulated/contestants.ts writes it. */
struct write {
	char map[16];
	uint32_t kind; /* enum ptl_run_kind */
	uint32_t count;
};

struct file {
	unsigned char *bytes;
	size_t size;
};

static char trouble[1 << 16];
static struct ptl_map_info infos[MAX_MAPS];
static int info_count;

__attribute__((format(printf, 2, 3), noreturn)) static void die(int error, const char *format, ...)
{
	va_list arguments;

	fprintf(stderr, "dataplane: ");
	va_start(arguments, format);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n%s\n", strerror(error < 0 ? -error : error), trouble);
	exit(1);
}

static struct file read_file(const char *path)
{
	struct file file = {};
	FILE *stream = fopen(path, "rb");
	long size;

	if (!stream || fseek(stream, 0, SEEK_END) || (size = ftell(stream)) < 0)
		die(errno, "%s", path);
	rewind(stream);
	file.size = (size_t)size;
	file.bytes = malloc(file.size + 1);
	if (!file.bytes || fread(file.bytes, 1, file.size, stream) != file.size)
		die(errno, "%s", path);
	fclose(stream);
	return file;
}

static int read_infos(int handle)
{
	info_count = handle > 0 ? ptl_map_infos(handle, 0, infos, MAX_MAPS, trouble, sizeof(trouble)) : handle;
	if (info_count <= 0)
		die(info_count, "maps");
	return handle;
}

static int open_pinned(void)
{
	return read_infos(ptl_open_pins(PINS, 1, trouble, sizeof(trouble)));
}

static const struct ptl_map_info *info_of(const char *name)
{
	for (int i = 0; i < info_count; i++)
		if (!strncmp(infos[i].name, name, sizeof(infos[i].name)))
			return &infos[i];
	die(ENOENT, "map %.16s", name);
}

static size_t padded(size_t size)
{
	return (size + 7) / 8 * 8;
}

/* `body`: keys, then values, each padded. Returns its length. */
static size_t apply(int handle, const struct write *write, const unsigned char *body, size_t rest)
{
	const struct ptl_map_info *map = info_of(write->map);
	struct ptl_run run = {.map = map->index, .kind = write->kind, .count = write->count};
	struct ptl_apply_result result = {};
	size_t size = padded((size_t)write->count * map->key_size);
	unsigned char *buffer;
	int error;

	if (write->kind != PTL_RUN_DELETE)
		size += padded((size_t)write->count * map->value_size);
	if (size > rest)
		die(EINVAL, "a run of %.16s", write->map);
	buffer = malloc(sizeof(run) + size);
	if (!buffer)
		die(ENOMEM, "a run of %.16s", write->map);
	memcpy(buffer, &run, sizeof(run));
	memcpy(buffer + sizeof(run), body, size);
	error = ptl_apply(handle, buffer, (uint32_t)(sizeof(run) + size), 1, &result, trouble, sizeof(trouble));
	if (error < 0 || result.error)
		die(error < 0 ? error : (int)result.error, "entry %u of %.16s", result.failed_entry, write->map);
	free(buffer);
	return size;
}

static void apply_file(const char *path)
{
	struct file file = read_file(path);
	int handle = open_pinned();
	struct write write;

	for (size_t at = 0; at < file.size;) {
		if (file.size - at < sizeof(write))
			die(EINVAL, "%s", path);
		memcpy(&write, file.bytes + at, sizeof(write));
		at += sizeof(write);
		at += apply(handle, &write, file.bytes + at, file.size - at);
	}
}

static void start(const char *object, const char *config_path, const char *interface_path, char **links, int count)
{
	struct file config = read_file(config_path), interface = read_file(interface_path);
	struct ptl_attach_request requests[MAX_LINKS] = {};
	struct ptl_attach_result results[MAX_LINKS] = {};
	struct write write = {.map = "interfaces", .kind = PTL_RUN_UPDATE, .count = 1};
	unsigned char body[2 * sizeof(struct interface) + 16] = {};
	int handle;

	if (count < 1 || count > MAX_LINKS || config.size != sizeof(struct ptl_config) ||
	    interface.size != sizeof(struct interface))
		die(EINVAL, "links or sizes");
	handle = read_infos(ptl_open(object, PINS, config.bytes, (uint32_t)config.size, NULL, 0,
				     PTL_OPEN_NO_SOCKETS | PTL_OPEN_NO_XDP, trouble, sizeof(trouble)));
	memcpy(body + padded(sizeof(uint32_t)), interface.bytes, interface.size);
	for (int i = 0; i < count; i++) {
		uint32_t index = if_nametoindex(links[i]);

		requests[i] = (struct ptl_attach_request){.ifindex = index, .role = PTL_ROLE_POD};
		memcpy(body, &index, sizeof(index));
		apply(handle, &write, body, sizeof(body));
	}
	if (ptl_attach(handle, requests, (uint32_t)count, results, trouble, sizeof(trouble)) != count)
		die(EIO, "attach");
}

static void print_counters(void)
{
	static unsigned char keys[4 * PTL_COUNTERS_SERVICE_BASE];
	static struct traffic values[PTL_COUNTERS_SERVICE_BASE];
	struct ptl_cursor cursor = {};
	int handle = open_pinned();
	uint32_t total = 0;

	while (cursor.state != PTL_CURSOR_DONE && total < PTL_REASON_COUNT) {
		int count = ptl_dump(handle, info_of("counters")->index, PTL_REASON_COUNT, 1, &cursor, keys + 4 * total,
				     values + total, PTL_COUNTERS_SERVICE_BASE - total, trouble, sizeof(trouble));

		if (count < 0)
			die(count, "counters");
		total += (uint32_t)count;
	}
	for (uint32_t i = 0; i < total; i++)
		printf("%s%llu", i ? "," : "[", (unsigned long long)values[i].packets);
	puts("]");
}

int main(int argc, char **argv)
{
	if (argc > 5 && !strcmp(argv[1], "start"))
		start(argv[2], argv[3], argv[4], argv + 5, argc - 5);
	else if (argc == 3 && !strcmp(argv[1], "apply"))
		apply_file(argv[2]);
	else if (argc == 2 && !strcmp(argv[1], "counters"))
		print_counters();
	else
		die(EINVAL, "start OBJECT CONFIG INTERFACES LINK…, apply FILE, or counters");
	return 0;
}
