/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Drives the whole library under AddressSanitizer, LeakSanitizer and UBSan, with exactly sized buffers from the heap, so that
 * a byte too many is seen: sanitize OBJECT TWIN MOUNT-POINT CGROUP. In a network and mount namespace of its own (test/native).
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "netlink.h"
#include "portolan.h"

/* MAPS, how many there are, comes from the compiler's command line: the test knows them. */
#define ERR error, ERROR_SIZE
#define ERROR_SIZE 4096
#define TRIE 11 /* BPF_MAP_TYPE_LPM_TRIE */

static char *error;
static int failures;

static void expect(const char *what, int got, int wanted)
{
	if (got == wanted)
		return;
	printf("%s: %d, expected %d: %s\n", what, got, wanted, error);
	failures++;
}

static int open_descriptors(void)
{
	DIR *directory = opendir("/proc/self/fd");
	int count = 0;

	while (readdir(directory))
		count++;
	closedir(directory);
	return count;
}

/* One run of n entries with keys 0 … n-1; returns its size. */
static uint32_t fill(uint8_t *buffer, const struct ptl_map_info *map, uint32_t kind, uint32_t n)
{
	uint32_t keys = (n * map->key_size + 7) & ~7u;
	uint32_t values = kind == PTL_RUN_DELETE ? 0 : (n * map->value_size + 7) & ~7u;
	struct ptl_run run = { map->index, kind, n, 0 };

	memset(buffer, 0, sizeof(run) + keys + values);
	memcpy(buffer, &run, sizeof(run));
	for (uint32_t i = 0; i < n; i++)
		memcpy(buffer + sizeof(run) + i * map->key_size, &i, 4);
	return sizeof(run) + keys + values;
}

static void apply(int handle, const struct ptl_map_info *map, uint32_t kind, uint32_t n, uint32_t batch, uint32_t applied)
{
	uint8_t *wide = malloc(sizeof(struct ptl_run) + n * (map->key_size + map->value_size) + 16);
	uint32_t size = fill(wide, map, kind, n);
	uint8_t *exact = malloc(size);
	struct ptl_apply_result *result = malloc(sizeof(*result));

	memcpy(exact, wide, size);
	expect(map->name, ptl_apply(handle, exact, size, batch, result, ERR), 0);
	expect("applied", (int)result->applied, (int)applied);
	expect("a transaction cut short", ptl_apply(handle, exact, size - 9, batch, result, ERR), -22);
	free(wide);
	free(exact);
	free(result);
}

static void dump(int handle, const struct ptl_map_info *map, uint32_t n, uint32_t batch, uint32_t capacity)
{
	struct ptl_cursor *cursor = calloc(1, sizeof(*cursor));
	uint8_t *keys = malloc(capacity * map->key_size), *values = malloc(capacity * map->value_size);
	uint32_t total = 0;

	while (cursor->state != PTL_CURSOR_DONE) {
		int count = ptl_dump(handle, map->index, n, batch, cursor, keys, values, capacity, ERR);

		if (count < 0) {
			expect(map->name, count, 0);
			break;
		}
		total += (uint32_t)count;
	}
	expect("dumped", (int)total, (int)n);
	free(cursor);
	free(keys);
	free(values);
}

/* A ring buffer has no entries: records pass through it. */
static void drain(int handle, uint32_t map)
{
	uint8_t *record = malloc(sizeof(struct flow_event));
	int ring = ptl_ring_open(handle, map, ERR);

	expect("ring", ring >= 0, 1);
	expect("an empty ring", ptl_ring_drain(ring, record, sizeof(struct flow_event), 1, ERR), 0);
	expect("an empty ring, thrown away", ptl_ring_drain(ring, NULL, sizeof(struct flow_event), 1, ERR), 0);
	expect("ring closed", ptl_ring_close(ring), 0);
	free(record);
}

static void try_maps(int handle)
{
	struct ptl_map_info *infos = malloc(64 * sizeof(*infos));
	int count = ptl_map_infos(handle, 1, infos, 64, ERR);

	expect("infos", count >= MAPS, 1); /* programs have a few of their own besides, which are not pinned */
	if (count < MAPS)
		exit(1);
	infos = realloc(infos, (uint32_t)count * sizeof(*infos));
	expect("infos", ptl_map_infos(handle, 1, infos, (uint32_t)count, ERR), count);
	expect("infos without room", ptl_map_infos(handle, 0, infos, (uint32_t)count - 1, ERR), -28);
	for (int i = 0; i < count; i++) {
		if (infos[i].max_entries < 64)
			continue;
		if (infos[i].key_size == 0) {
			drain(handle, infos[i].index);
			continue;
		}
		uint32_t is_array = infos[i].used < 0;
		/* Of a trie the number is the length of the prefix: 0 to 32 are good in every one. */
		uint32_t n = infos[i].type == TRIE ? 33 : 99, gone = infos[i].type == TRIE ? 33 : 120;

		for (uint32_t batch = 0; batch < 2; batch++) {
			apply(handle, &infos[i], PTL_RUN_UPDATE, n, batch, n);
			dump(handle, &infos[i], n, batch, 99);
			dump(handle, &infos[i], n, batch, 33);
			if (!batch)
				dump(handle, &infos[i], n, batch, 1);
			apply(handle, &infos[i], PTL_RUN_DELETE, gone, batch, is_array ? 0 : gone);
		}
	}
	free(infos);
}

/* What is there and what is not, in a hash; a map of values for each CPU, and one that is not there, are refused. */
static void try_look_up(int handle)
{
	struct ptl_map_info *infos = malloc(64 * sizeof(*infos));
	int count = ptl_map_infos(handle, 0, infos, 64, ERR);

	for (int i = 0; i < count; i++) {
		bool is_hash = !strcmp(infos[i].name, "nat6");

		if (!is_hash && strcmp(infos[i].name, "counters"))
			continue;
		uint8_t *keys = calloc(3, infos[i].key_size), *values = malloc(3 * infos[i].value_size), *found = malloc(3);

		for (uint32_t key = 0; key < 3; key++)
			memcpy(keys + key * infos[i].key_size, &key, 4);
		if (is_hash)
			apply(handle, &infos[i], PTL_RUN_UPDATE, 2, 1, 2);
		expect("look up", ptl_look_up(handle, infos[i].index, keys, 3, values, found, ERR), is_hash ? 2 : -22);
		expect("look up nothing", ptl_look_up(handle, infos[i].index, keys, 0, values, found, ERR), is_hash ? 0 : -22);
		expect("no such map", ptl_look_up(handle, 64, keys, 3, values, found, ERR), -22);
		expect("no such handle", ptl_look_up(4711, infos[i].index, keys, 3, values, found, ERR), -9);
		if (is_hash)
			apply(handle, &infos[i], PTL_RUN_DELETE, 2, 1, 2);
		free(keys);
		free(values);
		free(found);
	}
	free(infos);
}

/* Both checksums that C computes for others: over exactly the bytes that they are told of. */
static void try_sums(void)
{
	uint8_t *hash = malloc(8), *key = calloc(1, 20);
	struct nat_key4 *keys4 = calloc(2, sizeof(*keys4));
	struct nat_key6 *keys6 = calloc(2, sizeof(*keys6));
	struct nat_value4 *values4 = calloc(2, sizeof(*values4));
	struct nat_value6 *values6 = calloc(2, sizeof(*values6));

	expect("layout", ptl_abi_version() > 0, 1);
	expect("hash", ptl_abi_hash(hash), 0);
	expect("libbpf", ptl_libbpf_version() >= 1 << 16, 1);
	expect("tag", ptl_choice_tag_of(key, 20) >= 0, 1);
	expect("mark", ptl_mark_index_of(key, 16, 1) >= 0, 1);
	expect("seal", ptl_nat_seal(4, keys4, values4, 2), 0);
	expect("seal", ptl_nat_seal(6, keys6, values6, 2), 0);
	expect("sealed", values4[1].check != 0 && values6[1].check != 0, 1);
	free(hash);
	free(key);
	free(keys4);
	free(keys6);
	free(values4);
	free(values6);
}

/* This namespace has no route but to itself, and no conntrack perhaps. */
static void try_namespace(void)
{
	struct ptl_route_request *request = calloc(1, sizeof(*request));
	struct ptl_route *route = malloc(sizeof(*route));
	struct ptl_tracked *flows = calloc(2, sizeof(*flows)), *found = malloc(sizeof(*found));
	struct ptl_tracked_result *result = malloc(sizeof(*result));

	request->protocol = 6;
	for (request->family = 4; request->family <= 6; request->family += 2) {
		memcpy(request->dst, (uint8_t[16]){ 192, 0, 2, 1 }, 16);
		expect("no route", ptl_route_get(request, route, ERR) < 0, 1);
	}
	request->family = 4;
	memcpy(request->dst, (uint8_t[16]){ 127, 0, 0, 1 }, 16);
	int itself = ptl_route_get(request, route, ERR);

	expect("a route to itself, unless lo is down", itself == 0 || itself == -101, 1);
	flows[0] = (struct ptl_tracked){ .family = 4, .protocol = 17, .sport = 1, .dport = 2, .src = { 192, 0, 2, 1 }, .dst = { 192, 0, 2, 2 } };
	flows[1] = (struct ptl_tracked){ .family = 6, .protocol = 6, .sport = 1, .dport = 2, .src = { 0xfd, 1 }, .dst = { 0xfd, 2 } };
	for (uint32_t protocol = 6; protocol <= 17; protocol += 11)
		expect("tracked", ptl_tracked_dump(protocol, 0, found, 1, ERR) <= 0, 1);
	if (ptl_tracked_delete(flows, 2, result, ERR) >= 0)
		expect("forgotten", (int)result->done, 0);
	expect("forget nothing", ptl_tracked_delete(NULL, 0, result, ERR), 0);
	if (ptl_tracked_create(flows, 2, result, ERR) >= 0)
		expect("done or failed", result->done + result->failed <= 2, 1);
	free(request);
	free(route);
	free(flows);
	free(found);
	free(result);
}

static void try_run(int handle)
{
	uint8_t *in = calloc(1, 64), *out = malloc(64), *ctx = calloc(1, 256);
	struct ptl_test_result *result = malloc(sizeof(*result));

	expect("test run", ptl_test_run(handle, "ptl_pod_in", in, 64, out, 64, ctx, 256, 2, 0, result, ERR), 0);
	expect("unknown program", ptl_test_run(handle, "none", in, 64, out, 64, ctx, 256, 1, 0, result, ERR), -2);
	free(in);
	free(out);
	free(ctx);
	free(result);
}

/* `spare` is a path for one more pin. */
static void try_programs(int handle, const char *pins, const char *spare)
{
	struct ptl_program *programs = malloc(64 * sizeof(*programs)), *one = malloc(sizeof(*one));
	struct ptl_map_info *maps = malloc(64 * sizeof(*maps));
	struct ptl_config *config = malloc(sizeof(*config));
	char pin[528];
	int count = ptl_programs(handle, programs, 64, ERR), map;

	expect("programs", count > 4, 1);
	expect("a program without room for others", ptl_programs(handle, one, 1, ERR), 1);
	count = ptl_program_maps(programs[0].id, maps, 64, config, sizeof(*config), ERR);
	expect("maps of a program", count > 4, 1);
	maps = realloc(maps, (uint32_t)count * sizeof(*maps));
	expect("as many as there is room for",
	       ptl_program_maps(programs[0].id, maps, (uint32_t)count, config, sizeof(*config), ERR), count);
	expect("no such program", ptl_program_maps(0x7fffffff, maps, 1, config, sizeof(*config), ERR), -2);
	snprintf(pin, sizeof(pin), "%s/nat4", pins);
	map = ptl_pinned_map(pin, ERR);
	expect("pinned", map > 0, 1);
	expect("no pin", ptl_pinned_map(spare, ERR), 0);
	expect("pin", ptl_pin_map((uint32_t)map, spare, ERR), 0);
	expect("pin again", ptl_pin_map((uint32_t)map, spare, ERR), 0);
	expect("the new pin", ptl_pinned_map(spare, ERR), map);
	unlink(spare);
	free(programs);
	free(one);
	free(maps);
	free(config);
}

static void try_twin(const char *object, const char *pins, const struct ptl_config *config)
{
	uint8_t *in = calloc(1, 64), *out = malloc(64), *ctx = calloc(1, 256);
	struct trace_request *request = calloc(1, sizeof(*request));
	struct trace_answer *answer = malloc(sizeof(*answer));
	struct trace_record *record = malloc(sizeof(*record));
	struct ptl_test_result *result = malloc(sizeof(*result));
	int twin = ptl_trace_open(object, pins, 4, config, sizeof(*config), ERR);

	expect("twin", twin > 0, 1);
	expect("a program of the twin's",
	       ptl_trace_run(twin, "twin_in4", in, 64, out, 64, ctx, 256, request, sizeof(*request), result, answer, record, 1, ERR) > 0,
	       1);
	expect("a program that is none of the twin's",
	       ptl_trace_run(twin, "none", in, 64, out, 64, ctx, 256, request, sizeof(*request), result, answer, record, 1, ERR), -22);
	expect("reset", ptl_trace_reset(twin, ERR), 0);
	expect("close", ptl_close(twin), 0);
	expect("a twin over pins that are not there", ptl_trace_open(object, "/none", 4, config, sizeof(*config), ERR), -2);
	free(in);
	free(out);
	free(ctx);
	free(request);
	free(answer);
	free(record);
	free(result);
}

static void try_hooks(int handle, const char *pins)
{
	struct ptl_attach_request requests[2] = { { .ifindex = 1, .role = PTL_ROLE_POD }, { .ifindex = 999, .role = PTL_ROLE_POD } };
	struct ptl_attach_result *results = malloc(sizeof(*results) * 2);
	struct ptl_attachment *found = malloc(sizeof(*found) * 2);
	uint32_t ifindexes[2] = { 1, 999 };

	for (uint32_t mode = PTL_MODE_AUTO; mode <= PTL_MODE_CLSACT; mode += PTL_MODE_CLSACT) {
		requests[0].mode = mode;
		expect("attach", ptl_attach(handle, requests, 2, results, ERR), 1);
		expect("attach again", ptl_attach(handle, requests, 2, results, ERR), 1);
		expect("attachments", ptl_attachments(ifindexes, 2, found, 2, ERR), 2);
		expect("attachments without room", ptl_attachments(ifindexes, 2, found, 1, ERR), -28);
	}
	expect("sweep", ptl_sweep(pins, ERR), 0);
	expect("detach", ptl_detach(pins, ifindexes, 2, ERR), 2);
	free(results);
	free(found);
}

static void try_xdp(int handle, const char *pins)
{
	uint32_t ifindexes[2] = { 1, 999 };
	struct ptl_xdp_state *states = malloc(sizeof(*states) * 2);

	expect("xdp without a handle", ptl_xdp_attach(4711, 1, PTL_XDP_GENERIC, ERR), -9);
	expect("xdp on nothing", ptl_xdp_attach(handle, 999, PTL_XDP_GENERIC, ERR), -19);
	expect("xdp", ptl_xdp_attach(handle, 1, PTL_XDP_GENERIC, ERR), PTL_CHANGE_NEW);
	expect("xdp again", ptl_xdp_attach(handle, 1, PTL_XDP_GENERIC, ERR), PTL_CHANGE_REPLACED);
	expect("xdp states", ptl_xdp_states(ifindexes, 2, states, ERR), 0);
	expect("mode", (int)states[0].mode, PTL_XDP_GENERIC);
	expect("ours", states[0].ours, 1);
	expect("mode of nothing", (int)states[1].mode, PTL_XDP_NONE);
	expect("xdp detach", ptl_xdp_detach(pins, ifindexes, 2, ERR), 1);
	free(states);
}

static void try_interfaces(void)
{
	uint32_t *generation = malloc(sizeof(*generation));

	expect("generation of the rules", ptl_nft_generation(generation, ERR), 0);
	free(generation);

	uint8_t *header = malloc(sizeof(struct ptl_links_header));
	int size = ptl_links_dump(header, sizeof(struct ptl_links_header), ERR);
	uint8_t *all = malloc((size_t)(size > 0 ? size : 1));

	expect("links", ptl_links_dump(all, (uint32_t)size, ERR), size);
	free(header);
	free(all);
	for (int reader_goes_first = 0; reader_goes_first < 2; reader_goes_first++) {
		int fd, watcher = ptl_events_open(PTL_GROUP_LINK | PTL_GROUP_ADDRESS | PTL_GROUP_ROUTE, &fd, ERR);

		if (reader_goes_first)
			close(fd);
		expect("events", ptl_events_close(watcher), 0);
		expect("events twice", ptl_events_close(watcher), -9);
		if (!reader_goes_first)
			close(fd);
	}
}

/* `cgroup`: a cgroup v2 directory without processes. */
static void try_sockets(int handle, const char *pins, const char *cgroup)
{
	struct ptl_sockets_result *result = malloc(sizeof(*result));
	struct ptl_socket_link *links = malloc(8 * sizeof(*links));
	struct ptl_udp_target *targets = calloc(3, sizeof(*targets));
	struct ptl_destroy_result *destroyed = malloc(sizeof(*destroyed));
	uint64_t *cookie = malloc(sizeof(*cookie));

	expect("cookie of the namespace", ptl_netns_cookie(cookie, ERR), 1);
	expect("a directory that is no cgroup", ptl_attach_sockets(handle, "/", result, ERR), -22);
	expect("attach sockets", ptl_attach_sockets(handle, cgroup, result, ERR), 0);
	expect("added", (int)result->added, 8);
	expect("attach sockets again", ptl_attach_sockets(handle, cgroup, result, ERR), 0);
	expect("replaced", (int)result->replaced, 8);
	expect("links", ptl_socket_links(pins, links, 8, ERR), 8);
	expect("links without room", ptl_socket_links(pins, links, 7, ERR), -28);
	expect("detach sockets", ptl_detach_sockets(pins, ERR), 8);
	expect("no such handle", ptl_attach_sockets(4711, cgroup, result, ERR), -9);
	targets[1].cookie = 1;
	expect("destroy", ptl_destroy_udp(targets, 3, destroyed, ERR), 0);
	expect("matched", (int)destroyed->matched, 0);
	expect("destroy nothing", ptl_destroy_udp(NULL, 0, destroyed, ERR), 0);
	free(result);
	free(links);
	free(targets);
	free(destroyed);
	free(cookie);
}

static void try_texts(const char *object, const char *pins)
{
	char *layout = malloc(64 * 1024), *small = malloc(20);
	struct ptl_config config = {};
	struct ptl_feature *features = malloc(sizeof(*features) * 32);
	int length = ptl_object_layout(object, layout, 64 * 1024, ERR);

	expect("layout without room", ptl_object_layout(object, layout, (uint32_t)length, ERR), -28);
	expect("layout with just enough", ptl_object_layout(object, layout, (uint32_t)length + 1, ERR), length);
	expect("config of another size", ptl_open(object, pins, &config, 4, NULL, 0, 0, ERR), -22);
	expect("a short text", ptl_open("/none", pins, &config, 4, NULL, 0, 0, small, 20), -2);
	expect("no text at all", ptl_open("/none", pins, &config, 4, NULL, 0, 0, NULL, 0), -2);
	expect("features", ptl_probe(features, 32, ERR) > 5, 1);
	expect("no such handle", ptl_close(12345), -9);
	expect("no such handle", ptl_close(-1), -9);
	free(layout);
	free(small);
	free(features);
}

int main(int count, char **arguments)
{
	struct ptl_size sizes[] = { { "nat4", 4096, 0 }, { "nat6", 4096, 0 } };
	struct ptl_config config = {};
	char pins[512], spare[512];

	if (count != 5)
		return 2;
	error = malloc(ERROR_SIZE);
	snprintf(pins, sizeof(pins), "%s/a/v1", arguments[3]);
	snprintf(spare, sizeof(spare), "%s/spare", arguments[3]);
	expect("mount", ptl_mount_bpffs(arguments[3], ERR), 1);
	int before = open_descriptors();
	int handle = ptl_open(arguments[1], pins, &config, sizeof(config), sizes, 2, 0, ERR);
	int reader = ptl_open_pins(pins, 0, ERR);

	expect("open", handle > 0 && reader > 0, 1);
	try_texts(arguments[1], pins);
	try_sums();
	try_maps(handle);
	try_look_up(handle);
	try_namespace();
	try_run(handle);
	try_programs(handle, pins, spare);
	try_twin(arguments[2], pins, &config);
	try_hooks(handle, pins);
	try_xdp(handle, pins);
	try_sockets(handle, pins, arguments[4]);
	try_interfaces();
	expect("damaged netlink messages", try_netlink() > 1500, 1);
	expect("netlink messages that are taken though they are no good", try_oversized(), 0);
	try_events(40);
	expect("close", ptl_close(reader), 0);
	expect("close", ptl_close(handle), 0);
	expect("close twice", ptl_close(handle), -9);
	expect("cleanup", ptl_cleanup(pins, ERR), MAPS);
	expect("open descriptors", open_descriptors(), before);
	free(error);
	printf("%d failures\n", failures);
	return failures != 0;
}
