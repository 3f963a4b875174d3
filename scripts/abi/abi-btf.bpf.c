// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Never loaded: it exists so that its BTF holds every map, struct and enum of bpf/include, also those that no program
 * uses yet. scripts/gen-abi.ts reads it and refuses to run when a struct or enum of abi.h is missing here.
 */
#include <linux/bpf.h>

#include "maps.bpf.h"

#define KEEP_STRUCT(name) struct name keep_struct_##name = {};
#define KEEP_ENUM(name) enum name keep_enum_##name = 0;

KEEP_STRUCT(addr_port4)
KEEP_STRUCT(addr_port6)
KEEP_STRUCT(backend4)
KEEP_STRUCT(backend6)
KEEP_STRUCT(nat_key4)
KEEP_STRUCT(nat_key6)
KEEP_STRUCT(nat_value4)
KEEP_STRUCT(nat_value6)
KEEP_STRUCT(fragment_key4)
KEEP_STRUCT(fragment_key6)
KEEP_STRUCT(fragment)
KEEP_STRUCT(affinity_key4)
KEEP_STRUCT(affinity_key6)
KEEP_STRUCT(affinity)
KEEP_STRUCT(source_range4)
KEEP_STRUCT(source_range6)
KEEP_STRUCT(network4)
KEEP_STRUCT(network6)
KEEP_STRUCT(socket_key4)
KEEP_STRUCT(socket_key6)
KEEP_STRUCT(socket_value4)
KEEP_STRUCT(socket_value6)
KEEP_STRUCT(frontend)
KEEP_STRUCT(interface)
KEEP_STRUCT(service_name)
KEEP_STRUCT(traffic)
KEEP_STRUCT(ptl_config)
KEEP_STRUCT(trace_record)
KEEP_STRUCT(trace_request)
KEEP_STRUCT(trace_answer)

KEEP_ENUM(ptl_layout)
KEEP_ENUM(ptl_choice)
KEEP_ENUM(ptl_empty)
KEEP_ENUM(ptl_frontend_flag)
KEEP_ENUM(ptl_address_class)
KEEP_ENUM(ptl_backend_state)
KEEP_ENUM(ptl_backend_flag)
KEEP_ENUM(ptl_direction)
KEEP_ENUM(ptl_nat_state)
KEEP_ENUM(ptl_nat_flag)
KEEP_ENUM(ptl_role)
KEEP_ENUM(ptl_interface_flag)
KEEP_ENUM(ptl_detector)
KEEP_ENUM(ptl_option)
KEEP_ENUM(ptl_reason)
KEEP_ENUM(ptl_counters)
KEEP_ENUM(trace_op)
KEEP_ENUM(trace_map)
KEEP_ENUM(trace_size)
KEEP_ENUM(trace_verdict)
