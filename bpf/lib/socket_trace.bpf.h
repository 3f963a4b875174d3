/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The twin of socket_choose() in socket.bpf.h, for a fresh socket that connects. Included by trace.bpf.c, once per family. */

static __always_inline int FAM(socket_answer)(const struct FAM(addr_port) *wanted, struct FAM(sender) *from,
					      struct FAM(target) *t)
{
	bool host = ptl_trace.request.host, bound;
	struct FAM(addr_port) key;
	__u32 class;
	int r;

	ptl_trace.answer.result = PTL_NO_FRONTEND;
	if (!host && (!(config.options & PTL_OPTION_SOCKETS_PODS) || wanted->protocol != IPPROTO_TCP))
		return PTL_SOCKET_GO_ON;
	if (!FAM(socket_frontend)(wanted, host, &class, &key) || (!host && FAM(socket_leaves_to_tc)(&key)))
		return PTL_SOCKET_GO_ON;
	bound = FAM(socket_sender)(from);
	r = FAM(choose)(&key, from, t);
	ptl_trace.answer.result = r;
	r = FAM(socket_verdict)(r, class);
	if (r == PTL_SOCKET_TRANSLATED && bound)
		FAM(socket_masquerade)(from, t, wanted->protocol, ptl_trace.request.bound_port);
	return r;
}

__noinline int FAM(ptl_socket)(struct __sk_buff *skb)
{
	struct FAM(addr_port) wanted = { .port = ptl_trace.request.port, .protocol = ptl_trace.request.protocol };
	struct FAM(sender) from = { .inside = ptl_trace.request.host || config.FAM(detector) != PTL_DETECT_NONE };
	struct FAM(target) t = {};
	int r;

	ptl_uses(skb);
	__builtin_memcpy(&wanted.addr, ptl_trace.request.wanted, sizeof(ADDR));
	__builtin_memcpy(&from.addr, ptl_trace.request.bound, sizeof(ADDR));
	r = FAM(socket_answer)(&wanted, &from, &t);
	ptl_trace.answer.verdict = r;
	__builtin_memcpy(ptl_trace.answer.addr, &t.addr, sizeof(ADDR));
	ptl_trace.answer.port = t.port;
	return r;
}
