/* SPDX-License-Identifier: Apache-2.0 */
/* The few rtnetlink requests that are needed: dumps of links, addresses, qdiscs and filters. */
#include <arpa/inet.h>
#include <linux/if_link.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "internal.h"

#define BUFFER_SIZE 65536
#define FILTER_INGRESS 0xfffffff2u
#define FILTER_EGRESS 0xfffffff3u

static int open_socket(int protocol)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);

	if (fd < 0)
		return -errno;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int number = errno;

		close(fd);
		return -number;
	}
	return fd;
}

static int send_request(int fd, const void *request, uint32_t size)
{
	struct sockaddr_nl kernel = { .nl_family = AF_NETLINK };

	return sendto(fd, request, size, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0 ? -errno : 0;
}

/* What an error message says: 0, or -errno. */
static int error_of(const struct nlmsghdr *message)
{
	int number;

	if (message->nlmsg_len < NLMSG_LENGTH(sizeof(number)))
		return -EBADMSG;
	memcpy(&number, NLMSG_DATA(message), sizeof(number));
	return number > 0 ? -EBADMSG : number;
}

/* 1: go on receiving, 0: done, < 0: -errno */
static int visit_all(uint8_t *buffer, ssize_t length, netlink_visit visit, void *context)
{
	int left = (int)length; /* signed: behind a last message without padding it is below 0 */

	for (struct nlmsghdr *message = (void *)buffer; netlink_ok(message, left); message = NLMSG_NEXT(message, left)) {
		if (message->nlmsg_type == NLMSG_ERROR)
			return error_of(message);
		if (message->nlmsg_flags & NLM_F_DUMP_INTR) /* the last message may be the only one to say so */
			return -EINTR;
		int result = visit ? visit(message, context) : 0;

		if (result < 0)
			return result;
		if (message->nlmsg_type == NLMSG_DONE)
			return 0;
	}
	return 1;
}

static int exchange(int protocol, const void *request, uint32_t size, netlink_visit visit, void *context)
{
	int fd = open_socket(protocol);
	uint8_t *buffer = malloc(BUFFER_SIZE);
	int result = fd < 0 ? fd : buffer ? send_request(fd, request, size) : -ENOMEM;

	if (result == 0)
		result = 1;
	while (result > 0) {
		/* MSG_TRUNC: the real length, also of what has no room. Its rest is lost, and the end of the dump may be in it. */
		ssize_t length = recv(fd, buffer, BUFFER_SIZE, MSG_TRUNC);

		if (length < 0 && errno == EINTR)
			continue;
		if (length > BUFFER_SIZE)
			result = -EMSGSIZE;
		else
			result = length < 0 ? -errno : visit_all(buffer, length, visit, context);
	}
	free(buffer);
	if (fd >= 0)
		close(fd);
	return result;
}

int netlink_dump_of(int protocol, const void *request, uint32_t size, netlink_visit visit, void *context)
{
	return exchange(protocol, request, size, visit, context);
}

int netlink_request_to(int protocol, void *request, uint32_t size)
{
	((struct nlmsghdr *)request)->nlmsg_flags |= NLM_F_ACK;
	return exchange(protocol, request, size, NULL, NULL);
}

int netlink_dump(const void *request, uint32_t size, netlink_visit visit, void *context)
{
	return netlink_dump_of(NETLINK_ROUTE, request, size, visit, context);
}

int netlink_ask(void *request, uint32_t size, netlink_visit visit, void *context)
{
	((struct nlmsghdr *)request)->nlmsg_flags |= NLM_F_ACK;
	return exchange(NETLINK_ROUTE, request, size, visit, context);
}

int netlink_request(void *request, uint32_t size)
{
	return netlink_request_to(NETLINK_ROUTE, request, size);
}

void netlink_text(char *out, size_t size, const struct rtattr *attribute)
{
	snprintf(out, size, "%.*s", (int)RTA_PAYLOAD(attribute), (const char *)RTA_DATA(attribute));
}

void netlink_number(void *out, const struct rtattr *attribute)
{
	if (RTA_PAYLOAD(attribute) >= sizeof(uint32_t))
		memcpy(out, RTA_DATA(attribute), sizeof(uint32_t));
}

bool netlink_ok(const struct nlmsghdr *message, int left)
{
	return left >= (int)sizeof(*message) && message->nlmsg_len >= sizeof(*message) && message->nlmsg_len <= (uint32_t)left;
}

bool netlink_has(const struct nlmsghdr *message, size_t size)
{
	return message->nlmsg_len >= NLMSG_LENGTH(size);
}

/* ---- qdiscs and filters ---- */

struct tc_request {
	struct nlmsghdr header;
	struct tcmsg tc;
};

static struct tc_request tc_request(uint16_t type, uint16_t flags, uint32_t ifindex, uint32_t parent)
{
	return (struct tc_request){
		.header = { .nlmsg_len = sizeof(struct tc_request), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags },
		.tc = { .tcm_family = AF_UNSPEC, .tcm_ifindex = (int)ifindex, .tcm_parent = parent },
	};
}

struct qdisc_search {
	uint32_t ifindex;
	char *kind;
};

static int visit_qdisc(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct tcmsg *tc = NLMSG_DATA(message);
	struct qdisc_search *search = context;
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*tc));

	if (message->nlmsg_type != RTM_NEWQDISC || !netlink_has(message, sizeof(*tc)))
		return 0;
	if ((uint32_t)tc->tcm_ifindex != search->ifindex || tc->tcm_parent != TC_H_INGRESS)
		return 0;
	for (const struct rtattr *a = (const void *)(tc + 1); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == TCA_KIND)
			netlink_text(search->kind, 16, a);
	return 0;
}

int qdisc_kind(uint32_t ifindex, char kind[16])
{
	/* Asked for by its parent: a dump would list the qdiscs of every interface. Without ECHO only bystanders
	 * are told the answer; the acknowledgement ends it. */
	struct tc_request request = tc_request(RTM_GETQDISC, NLM_F_ACK | NLM_F_ECHO, ifindex, TC_H_INGRESS);
	struct qdisc_search search = { ifindex, kind };

	kind[0] = 0;
	int result = exchange(NETLINK_ROUTE, &request, sizeof(request), visit_qdisc, &search);

	return result == -ENOENT || result == -EINVAL ? 0 : result; /* there is none */
}

int qdisc_remove_clsact(uint32_t ifindex)
{
	struct {
		struct tc_request request;
		struct rtattr kind;
		char text[8];
	} message = { .request = tc_request(RTM_DELQDISC, 0, ifindex, TC_H_CLSACT), .text = "clsact" };

	message.request.tc.tcm_handle = TC_H_MAKE(TC_H_CLSACT, 0);
	message.kind = (struct rtattr){ .rta_len = RTA_LENGTH(7), .rta_type = TCA_KIND };
	message.request.header.nlmsg_len = sizeof(message);
	return netlink_request(&message, sizeof(message));
}

struct filter_list {
	struct filter *list;
	uint32_t capacity;
	uint32_t count;
};

static int visit_filter(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct tcmsg *tc = NLMSG_DATA(message);
	struct filter_list *out = context;
	struct filter filter = {};
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*tc));

	if (message->nlmsg_type != RTM_NEWTFILTER || !netlink_has(message, sizeof(*tc)))
		return 0;
	filter.priority = tc->tcm_info >> 16;
	filter.handle = tc->tcm_handle;
	for (const struct rtattr *a = (const void *)(tc + 1); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == TCA_KIND)
			netlink_text(filter.kind, sizeof(filter.kind), a);
		if ((a->rta_type & NLA_TYPE_MASK) != TCA_OPTIONS)
			continue;
		int inner_left = (int)RTA_PAYLOAD(a);

		for (const struct rtattr *b = RTA_DATA(a); RTA_OK(b, inner_left); b = RTA_NEXT(b, inner_left))
			if (b->rta_type == TCA_BPF_ID && !strcmp(filter.kind, "bpf"))
				netlink_number(&filter.program_id, b);
	}
	/* A filter's head comes without a handle before its elements. */
	if (filter.handle == 0)
		return 0;
	if (out->count == out->capacity)
		return -ENOSPC;
	out->list[out->count++] = filter;
	return 0;
}

int filters(uint32_t ifindex, bool out, uint32_t priority, struct filter *list, uint32_t capacity)
{
	struct tc_request request =
		tc_request(RTM_GETTFILTER, NLM_F_DUMP, ifindex, out ? FILTER_EGRESS : FILTER_INGRESS);
	struct filter_list found = { .list = list, .capacity = capacity };
	char kind[16];
	int result = qdisc_kind(ifindex, kind);

	request.tc.tcm_info = priority << 16; /* the kernel leaves out the others: there may be thousands */
	if (result < 0)
		return result;
	if (strcmp(kind, "clsact"))
		return 0;
	result = netlink_dump(&request, sizeof(request), visit_filter, &found);
	return result < 0 ? result : (int)found.count;
}

/* ---- links and addresses ---- */

struct links {
	struct ptl_link *links;
	uint32_t link_count, link_capacity;
	struct ptl_address *addresses;
	uint32_t address_count, address_capacity;
};

static void *grow(void *list, uint32_t *capacity, uint32_t count, size_t size)
{
	if (count < *capacity)
		return list;
	*capacity = *capacity ? *capacity * 2 : 64;
	return realloc(list, *capacity * size);
}

static void read_vxlan_data(struct ptl_link *link, const struct rtattr *data)
{
	int left = (int)RTA_PAYLOAD(data);

	for (const struct rtattr *a = RTA_DATA(data); RTA_OK(a, left); a = RTA_NEXT(a, left))
		if (a->rta_type == IFLA_VXLAN_LINK)
			netlink_number(&link->peer, a);
}

static void read_link_info(struct ptl_link *link, const struct rtattr *info)
{
	int left = (int)RTA_PAYLOAD(info);

	for (const struct rtattr *a = RTA_DATA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_INFO_KIND)
			netlink_text(link->kind, sizeof(link->kind), a);
		/* A vxlan names the device below it in data of its own. The kind comes first. */
		if (a->rta_type == IFLA_INFO_DATA && !strcmp(link->kind, "vxlan"))
			read_vxlan_data(link, a);
		if (a->rta_type == IFLA_INFO_SLAVE_KIND)
			netlink_text(link->master_kind, sizeof(link->master_kind), a);
	}
}

static int visit_link(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct ifinfomsg *info = NLMSG_DATA(message);
	struct links *out = context;
	struct ptl_link link = { .peer_netns = -1 };
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	if (message->nlmsg_type != RTM_NEWLINK || !netlink_has(message, sizeof(*info)))
		return 0;
	link.ifindex = (uint32_t)info->ifi_index;
	link.flags = info->ifi_flags;
	link.arp_type = info->ifi_type;
	for (const struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		switch (a->rta_type & NLA_TYPE_MASK) {
		case IFLA_IFNAME: netlink_text(link.name, sizeof(link.name), a); break;
		case IFLA_MTU: netlink_number(&link.mtu, a); break;
		case IFLA_MASTER: netlink_number(&link.master, a); break;
		case IFLA_LINK: netlink_number(&link.peer, a); break;
		case IFLA_LINK_NETNSID: netlink_number(&link.peer_netns, a); break;
		case IFLA_LINKINFO: read_link_info(&link, a); break;
		case IFLA_QDISC: netlink_text(link.qdisc, sizeof(link.qdisc), a); break;
		}
	}
	struct ptl_link *list = grow(out->links, &out->link_capacity, out->link_count, sizeof(link));

	if (!list)
		return -ENOMEM;
	out->links = list;
	list[out->link_count++] = link;
	return 0;
}

static int visit_address(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct ifaddrmsg *info = NLMSG_DATA(message);
	struct links *out = context;
	struct ptl_address address = {};
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	bool local = false;

	if (message->nlmsg_type != RTM_NEWADDR || !netlink_has(message, sizeof(*info)))
		return 0;
	if (info->ifa_family != AF_INET && info->ifa_family != AF_INET6)
		return 0;
	address.ifindex = info->ifa_index;
	address.flags = info->ifa_flags;
	address.prefix = info->ifa_prefixlen;
	address.scope = info->ifa_scope;
	address.family = info->ifa_family == AF_INET ? 4 : 6;
	for (const struct rtattr *a = IFA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		size_t size = address.family == 4 ? 4 : 16;

		/* Of a point-to-point link IFA_ADDRESS is the other end. */
		if ((a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !local)) && RTA_PAYLOAD(a) >= size)
			memcpy(address.address, RTA_DATA(a), size);
		if (a->rta_type == IFA_LOCAL)
			local = true;
		if (a->rta_type == IFA_FLAGS)
			netlink_number(&address.flags, a);
	}
	struct ptl_address *list = grow(out->addresses, &out->address_capacity, out->address_count, sizeof(address));

	if (!list)
		return -ENOMEM;
	out->addresses = list;
	list[out->address_count++] = address;
	return 0;
}

static int collect(struct links *all)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg info;
	} request = { .header = { .nlmsg_len = sizeof(request), .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP } };
	int result = -EINTR;

	/* A dump that something interrupted may lack entries: again. */
	for (int i = 0; i < 10 && result == -EINTR; i++) {
		all->link_count = all->address_count = 0;
		request.header.nlmsg_type = RTM_GETLINK;
		result = netlink_dump(&request, sizeof(request), visit_link, all);
		request.header.nlmsg_type = RTM_GETADDR;
		if (result == 0)
			result = netlink_dump(&request, sizeof(request), visit_address, all);
	}
	return result;
}

EXPORT int ptl_links_dump(void *out, uint32_t size, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct links all = {};
	int result = collect(&all);

	if (result < 0) {
		fail(&err, result, PTL_E_KERNEL, "links", "netlink", "Cannot list the interfaces: %s", strerror(-result));
	} else {
		struct ptl_links_header header = { all.link_count, all.address_count };
		size_t links = all.link_count * sizeof(struct ptl_link);
		size_t addresses = all.address_count * sizeof(struct ptl_address);

		result = (int)(sizeof(header) + links + addresses);
		if (size >= sizeof(header))
			memcpy(out, &header, sizeof(header));
		if ((uint32_t)result <= size) {
			if (links) /* an empty list is a null pointer */
				memcpy((uint8_t *)out + sizeof(header), all.links, links);
			if (addresses)
				memcpy((uint8_t *)out + sizeof(header) + links, all.addresses, addresses);
		}
	}
	free(all.links);
	free(all.addresses);
	return result;
}
