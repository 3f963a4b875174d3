/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Somebody else's tcx program, for the tests: neighbour IFINDEX in|out first|last. Attaches a program named "neighbour" that
 * passes everything on, says "ready", and holds the link until its input ends.
 */
#include <linux/bpf.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct bpf_insn pass[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = -1 }, /* TCX_NEXT */
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr load = { .prog_type = BPF_PROG_TYPE_SCHED_CLS, .insn_cnt = 2 };
	struct {
		uint32_t program_fd, ifindex, type, flags;
		uint64_t rest[6];
	} create = {};

	if (argc != 4)
		return 2;
	load.insns = (uintptr_t)pass;
	load.license = (uintptr_t) "GPL";
	strcpy(load.prog_name, "neighbour");
	create.program_fd = (uint32_t)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load));
	create.ifindex = (uint32_t)atoi(argv[1]);
	create.type = strcmp(argv[2], "in") ? 47 : 46;
	create.flags = strcmp(argv[3], "first") ? 1u << 4 : 1u << 3;
	if ((int)create.program_fd < 0 || syscall(SYS_bpf, BPF_LINK_CREATE, &create, sizeof(create)) < 0) {
		perror("neighbour");
		return 1;
	}
	puts("ready");
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
