/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Addresses: comparing them, and what the maps say of them. Included once per family. */

#ifndef PTL_ADDRESS_COMMON
#define PTL_ADDRESS_COMMON
/* The first byte of 127.0.0.0/8. */
#define PTL_LOOPBACK_NET 127
#endif

static __always_inline bool FAM(addr_equal)(const ADDR *a, const ADDR *b)
{
	for (__u32 i = 0; i < sizeof(*a) / 4; i++)
		if (a->w[i] != b->w[i])
			return false;
	return true;
}

static __always_inline bool FAM(addr_zero)(const ADDR *a)
{
	for (__u32 i = 0; i < sizeof(*a) / 4; i++)
		if (a->w[i])
			return false;
	return true;
}

/* 127.0.0.0/8. (IPv6's only loopback address is never anybody's frontend.) */
static __always_inline bool FAM(loopback)(const ADDR *addr)
{
	return sizeof(ADDR) == 4 && (addr->w[0] & 0xff) == PTL_LOOPBACK_NET;
}

/* The classes of an address (port 0, protocol 0) or of an address with port. 0: none of ours. */
static __always_inline __u32 FAM(address_class)(const ADDR *addr, __be16 port, __u8 protocol)
{
	struct FAM(addr_port) key = { .addr = *addr, .port = port, .protocol = protocol };
	__u32 *class = ptl_look_up(FAM(addresses), &key);

	return class ? *class : 0;
}

/* Is this address, which no Service has, one that Services get theirs from (6.13)? */
static __always_inline bool FAM(unallocated)(const ADDR *addr)
{
	struct FAM(network) key = { .prefix_length = 8 * sizeof(ADDR), .addr = *addr };

	return ptl_look_up(FAM(service_nets), &key) != NULL;
}
