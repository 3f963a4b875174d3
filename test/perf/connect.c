/* SPDX-License-Identifier: Apache-2.0 */
/*
 * For test/perf/connect.bench.ts: what the kernel's run-time statistics say of the connect hook.
 *
 *   connect CGROUP EMPTY ADDRESS PORT COUNT ROUNDS
 *
 * Each round opens COUNT new UDP sockets in either cgroup and connects them to ADDRESS: no packet is sent. CGROUP has the program
 * that is measured; EMPTY gets one that only lets go on, since the statistics themselves take time. Prints a line of JSON for each
 * round: mean nanoseconds of one run of either.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "enter-cgroup.h"

#define LIFETIME_S 120
#define MOST_COUNT 1000000
#define MOST_ROUNDS 1000

static struct sockaddr_storage to;
static socklen_t to_length;
static enum bpf_attach_type hook;

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "connect: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int sys_bpf(enum bpf_cmd command, union bpf_attr *attr, const char *what)
{
	int result = (int)syscall(SYS_bpf, command, attr, sizeof(*attr));

	if (result < 0)
		die(what);
	return result;
}

static int open_directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		die(path);
	return fd;
}

/* The only program at the hook of a cgroup. */
static int program_of(int cgroup)
{
	__u32 ids[2] = {};
	union bpf_attr query = {}, get = {};

	query.query.target_fd = (__u32)cgroup;
	query.query.attach_type = hook;
	query.query.prog_ids = (__u64)(uintptr_t)ids;
	query.query.prog_cnt = 2;
	sys_bpf(BPF_PROG_QUERY, &query, "programs of the cgroup");
	if (query.query.prog_cnt != 1) {
		errno = 0;
		fprintf(stderr, "connect: %u programs at the cgroup's connect hook, not one\n", query.query.prog_cnt);
		exit(1);
	}
	get.prog_id = ids[0];
	return sys_bpf(BPF_PROG_GET_FD_BY_ID, &get, "program of the cgroup");
}

/* r0 = 1; exit */
static int attach_empty(int cgroup)
{
	static const struct bpf_insn code[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	union bpf_attr load = {}, link = {};

	load.prog_type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR;
	load.expected_attach_type = hook;
	load.insn_cnt = sizeof(code) / sizeof(code[0]);
	load.insns = (__u64)(uintptr_t)code;
	load.license = (__u64)(uintptr_t) "GPL";
	link.link_create.prog_fd = (__u32)sys_bpf(BPF_PROG_LOAD, &load, "empty program");
	link.link_create.target_fd = (__u32)cgroup;
	link.link_create.attach_type = hook;
	sys_bpf(BPF_LINK_CREATE, &link, "attach the empty program");
	return (int)link.link_create.prog_fd;
}

static void statistics(int program, uint64_t *ns, uint64_t *count)
{
	struct bpf_prog_info info = {};
	union bpf_attr attr = {};

	attr.info.bpf_fd = (__u32)program;
	attr.info.info_len = sizeof(info);
	attr.info.info = (__u64)(uintptr_t)&info;
	sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &attr, "statistics of a program");
	*ns = info.run_time_ns;
	*count = info.run_cnt;
}

/* Mean nanoseconds of one run. */
static double measure(const char *cgroup, int program, unsigned int connects)
{
	uint64_t ns[2], count[2];

	if (enter_cgroup(cgroup))
		die(cgroup);
	statistics(program, &ns[0], &count[0]);
	for (unsigned int i = 0; i < connects; i++) {
		int fd = socket(to.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&to, to_length))
			die("connect");
		close(fd);
	}
	statistics(program, &ns[1], &count[1]);
	if (count[1] - count[0] != connects) {
		fprintf(stderr, "connect: the program of %s ran %lu times, not %u\n", cgroup, count[1] - count[0], connects);
		exit(1);
	}
	return (double)(ns[1] - ns[0]) / connects;
}

static void parse_address(const char *text, const char *port)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&to;
	uint16_t number = htons((uint16_t)atoi(port));

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = number;
		to_length = sizeof(*v4);
		hook = BPF_CGROUP_INET4_CONNECT;
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = number;
		to_length = sizeof(*v6);
		hook = BPF_CGROUP_INET6_CONNECT;
	} else {
		errno = EINVAL;
		die(text);
	}
}

int main(int argc, char **argv)
{
	union bpf_attr enable = {};
	unsigned int count, rounds;
	int ours, empty;

	if (argc != 7) {
		fprintf(stderr, "usage: connect CGROUP EMPTY ADDRESS PORT COUNT ROUNDS\n");
		return 2;
	}
	alarm(LIFETIME_S);
	parse_address(argv[3], argv[4]);
	count = (unsigned int)atoi(argv[5]);
	rounds = (unsigned int)atoi(argv[6]);
	if (count < 1 || count > MOST_COUNT || rounds < 1 || rounds > MOST_ROUNDS) {
		errno = ERANGE;
		die("COUNT or ROUNDS");
	}
	ours = program_of(open_directory(argv[1]));
	empty = attach_empty(open_directory(argv[2]));
	enable.enable_stats.type = BPF_STATS_RUN_TIME;
	sys_bpf(BPF_ENABLE_STATS, &enable, "run-time statistics"); /* until this process ends */
	for (unsigned int i = 0; i < rounds; i++) {
		double hook_ns = measure(argv[1], ours, count);
		double empty_ns = measure(argv[2], empty, count);

		printf("{\"hookNs\":%.1f,\"emptyNs\":%.1f}\n", hook_ns, empty_ns);
	}
	return 0;
}
