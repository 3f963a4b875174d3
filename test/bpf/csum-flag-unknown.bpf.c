// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/* The dataplane on a kernel that does not know BPF_F_IPV6 (before Linux 6.16): it has to mend the sum by itself. */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define REFUSED_FLAG (1ULL << 7)
#define EINVAL 22

static __always_inline long old_l4_csum_replace(struct __sk_buff *skb, __u32 offset, __u64 from, __u64 to, __u64 flags)
{
	if (flags & REFUSED_FLAG)
		return -EINVAL;
	return bpf_l4_csum_replace(skb, offset, from, to, flags);
}
#define bpf_l4_csum_replace old_l4_csum_replace

#include "tc.bpf.c"
