// SPDX-License-Identifier: Apache-2.0
/*
 * Somebody else's program on a hook: it counts packets and returns a verdict. It is written as instructions, so that a
 * test needs no compiler for it, and attached by a tcx link (Linux 6.6), which lives as long as this process.
 */
#include "agent.h"
#include <errno.h>
#include <linux/bpf.h>
#include <net/if.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Debian 12's <linux/bpf.h> is older than tcx. */
enum { TCX_INGRESS = 46, TCX_EGRESS = 47, F_BEFORE = 1 << 3, F_AFTER = 1 << 4 };

/* BPF_LINK_CREATE for tcx: the union's part begins after the four common words. */
struct tcx_link_attr {
	uint32_t prog_fd, ifindex, attach_type, flags;
	uint32_t relative_fd, pad;
	uint64_t expected_revision;
};

static long bpf(int cmd, void *attr, unsigned size)
{
	return syscall(SYS_bpf, cmd, attr, size);
}

static int counter_map(void)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof(attr));
	attr.map_type = BPF_MAP_TYPE_ARRAY;
	attr.key_size = 4;
	attr.value_size = 8;
	attr.max_entries = 2;
	return (int)bpf(BPF_MAP_CREATE, &attr, sizeof(attr));
}

static int load(const struct bpf_insn *code, size_t count)
{
	union bpf_attr attr;
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	attr.insn_cnt = (uint32_t)count;
	attr.insns = (uint64_t)(uintptr_t)code;
	attr.license = (uint64_t)(uintptr_t) "GPL";
	return (int)bpf(BPF_PROG_LOAD, &attr, sizeof(attr));
}

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })

/*
 * if (only_complete && bpf_csum_update(skb, 0) < 0) return verdict;
 * value = map[0]; if (value) (*value)++; return verdict;
 *
 * bpf_csum_update fails unless the packet is CHECKSUM_COMPLETE; adding 0 changes nothing.
 */
static int counter_program(int map, int verdict, bool only_complete)
{
	struct bpf_insn code[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_csum_update),
		INSN(BPF_JMP | BPF_JSLT | BPF_K, 0, 0, only_complete ? 9 : 0, 0),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -4),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, 0, 1, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, verdict),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	return load(code, sizeof(code) / sizeof(code[0]));
}

enum { MAC_LENGTH = 14, CELL_RIGHT = 0, CELL_WRONG = 1 };

/* Adds the upper half to the lower one, in register d, with register t. */
#define FOLD(d, t, bits)                                                                                          \
	INSN(BPF_ALU64 | BPF_MOV | BPF_X, t, d, 0, 0), INSN(BPF_ALU64 | BPF_RSH | BPF_K, t, 0, 0, bits),           \
		INSN(BPF_ALU64 | BPF_LSH | BPF_K, d, 0, 0, 64 - bits), INSN(BPF_ALU64 | BPF_RSH | BPF_K, d, 0, 0, 64 - bits), \
		INSN(BPF_ALU64 | BPF_ADD | BPF_X, d, t, 0, 0)

/*
 * Is the sum that the kernel keeps beside a CHECKSUM_COMPLETE packet the sum of the packet? Looks at packets of
 * `length` bytes from the IP header on (a multiple of 4, at most 64), counts right ones in cell 0, wrong ones in cell 1.
 * The kernel itself forgives a wrong one when it was not a device that told it: nothing else would show it.
 */
static int sum_program(int map, int length)
{
	struct bpf_insn code[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0), /* r6 = skb */
		INSN(BPF_LDX | BPF_MEM | BPF_W, 2, 6, 0, 0), /* r2 = skb->len */
		INSN(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 69, MAC_LENGTH + length),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_csum_update),
		INSN(BPF_JMP | BPF_JSLT | BPF_K, 0, 0, 66, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 7, 0, 0, 0), /* r7 = skb->csum */
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 1, 6, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, MAC_LENGTH),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -64),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, length),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_skb_load_bytes),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 58, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -64),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, length),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 5, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_csum_diff), /* r0 = the sum of the bytes */
		FOLD(7, 1, 32), FOLD(7, 1, 16), FOLD(7, 1, 16), FOLD(7, 1, 16),
		FOLD(0, 1, 32), FOLD(0, 1, 16), FOLD(0, 1, 16), FOLD(0, 1, 16),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -68, CELL_RIGHT),
		INSN(BPF_JMP | BPF_JEQ | BPF_X, 7, 0, 1, 0),
		INSN(BPF_ST | BPF_MEM | BPF_W, 10, 0, -68, CELL_WRONG),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -68),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 1, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_map_lookup_elem),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 1, 0, 0, 1),
		INSN(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1, 0),
		INSN(BPF_STX | BPF_ATOMIC | BPF_DW, 0, 1, 0, BPF_ADD),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, -1),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};
	return load(code, sizeof(code) / sizeof(code[0]));
}

/* tcx handle= dev= hook=ingress|egress where=before|after verdict=-1|0|... [complete=1: count CHECKSUM_COMPLETE only] [sum=LENGTH] */
void cmd_tcx(struct command *cmd)
{
	int map = counter_map();
	int length = (int)arg_num(cmd, "sum", 0), verdict = (int)arg_num(cmd, "verdict", -1), prog = -1;
	if (map >= 0)
		prog = length ? sum_program(map, length) : counter_program(map, verdict, arg_num(cmd, "complete", 0));
	if (prog < 0) {
		reply_error(cmd, "load", errno);
		return;
	}
	struct tcx_link_attr attr = { .prog_fd = (uint32_t)prog };
	attr.ifindex = if_nametoindex(arg(cmd, "dev", ""));
	attr.attach_type = strcmp(arg(cmd, "hook", "ingress"), "ingress") == 0 ? TCX_INGRESS : TCX_EGRESS;
	attr.flags = strcmp(arg(cmd, "where", "before"), "before") == 0 ? F_BEFORE : F_AFTER;
	int link = (int)bpf(BPF_LINK_CREATE, &attr, sizeof(attr));
	if (link < 0) {
		reply_error(cmd, "attach", errno);
		return;
	}
	int *counter = malloc(sizeof(*counter));
	*counter = map;
	handle_add(arg(cmd, "handle", "tcx"), link, 0, counter);
	reply_ok(cmd);
}

/* tcxcount handle=: packets the program has seen, and such whose sum was wrong */
void cmd_tcxcount(struct command *cmd)
{
	struct handle *h = handle_find(arg(cmd, "handle", "tcx"));
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	uint64_t values[2];
	for (uint32_t key = 0; key < 2; key++) {
		union bpf_attr attr;
		memset(&attr, 0, sizeof(attr));
		attr.map_fd = (uint32_t)*(int *)h->data;
		attr.key = (uint64_t)(uintptr_t)&key;
		attr.value = (uint64_t)(uintptr_t)&values[key];
		if (bpf(BPF_MAP_LOOKUP_ELEM, &attr, sizeof(attr)) < 0) {
			reply_error(cmd, "lookup", errno);
			return;
		}
	}
	struct reply r;
	reply_open(&r, cmd, true);
	reply_num(&r, "packets", (long long)values[CELL_RIGHT]);
	reply_num(&r, "wrong", (long long)values[CELL_WRONG]);
	reply_send(&r);
}

/* BPF_PROG_QUERY for tcx. */
struct tcx_query_attr {
	uint32_t ifindex, attach_type, query_flags, attach_flags;
	uint64_t prog_ids;
	uint32_t count, pad;
	uint64_t prog_attach_flags, link_ids, link_attach_flags, revision;
};

/* tcxdetach dev= hook=ingress|egress: takes every link off the hook, whosever it is */
void cmd_tcxdetach(struct command *cmd)
{
	uint32_t progs[16], links[16] = { 0 };
	struct tcx_query_attr query = { .count = 16, .prog_ids = (uintptr_t)progs, .link_ids = (uintptr_t)links };
	int detached = 0;
	query.ifindex = if_nametoindex(arg(cmd, "dev", ""));
	query.attach_type = strcmp(arg(cmd, "hook", "ingress"), "ingress") == 0 ? TCX_INGRESS : TCX_EGRESS;
	if (bpf(BPF_PROG_QUERY, &query, sizeof(query)) < 0) {
		reply_error(cmd, "query", errno);
		return;
	}
	for (uint32_t i = 0; i < query.count; i++) {
		union bpf_attr attr;
		memset(&attr, 0, sizeof(attr));
		attr.link_id = links[i];
		int fd = links[i] ? (int)bpf(BPF_LINK_GET_FD_BY_ID, &attr, sizeof(attr)) : -1;
		memset(&attr, 0, sizeof(attr));
		attr.link_detach.link_fd = (uint32_t)fd;
		if (fd >= 0 && bpf(BPF_LINK_DETACH, &attr, sizeof(attr)) == 0)
			detached++;
		if (fd >= 0)
			close(fd);
	}
	struct reply r;
	reply_open(&r, cmd, true);
	reply_num(&r, "detached", detached);
	reply_send(&r);
}
