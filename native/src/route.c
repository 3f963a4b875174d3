/* SPDX-License-Identifier: Apache-2.0 */
/* Where the kernel would send a packet (RTM_GETROUTE). */
#include <linux/rtnetlink.h>
#include <sys/socket.h>

#include "internal.h"

struct route_message {
	struct nlmsghdr header;
	struct rtmsg route;
	uint8_t attributes[256];
};

static void put(struct route_message *m, uint16_t type, const void *data, uint16_t size)
{
	struct rtattr *attribute = (void *)((uint8_t *)m + NLMSG_ALIGN(m->header.nlmsg_len));

	attribute->rta_type = type;
	attribute->rta_len = (uint16_t)RTA_LENGTH(size);
	memcpy(RTA_DATA(attribute), data, size);
	m->header.nlmsg_len = NLMSG_ALIGN(m->header.nlmsg_len) + RTA_ALIGN(attribute->rta_len);
}

static bool is_zero(const uint8_t *bytes, size_t size)
{
	while (size > 0 && !bytes[size - 1])
		size--;
	return size == 0;
}

static int visit(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct rtmsg *found = NLMSG_DATA(message);
	struct ptl_route *route = context;
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*found));

	if (message->nlmsg_type != RTM_NEWROUTE || !netlink_has(message, sizeof(*found)))
		return 0;
	route->type = found->rtm_type;
	for (const struct rtattr *a = RTM_RTA(found); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == RTA_OIF)
			netlink_number(&route->oif, a);
		if (a->rta_type == RTA_GATEWAY && RTA_PAYLOAD(a) <= sizeof(route->gateway))
			memcpy(route->gateway, RTA_DATA(a), RTA_PAYLOAD(a));
		if (a->rta_type == RTA_PREFSRC && RTA_PAYLOAD(a) <= sizeof(route->source))
			memcpy(route->source, RTA_DATA(a), RTA_PAYLOAD(a));
	}
	return 0;
}

EXPORT int ptl_route_get(const void *request_in, void *route_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct ptl_route_request request;
	struct ptl_route route = {};
	struct route_message m = {
		.header = { .nlmsg_len = NLMSG_LENGTH(sizeof(struct rtmsg)), .nlmsg_type = RTM_GETROUTE, .nlmsg_flags = NLM_F_REQUEST },
	};

	memcpy(&request, request_in, sizeof(request));
	uint16_t size = request.family == 4 ? 4 : 16;

	m.route.rtm_family = request.family == 4 ? AF_INET : AF_INET6;
	m.route.rtm_dst_len = (uint8_t)(size * 8);
	put(&m, RTA_DST, request.dst, size);
	if (!is_zero(request.src, size)) {
		m.route.rtm_src_len = (uint8_t)(size * 8);
		put(&m, RTA_SRC, request.src, size);
	}
	if (request.iif)
		put(&m, RTA_IIF, &request.iif, sizeof(request.iif));
	if (request.mark)
		put(&m, RTA_MARK, &request.mark, sizeof(request.mark));
	if (request.sport || request.dport) { /* rules may ask for them; the kernel takes those of TCP and UDP */
		put(&m, RTA_IP_PROTO, &request.protocol, sizeof(request.protocol));
		put(&m, RTA_SPORT, &request.sport, sizeof(request.sport));
		put(&m, RTA_DPORT, &request.dport, sizeof(request.dport));
	}
	int result = netlink_ask(&m, m.header.nlmsg_len, visit, &route);

	if (result < 0)
		return fail(&err, result, PTL_E_KERNEL, "route", "packet", "The kernel has no route for it: %s", strerror(-result));
	memcpy(route_out, &route, sizeof(route));
	return 0;
}
