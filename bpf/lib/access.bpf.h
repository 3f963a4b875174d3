/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * THE way to the maps. The programs never call the helpers themselves (they are poisoned below), so that the same source
 * compiles to a twin (bpf/trace.bpf.c) that notes what it does and writes to copies: overlay.bpf.h.
 *
 * ptl_look_up, ptl_update, ptl_delete: as the helpers of those names, with the map and not its address.
 * ptl_tally: the cell of a map in which things are counted. NULL in the twin, which counts nothing.
 * ptl_aside: the cell of a map by which somebody else is told of packets. NULL in the twin, which tells nobody and notes nothing.
 * ptl_uses: says that a global function uses an argument, also where only counting does. The verifier of Linux 5.10 wants all of
 * them passed, and the compiler leaves out what is not used.
 * ptl_framed: a function with a frame of its own, which the twin saves: there, what notes needs one more at the end.
 * ptl_own, ptl_own_update: the cell of a map that no other program and no other run knows.
 */
#ifndef PTL_ACCESS_BPF_H
#define PTL_ACCESS_BPF_H

#include "maps.bpf.h"

#define ptl_own(map, key) bpf_map_lookup_elem(&map, key)
#define ptl_own_update(map, key, value) bpf_map_update_elem(&map, key, value, BPF_ANY)

#ifdef PTL_TRACE
#include "overlay.bpf.h"
#else
#define ptl_look_up(map, key) bpf_map_lookup_elem(&map, key)
#define ptl_update(map, key, value, flags) bpf_map_update_elem(&map, key, value, flags)
#define ptl_delete(map, key) bpf_map_delete_elem(&map, key)
#define ptl_tally(map, key) bpf_map_lookup_elem(&map, key)
#define ptl_aside(map, key) bpf_map_lookup_elem(&map, key)
#define ptl_uses(argument) ((void)(argument))
#define ptl_framed __noinline
#endif

#pragma GCC poison bpf_map_lookup_elem bpf_map_update_elem bpf_map_delete_elem

#endif /* PTL_ACCESS_BPF_H */
