// SPDX-License-Identifier: Apache-2.0
/**
 * The whole surface of libportolan, in the order of native/include/portolan.h (a test compares name, arity and types).
 * `text`: const char *, a string. `in`: const void *, bytes that are read. `out`: void * or char *, bytes that are written.
 */
export type ArgumentType = "int" | "u32" | "text" | "in" | "out";

/** The `err` and `err_size` that end most functions. */
const ERROR: readonly ArgumentType[] = ["out", "u32"];

export type SymbolName =
  | "ptl_abi_version"
  | "ptl_abi_hash"
  | "ptl_choice_tag_of"
  | "ptl_mark_index_of"
  | "ptl_object_layout"
  | "ptl_libbpf_version"
  | "ptl_mount_bpffs"
  | "ptl_netns_cookie"
  | "ptl_probe"
  | "ptl_open"
  | "ptl_open_pins"
  | "ptl_close"
  | "ptl_map_infos"
  | "ptl_apply"
  | "ptl_dump"
  | "ptl_ring_open"
  | "ptl_ring_drain"
  | "ptl_ring_close"
  | "ptl_look_up"
  | "ptl_programs"
  | "ptl_program_maps"
  | "ptl_pinned_map"
  | "ptl_pin_map"
  | "ptl_test_run"
  | "ptl_trace_open"
  | "ptl_trace_run"
  | "ptl_trace_reset"
  | "ptl_route_get"
  | "ptl_attach"
  | "ptl_detach"
  | "ptl_xdp_attach"
  | "ptl_xdp_detach"
  | "ptl_xdp_states"
  | "ptl_attachments"
  | "ptl_sweep"
  | "ptl_cleanup"
  | "ptl_attach_sockets"
  | "ptl_detach_sockets"
  | "ptl_socket_links"
  | "ptl_destroy_udp"
  | "ptl_tracked_dump"
  | "ptl_tracked_delete"
  | "ptl_tracked_create"
  | "ptl_nat_seal"
  | "ptl_nft_generation"
  | "ptl_links_dump"
  | "ptl_events_open"
  | "ptl_events_close";

export const SYMBOLS: Readonly<Record<SymbolName, readonly ArgumentType[]>> = {
  ptl_abi_version: [],
  ptl_abi_hash: ["out"],
  ptl_choice_tag_of: ["in", "u32"],
  ptl_mark_index_of: ["in", "u32", "u32"],
  ptl_object_layout: ["text", "out", "u32", ...ERROR],
  ptl_libbpf_version: [],
  ptl_mount_bpffs: ["text", ...ERROR],
  ptl_netns_cookie: ["out", ...ERROR],
  ptl_probe: ["out", "u32", ...ERROR],
  ptl_open: ["text", "text", "in", "u32", "in", "u32", "u32", ...ERROR],
  ptl_open_pins: ["text", "u32", ...ERROR],
  ptl_close: ["int"],
  ptl_map_infos: ["int", "u32", "out", "u32", ...ERROR],
  ptl_apply: ["int", "in", "u32", "u32", "out", ...ERROR],
  ptl_dump: ["int", "u32", "u32", "u32", "out", "out", "out", "u32", ...ERROR],
  ptl_ring_open: ["int", "u32", ...ERROR],
  ptl_ring_drain: ["int", "out", "u32", "u32", ...ERROR],
  ptl_ring_close: ["int"],
  ptl_look_up: ["int", "u32", "in", "u32", "out", "out", ...ERROR],
  ptl_programs: ["int", "out", "u32", ...ERROR],
  ptl_program_maps: ["u32", "out", "u32", "out", "u32", ...ERROR],
  ptl_pinned_map: ["text", ...ERROR],
  ptl_pin_map: ["u32", "text", ...ERROR],
  ptl_test_run: ["int", "text", "in", "u32", "out", "u32", "out", "u32", "u32", "u32", "out", ...ERROR],
  ptl_trace_open: ["text", "text", "u32", "in", "u32", ...ERROR],
  // biome-ignore format: one line, as the others
  ptl_trace_run: ["int", "text", "in", "u32", "out", "u32", "out", "u32", "in", "u32", "out", "out", "out", "u32", ...ERROR],
  ptl_trace_reset: ["int", ...ERROR],
  ptl_route_get: ["in", "out", ...ERROR],
  ptl_attach: ["int", "in", "u32", "out", ...ERROR],
  ptl_detach: ["text", "in", "u32", ...ERROR],
  ptl_xdp_attach: ["int", "u32", "u32", ...ERROR],
  ptl_xdp_detach: ["text", "in", "u32", ...ERROR],
  ptl_xdp_states: ["in", "u32", "out", ...ERROR],
  ptl_attachments: ["in", "u32", "out", "u32", ...ERROR],
  ptl_sweep: ["text", ...ERROR],
  ptl_cleanup: ["text", ...ERROR],
  ptl_attach_sockets: ["int", "text", "out", ...ERROR],
  ptl_detach_sockets: ["text", ...ERROR],
  ptl_socket_links: ["text", "out", "u32", ...ERROR],
  ptl_destroy_udp: ["in", "u32", "out", ...ERROR],
  ptl_tracked_dump: ["u32", "u32", "out", "u32", ...ERROR],
  ptl_tracked_delete: ["in", "u32", "out", ...ERROR],
  ptl_tracked_create: ["in", "u32", "out", ...ERROR],
  ptl_nat_seal: ["u32", "in", "out", "u32"],
  ptl_nft_generation: ["out", ...ERROR],
  ptl_links_dump: ["out", "u32", ...ERROR],
  ptl_events_open: ["u32", "out", ...ERROR],
  ptl_events_close: ["int"],
};
