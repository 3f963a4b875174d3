// SPDX-License-Identifier: Apache-2.0
/* Never loaded: its BTF holds the structs and enums of native/include/portolan.h. Read by scripts/gen-abi.ts. */
#include "portolan.h"

#define KEEP_STRUCT(name) struct name keep_struct_##name = {};
#define KEEP_ENUM(name) enum name keep_enum_##name = 0;

KEEP_STRUCT(ptl_size)
KEEP_STRUCT(ptl_map_info)
KEEP_STRUCT(ptl_run)
KEEP_STRUCT(ptl_apply_result)
KEEP_STRUCT(ptl_cursor)
KEEP_STRUCT(ptl_test_result)
KEEP_STRUCT(ptl_attach_request)
KEEP_STRUCT(ptl_attach_result)
KEEP_STRUCT(ptl_program)
KEEP_STRUCT(ptl_attachment)
KEEP_STRUCT(ptl_xdp_state)
KEEP_STRUCT(ptl_sockets_result)
KEEP_STRUCT(ptl_socket_link)
KEEP_STRUCT(ptl_udp_target)
KEEP_STRUCT(ptl_destroy_result)
KEEP_STRUCT(ptl_tracked)
KEEP_STRUCT(ptl_tracked_result)
KEEP_STRUCT(ptl_feature)
KEEP_STRUCT(ptl_event)
KEEP_STRUCT(ptl_link)
KEEP_STRUCT(ptl_address)
KEEP_STRUCT(ptl_links_header)
KEEP_STRUCT(ptl_route_request)
KEEP_STRUCT(ptl_route)

KEEP_ENUM(ptl_open_flag)
KEEP_ENUM(ptl_run_kind)
KEEP_ENUM(ptl_cursor_state)
KEEP_ENUM(ptl_attach_mode)
KEEP_ENUM(ptl_xdp_mode)
KEEP_ENUM(ptl_attach_change)
KEEP_ENUM(ptl_event_kind)
KEEP_ENUM(ptl_event_group)
