// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The dataplane's reader of choice words beside a writer that recycles elements as fast as it can, both under test-run,
 * each on a CPU of its own. The writer goes through the same kernel code as the agent's transactions.
 *
 * A word says by itself whether it is right: its base holds the number of its key and a version, its count is a function
 * of the base. So a word of another key and a word put together from two stores are told apart from a right one, and from
 * each other.
 */
#include "common.bpf.h"

#define ADDR struct addr4
#define FAM(name) name##4
#include "address.bpf.h"
#include "choice.bpf.h"
#undef ADDR
#undef FAM

/* Few keys, so that an element soon returns under another one. 2^KEY_BITS; a base holds key and version. */
#define KEY_BITS 2
#define VERSION_BITS (PTL_CHOICE_BASE_BITS - KEY_BITS)
/* Operations in one run of a program: what a run costs besides is shared by them. */
#define BATCH 64

/* Results of the reader, in skb->cb: they survive from one run to the next. */
enum { CB_LOOKUPS, CB_FOUND, CB_FOREIGN, CB_TORN };

static __always_inline void key_of(__u32 number, struct addr_port4 *key)
{
	__builtin_memset(key, 0, sizeof(*key));
	key->addr.w[0] = bpf_htonl(0x0a600000 + number);
	key->port = bpf_htons(80);
	key->protocol = IPPROTO_TCP;
}

/* Never 0: an empty word would be another case. */
static __always_inline __u32 count_of(__u32 base)
{
	return (ptl_mix(0, base) >> (32 - PTL_CHOICE_COUNT_BITS)) | 1;
}

SEC("tc")
int choice_reader(struct __sk_buff *skb)
{
	for (int i = 0; i < BATCH; i++) {
		__u32 number = bpf_get_prandom_u32() >> (32 - KEY_BITS), base, count;
		struct choice4 choice;
		struct addr_port4 key;

		key_of(number, &key);
		skb->cb[CB_LOOKUPS]++;
		if (choice_read4(&key, i & 1, &choice) != CHOICE_SLOTS4)
			continue;
		skb->cb[CB_FOUND]++;
		base = PTL_CHOICE_BASE(choice.word);
		count = PTL_CHOICE_COUNT(choice.word);
		if (count != count_of(base))
			skb->cb[CB_TORN]++;
		else if (base >> VERSION_BITS != number)
			skb->cb[CB_FOREIGN]++;
	}
	return 0;
}

/* Deletes one key and writes another, over and over: the element that becomes free is the next one to be used. */
SEC("tc")
int choice_writer(struct __sk_buff *skb)
{
	for (int i = 0; i < BATCH; i++) {
		__u32 random = bpf_get_prandom_u32();
		__u32 number = random >> (32 - KEY_BITS);
		__u32 base = number << VERSION_BITS | (random & ((1u << VERSION_BITS) - 1));
		struct frontend value = {};
		struct addr_port4 key;

		key_of(number, &key);
		value.internal = (__u64)ptl_choice_tag(&key, sizeof(key) / 4) << (PTL_CHOICE_BASE_BITS + PTL_CHOICE_COUNT_BITS) |
				 (__u64)count_of(base) << PTL_CHOICE_BASE_BITS | base;
		value.external = value.internal;
		value.service = number;
		ptl_update(frontends4, &key, &value, BPF_ANY);
		key_of(bpf_get_prandom_u32() >> (32 - KEY_BITS), &key);
		if (i & 1)
			ptl_delete(frontends4, &key);
		skb->cb[CB_LOOKUPS]++;
	}
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
