// SPDX-License-Identifier: Apache-2.0
/*
 * Runs inside the small machine of `make test-kernels`, as root, in the world that test/kernels/init made:
 *
 *   client (10.244.1.10) and near (10.244.1.20) are ports of the bridge cni0; far (10.244.2.20) has a link of its own.
 *
 * First every program of the object is verified by itself, so that one refusal does not hide the next. Then libportolan
 * (linked in) loads the object, attaches it to the three host-side links and fills its maps with a few Services; what
 * this kernel lacks (tcx, some batch commands) it must do in another way. Real sockets talk through the Services.
 * One line per check: "ok - ..." or "not ok - ...: why".
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "portolan.h"

/* The verifier gives up after a million steps: a program must stay clear of that, or the next change breaks old kernels. */
#define MOST_STEPS 600000ul

enum { WAIT_MS = 60000, BULK_BYTES = 256 * 1024, SMALL_MAP = 8192 };

/* ------------------------------------------------------------------ results */

static void passed(const char *format, ...)
{
	va_list arguments;

	printf("ok - ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

static void failed(const char *format, ...)
{
	va_list arguments;

	printf("not ok - ");
	va_start(arguments, format);
	vprintf(format, arguments);
	va_end(arguments);
	printf("\n");
	fflush(stdout);
}

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

/* What libbpf says goes here; it is shown only when something fails. */
static char log_text[1 << 20];
static size_t log_length;

static int keep_log(enum libbpf_print_level level, const char *format, va_list arguments)
{
	size_t room = sizeof(log_text) - log_length;
	int length;

	if (level == LIBBPF_DEBUG || room < 2)
		return 0;
	length = vsnprintf(log_text + log_length, room, format, arguments);
	if (length > 0)
		log_length += (size_t)length < room ? (size_t)length : room - 1;
	return 0;
}

/* The end of the log, where the verifier says what it refused. */
static void show_log(void)
{
	const size_t most = 6000;
	const char *from = log_text;

	if (log_length > most) {
		from = strchr(log_text + log_length - most, '\n');
		from = from ? from + 1 : log_text + log_length - most;
	}
	for (const char *line = from; *line;) {
		const char *end = strchrnul(line, '\n');

		printf("#   %.*s\n", (int)(end - line), line);
		line = *end ? end + 1 : end;
	}
	fflush(stdout);
}

static void forget_log(void)
{
	log_length = 0;
	log_text[0] = 0;
}

/* ------------------------------------------------------------------ loading */

/* Settings as the agent would choose them; set_options() adds what depends on the kernel. */
static struct ptl_config CONFIG = {
	.snat_port_base = { 61000, 10240 },
	.snat_port_count = { 4536, 16384 },
	.timeout_tcp_opening = 56,
	.timeout_tcp_established = 6 * 3600,
	.timeout_tcp_half_closed = 112,
	.timeout_tcp_closed = 9,
	.timeout_udp_unreplied = 28,
	.timeout_udp_replied = 168,
	.options = PTL_OPTION_SHORTCUT,
};

/* Writes them into the object's .rodata, as ptl_open does. */
static int set_config(struct bpf_object *object)
{
	const struct btf *btf = bpf_object__btf(object);
	int section_id = btf__find_by_name_kind(btf, ".rodata", BTF_KIND_DATASEC);
	const struct btf_type *section = section_id > 0 ? btf__type_by_id(btf, section_id) : NULL;
	const struct btf_var_secinfo *variable = section ? btf_var_secinfos(section) : NULL;
	struct bpf_map *map;

	for (int i = 0; section && i < btf_vlen(section); i++, variable++) {
		const struct btf_type *type = btf__type_by_id(btf, variable->type);

		if (strcmp(btf__name_by_offset(btf, type->name_off), "config") != 0)
			continue;
		bpf_object__for_each_map(map, object) {
			size_t size = 0;
			const void *bytes = bpf_map__initial_value(map, &size);
			unsigned char copy[4096];

			if (!bytes || !strstr(bpf_map__name(map), ".rodata") || size > sizeof(copy) ||
			    variable->offset + sizeof(CONFIG) > size)
				continue;
			memcpy(copy, bytes, size);
			memcpy(copy + variable->offset, &CONFIG, sizeof(CONFIG));
			return bpf_map__set_initial_value(map, copy, size);
		}
	}
	return -ENOENT;
}

/* Small maps: the machine has little memory, and sizes do not matter to the verifier. Nothing is pinned. */
static struct bpf_object *open_object(const char *path)
{
	LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = "/sys/fs/bpf/portolan");
	struct bpf_object *object = bpf_object__open_file(path, &options);
	struct bpf_map *map;

	if (!object)
		return NULL;
	bpf_object__for_each_map(map, object) {
		bpf_map__set_pin_path(map, NULL);
		if (!bpf_map__is_internal(map) && bpf_map__max_entries(map) > SMALL_MAP)
			bpf_map__set_max_entries(map, SMALL_MAP);
	}
	return object;
}

static unsigned int instructions_of(const struct bpf_program *program)
{
	struct bpf_prog_info info = {};
	__u32 size = sizeof(info);

	if (bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size))
		return 0;
	return info.xlated_prog_len / 8;
}

/* How many instructions the verifier has walked, from its statistics (log level 4). */
static unsigned long verifier_steps(const char *statistics)
{
	unsigned long steps = 0;
	const char *line = strstr(statistics, "processed ");

	if (line)
		sscanf(line, "processed %lu", &steps);
	return steps;
}

/* Loads the object with one program only. Returns 0 or what the kernel said; `steps` may be NULL. */
static int verify_alone(const char *path, const char *name, bool configured, unsigned int *instructions,
			unsigned long *steps)
{
	static char statistics[65536];
	struct bpf_object *object = open_object(path);
	struct bpf_program *program;
	int error;

	if (!object)
		return -errno;
	error = configured ? set_config(object) : 0;
	if (error)
		fprintf(stderr, "# no variable \"config\" in .rodata\n");
	bpf_object__for_each_program(program, object)
		bpf_program__set_autoload(program, strcmp(bpf_program__name(program), name) == 0);
	if (steps) {
		program = bpf_object__find_program_by_name(object, name);
		statistics[0] = '\0';
		bpf_program__set_log_buf(program, statistics, sizeof(statistics));
		bpf_program__set_log_level(program, 4);
	}
	error = bpf_object__load(object);
	if (error && steps) { /* once more, with the verifier's words instead of its statistics */
		bpf_object__close(object);
		return verify_alone(path, name, configured, instructions, NULL);
	}
	if (steps)
		*steps = verifier_steps(statistics);
	if (!error)
		*instructions = instructions_of(bpf_object__find_program_by_name(object, name));
	bpf_object__close(object);
	return error;
}

/* The machinery itself: a good program is accepted and a bad one refused by this kernel. */
static void check_machinery(const char *path)
{
	unsigned int instructions = 0;
	int error = verify_alone(path, "self_good", false, &instructions, NULL);

	if (error) {
		failed("a trivial program is accepted: %s", strerror(-error));
		show_log();
	} else {
		passed("a trivial program is accepted");
	}
	forget_log();
	error = verify_alone(path, "self_bad", false, &instructions, NULL);
	if (error == 0)
		failed("a program with an unchecked read is refused: it was accepted");
	else if (!strstr(log_text, "invalid access to packet"))
		failed("a program with an unchecked read is refused for that reason: %s", strerror(-error));
	else
		passed("a program with an unchecked read is refused");
	forget_log();
}

/* The programs whose names begin like this. */
static bool check_each_program(const char *path, const char *beginning)
{
	struct bpf_object *object = open_object(path);
	struct bpf_program *program;
	bool all = true;

	if (!object) {
		failed("%s is opened: %s", path, strerror(errno));
		show_log();
		return false;
	}
	bpf_object__for_each_program(program, object) {
		const char *name = bpf_program__name(program);
		unsigned int instructions = 0;
		long long start = now_ms();
		unsigned long steps = 0;
		int error;

		if (strncmp(name, beginning, strlen(beginning)))
			continue;
		error = verify_alone(path, name, true, &instructions, &steps);
		if (error) {
			failed("%s verifies: %s", name, strerror(-error));
			show_log();
			all = false;
		} else if (steps > MOST_STEPS) {
			failed("%s leaves the verifier room: %lu steps, at most %lu wanted", name, steps, MOST_STEPS);
		} else {
			passed("%s verifies (%u instructions, %lu verifier steps, %lld ms)", name, instructions, steps,
			       now_ms() - start);
		}
		forget_log();
	}
	bpf_object__close(object);
	return all;
}

/* ------------------------------------------------------------------ namespaces and sockets */

struct family {
	int af;
	int words; /* of an address */
	const char *label;
};
static const struct family V4 = { AF_INET, 1, "IPv4" }, V6 = { AF_INET6, 4, "IPv6" };

struct end {
	const struct family *family;
	struct sockaddr_storage address;
	socklen_t length;
};

static struct end end_of(const char *text, int port)
{
	struct end end = {};

	if (strchr(text, ':')) {
		struct sockaddr_in6 *six = (void *)&end.address;

		end.family = &V6;
		end.length = sizeof(*six);
		six->sin6_family = AF_INET6;
		six->sin6_port = htons(port);
		inet_pton(AF_INET6, text, &six->sin6_addr);
	} else {
		struct sockaddr_in *four = (void *)&end.address;

		end.family = &V4;
		end.length = sizeof(*four);
		four->sin_family = AF_INET;
		four->sin_port = htons(port);
		inet_pton(AF_INET, text, &four->sin_addr);
	}
	return end;
}

static const void *address_bytes(const struct end *end)
{
	return end->family == &V4 ? (const void *)&((const struct sockaddr_in *)&end->address)->sin_addr
				  : (const void *)&((const struct sockaddr_in6 *)&end->address)->sin6_addr;
}

/* sin_port and sin6_port lie at the same place. */
static __be16 port_of(const struct end *end)
{
	return ((const struct sockaddr_in *)&end->address)->sin_port;
}

static bool same_address(const struct end *a, const struct end *b)
{
	return a->family == b->family && memcmp(address_bytes(a), address_bytes(b), a->family->words * 4) == 0;
}

static const char *show(const struct end *end)
{
	static char texts[4][80];
	static int turn;
	char address[INET6_ADDRSTRLEN];
	char *text = texts[turn++ % 4];

	inet_ntop(end->family->af, address_bytes(end), address, sizeof(address));
	snprintf(text, sizeof(texts[0]), "%s port %d", address, ntohs(port_of(end)));
	return text;
}

/* A socket stays in the namespace in which it was made, whatever its process does afterwards. */
static int socket_in(const char *namespace, int af, int type, int protocol)
{
	char path[64];
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	int there, made = -1;

	snprintf(path, sizeof(path), "/run/netns/%s", namespace);
	there = open(path, O_RDONLY | O_CLOEXEC);
	if (home >= 0 && there >= 0 && setns(there, CLONE_NEWNET) == 0) {
		made = socket(af, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
		if (setns(home, CLONE_NEWNET) != 0)
			abort(); /* everything after would be in the wrong place */
	}
	close(there);
	close(home);
	return made;
}

static int bound_socket(const char *namespace, const char *address, int port, int type, int protocol)
{
	struct end end = end_of(address, port);
	int fd = socket_in(namespace, end.family->af, type, protocol), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (fd < 0 || bind(fd, (void *)&end.address, end.length) != 0 ||
	    (type == SOCK_STREAM && listen(fd, 8) != 0)) {
		printf("# cannot listen on %s in %s: %s\n", show(&end), namespace, strerror(errno));
		exit(1);
	}
	return fd;
}

/* Waits until the socket is ready, or the check's time is over. */
static bool ready(int fd, short events)
{
	struct pollfd one = { .fd = fd, .events = events };

	return poll(&one, 1, WAIT_MS) == 1;
}

static int socket_error(int fd)
{
	int error = 0;
	socklen_t length = sizeof(error);

	getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	return error;
}

/* Connects. Returns 0, or the errno, or ETIMEDOUT when nothing came back. */
static int connect_to(int fd, const struct end *to)
{
	if (connect(fd, (const void *)&to->address, to->length) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	return ready(fd, POLLOUT) ? socket_error(fd) : ETIMEDOUT;
}

static struct end peer_of(int fd, const struct family *family)
{
	struct end end = { .family = family, .length = sizeof(end.address) };

	getpeername(fd, (void *)&end.address, &end.length);
	return end;
}

static unsigned char pattern(size_t at)
{
	return (unsigned char)((at * 2654435761u) >> 13);
}

/* Sends BULK_BYTES from one socket to the other and compares each byte. NULL, or what went wrong. */
static const char *bulk(int from, int to)
{
	static unsigned char out[65536], in[65536];
	size_t sent = 0, received = 0;

	while (received < BULK_BYTES) {
		struct pollfd both[2] = { { .fd = from, .events = sent < BULK_BYTES ? POLLOUT : 0 },
					  { .fd = to, .events = POLLIN } };
		ssize_t length;

		if (poll(both, 2, WAIT_MS) <= 0)
			return "no progress";
		if (both[0].revents & POLLOUT) {
			size_t chunk = BULK_BYTES - sent < sizeof(out) ? BULK_BYTES - sent : sizeof(out);

			for (size_t i = 0; i < chunk; i++)
				out[i] = pattern(sent + i);
			length = send(from, out, chunk, MSG_NOSIGNAL);
			if (length > 0)
				sent += (size_t)length;
		}
		if (both[1].revents & (POLLIN | POLLHUP | POLLERR)) {
			length = recv(to, in, sizeof(in), 0);
			if (length <= 0)
				return length == 0 ? "closed early" : strerror(errno);
			for (ssize_t i = 0; i < length; i++)
				if (in[i] != pattern(received + (size_t)i))
					return "a byte differs";
			received += (size_t)length;
		}
	}
	return NULL;
}

/* ------------------------------------------------------------------ the maps' content */

static int portolan; /* the handle of libportolan */
static char trouble[1 << 16]; /* what its last failing call said */

static const char PINS[] = "/sys/fs/bpf/portolan/v1";
static const char OBJECT[] = "/portolan.bpf.o";
static const char TWIN[] = "/portolan-trace.bpf.o";

static struct ptl_map_info infos[64];
static int info_count;

static const struct ptl_map_info *info_of(const char *name)
{
	for (int i = 0; i < info_count; i++)
		if (strncmp(infos[i].name, name, sizeof(infos[i].name)) == 0)
			return &infos[i];
	return NULL;
}

static const struct ptl_map_info *family_info(const char *name, int family_words)
{
	char full[32];

	snprintf(full, sizeof(full), family_words ? "%s%d" : "%s", name, family_words == 1 ? 4 : 6);
	return info_of(full);
}

/* Entries wait here, in one run per map, until apply_runs() sends them all with one call. */
enum { RUN_ENTRIES = 64, ENTRY_BYTES = 160 };
struct run {
	const struct ptl_map_info *map;
	uint32_t count;
	unsigned char keys[RUN_ENTRIES * ENTRY_BYTES], values[RUN_ENTRIES * ENTRY_BYTES];
};
static struct run runs[16];

static void map_put(const char *name, int family_words, const void *key, const void *value)
{
	const struct ptl_map_info *map = family_info(name, family_words);
	struct run *run = runs;

	while (map && run->map && run->map != map)
		run++;
	if (!map || run->count == RUN_ENTRIES) {
		printf("# map %s is not there, or its run is full\n", name);
		exit(1);
	}
	run->map = map;
	memcpy(run->keys + run->count * map->key_size, key, map->key_size);
	memcpy(run->values + run->count * map->value_size, value, map->value_size);
	run->count++;
}

static size_t append(unsigned char *buffer, size_t at, const void *bytes, size_t size)
{
	memcpy(buffer + at, bytes, size);
	return at + (size + 7) / 8 * 8;
}

/* All waiting entries as one transaction: updates, or deletes of the same keys. */
static void apply_runs(const char *title, enum ptl_run_kind kind, uint32_t batch)
{
	static unsigned char buffer[16 * RUN_ENTRIES * ENTRY_BYTES];
	struct ptl_apply_result result = {};
	size_t size = 0;
	uint64_t entries = 0;
	int error;

	memset(buffer, 0, sizeof(buffer));
	for (struct run *run = runs; run->map; run++) {
		struct ptl_run header = { .map = run->map->index, .kind = kind, .count = run->count };

		/* The cells of an array cannot be deleted. */
		if (kind == PTL_RUN_DELETE && run->map->type == BPF_MAP_TYPE_ARRAY)
			continue;
		size = append(buffer, size, &header, sizeof(header));
		size = append(buffer, size, run->keys, run->count * run->map->key_size);
		if (kind != PTL_RUN_DELETE)
			size = append(buffer, size, run->values, run->count * run->map->value_size);
		entries += run->count;
	}
	error = ptl_apply(portolan, buffer, size, batch, &result, trouble, sizeof(trouble));
	if (error < 0 || result.error)
		failed("%s: run %u entry %u: %s: %s", title, result.failed_run, result.failed_entry,
		       strerror(error < 0 ? -error : (int)result.error), trouble);
	else if (result.applied != entries)
		failed("%s: %llu of %llu entries", title, (unsigned long long)result.applied, (unsigned long long)entries);
	else
		passed("%s (%llu entries, %llu system calls)", title, (unsigned long long)entries,
		       (unsigned long long)result.system_calls);
}

/* What follows the address is equal in both families. */
struct addr_port_rest {
	__be16 port;
	__u8 protocol;
	__u8 pad;
};
struct backend_rest {
	__be16 port;
	__u8 state;
	__u8 flags;
	__u32 generation;
	__u32 service;
};
_Static_assert(sizeof(struct addr_port4) == 4 + sizeof(struct addr_port_rest), "struct addr_port4");
_Static_assert(sizeof(struct addr_port6) == 16 + sizeof(struct addr_port_rest), "struct addr_port6");
_Static_assert(offsetof(struct backend6, service) == 16 + offsetof(struct backend_rest, service), "struct backend6");
_Static_assert(offsetof(struct backend4, service) == 4 + offsetof(struct backend_rest, service), "struct backend4");

static void put_address(const struct end *end, int protocol, __u32 class)
{
	__u32 key[5] = {};
	struct addr_port_rest rest = { .port = protocol ? port_of(end) : 0, .protocol = protocol };

	memcpy(key, address_bytes(end), end->family->words * 4);
	memcpy(&key[end->family->words], &rest, sizeof(rest));
	map_put("addresses", end->family->words, key, &class);
}

/* One Service port with one backend, or with none. The index serves as service, backend and slot. */
static void put_service(__u32 index, int protocol, struct end vip, const struct end *backend)
{
	int words = vip.family->words;
	__u32 key[5] = {}, cell[7] = {};
	struct addr_port_rest rest = { .port = port_of(&vip), .protocol = protocol };
	struct frontend frontend = { .service = index, .flags = PTL_FRONTEND_CLUSTER_IP };

	if (backend) {
		struct backend_rest backend_rest = { .port = port_of(backend), .state = PTL_BACKEND_LIVE,
						     .generation = 1, .service = index };

		memcpy(cell, address_bytes(backend), words * 4);
		memcpy(&cell[words], &backend_rest, sizeof(backend_rest));
		map_put("backends", words, &index, cell);
		map_put("slots", words, &index, &index);
		put_address(backend, 0, PTL_CLASS_BACKEND);
		put_address(backend, protocol, PTL_CLASS_BACKEND_PORT);
	}
	memcpy(key, address_bytes(&vip), words * 4);
	memcpy(&key[words], &rest, sizeof(rest));
	frontend.internal = (__u64)ptl_choice_tag(key, words + 1) << (PTL_CHOICE_BASE_BITS + PTL_CHOICE_COUNT_BITS);
	if (backend)
		frontend.internal |= 1ULL << PTL_CHOICE_BASE_BITS | index;
	else
		frontend.internal |= PTL_EMPTY_REJECT;
	frontend.external = frontend.internal;
	map_put("frontends", words, key, &frontend);
	put_address(&vip, 0, PTL_CLASS_VIP | PTL_CLASS_CLUSTER_IP);
}

/* `flags`: enum ptl_interface_flag. */
static void put_interface(const char *link, __u32 role, const char *masquerade4, const char *masquerade6, __u32 flags)
{
	__u32 index = if_nametoindex(link);
	struct interface interface = { .role = role, .mtu = 1500, .flags = flags };

	inet_pton(AF_INET, masquerade4, &interface.masquerade4);
	inet_pton(AF_INET6, masquerade6, &interface.masquerade6);
	map_put("interfaces", 0, &index, &interface);
}

static const char *const LINKS[] = { "client", "near", "far" };

/* Attaches all links; each must report `change`, and clsact, which all kernels of this lane have and most have only. */
static bool check_attach(const char *title, uint32_t mode, uint32_t change)
{
	struct ptl_attach_request requests[3] = {};
	struct ptl_attach_result results[3] = {};
	int attached;

	for (int i = 0; i < 3; i++)
		requests[i] = (struct ptl_attach_request){ .ifindex = if_nametoindex(LINKS[i]), .role = PTL_ROLE_POD,
							   .mode = mode };
	attached = ptl_attach(portolan, requests, 3, results, trouble, sizeof(trouble));
	for (int i = 0; i < 3; i++) {
		if (attached < 0 || results[i].error || results[i].change != change) {
			failed("%s: %s: change %u, error %s: %s", title, LINKS[i], results[i].change,
			       strerror(attached < 0 ? -attached : (int)results[i].error), trouble);
			return false;
		}
	}
	passed("%s (%s)", title, results[0].mode == PTL_MODE_TCX ? "tcx" : "clsact");
	return true;
}

static bool open_portolan(const char *title)
{
	struct ptl_size sizes[64] = {};
	struct bpf_object *object = bpf_object__open_file(OBJECT, NULL);
	struct bpf_map *map;
	int count = 0;

	if (object) {
		bpf_object__for_each_map(map, object) {
			if (bpf_map__is_internal(map) || bpf_map__max_entries(map) <= SMALL_MAP || count == 64)
				continue;
			strncpy(sizes[count].map, bpf_map__name(map), sizeof(sizes[count].map) - 1);
			sizes[count++].max_entries = SMALL_MAP;
		}
	}
	bpf_object__close(object);
	portolan = ptl_open(OBJECT, PINS, &CONFIG, sizeof(CONFIG), sizes, (uint32_t)count, 0, trouble, sizeof(trouble));
	if (portolan > 0)
		info_count = ptl_map_infos(portolan, 0, infos, 64, trouble, sizeof(trouble));
	if (portolan <= 0 || info_count <= 0) {
		failed("%s: %s: %s", title, strerror(portolan < 0 ? -portolan : -info_count), trouble);
		return false;
	}
	passed("%s (%d maps)", title, info_count);
	return true;
}

/* ------------------------------------------------------------------ the checks with traffic */

struct pod {
	const char *name, *address[2];
};
static const struct pod CLIENT = { "client", { "10.244.1.10", "fd00:244:1::10" } };
static const struct pod NEAR = { "near", { "10.244.1.20", "fd00:244:1::20" } };
static const struct pod FAR = { "far", { "10.244.2.20", "fd00:244:2::20" } };
static const char *const VIP_NEAR[2] = { "10.96.0.1", "fd00:96::1" };
static const char *const VIP_FAR[2] = { "10.96.0.2", "fd00:96::2" };
static const char *const VIP_EMPTY[2] = { "10.96.0.3", "fd00:96::3" };
static const char *const GATEWAY[2] = { "10.244.1.1", "fd00:244:1::1" };

enum { SERVICE_PORT = 80, BACKEND_PORT = 8080 };

/* A connection (TCP or SCTP) from one pod; the listener must see `seen` as its source. Bytes go both ways. */
static void check_stream(int protocol, const char *title, const char *from, int listener, struct end to, struct end seen)
{
	const char *name = protocol == IPPROTO_SCTP ? "SCTP" : "TCP";
	int client = socket_in(from, to.family->af, SOCK_STREAM, protocol), server = -1;
	int error = connect_to(client, &to);
	const char *trouble;
	struct end peer;

	if (error) {
		failed("%s %s %s: connect to %s: %s", to.family->label, name, title, show(&to), strerror(error));
		goto out;
	}
	server = ready(listener, POLLIN) ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
	if (server < 0) {
		failed("%s %s %s: the backend saw no connection", to.family->label, name, title);
		goto out;
	}
	peer = peer_of(server, to.family);
	if (!same_address(&peer, &seen)) {
		failed("%s %s %s: the backend saw %s instead of %s", to.family->label, name, title, show(&peer), show(&seen));
		goto out;
	}
	trouble = bulk(client, server);
	if (!trouble)
		trouble = bulk(server, client);
	if (trouble)
		failed("%s %s %s: %d bytes each way: %s", to.family->label, name, title, BULK_BYTES, trouble);
	else
		passed("%s %s %s: connected, %d bytes each way equal", to.family->label, name, title, BULK_BYTES);
out:
	close(server);
	close(client);
}

static void check_tcp(const char *title, const char *from, int listener, struct end to, struct end seen)
{
	check_stream(IPPROTO_TCP, title, from, listener, to, seen);
}

/* A datagram and its answer. The client's socket is connected: an answer from another address would not reach it. */
static void check_udp(const char *title, const char *from, int server, struct end to, struct end seen)
{
	int client = socket_in(from, to.family->af, SOCK_DGRAM, 0);
	struct end peer = { .family = to.family, .length = sizeof(peer.address) };
	char text[64] = "";
	ssize_t length;

	if (connect_to(client, &to) || send(client, "question", 8, 0) != 8) {
		failed("%s UDP %s: send to %s: %s", to.family->label, title, show(&to), strerror(errno));
		goto out;
	}
	if (!ready(server, POLLIN)) {
		failed("%s UDP %s: nothing reached the backend", to.family->label, title);
		goto out;
	}
	length = recvfrom(server, text, sizeof(text), 0, (void *)&peer.address, &peer.length);
	if (length != 8 || memcmp(text, "question", 8) != 0 || !same_address(&peer, &seen)) {
		failed("%s UDP %s: the backend got %zd bytes from %s", to.family->label, title, length, show(&peer));
		goto out;
	}
	sendto(server, "answer", 6, 0, (void *)&peer.address, peer.length);
	if (!ready(client, POLLIN) || recv(client, text, sizeof(text), 0) != 6 || memcmp(text, "answer", 6) != 0)
		failed("%s UDP %s: no answer from %s: %s", to.family->label, title, show(&to), strerror(socket_error(client)));
	else
		passed("%s UDP %s: question and answer", to.family->label, title);
out:
	close(client);
}

static void check_refused(const char *title, struct end to)
{
	int tcp = socket_in("client", to.family->af, SOCK_STREAM, 0);
	int udp = socket_in("client", to.family->af, SOCK_DGRAM, 0);
	long long start = now_ms();
	int error = connect_to(tcp, &to);

	if (error == ECONNREFUSED)
		passed("%s TCP %s: refused after %lld ms", to.family->label, title, now_ms() - start);
	else
		failed("%s TCP %s: expected a refusal, got: %s", to.family->label, title, strerror(error));
	error = connect_to(udp, &to);
	if (!error && send(udp, "x", 1, 0) == 1)
		error = ready(udp, POLLERR | POLLIN) ? socket_error(udp) : ETIMEDOUT;
	if (error == ECONNREFUSED)
		passed("%s UDP %s: refused", to.family->label, title);
	else
		failed("%s UDP %s: expected a refusal, got: %s", to.family->label, title, strerror(error));
	close(udp);
	close(tcp);
}

/* Per pod of backends: one socket a protocol, per family. */
struct servers {
	int tcp[2], udp[2], sctp[2];
};

static struct servers serve(const struct pod *pod)
{
	struct servers made;

	for (int f = 0; f < 2; f++) {
		made.tcp[f] = bound_socket(pod->name, pod->address[f], BACKEND_PORT, SOCK_STREAM, 0);
		made.udp[f] = bound_socket(pod->name, pod->address[f], BACKEND_PORT, SOCK_DGRAM, 0);
		made.sctp[f] = bound_socket(pod->name, pod->address[f], BACKEND_PORT, SOCK_STREAM, IPPROTO_SCTP);
	}
	return made;
}

/* Two pods on a bridge, the third on a link of its own; and whether new flows may take the shortcut (PTL_INTERFACE_SHORTCUT). */
static void put_interfaces(__u32 shortcut)
{
	put_interface("client", PTL_ROLE_POD, GATEWAY[0], GATEWAY[1], shortcut);
	put_interface("near", PTL_ROLE_POD, GATEWAY[0], GATEWAY[1], shortcut);
	put_interface("far", PTL_ROLE_POD, "10.244.2.1", "fd00:244:2::1", PTL_INTERFACE_PEER | shortcut);
	put_interface("cni0", PTL_ROLE_BRIDGE, GATEWAY[0], GATEWAY[1], shortcut);
}

static void fill_maps(void)
{
	static const int protocols[] = { IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP };
	__u32 index = 1;

	put_interfaces(0);
	for (int f = 0; f < 2; f++) {
		struct end near = end_of(NEAR.address[f], BACKEND_PORT), far = end_of(FAR.address[f], BACKEND_PORT);

		for (int p = 0; p < 3; p++) {
			put_service(index++, protocols[p], end_of(VIP_NEAR[f], SERVICE_PORT), &near);
			put_service(index++, protocols[p], end_of(VIP_FAR[f], SERVICE_PORT), &far);
			put_service(index++, protocols[p], end_of(VIP_EMPTY[f], SERVICE_PORT), NULL);
		}
	}
}

/*
 * Linux tells an SCTP socket of a port unreachable only if it asks for errors (IP_RECVERR); another one goes on sending
 * INITs for a minute. That the error is taken for the INIT's own takes a quote up to the INIT's tag.
 */
static void check_refused_sctp(const char *title, struct end to)
{
	int fd = socket_in("client", to.family->af, SOCK_STREAM, IPPROTO_SCTP), yes = 1, error;
	long long start = now_ms();

	if (to.family == &V4)
		error = setsockopt(fd, IPPROTO_IP, IP_RECVERR, &yes, sizeof(yes));
	else
		error = setsockopt(fd, IPPROTO_IPV6, IPV6_RECVERR, &yes, sizeof(yes));
	error = error ? errno : connect_to(fd, &to);
	if (error == ECONNREFUSED)
		passed("%s SCTP %s: refused after %lld ms", to.family->label, title, now_ms() - start);
	else
		failed("%s SCTP %s: expected a refusal, got: %s", to.family->label, title, strerror(error));
	close(fd);
}

/* Sets one offload of a link as `ethtool -K` does. `namespace`: NULL for the node's own. 0 or the errno. */
static int set_offload(const char *namespace, const char *link, const char *feature, bool on)
{
	static struct {
		struct ethtool_gstrings header;
		char names[256][ETH_GSTRING_LEN];
	} strings;
	struct {
		struct ethtool_sfeatures header;
		struct ethtool_set_features_block blocks[256 / 32];
	} change = { .header = { .cmd = ETHTOOL_SFEATURES } };
	struct ifreq request = {};
	int fd = namespace ? socket_in(namespace, AF_INET, SOCK_DGRAM, 0) : socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	int error = ENOENT;

	strncpy(request.ifr_name, link, sizeof(request.ifr_name) - 1);
	strings.header = (struct ethtool_gstrings){ .cmd = ETHTOOL_GSTRINGS, .string_set = ETH_SS_FEATURES };
	request.ifr_data = (void *)&strings;
	if (ioctl(fd, SIOCETHTOOL, &request) != 0) {
		error = errno;
		close(fd);
		return error;
	}
	for (__u32 i = 0; i < strings.header.len && i < 256; i++) {
		if (strncmp(strings.names[i], feature, ETH_GSTRING_LEN) != 0)
			continue;
		change.header.size = (strings.header.len + 31) / 32;
		change.blocks[i / 32].valid = 1u << i % 32;
		change.blocks[i / 32].requested = on ? 1u << i % 32 : 0;
		request.ifr_data = (void *)&change;
		error = ioctl(fd, SIOCETHTOOL, &request) < 0 ? errno : 0;
	}
	close(fd);
	return error;
}

/*
 * Who makes SCTP's sums: with the offload of a veth nobody does, and the field is 0 all the way. Without it, the sender
 * does, and the receiver checks what the programs made of the sum. In between, it is made after the programs.
 */
static const struct sums {
	const char *title, *offloaded; /* the namespaces, and "host" for the links' outer ends, that leave sums to others */
} SUMS[] = {
	{ "sums left to the device", "client near far host" },
	{ "sums made by the senders", "host" },
	{ "sums made by the host's links", "client near far" },
};

static void check_sctp(const struct servers *near, const struct servers *far)
{
	static const char feature[] = "tx-checksum-sctp";
	char title[128];

	for (size_t i = 0; i < sizeof(SUMS) / sizeof(*SUMS); i++) {
		int error = 0;

		for (int l = 0; l < 3 && !error; l++) {
			error = set_offload(LINKS[l], "eth0", feature, strstr(SUMS[i].offloaded, LINKS[l]));
			if (!error)
				error = set_offload(NULL, LINKS[l], feature, strstr(SUMS[i].offloaded, "host"));
		}
		if (error) {
			failed("SCTP, %s: cannot set %s: %s", SUMS[i].title, feature, strerror(error));
			continue;
		}
		for (int f = 0; f < 2; f++) {
			struct end client = end_of(CLIENT.address[f], 0), gateway = end_of(GATEWAY[f], 0);
			struct end vip_near = end_of(VIP_NEAR[f], SERVICE_PORT), vip_far = end_of(VIP_FAR[f], SERVICE_PORT);

			snprintf(title, sizeof(title), "to a Service, backend on the same bridge, %s", SUMS[i].title);
			check_stream(IPPROTO_SCTP, title, "client", near->sctp[f], vip_near, client);
			snprintf(title, sizeof(title), "to a Service, backend behind another link, %s", SUMS[i].title);
			check_stream(IPPROTO_SCTP, title, "client", far->sctp[f], vip_far, client);
			snprintf(title, sizeof(title), "from a backend to itself through its Service, %s", SUMS[i].title);
			check_stream(IPPROTO_SCTP, title, "near", near->sctp[f], vip_near, gateway);
			/* a sum that is there is quoted as it is */
			if (!strstr(SUMS[i].offloaded, "client"))
				continue;
			snprintf(title, sizeof(title), "to a Service without endpoints, %s", SUMS[i].title);
			check_refused_sctp(title, end_of(VIP_EMPTY[f], SERVICE_PORT));
		}
	}
}

static int dump(const char *name, uint32_t limit, unsigned char *keys, unsigned char *values, uint32_t capacity);
static unsigned char dump_keys[SMALL_MAP * 64], dump_values[SMALL_MAP * 64];

/* The same past the stack: into a veth's other end, by a bridge, and back. Neighbours are known by now. */
static void check_shortcut(const struct servers *near, const struct servers *far)
{
	const struct traffic *counted = (const void *)dump_values;
	int entries;

	memset(runs, 0, sizeof(runs));
	put_interfaces(PTL_INTERFACE_SHORTCUT);
	apply_runs("interfaces are opened to the shortcut", PTL_RUN_UPDATE, 1);
	for (int f = 0; f < 2; f++) {
		struct end client = end_of(CLIENT.address[f], 0);
		struct end vip_near = end_of(VIP_NEAR[f], SERVICE_PORT), vip_far = end_of(VIP_FAR[f], SERVICE_PORT);

		check_tcp("past the stack, by the bridge", "client", near->tcp[f], vip_near, client);
		check_udp("past the stack, by the bridge", "client", near->udp[f], vip_near, client);
		check_tcp("past the stack, into the other end", "client", far->tcp[f], vip_far, client);
		check_udp("past the stack, into the other end", "client", far->udp[f], vip_far, client);
	}
	entries = dump("counters", PTL_REASON_COUNT, dump_keys, dump_values, SMALL_MAP);
	if (entries > PTL_REASON_SHORTCUT_FLOW && counted[PTL_REASON_SHORTCUT_FLOW].packets == 8)
		passed("these 8 flows took the shortcut (%llu packets)", (unsigned long long)counted[PTL_REASON_SHORTCUT].packets);
	else
		failed("8 flows took the shortcut: %llu, through the stack by interface %llu, route %llu, neighbour %llu, sender %llu",
		       (unsigned long long)counted[PTL_REASON_SHORTCUT_FLOW].packets,
		       (unsigned long long)counted[PTL_REASON_STACK_INTERFACE].packets,
		       (unsigned long long)counted[PTL_REASON_STACK_ROUTE].packets,
		       (unsigned long long)counted[PTL_REASON_STACK_NEIGHBOUR].packets,
		       (unsigned long long)counted[PTL_REASON_STACK_SENDER].packets);
	memset(runs, 0, sizeof(runs));
	put_interfaces(0);
	apply_runs("and closed again", PTL_RUN_UPDATE, 1);
}

static void check_traffic(void)
{
	struct servers near = serve(&NEAR), far = serve(&FAR);

	for (int f = 0; f < 2; f++) {
		struct end client = end_of(CLIENT.address[f], 0);
		struct end vip_near = end_of(VIP_NEAR[f], SERVICE_PORT), vip_far = end_of(VIP_FAR[f], SERVICE_PORT);

		check_tcp("to a backend's own address", "client", near.tcp[f], end_of(NEAR.address[f], BACKEND_PORT), client);
		check_tcp("to a Service, backend on the same bridge", "client", near.tcp[f], vip_near, client);
		check_udp("to a Service, backend on the same bridge", "client", near.udp[f], vip_near, client);
		check_tcp("to a Service, backend behind another link", "client", far.tcp[f], vip_far, client);
		check_udp("to a Service, backend behind another link", "client", far.udp[f], vip_far, client);
		check_tcp("from a backend to itself through its Service", "near", near.tcp[f], vip_near, end_of(GATEWAY[f], 0));
		check_udp("from a backend to itself through its Service", "near", near.udp[f], vip_near, end_of(GATEWAY[f], 0));
		check_refused("to a Service without endpoints", end_of(VIP_EMPTY[f], SERVICE_PORT));
	}
	check_sctp(&near, &far);
	check_shortcut(&near, &far);
}

/* A dump of the whole map. Returns the number of entries, or -errno. */
static int dump(const char *name, uint32_t limit, unsigned char *keys, unsigned char *values, uint32_t capacity)
{
	const struct ptl_map_info *map = info_of(name);
	struct ptl_cursor cursor = {};
	uint32_t total = 0;

	while (cursor.state != PTL_CURSOR_DONE && total < capacity) {
		int count = ptl_dump(portolan, map->index, limit, 1, &cursor, keys + total * map->key_size,
				     values + total * map->value_size, capacity - total, trouble, sizeof(trouble));
		if (count < 0)
			return count;
		total += (uint32_t)count;
	}
	return (int)total;
}

/* The Services were served by our maps: each family holds flows, and they were counted under their Services. */
static void check_flows(int flows_of_near)
{
	static const char *const names[] = { "nat4", "nat6" };
	const struct traffic *counted = (const void *)dump_values;
	int entries;

	for (int f = 0; f < 2; f++) {
		entries = dump(names[f], 0, dump_keys, dump_values, SMALL_MAP);
		if (entries >= 8)
			passed("%s holds the flows of these checks (%d entries)", names[f], entries);
		else
			failed("%s holds the flows of these checks: %d: %s", names[f], entries, trouble);
	}
	/* put_service() gave index 1 to the first: IPv4, TCP, backend near. */
	entries = dump("counters", PTL_COUNTERS_SERVICE_BASE + 16, dump_keys, dump_values, SMALL_MAP);
	if (entries <= PTL_COUNTERS_SERVICE_BASE + 1)
		failed("per-CPU counters are read: %d entries: %s", entries, trouble);
	else if (counted[PTL_COUNTERS_SERVICE_BASE + 1].flows != (uint64_t)flows_of_near)
		failed("the counters hold %d flows of a Service: %llu", flows_of_near,
		       (unsigned long long)counted[PTL_COUNTERS_SERVICE_BASE + 1].flows);
	else
		passed("the counters hold the %d flows of a Service", flows_of_near);
}

/* ------------------------------------------------------------------ sockets of the node's own processes */

#define CGROUP "/sys/fs/cgroup/portolan"

static int feature(const char *name)
{
	struct ptl_feature features[32];
	int count = ptl_probe(features, 32, trouble, sizeof(trouble));

	for (int i = 0; i < count; i++)
		if (!strcmp(features[i].name, name))
			return features[i].value;
	return -ENOENT;
}

static void set_options(void)
{
	int set_retval = feature("set_retval"), coarse_clock = feature("coarse_clock");

	if (set_retval > 0)
		CONFIG.options |= PTL_OPTION_SET_RETVAL;
	if (coarse_clock > 0)
		CONFIG.options |= PTL_OPTION_COARSE_CLOCK;
	printf("# cgroup_sockets %d, set_retval %d, coarse_clock %d, udp_destroy %d\n", feature("cgroup_sockets"), set_retval,
	       coarse_clock, feature("udp_destroy"));
}

static bool attach_sockets(const char *title, bool again)
{
	struct ptl_sockets_result result = {};
	int status = ptl_attach_sockets(portolan, CGROUP, &result, trouble, sizeof(trouble));

	if (status < 0 || result.added != (again ? 0 : 8) || result.replaced != (again ? 8 : 0)) {
		failed("%s: %s: %u added, %u replaced: %s", title, strerror(-status), result.added, result.replaced, trouble);
		return false;
	}
	passed("%s (%u added, %u replaced)", title, result.added, result.replaced);
	return true;
}

/* From now on this process's sockets are those of the cgroup. */
static bool enter_cgroup(void)
{
	int fd = open(CGROUP "/cgroup.procs", O_WRONLY | O_CLOEXEC);
	bool entered = fd >= 0 && write(fd, "0", 1) == 1;

	close(fd);
	if (!entered)
		failed("the cgroup is entered: %s", strerror(errno));
	return entered;
}

static void check_host_stream(const char *title, int f, int listener)
{
	struct end vip = end_of(VIP_NEAR[f], SERVICE_PORT + 2), peer;
	int client = socket(vip.family->af, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), server = -1;
	int error = connect_to(client, &vip);
	const char *broken = error ? strerror(error) : NULL;

	if (!error) {
		server = ready(listener, POLLIN) ? accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC) : -1;
		broken = server < 0 ? "the backend saw no connection" : bulk(client, server);
		peer = peer_of(client, vip.family);
		if (!broken && !same_address(&peer, &vip))
			broken = "getpeername shows another address than that of the Service";
	}
	if (broken)
		failed("%s TCP %s: %s", vip.family->label, title, broken);
	else
		passed("%s TCP %s", vip.family->label, title);
	close(server);
	close(client);
}

/* sendmsg to the Service; the answer's source must be the Service's address. */
static void check_host_datagram(int f, int server)
{
	struct end vip = end_of(VIP_NEAR[f], SERVICE_PORT + 2);
	struct end from = { .family = vip.family, .length = sizeof(from.address) };
	int client = socket(vip.family->af, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	const char *broken = NULL;
	char byte = 'x';

	if (sendto(client, &byte, 1, 0, (void *)&vip.address, vip.length) != 1)
		broken = strerror(errno);
	else if (!ready(server, POLLIN) || recvfrom(server, &byte, 1, 0, (void *)&from.address, &from.length) != 1 ||
		 sendto(server, &byte, 1, 0, (void *)&from.address, from.length) != 1)
		broken = "the backend saw no datagram, or could not answer";
	from.length = sizeof(from.address);
	if (!broken && (!ready(client, POLLIN) || recvfrom(client, &byte, 1, 0, (void *)&from.address, &from.length) != 1))
		broken = "no answer";
	if (!broken && !same_address(&from, &vip))
		broken = "the answer comes from another address than that of the Service";
	if (broken)
		failed("%s UDP the node's own process sends to a Service: %s", vip.family->label, broken);
	else
		passed("%s UDP the node's own process sends to a Service", vip.family->label);
	close(client);
}

static void check_host_refused(int f)
{
	struct end vip = end_of(VIP_EMPTY[f], SERVICE_PORT + 2);
	int client = socket(vip.family->af, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int error = connect_to(client, &vip), wanted = CONFIG.options & PTL_OPTION_SET_RETVAL ? ECONNREFUSED : EPERM;

	if (error == wanted)
		passed("%s TCP the node's own process is refused: %s", vip.family->label, strerror(error));
	else
		failed("%s TCP the node's own process is refused: expected %s, got %s", vip.family->label, strerror(wanted),
		       strerror(error));
	close(client);
}

static void check_destroyed(int f)
{
	struct end near = end_of(NEAR.address[f], BACKEND_PORT + 2);
	int client = socket(near.family->af, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), got;
	struct ptl_udp_target target = {};
	struct ptl_destroy_result result = {};
	__be16 port = port_of(&near);
	char byte;

	if (near.family == &V4) {
		target.address[10] = target.address[11] = 0xff;
		memcpy(target.address + 12, address_bytes(&near), 4);
	} else {
		memcpy(target.address, address_bytes(&near), 16);
	}
	memcpy(target.port, &port, sizeof(port));
	got = connect_to(client, &near);
	if (got == 0)
		got = -ptl_destroy_udp(&target, 1, &result, trouble, sizeof(trouble));
	if (got == 0 && !result.unsupported)
		got = ready(client, POLLIN | POLLERR) && recv(client, &byte, 1, 0) < 0 && errno == ECONNABORTED ? 0 : EIO;
	if (got || (!result.unsupported && result.destroyed != 1))
		failed("%s UDP a connected socket is destroyed: %s: %u found, %u destroyed", near.family->label, strerror(got),
		       result.matched, result.destroyed);
	else
		passed("%s UDP a connected socket is destroyed%s", near.family->label,
		       result.unsupported ? ": this kernel cannot, and says so" : "");
	close(client);
}

static int host_listener[2], host_datagrams[2];

static void check_sockets(void)
{
	memset(runs, 0, sizeof(runs));
	for (int f = 0; f < 2; f++) {
		struct end near = end_of(NEAR.address[f], BACKEND_PORT + 2), vip = end_of(VIP_NEAR[f], SERVICE_PORT + 2);

		host_listener[f] = bound_socket("near", NEAR.address[f], BACKEND_PORT + 2, SOCK_STREAM, 0);
		host_datagrams[f] = bound_socket("near", NEAR.address[f], BACKEND_PORT + 2, SOCK_DGRAM, 0);
		put_service(40 + f, IPPROTO_TCP, vip, &near);
		put_service(42 + f, IPPROTO_UDP, vip, &near);
		put_service(44 + f, IPPROTO_TCP, end_of(VIP_EMPTY[f], SERVICE_PORT + 2), NULL);
	}
	apply_runs("Services for the node's own processes are published", PTL_RUN_UPDATE, 1);
	if (!attach_sockets("the socket programs are attached to a cgroup", false) || !enter_cgroup())
		return;
	for (int f = 0; f < 2; f++) {
		check_host_stream("the node's own process connects to a Service", f, host_listener[f]);
		check_host_datagram(f, host_datagrams[f]);
		check_host_refused(f);
		check_destroyed(f);
	}
}

/* An agent's successor: the pinned maps are reused, the programs replaced, and a connection goes on through it all. */
static void check_restart(void)
{
	int listener = bound_socket("near", NEAR.address[0], BACKEND_PORT + 1, SOCK_STREAM, 0), server = -1;
	struct end vip = end_of(VIP_NEAR[0], SERVICE_PORT + 1), near = end_of(NEAR.address[0], BACKEND_PORT + 1);
	int client = socket_in("client", AF_INET, SOCK_STREAM, 0), error;
	const char *broken;

	memset(runs, 0, sizeof(runs));
	put_service(30, IPPROTO_TCP, vip, &near);
	apply_runs("one more Service is published, entry by entry", PTL_RUN_UPDATE, 0);
	error = connect_to(client, &vip);
	if (!error && ready(listener, POLLIN))
		server = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	ptl_close(portolan);
	if (server < 0)
		failed("a connection is open while the agent is restarted: %s", strerror(error));
	else if (open_portolan("a second load reuses the pinned maps") &&
		 check_attach("the programs are replaced in place", PTL_MODE_AUTO, PTL_CHANGE_REPLACED)) {
		if (attach_sockets("the socket programs are replaced in place", true))
			check_host_stream("the node's own process connects after a restart", 0, host_listener[0]);
		broken = bulk(client, server);
		if (!broken)
			broken = bulk(server, client);
		if (broken)
			failed("a connection goes on while programs are replaced: %s", broken);
		else
			passed("a connection goes on while programs are replaced");
	}
	close(server);
	close(client);
	close(listener);
}

/* What the programs counted, by reason: for whoever has to find out why a check failed. */
static void show_reasons(void)
{
#define REASON_NAME(id, name, text) [PTL_REASON_##id] = name,
	static const char *const names[] = { PTL_REASONS(REASON_NAME) };
#undef REASON_NAME
	const struct traffic *counted = (const void *)dump_values;
	int entries = dump("counters", PTL_REASON_COUNT, dump_keys, dump_values, SMALL_MAP);

	printf("# reasons:");
	for (int i = 0; i < entries && i < PTL_REASON_COUNT; i++)
		if (counted[i].packets)
			printf(" %s %llu", names[i], (unsigned long long)counted[i].packets);
	printf("\n");
	fflush(stdout);
}

static void check_cleanup(void)
{
	struct ptl_attachment found[16];
	uint32_t links[3];
	int removed, left, client, error;
	struct end vip;

	for (int i = 0; i < 3; i++)
		links[i] = if_nametoindex(LINKS[i]);
	memset(runs, 0, sizeof(runs));
	put_service(30, IPPROTO_TCP, end_of(VIP_NEAR[0], SERVICE_PORT + 1), NULL);
	apply_runs("a Service is taken back", PTL_RUN_DELETE, 1);
	ptl_close(portolan);
	if (ptl_detach(PINS, links, 3, trouble, sizeof(trouble)) < 0)
		failed("the programs are taken off: %s", trouble);
	removed = ptl_cleanup(PINS, trouble, sizeof(trouble));
	left = ptl_attachments(links, 3, found, 16, trouble, sizeof(trouble));
	vip = end_of(VIP_EMPTY[0], SERVICE_PORT + 2);
	client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	error = connect_to(client, &vip);
	close(client);
	if (error == ENETUNREACH)
		passed("cleanup takes the socket programs off");
	else
		failed("cleanup takes the socket programs off: connect says %s", strerror(error));
	if (removed > 0 && left == 0 && access(PINS, F_OK) != 0)
		passed("cleanup leaves no hook and no pin (%d removed)", removed);
	else
		failed("cleanup leaves no hook and no pin: %d removed, %d hooks left, %s: %s", removed, left, PINS, trouble);
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: runner SELFTEST.bpf.o\n");
		return 2;
	}
	libbpf_set_print(keep_log);
	check_machinery(argv[1]);
	set_options();
	check_each_program(TWIN, "twin_");
	if (!check_each_program(OBJECT, "ptl_"))
		return 1;

	libbpf_set_print(keep_log);
	if (!open_portolan("libportolan loads the object and pins its maps")) {
		show_log();
		return 1;
	}
	fill_maps();
	apply_runs("the Services are published in one transaction", PTL_RUN_UPDATE, 1);
	if (check_attach("the programs are attached", PTL_MODE_AUTO, PTL_CHANGE_NEW)) {
		check_traffic();
		check_flows(3);
		check_sockets();
		show_reasons();
		check_restart();
	}
	check_cleanup();
	return 0;
}
