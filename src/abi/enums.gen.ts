// SPDX-License-Identifier: Apache-2.0
// GENERATED from bpf/include/*.h by scripts/gen-abi.ts (make abi). Do not edit.

/** enum ptl_address_class */
export const AddressClass = {
  CLASS_VIP: 1,
  CLASS_BACKEND: 2,
  CLASS_BACKEND_PORT: 4,
  CLASS_CLUSTER_IP: 8,
  CLASS_NODE: 16,
} as const;
export type AddressClass = (typeof AddressClass)[keyof typeof AddressClass];

/** enum ptl_backend_flag */
export const BackendFlag = {
  BACKEND_LOCAL: 1,
  BACKEND_CLUSTER_SET: 2,
  BACKEND_LOCAL_SET: 4,
} as const;
export type BackendFlag = (typeof BackendFlag)[keyof typeof BackendFlag];

/** enum ptl_backend_state */
export const BackendState = {
  BACKEND_FREE: 0,
  BACKEND_LIVE: 1,
  BACKEND_DRAINING: 2,
} as const;
export type BackendState = (typeof BackendState)[keyof typeof BackendState];

/** enum ptl_choice */
export const Choice = {
  BASE_BITS: 28,
  COUNT_BITS: 20,
  TAG_BITS: 16,
} as const;
export type Choice = (typeof Choice)[keyof typeof Choice];

/** enum ptl_counters */
export const Counters = {
  SERVICE_BASE: 64,
} as const;
export type Counters = (typeof Counters)[keyof typeof Counters];

/** enum ptl_detector */
export const Detector = {
  DETECT_NONE: 0,
  DETECT_NETWORK: 1,
  DETECT_INTERFACE: 2,
} as const;
export type Detector = (typeof Detector)[keyof typeof Detector];

/** enum ptl_direction */
export const Direction = {
  IN: 0,
  OUT: 1,
} as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** enum ptl_empty */
export const Empty = {
  REJECT: 0,
  DROP: 1,
} as const;
export type Empty = (typeof Empty)[keyof typeof Empty];

/** enum ptl_frontend_flag */
export const FrontendFlag = {
  FRONTEND_CLUSTER_IP: 1,
  FRONTEND_MASQUERADE: 2,
  FRONTEND_MASQUERADE_OUTSIDERS: 4,
  FRONTEND_SOURCE_RANGES: 8,
  FRONTEND_INTERNAL_LOCAL: 16,
  FRONTEND_EXTERNAL_LOCAL: 32,
  FRONTEND_NODE_PORT: 64,
} as const;
export type FrontendFlag = (typeof FrontendFlag)[keyof typeof FrontendFlag];

/** enum ptl_interface_flag */
export const InterfaceFlag = {
  INTERFACE_LOCAL_PODS: 1,
  INTERFACE_PEER: 2,
  INTERFACE_SHORTCUT: 4,
} as const;
export type InterfaceFlag = (typeof InterfaceFlag)[keyof typeof InterfaceFlag];

/** enum ptl_layout */
export const Layout = {
  VERSION: 2,
} as const;
export type Layout = (typeof Layout)[keyof typeof Layout];

/** enum ptl_mark */
export const Mark = {
  IN: 0,
  OUT: 1,
  MASQUERADE: 2,
} as const;
export type Mark = (typeof Mark)[keyof typeof Mark];

/** enum ptl_marks */
export const Marks = {
  BITS: 18,
  COUNT: 262144,
  COMPLETE: 262144,
} as const;
export type Marks = (typeof Marks)[keyof typeof Marks];

/** enum ptl_nat_flag */
export const NatFlag = {
  NAT_REPLY: 1,
  NAT_PENDING: 2,
  NAT_DIRECT: 4,
  NAT_MASQUERADE: 8,
  NAT_ASKED: 16,
  NAT_SHORTCUT: 32,
  NAT_XDP: 128,
} as const;
export type NatFlag = (typeof NatFlag)[keyof typeof NatFlag];

/** enum ptl_nat_state */
export const NatState = {
  SEEN_FORWARD: 1,
  SEEN_REPLY: 2,
  ESTABLISHED: 4,
  FIN_FORWARD: 8,
  FIN_REPLY: 16,
  RST_FORWARD: 32,
  RST_REPLY: 64,
} as const;
export type NatState = (typeof NatState)[keyof typeof NatState];

/** enum ptl_option */
export const Option = {
  SOCKETS_PODS: 1,
  LOOPBACK_NODEPORT: 2,
  RESET_REMOVED: 4,
  SET_RETVAL: 8,
  SHORTCUT: 16,
  COARSE_CLOCK: 32,
} as const;
export type Option = (typeof Option)[keyof typeof Option];

/** enum ptl_reason */
export const Reason = {
  TRANSLATED: 0,
  FLOW_NEW: 1,
  PASS_NOT_IP: 2,
  PASS_MALFORMED: 3,
  PASS_PROTOCOL: 4,
  PASS_FRAGMENT: 5,
  PASS_NO_SERVICE: 6,
  PASS_TCP_NO_ENTRY: 7,
  PASS_EGRESS_MISS: 8,
  PASS_DIRECT: 9,
  PASS_ICMP: 10,
  ICMP_TRANSLATED: 11,
  REJECT_NO_BACKEND: 12,
  REJECT_NO_PORT: 13,
  REJECT_UNTRANSLATED: 14,
  DROP_POLICY: 15,
  DROP_REDIRECT: 16,
  DROP_NO_SOURCE_PORT: 17,
  DROP_NO_ADDRESS: 18,
  DROP_MAP_FULL: 19,
  DROP_BACKEND_CELL: 20,
  DROP_REWRITE: 21,
  DROP_REJECT_FAILED: 22,
  SOURCE_PORT_SHIFTED: 23,
  MASQUERADED: 24,
  BACKEND_STALE: 25,
  PAIR_RESTORED: 26,
  READ_RETRIED: 27,
  DROP_SOURCE_RANGE: 28,
  DROP_UNALLOCATED: 29,
  RESET_REMOVED: 30,
  AFFINITY_KEPT: 31,
  SOCKET_TRANSLATED: 32,
  SOCKET_REFUSED: 33,
  DROP_LOOPBACK: 34,
  EVENT_LOST: 35,
  XDP_SENT: 36,
  XDP_DROPPED: 37,
  XDP_OTHER: 38,
  XDP_STACK_FLOW: 39,
  XDP_PROTOCOL: 40,
  XDP_OPTIONS: 41,
  XDP_FRAGMENT: 42,
  XDP_LOCAL: 43,
  XDP_OVERLAY: 44,
  XDP_ROUTE: 45,
  XDP_NEIGHBOUR: 46,
  XDP_MTU: 47,
  XDP_TTL: 48,
  XDP_ANSWER: 49,
  XDP_OWN_ADDRESS: 50,
  SHORTCUT: 51,
  SHORTCUT_FLOW: 52,
  STACK_CLIENT: 53,
  STACK_MASQUERADE: 54,
  STACK_INTERFACE: 55,
  STACK_ROUTE: 56,
  STACK_NEIGHBOUR: 57,
  STACK_SENDER: 58,
  STACK_OPTIONS: 59,
  STACK_HOPS: 60,
  STACK_SIZE: 61,
  COUNT: 62,
} as const;
export type Reason = (typeof Reason)[keyof typeof Reason];

/** enum ptl_role */
export const Role = {
  POD: 1,
  UPLINK: 2,
  OVERLAY: 3,
  BRIDGE: 4,
  NODE: 5,
} as const;
export type Role = (typeof Role)[keyof typeof Role];

/** enum ptl_tell */
export const Tell = {
  NEW: 1,
  TRANSLATED: 2,
  REJECTED: 4,
  DROPPED: 8,
  GONE: 16,
} as const;
export type Tell = (typeof Tell)[keyof typeof Tell];

/** enum ptl_why */
export const Why = {
  INSIDE: 1,
  AFFINITY_KEPT: 2,
  AFFINITY_BOUND: 4,
} as const;
export type Why = (typeof Why)[keyof typeof Why];

/** enum trace_map */
export const TraceMap = {
  MAP_FRONTENDS: 1,
  MAP_SLOTS: 2,
  MAP_BACKENDS: 3,
  MAP_ADDRESSES: 4,
  MAP_NAT: 5,
  MAP_FRAGMENTS: 6,
  MAP_AFFINITY: 7,
  MAP_SOURCE_RANGES: 8,
  MAP_SERVICE_NETS: 9,
  MAP_INTERFACES: 10,
  MAP_COUNTERS: 11,
  MAP_BACKEND_STATS: 12,
} as const;
export type TraceMap = (typeof TraceMap)[keyof typeof TraceMap];

/** enum trace_op */
export const TraceOp = {
  TRACE_LOOK_UP: 1,
  TRACE_UPDATE: 2,
  TRACE_DELETE: 3,
  TRACE_TALLY: 4,
} as const;
export type TraceOp = (typeof TraceOp)[keyof typeof TraceOp];

/** enum trace_size */
export const TraceSize = {
  TRACE_KEY_SIZE: 40,
  TRACE_VALUE_SIZE: 48,
  TRACE_RECORDS: 256,
} as const;
export type TraceSize = (typeof TraceSize)[keyof typeof TraceSize];

/** enum trace_verdict */
export const TraceVerdict = {
  TRACE_REFUSED: 0,
  TRACE_AS_IT_IS: 1,
  TRACE_TRANSLATED: 2,
} as const;
export type TraceVerdict = (typeof TraceVerdict)[keyof typeof TraceVerdict];

export const NAT_LOCK = 1;
export const NO_BACKEND = 4294967295;
export const NO_SERVICE = 4294967295;
export const TICK_SHIFT = 30;

export type ReasonName = "translated" | "flow_new" | "not_ip" | "header_malformed" | "protocol_other" | "fragment_unknown" | "no_service" | "tcp_no_entry" | "egress_miss" | "flow_direct" | "icmp_no_flow" | "icmp_translated" | "no_backend" | "no_port" | "vip_untranslated" | "policy_local" | "redirect_translated_flow" | "source_port_exhausted" | "masquerade_no_address" | "nat_insert_failed" | "backend_unreadable" | "rewrite_failed" | "reject_failed" | "source_port_shifted" | "masqueraded" | "backend_stale" | "pair_restored" | "read_retried" | "source_range" | "service_address_unused" | "backend_removed" | "affinity_kept" | "socket_translated" | "socket_refused" | "loopback_from_outside" | "event_lost" | "xdp_sent" | "xdp_dropped" | "xdp_other" | "xdp_stack_flow" | "xdp_protocol" | "xdp_options" | "xdp_fragment" | "xdp_local" | "xdp_overlay_route" | "xdp_other_interface" | "xdp_neighbour" | "xdp_mtu" | "xdp_ttl" | "xdp_answer" | "xdp_own_address" | "shortcut" | "shortcut_flow" | "stack_client" | "stack_masquerade" | "stack_interface" | "stack_route" | "stack_neighbour" | "stack_sender" | "stack_options" | "stack_hops" | "stack_size";

export interface ReasonInfo {
  /** Index into `counters`. */
  readonly id: number;
  readonly key: string;
  /** Metric label and what the command line prints. */
  readonly name: ReasonName;
  readonly text: string;
}

/** By id: REASONS[i].id === i. */
export const REASONS: readonly ReasonInfo[] = [
  { id: 0, key: "TRANSLATED", name: "translated", text: "an established flow's packet was rewritten" },
  { id: 1, key: "FLOW_NEW", name: "flow_new", text: "a backend was chosen for a new flow" },
  { id: 2, key: "PASS_NOT_IP", name: "not_ip", text: "passed: neither IPv4 nor IPv6" },
  { id: 3, key: "PASS_MALFORMED", name: "header_malformed", text: "passed: a header is cut short or contradicts itself" },
  { id: 4, key: "PASS_PROTOCOL", name: "protocol_other", text: "passed: not TCP, UDP, SCTP or an ICMP error" },
  { id: 5, key: "PASS_FRAGMENT", name: "fragment_unknown", text: "passed: a fragment whose first one was not seen" },
  { id: 6, key: "PASS_NO_SERVICE", name: "no_service", text: "passed: the destination is no Service address" },
  { id: 7, key: "PASS_TCP_NO_ENTRY", name: "tcp_no_entry", text: "passed: TCP or SCTP that opens nothing and belongs to no flow of ours" },
  { id: 8, key: "PASS_EGRESS_MISS", name: "egress_miss", text: "passed at egress: no flow of ours" },
  { id: 9, key: "PASS_DIRECT", name: "flow_direct", text: "passed: a client uses a backend's own address" },
  { id: 10, key: "PASS_ICMP", name: "icmp_no_flow", text: "passed: ICMP, or an ICMP error about no flow of ours" },
  { id: 11, key: "ICMP_TRANSLATED", name: "icmp_translated", text: "an ICMP error was rewritten with its inner packet" },
  { id: 12, key: "REJECT_NO_BACKEND", name: "no_backend", text: "rejected: the Service has no endpoint" },
  { id: 13, key: "REJECT_NO_PORT", name: "no_port", text: "rejected: the ClusterIP has no such port" },
  { id: 14, key: "REJECT_UNTRANSLATED", name: "vip_untranslated", text: "rejected at a node interface: a packet to a Service address that no hook has translated" },
  { id: 15, key: "DROP_POLICY", name: "policy_local", text: "dropped: traffic policy Local and no local endpoint" },
  { id: 16, key: "DROP_REDIRECT", name: "redirect_translated_flow", text: "dropped: an ICMP redirect about a translated flow" },
  { id: 17, key: "DROP_NO_SOURCE_PORT", name: "source_port_exhausted", text: "dropped: no free source port to keep two flows apart" },
  { id: 18, key: "DROP_NO_ADDRESS", name: "masquerade_no_address", text: "dropped: the egress interface has no address to masquerade with" },
  { id: 19, key: "DROP_MAP_FULL", name: "nat_insert_failed", text: "dropped: the nat map took no entry" },
  { id: 20, key: "DROP_BACKEND_CELL", name: "backend_unreadable", text: "dropped: a chosen backend was not live after three reads" },
  { id: 21, key: "DROP_REWRITE", name: "rewrite_failed", text: "dropped: the kernel refused to change the packet" },
  { id: 22, key: "DROP_REJECT_FAILED", name: "reject_failed", text: "dropped: the ICMP answer could not be built" },
  { id: 23, key: "SOURCE_PORT_SHIFTED", name: "source_port_shifted", text: "a flow was given a source port of its own" },
  { id: 24, key: "MASQUERADED", name: "masqueraded", text: "a flow was given the node's address" },
  { id: 25, key: "BACKEND_STALE", name: "backend_stale", text: "a UDP flow's backend has gone: chosen anew" },
  { id: 26, key: "PAIR_RESTORED", name: "pair_restored", text: "the other half of a nat pair was missing and was put back" },
  { id: 27, key: "READ_RETRIED", name: "read_retried", text: "a map element was recycled while it was read: read again" },
  { id: 28, key: "DROP_SOURCE_RANGE", name: "source_range", text: "dropped: the sender is in none of loadBalancerSourceRanges" },
  { id: 29, key: "DROP_UNALLOCATED", name: "service_address_unused", text: "dropped: no Service has this address of the service network" },
  { id: 30, key: "RESET_REMOVED", name: "backend_removed", text: "reset: the connection's backend has left the Service" },
  { id: 31, key: "AFFINITY_KEPT", name: "affinity_kept", text: "session affinity chose a flow's backend" },
  { id: 32, key: "SOCKET_TRANSLATED", name: "socket_translated", text: "a socket was sent to a backend" },
  { id: 33, key: "SOCKET_REFUSED", name: "socket_refused", text: "a socket was refused: the Service has no endpoint, or no such port" },
  { id: 34, key: "DROP_LOOPBACK", name: "loopback_from_outside", text: "dropped: a packet to a loopback address that did not begin on this host" },
  { id: 35, key: "EVENT_LOST", name: "event_lost", text: "an event was lost: whoever reads `events` is too slow" },
  { id: 36, key: "XDP_SENT", name: "xdp_sent", text: "finished in XDP: rewritten and sent on" },
  { id: 37, key: "XDP_DROPPED", name: "xdp_dropped", text: "in XDP: a drop, whose reason is counted too" },
  { id: 38, key: "XDP_OTHER", name: "xdp_other", text: "left to tc by XDP: none of a Service's packets" },
  { id: 39, key: "XDP_STACK_FLOW", name: "xdp_stack_flow", text: "left to tc by XDP: its flow goes through the stack" },
  { id: 40, key: "XDP_PROTOCOL", name: "xdp_protocol", text: "left to tc by XDP: neither TCP nor UDP (ICMP, SCTP ...)" },
  { id: 41, key: "XDP_OPTIONS", name: "xdp_options", text: "left to tc by XDP: IPv4 options or an IPv6 extension header" },
  { id: 42, key: "XDP_FRAGMENT", name: "xdp_fragment", text: "left to tc by XDP: a fragment" },
  { id: 43, key: "XDP_LOCAL", name: "xdp_local", text: "left to tc by XDP: the way does not leave the node" },
  { id: 44, key: "XDP_OVERLAY", name: "xdp_overlay_route", text: "left to tc by XDP: the route leads through an overlay" },
  { id: 45, key: "XDP_ROUTE", name: "xdp_other_interface", text: "left to tc by XDP: the way leads out by an interface without XDP" },
  { id: 46, key: "XDP_NEIGHBOUR", name: "xdp_neighbour", text: "left to tc by XDP: the neighbour is not resolved" },
  { id: 47, key: "XDP_MTU", name: "xdp_mtu", text: "left to tc by XDP: the packet is longer than the route's MTU" },
  { id: 48, key: "XDP_TTL", name: "xdp_ttl", text: "left to tc by XDP: its time to live ends here" },
  { id: 49, key: "XDP_ANSWER", name: "xdp_answer", text: "left to tc by XDP: the sender is to get an answer" },
  { id: 50, key: "XDP_OWN_ADDRESS", name: "xdp_own_address", text: "left to tc by XDP: the client keeps its address, so replies take another way" },
  { id: 51, key: "SHORTCUT", name: "shortcut", text: "a translated packet went past the stack (--forwarding)" },
  { id: 52, key: "SHORTCUT_FLOW", name: "shortcut_flow", text: "a new flow was given the shortcut past the stack" },
  { id: 53, key: "STACK_CLIENT", name: "stack_client", text: "a new flow goes through the stack: its client is no pod of this node" },
  { id: 54, key: "STACK_MASQUERADE", name: "stack_masquerade", text: "a new flow goes through the stack: its client's address is changed" },
  { id: 55, key: "STACK_INTERFACE", name: "stack_interface", text: "through the stack: an interface on the way is not open to the shortcut (`portolan interfaces`)" },
  { id: 56, key: "STACK_ROUTE", name: "stack_route", text: "through the stack: the routing table does not forward this packet" },
  { id: 57, key: "STACK_NEIGHBOUR", name: "stack_neighbour", text: "through the stack: the next hop's link address is not known yet" },
  { id: 58, key: "STACK_SENDER", name: "stack_sender", text: "through the stack: the route back does not lead to where the packet came from" },
  { id: 59, key: "STACK_OPTIONS", name: "stack_options", text: "through the stack: the packet has options that a router looks at" },
  { id: 60, key: "STACK_HOPS", name: "stack_hops", text: "through the stack: the packet has no hop left" },
  { id: 61, key: "STACK_SIZE", name: "stack_size", text: "through the stack: the packet is larger than the path's MTU" },
];
