/* SPDX-License-Identifier: Apache-2.0 */
/* GENERATED from bpf/include by scripts/gen-abi.ts (make abi). Do not edit. */
#ifndef PTL_ABI_HASH_GEN_H
#define PTL_ABI_HASH_GEN_H

#include <stddef.h>

#include "abi.h"

#define PTL_ABI_HASH 1276402830206937774ull

_Static_assert(sizeof(struct addr_port4) == 8, "run make abi");
_Static_assert(offsetof(struct addr_port4, addr) == 0, "run make abi");
_Static_assert(offsetof(struct addr_port4, port) == 4, "run make abi");
_Static_assert(offsetof(struct addr_port4, protocol) == 6, "run make abi");
_Static_assert(offsetof(struct addr_port4, pad) == 7, "run make abi");
_Static_assert(sizeof(struct addr_port6) == 20, "run make abi");
_Static_assert(offsetof(struct addr_port6, addr) == 0, "run make abi");
_Static_assert(offsetof(struct addr_port6, port) == 16, "run make abi");
_Static_assert(offsetof(struct addr_port6, protocol) == 18, "run make abi");
_Static_assert(offsetof(struct addr_port6, pad) == 19, "run make abi");
_Static_assert(sizeof(struct backend4) == 16, "run make abi");
_Static_assert(offsetof(struct backend4, addr) == 0, "run make abi");
_Static_assert(offsetof(struct backend4, port) == 4, "run make abi");
_Static_assert(offsetof(struct backend4, state) == 6, "run make abi");
_Static_assert(offsetof(struct backend4, flags) == 7, "run make abi");
_Static_assert(offsetof(struct backend4, generation) == 8, "run make abi");
_Static_assert(offsetof(struct backend4, service) == 12, "run make abi");
_Static_assert(sizeof(struct backend6) == 28, "run make abi");
_Static_assert(offsetof(struct backend6, addr) == 0, "run make abi");
_Static_assert(offsetof(struct backend6, port) == 16, "run make abi");
_Static_assert(offsetof(struct backend6, state) == 18, "run make abi");
_Static_assert(offsetof(struct backend6, flags) == 19, "run make abi");
_Static_assert(offsetof(struct backend6, generation) == 20, "run make abi");
_Static_assert(offsetof(struct backend6, service) == 24, "run make abi");
_Static_assert(sizeof(struct fragment) == 4, "run make abi");
_Static_assert(offsetof(struct fragment, sport) == 0, "run make abi");
_Static_assert(offsetof(struct fragment, dport) == 2, "run make abi");
_Static_assert(sizeof(struct fragment_key4) == 16, "run make abi");
_Static_assert(offsetof(struct fragment_key4, src) == 0, "run make abi");
_Static_assert(offsetof(struct fragment_key4, dst) == 4, "run make abi");
_Static_assert(offsetof(struct fragment_key4, id) == 8, "run make abi");
_Static_assert(offsetof(struct fragment_key4, protocol) == 12, "run make abi");
_Static_assert(offsetof(struct fragment_key4, direction) == 13, "run make abi");
_Static_assert(offsetof(struct fragment_key4, pad) == 14, "run make abi");
_Static_assert(sizeof(struct fragment_key6) == 40, "run make abi");
_Static_assert(offsetof(struct fragment_key6, src) == 0, "run make abi");
_Static_assert(offsetof(struct fragment_key6, dst) == 16, "run make abi");
_Static_assert(offsetof(struct fragment_key6, id) == 32, "run make abi");
_Static_assert(offsetof(struct fragment_key6, protocol) == 36, "run make abi");
_Static_assert(offsetof(struct fragment_key6, direction) == 37, "run make abi");
_Static_assert(offsetof(struct fragment_key6, pad) == 38, "run make abi");
_Static_assert(sizeof(struct frontend) == 32, "run make abi");
_Static_assert(offsetof(struct frontend, internal) == 0, "run make abi");
_Static_assert(offsetof(struct frontend, external) == 8, "run make abi");
_Static_assert(offsetof(struct frontend, service) == 16, "run make abi");
_Static_assert(offsetof(struct frontend, affinity_seconds) == 20, "run make abi");
_Static_assert(offsetof(struct frontend, flags) == 24, "run make abi");
_Static_assert(offsetof(struct frontend, pad) == 28, "run make abi");
_Static_assert(sizeof(struct interface) == 24, "run make abi");
_Static_assert(offsetof(struct interface, role) == 0, "run make abi");
_Static_assert(offsetof(struct interface, masquerade4) == 4, "run make abi");
_Static_assert(offsetof(struct interface, masquerade6) == 8, "run make abi");
_Static_assert(sizeof(struct nat_key4) == 16, "run make abi");
_Static_assert(offsetof(struct nat_key4, src) == 0, "run make abi");
_Static_assert(offsetof(struct nat_key4, dst) == 4, "run make abi");
_Static_assert(offsetof(struct nat_key4, sport) == 8, "run make abi");
_Static_assert(offsetof(struct nat_key4, dport) == 10, "run make abi");
_Static_assert(offsetof(struct nat_key4, protocol) == 12, "run make abi");
_Static_assert(offsetof(struct nat_key4, direction) == 13, "run make abi");
_Static_assert(offsetof(struct nat_key4, pad) == 14, "run make abi");
_Static_assert(sizeof(struct nat_key6) == 40, "run make abi");
_Static_assert(offsetof(struct nat_key6, src) == 0, "run make abi");
_Static_assert(offsetof(struct nat_key6, dst) == 16, "run make abi");
_Static_assert(offsetof(struct nat_key6, sport) == 32, "run make abi");
_Static_assert(offsetof(struct nat_key6, dport) == 34, "run make abi");
_Static_assert(offsetof(struct nat_key6, protocol) == 36, "run make abi");
_Static_assert(offsetof(struct nat_key6, direction) == 37, "run make abi");
_Static_assert(offsetof(struct nat_key6, pad) == 38, "run make abi");
_Static_assert(sizeof(struct nat_value4) == 32, "run make abi");
_Static_assert(offsetof(struct nat_value4, addr) == 0, "run make abi");
_Static_assert(offsetof(struct nat_value4, port) == 4, "run make abi");
_Static_assert(offsetof(struct nat_value4, peer_port) == 6, "run make abi");
_Static_assert(offsetof(struct nat_value4, check) == 8, "run make abi");
_Static_assert(offsetof(struct nat_value4, backend) == 12, "run make abi");
_Static_assert(offsetof(struct nat_value4, generation) == 16, "run make abi");
_Static_assert(offsetof(struct nat_value4, last_seen) == 20, "run make abi");
_Static_assert(offsetof(struct nat_value4, state) == 24, "run make abi");
_Static_assert(offsetof(struct nat_value4, flags) == 26, "run make abi");
_Static_assert(offsetof(struct nat_value4, service) == 28, "run make abi");
_Static_assert(sizeof(struct nat_value6) == 44, "run make abi");
_Static_assert(offsetof(struct nat_value6, addr) == 0, "run make abi");
_Static_assert(offsetof(struct nat_value6, port) == 16, "run make abi");
_Static_assert(offsetof(struct nat_value6, peer_port) == 18, "run make abi");
_Static_assert(offsetof(struct nat_value6, check) == 20, "run make abi");
_Static_assert(offsetof(struct nat_value6, backend) == 24, "run make abi");
_Static_assert(offsetof(struct nat_value6, generation) == 28, "run make abi");
_Static_assert(offsetof(struct nat_value6, last_seen) == 32, "run make abi");
_Static_assert(offsetof(struct nat_value6, state) == 36, "run make abi");
_Static_assert(offsetof(struct nat_value6, flags) == 38, "run make abi");
_Static_assert(offsetof(struct nat_value6, service) == 40, "run make abi");
_Static_assert(sizeof(struct ptl_config) == 32, "run make abi");
_Static_assert(offsetof(struct ptl_config, snat_port_base) == 0, "run make abi");
_Static_assert(offsetof(struct ptl_config, snat_port_count) == 4, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_tcp_opening) == 8, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_tcp_established) == 12, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_tcp_half_closed) == 16, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_tcp_closed) == 20, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_udp_unreplied) == 24, "run make abi");
_Static_assert(offsetof(struct ptl_config, timeout_udp_replied) == 28, "run make abi");
_Static_assert(sizeof(struct service_name) == 160, "run make abi");
_Static_assert(offsetof(struct service_name, namespace_name) == 0, "run make abi");
_Static_assert(offsetof(struct service_name, name) == 64, "run make abi");
_Static_assert(offsetof(struct service_name, port_name) == 128, "run make abi");
_Static_assert(offsetof(struct service_name, protocol) == 152, "run make abi");
_Static_assert(offsetof(struct service_name, pad) == 153, "run make abi");
_Static_assert(sizeof(struct traffic) == 24, "run make abi");
_Static_assert(offsetof(struct traffic, flows) == 0, "run make abi");
_Static_assert(offsetof(struct traffic, packets) == 8, "run make abi");
_Static_assert(offsetof(struct traffic, bytes) == 16, "run make abi");

#endif
