/* SPDX-License-Identifier: Apache-2.0 */
/* netlink.c's parts of the sanitizers' run. */
#ifndef PTL_TEST_NETLINK_H
#define PTL_TEST_NETLINK_H

#include <errno.h>
#include <stdint.h>

/* Feeds bad datagrams to every parser of answers; how many. */
uint32_t try_netlink(void);
/* How many of the datagrams that must be refused were not. */
int try_oversized(void);
/* Feeds so many to the thread that watches interfaces. */
void try_events(uint32_t rounds);

#endif
