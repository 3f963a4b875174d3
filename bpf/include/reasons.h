/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * Every way a packet can leave our hooks, in one list: PTL_REASON(id, name, text).
 *
 * The id is the index into the `counters` map, the name is the metric label and what the
 * command line prints, the text is the explanation. Order is ABI: append only.
 * A name is `noun_problem`. Nothing here counts as an error by itself.
 */
#ifndef PTL_REASONS_H
#define PTL_REASONS_H

#define PTL_REASONS(PTL_REASON)                                                                             \
	PTL_REASON(TRANSLATED, "translated", "an established flow's packet was rewritten")                  \
	PTL_REASON(FLOW_NEW, "flow_new", "a backend was chosen for a new flow")                             \
	PTL_REASON(PASS_NOT_IP, "not_ip", "passed: neither IPv4 nor IPv6")                                  \
	PTL_REASON(PASS_MALFORMED, "header_malformed", "passed: a header is cut short or contradicts itself") \
	PTL_REASON(PASS_PROTOCOL, "protocol_other", "passed: not TCP, UDP, SCTP or an ICMP error")          \
	PTL_REASON(PASS_FRAGMENT, "fragment_unknown", "passed: a fragment whose first one was not seen")      \
	PTL_REASON(PASS_NO_SERVICE, "no_service", "passed: the destination is no Service address")          \
	PTL_REASON(PASS_TCP_NO_ENTRY, "tcp_no_entry", "passed: TCP or SCTP that opens nothing and belongs to no flow of ours") \
	PTL_REASON(PASS_EGRESS_MISS, "egress_miss", "passed at egress: no flow of ours")                    \
	PTL_REASON(PASS_DIRECT, "flow_direct", "passed: a client uses a backend's own address")             \
	PTL_REASON(PASS_ICMP, "icmp_no_flow", "passed: ICMP, or an ICMP error about no flow of ours")       \
	PTL_REASON(ICMP_TRANSLATED, "icmp_translated", "an ICMP error was rewritten with its inner packet") \
	PTL_REASON(REJECT_NO_BACKEND, "no_backend", "rejected: the Service has no endpoint")                \
	PTL_REASON(REJECT_NO_PORT, "no_port", "rejected: the ClusterIP has no such port")                   \
	PTL_REASON(REJECT_UNTRANSLATED, "vip_untranslated", "rejected at a node interface: a packet to a Service address that no hook has translated") \
	PTL_REASON(DROP_POLICY, "policy_local", "dropped: traffic policy Local and no local endpoint")      \
	PTL_REASON(DROP_REDIRECT, "redirect_translated_flow", "dropped: an ICMP redirect about a translated flow") \
	PTL_REASON(DROP_NO_SOURCE_PORT, "source_port_exhausted", "dropped: no free source port to keep two flows apart") \
	PTL_REASON(DROP_NO_ADDRESS, "masquerade_no_address", "dropped: the egress interface has no address to masquerade with") \
	PTL_REASON(DROP_MAP_FULL, "nat_insert_failed", "dropped: the nat map took no entry")                \
	PTL_REASON(DROP_BACKEND_CELL, "backend_unreadable", "dropped: a chosen backend was not live after three reads") \
	PTL_REASON(DROP_REWRITE, "rewrite_failed", "dropped: the kernel refused to change the packet")      \
	PTL_REASON(DROP_REJECT_FAILED, "reject_failed", "dropped: the ICMP answer could not be built")      \
	PTL_REASON(SOURCE_PORT_SHIFTED, "source_port_shifted", "a flow was given a source port of its own")  \
	PTL_REASON(MASQUERADED, "masqueraded", "a flow was given the node's address")                       \
	PTL_REASON(BACKEND_STALE, "backend_stale", "a UDP flow's backend has gone: chosen anew")             \
	PTL_REASON(PAIR_RESTORED, "pair_restored", "the other half of a nat pair was missing and was put back") \
	PTL_REASON(READ_RETRIED, "read_retried", "a map element was recycled while it was read: read again")  \
	PTL_REASON(DROP_SOURCE_RANGE, "source_range", "dropped: the sender is in none of loadBalancerSourceRanges") \
	PTL_REASON(DROP_UNALLOCATED, "service_address_unused", "dropped: no Service has this address of the service network") \
	PTL_REASON(RESET_REMOVED, "backend_removed", "reset: the connection's backend has left the Service")  \
	PTL_REASON(AFFINITY_KEPT, "affinity_kept", "session affinity chose a flow's backend")                \
	PTL_REASON(SOCKET_TRANSLATED, "socket_translated", "a socket was sent to a backend")                 \
	PTL_REASON(SOCKET_REFUSED, "socket_refused", "a socket was refused: the Service has no endpoint, or no such port") \
	PTL_REASON(DROP_LOOPBACK, "loopback_from_outside", "dropped: a packet to a loopback address that did not begin on this host") \
	PTL_REASON(EVENT_LOST, "event_lost", "an event was lost: whoever reads `events` is too slow") \
	PTL_REASON(XDP_SENT, "xdp_sent", "finished in XDP: rewritten and sent on")                           \
	PTL_REASON(XDP_DROPPED, "xdp_dropped", "in XDP: a drop, whose reason is counted too")           \
	PTL_REASON(XDP_OTHER, "xdp_other", "left to tc by XDP: none of a Service's packets")                \
	PTL_REASON(XDP_STACK_FLOW, "xdp_stack_flow", "left to tc by XDP: its flow goes through the stack")   \
	PTL_REASON(XDP_PROTOCOL, "xdp_protocol", "left to tc by XDP: neither TCP nor UDP (ICMP, SCTP ...)")   \
	PTL_REASON(XDP_OPTIONS, "xdp_options", "left to tc by XDP: IPv4 options or an IPv6 extension header") \
	PTL_REASON(XDP_FRAGMENT, "xdp_fragment", "left to tc by XDP: a fragment")                           \
	PTL_REASON(XDP_LOCAL, "xdp_local", "left to tc by XDP: the way does not leave the node")       \
	PTL_REASON(XDP_OVERLAY, "xdp_overlay_route", "left to tc by XDP: the route leads through an overlay") \
	PTL_REASON(XDP_ROUTE, "xdp_other_interface", "left to tc by XDP: the way leads out by an interface without XDP") \
	PTL_REASON(XDP_NEIGHBOUR, "xdp_neighbour", "left to tc by XDP: the neighbour is not resolved")       \
	PTL_REASON(XDP_MTU, "xdp_mtu", "left to tc by XDP: the packet is longer than the route's MTU")       \
	PTL_REASON(XDP_TTL, "xdp_ttl", "left to tc by XDP: its time to live ends here")                      \
	PTL_REASON(XDP_ANSWER, "xdp_answer", "left to tc by XDP: the sender is to get an answer")            \
	PTL_REASON(XDP_OWN_ADDRESS, "xdp_own_address", "left to tc by XDP: the client keeps its address, so replies take another way") \
	PTL_REASON(SHORTCUT, "shortcut", "a translated packet went past the stack (--forwarding)")          \
	PTL_REASON(SHORTCUT_FLOW, "shortcut_flow", "a new flow was given the shortcut past the stack")      \
	PTL_REASON(STACK_CLIENT, "stack_client", "a new flow goes through the stack: its client is no pod of this node") \
	PTL_REASON(STACK_MASQUERADE, "stack_masquerade", "a new flow goes through the stack: its client's address is changed") \
	PTL_REASON(STACK_INTERFACE, "stack_interface", "through the stack: an interface on the way is not open to the shortcut (`portolan interfaces`)") \
	PTL_REASON(STACK_ROUTE, "stack_route", "through the stack: the routing table does not forward this packet") \
	PTL_REASON(STACK_NEIGHBOUR, "stack_neighbour", "through the stack: the next hop's link address is not known yet") \
	PTL_REASON(STACK_SENDER, "stack_sender", "through the stack: the route back does not lead to where the packet came from") \
	PTL_REASON(STACK_OPTIONS, "stack_options", "through the stack: the packet has options that a router looks at") \
	PTL_REASON(STACK_HOPS, "stack_hops", "through the stack: the packet has no hop left")               \
	PTL_REASON(STACK_SIZE, "stack_size", "through the stack: the packet is larger than the path's MTU")

#endif /* PTL_REASONS_H */
