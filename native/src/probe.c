/* SPDX-License-Identifier: Apache-2.0 */
/* What this kernel can do, found by trying: versions lie where distributions backport. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <stdio.h>

#include "internal.h"

#define INSN(op, dst, src, offset, immediate) \
	((struct bpf_insn){ .code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (immediate) })
#define MOV_IMM(dst, value) INSN(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, value)
#define CALL(helper) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, helper)
#define EXIT() INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)

#define CSUM_IPV6 (1 << 7) /* BPF_F_IPV6 */
#define SET_RETVAL 187 /* bpf_set_retval */
#define COARSE_CLOCK 160 /* bpf_ktime_get_coarse_ns */

/* A map of two entries: is its content readable by batch? */
static int probe_batch(enum bpf_map_type type)
{
	uint8_t keys[16], values[8 * 1024], next[64];
	union bpf_attr attr = {};
	int cpus = possible_cpus();
	int fd = bpf_map_create(type, "ptl_probe", 4, 8, 2, NULL);

	if (fd < 0)
		return -errno;
	attr.batch.out_batch = (uintptr_t)next;
	attr.batch.keys = (uintptr_t)keys;
	attr.batch.values = (uintptr_t)values;
	attr.batch.count = 2;
	attr.batch.map_fd = (uint32_t)fd;
	int result = cpus * 16 > (int)sizeof(values) ? -E2BIG : sys_bpf(BPF_MAP_LOOKUP_BATCH, &attr, sizeof(attr));

	close(fd);
	if (result == 0 || result == -ENOENT)
		return 1;
	return result == -KERNEL_ENOTSUPP || result == -EINVAL || result == -EOPNOTSUPP ? 0 : result;
}

static int probe_ringbuf(void)
{
	int fd = bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ptl_probe", 0, 0, (uint32_t)sysconf(_SC_PAGESIZE), NULL);

	if (fd < 0)
		return errno == EINVAL ? 0 : -errno;
	close(fd);
	return 1;
}

/* bpf_l4_csum_replace refuses flags that it does not know. */
static int probe_csum_ipv6(void)
{
	struct bpf_insn program[] = {
		MOV_IMM(BPF_REG_2, 54), MOV_IMM(BPF_REG_3, 0), MOV_IMM(BPF_REG_4, 0),
		MOV_IMM(BPF_REG_5, CSUM_IPV6 | BPF_F_PSEUDO_HDR), CALL(BPF_FUNC_l4_csum_replace), EXIT(),
	};
	uint8_t packet[128] = { [12] = 0x86, [13] = 0xdd, [14] = 0x60 };
	union bpf_attr attr = {};
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ptl_probe", "GPL", program, sizeof(program) / sizeof(program[0]), NULL);

	if (fd < 0)
		return -errno;
	attr.test.prog_fd = (uint32_t)fd;
	attr.test.data_in = (uintptr_t)packet;
	attr.test.data_size_in = sizeof(packet);
	int result = sys_bpf(BPF_PROG_TEST_RUN, &attr, sizeof(attr));

	close(fd);
	return result < 0 ? result : (int)attr.test.retval >= 0;
}

static int load_connect4(const struct bpf_insn *program, size_t count)
{
	LIBBPF_OPTS(bpf_prog_load_opts, options, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	int fd = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "ptl_probe", "GPL", program, count, &options);

	if (fd < 0)
		return errno == EINVAL ? 0 : -errno;
	close(fd);
	return 1;
}

static int probe_cgroup_sockets(void)
{
	const struct bpf_insn program[] = { MOV_IMM(BPF_REG_0, 1), EXIT() };

	return load_connect4(program, sizeof(program) / sizeof(program[0]));
}

/* With it a connect(2) that is refused fails with an errno of our choice (Linux 5.18). */
static int probe_set_retval(void)
{
	const struct bpf_insn program[] = {
		MOV_IMM(BPF_REG_1, -ECONNREFUSED), CALL(SET_RETVAL), MOV_IMM(BPF_REG_0, 0), EXIT(),
	};

	return load_connect4(program, sizeof(program) / sizeof(program[0]));
}

/* The clock as of the last timer interrupt (Linux 5.11). */
static int probe_coarse_clock(void)
{
	const struct bpf_insn program[] = { CALL(COARSE_CLOCK), MOV_IMM(BPF_REG_0, 0), EXIT() };
	int fd = bpf_prog_load(BPF_PROG_TYPE_SCHED_CLS, "ptl_probe", "GPL", program, sizeof(program) / sizeof(program[0]), NULL);

	if (fd < 0)
		return errno == EINVAL ? 0 : -errno;
	close(fd);
	return 1;
}

static int read_number(const char *path)
{
	FILE *file = fopen(path, "re");
	int value = 0;

	if (!file)
		return -errno;
	int fields = fscanf(file, "%d", &value);

	fclose(file);
	return fields == 1 ? value != 0 : -EIO;
}

/* A JIT that is compiled in for good leaves no switch. */
static int probe_jit(void)
{
	int result = read_number("/proc/sys/net/core/bpf_jit_enable");

	return result == -ENOENT ? 1 : result;
}

EXPORT int ptl_probe(void *out, uint32_t capacity, char *text, uint32_t text_size)
{
	const struct { const char *name; int value; } found[] = {
		{ "tcx", tcx_available() },
		{ "batch_hash", probe_batch(BPF_MAP_TYPE_HASH) },
		{ "batch_array", probe_batch(BPF_MAP_TYPE_ARRAY) },
		{ "batch_percpu_array", probe_batch(BPF_MAP_TYPE_PERCPU_ARRAY) },
		{ "ringbuf", probe_ringbuf() },
		{ "csum_ipv6_flag", probe_csum_ipv6() },
		{ "cgroup_sockets", probe_cgroup_sockets() },
		{ "set_retval", probe_set_retval() },
		{ "coarse_clock", probe_coarse_clock() },
		{ "udp_destroy", probe_udp_destroy() },
		{ "jit", probe_jit() },
		{ "btf", access("/sys/kernel/btf/vmlinux", R_OK) == 0 },
		{ "br_netfilter4", read_number("/proc/sys/net/bridge/bridge-nf-call-iptables") },
		{ "br_netfilter6", read_number("/proc/sys/net/bridge/bridge-nf-call-ip6tables") },
	};
	uint32_t count = sizeof(found) / sizeof(found[0]);
	struct error err = error_begin(text, text_size);

	if (count > capacity)
		return fail(&err, ENOSPC, PTL_E_ARGUMENT, "probe", "features", "There are %u features", count);
	for (uint32_t i = 0; i < count; i++) {
		struct ptl_feature feature = { .value = found[i].value };

		snprintf(feature.name, sizeof(feature.name), "%s", found[i].name);
		memcpy((uint8_t *)out + i * sizeof(feature), &feature, sizeof(feature));
	}
	return (int)count;
}
