/* SPDX-License-Identifier: Apache-2.0 */
/* tcx (Linux 6.6) through bpf(2): the headers and libbpf of Debian 12 do not have it, so the arguments are laid out here. */
#include "internal.h"

#define ATTACH_BEFORE (1u << 3)
#define QUERY_MAX 64

int tcx_link_create(int program_fd, uint32_t ifindex, bool out)
{
	struct {
		uint32_t program_fd;
		uint32_t target_ifindex;
		uint32_t attach_type;
		uint32_t flags;
		uint32_t relative_fd;
		uint32_t pad;
		uint64_t expected_revision;
		uint64_t rest[4];
	} attr = {
		.program_fd = (uint32_t)program_fd,
		.target_ifindex = ifindex,
		.attach_type = out ? TCX_EGRESS : TCX_INGRESS,
		/* Before everything, so that nobody hides packets from us by ending the chain. */
		.flags = ATTACH_BEFORE,
	};

	return sys_bpf(BPF_LINK_CREATE, &attr, sizeof(attr));
}

int tcx_query(uint32_t ifindex, bool out, struct tcx_entry *entries, uint32_t capacity)
{
	uint32_t programs[QUERY_MAX] = {}, links[QUERY_MAX] = {};
	struct {
		uint32_t target_ifindex;
		uint32_t attach_type;
		uint32_t query_flags;
		uint32_t attach_flags;
		uint64_t program_ids;
		uint32_t count;
		uint32_t pad;
		uint64_t program_attach_flags;
		uint64_t link_ids;
		uint64_t link_attach_flags;
		uint64_t revision;
	} attr = {
		.target_ifindex = ifindex,
		.attach_type = out ? TCX_EGRESS : TCX_INGRESS,
		.program_ids = (uintptr_t)programs,
		.link_ids = (uintptr_t)links,
		.count = capacity < QUERY_MAX ? capacity : QUERY_MAX,
	};
	int result = sys_bpf(BPF_PROG_QUERY, &attr, sizeof(attr));

	if (result == -ENOENT) /* nothing was ever attached here */
		return 0;
	if (result == -E2BIG) /* an older kernel: it knows fewer arguments */
		return -EINVAL;
	if (result < 0)
		return result;
	for (uint32_t i = 0; i < attr.count; i++)
		entries[i] = (struct tcx_entry){ programs[i], links[i] };
	return (int)attr.count;
}

int tcx_available(void)
{
	struct tcx_entry entries[1];
	int result = tcx_query(1, false, entries, 1); /* the loopback: every namespace has it */

	if (result >= 0 || result == -ENOSPC)
		return 1;
	return result == -EINVAL ? 0 : result;
}
