/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The netlink parsers under the sanitizers: what the kernel would have sent is put in the place of what it has sent, cut short at every
 * byte, with wrong lengths, with bytes of no meaning, and longer than the room for it. The linker calls __wrap_recv for recv
 * (--wrap=recv). What lies behind a datagram is poisoned, though the buffer goes on: a byte too many is seen there, too.
 */
#include <linux/inet_diag.h>
#include <linux/netfilter/nfnetlink_conntrack.h>
#include <linux/netlink.h>
#include <linux/pkt_cls.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <net/if.h>
#include <sanitizer/asan_interface.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "netlink.h"
#include "portolan.h"

#define LARGEST 1024
#define RANDOM_ROUNDS 160
#define ERR error, sizeof(error)

struct datagram {
	uint8_t bytes[LARGEST];
	uint32_t size;
	uint32_t told; /* what recv returns: more than the room when it was cut */
};

static char error[256];
static const struct datagram *next; /* NULL: what the kernel has sent */
static uint32_t given;

ssize_t __real_recv(int fd, void *buffer, size_t size, int flags);

ssize_t __wrap_recv(int fd, void *buffer, size_t size, int flags)
{
	struct nlmsghdr done = { .nlmsg_len = NLMSG_LENGTH(4), .nlmsg_type = NLMSG_DONE };
	uint32_t length = NLMSG_LENGTH(4);

	ASAN_UNPOISON_MEMORY_REGION(buffer, size);
	if (!next)
		return __real_recv(fd, buffer, size, flags);
	if (given++ == 0) {
		length = next->size;
		memcpy(buffer, next->bytes, length);
	} else {
		memset(buffer, 0, length);
		memcpy(buffer, &done, sizeof(done));
	}
	ASAN_POISON_MEMORY_REGION((uint8_t *)buffer + length, size - length);
	return given == 1 && next->told ? (ssize_t)next->told : (ssize_t)length;
}

/* ---- datagrams as they should be ---- */

static void *append(struct datagram *to, const void *data, uint32_t size)
{
	void *at = to->bytes + to->size;

	if (data)
		memcpy(at, data, size);
	to->size += NLMSG_ALIGN(size);
	return at;
}

static struct nlmsghdr *message(struct datagram *to, uint16_t type, const void *head, uint32_t size)
{
	struct nlmsghdr header = { .nlmsg_type = type };
	struct nlmsghdr *at = append(to, &header, sizeof(header));

	append(to, head, size);
	return at;
}

static struct rtattr *attribute(struct datagram *to, uint16_t type, const void *data, uint16_t size)
{
	struct rtattr header = { .rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(size) };
	struct rtattr *at = append(to, &header, sizeof(header));

	if (size)
		append(to, data, size);
	return at;
}

static void end_attribute(const struct datagram *to, struct rtattr *nested)
{
	nested->rta_len = (uint16_t)(to->bytes + to->size - (uint8_t *)nested);
}

static void end_message(const struct datagram *to, struct nlmsghdr *header)
{
	header->nlmsg_len = (uint32_t)(to->bytes + to->size - (uint8_t *)header);
}

static void put_tuple(struct datagram *to, uint16_t type)
{
	static const uint8_t address[16] = { 10, 1, 2, 3 }, port[2] = { 0, 53 }, udp = 17;
	struct rtattr *whole = attribute(to, type | NLA_F_NESTED, NULL, 0);
	struct rtattr *part = attribute(to, CTA_TUPLE_IP | NLA_F_NESTED, NULL, 0);

	for (uint16_t leaf = CTA_IP_V4_SRC; leaf <= CTA_IP_V6_DST; leaf++)
		attribute(to, leaf, address, leaf <= CTA_IP_V4_DST ? 4 : 16);
	end_attribute(to, part);
	part = attribute(to, CTA_TUPLE_PROTO | NLA_F_NESTED, NULL, 0);
	attribute(to, CTA_PROTO_NUM, &udp, 1);
	attribute(to, CTA_PROTO_SRC_PORT, port, 2);
	attribute(to, CTA_PROTO_DST_PORT, port, 2);
	end_attribute(to, part);
	end_attribute(to, whole);
}

static void tracked(struct datagram *to)
{
	uint8_t head[4] = { AF_INET }, number[4] = { 0 }, state = 3;
	struct nlmsghdr *header = message(to, (NFNL_SUBSYS_CTNETLINK << 8) | IPCTNL_MSG_CT_NEW, head, sizeof(head));

	put_tuple(to, CTA_TUPLE_ORIG);
	put_tuple(to, CTA_TUPLE_REPLY);
	attribute(to, CTA_STATUS, number, 4);
	attribute(to, CTA_TIMEOUT, number, 4);
	struct rtattr *info = attribute(to, CTA_PROTOINFO | NLA_F_NESTED, NULL, 0);
	struct rtattr *tcp = attribute(to, CTA_PROTOINFO_TCP | NLA_F_NESTED, NULL, 0);

	attribute(to, CTA_PROTOINFO_TCP_STATE, &state, 1);
	end_attribute(to, tcp);
	end_attribute(to, info);
	end_message(to, header);
}

static void link_of(struct datagram *to, uint16_t type)
{
	struct ifinfomsg head = { .ifi_index = 7 };
	uint32_t number = 9;
	struct nlmsghdr *header = message(to, type, &head, sizeof(head));
	struct rtattr *info, *data;

	attribute(to, IFLA_IFNAME, "fifteen-letters", 16);
	attribute(to, IFLA_MTU, &number, 4);
	attribute(to, IFLA_MASTER, &number, 4);
	attribute(to, IFLA_LINK, &number, 4);
	attribute(to, IFLA_LINK_NETNSID, &number, 4);
	info = attribute(to, IFLA_LINKINFO, NULL, 0);
	attribute(to, IFLA_INFO_KIND, "vxlan", 6);
	data = attribute(to, IFLA_INFO_DATA, NULL, 0);
	attribute(to, IFLA_VXLAN_LINK, &number, 4);
	end_attribute(to, data);
	attribute(to, IFLA_INFO_SLAVE_KIND, "bridge", 7);
	end_attribute(to, info);
	end_message(to, header);
}

static void address_of(struct datagram *to, uint16_t type, uint8_t family)
{
	struct ifaddrmsg head = { .ifa_family = family, .ifa_index = 7 };
	uint8_t address[16] = { 1 };
	struct nlmsghdr *header = message(to, type, &head, sizeof(head));

	attribute(to, IFA_ADDRESS, address, family == AF_INET ? 4 : 16);
	attribute(to, IFA_LOCAL, address, family == AF_INET ? 4 : 16);
	attribute(to, IFA_FLAGS, address, 4);
	end_message(to, header);
}

static void links(struct datagram *to)
{
	link_of(to, RTM_NEWLINK);
	address_of(to, RTM_NEWADDR, AF_INET);
	address_of(to, RTM_NEWADDR, AF_INET6);
}

static void gone(struct datagram *to)
{
	links(to);
	link_of(to, RTM_DELLINK);
	address_of(to, RTM_DELADDR, AF_INET6);
}

/* As an answer to the question for the qdisc, and for its filters. */
static void filters(struct datagram *to)
{
	struct tcmsg head = { .tcm_ifindex = 1, .tcm_parent = TC_H_INGRESS, .tcm_handle = 1 };
	uint32_t number = 9;
	struct nlmsghdr *header = message(to, RTM_NEWQDISC, &head, sizeof(head));
	struct rtattr *options;

	attribute(to, TCA_KIND, "clsact", 7);
	end_message(to, header);
	header = message(to, RTM_NEWTFILTER, &head, sizeof(head));
	attribute(to, TCA_KIND, "bpf", 4);
	options = attribute(to, TCA_OPTIONS | NLA_F_NESTED, NULL, 0);
	attribute(to, TCA_BPF_ID, &number, 4);
	end_attribute(to, options);
	end_message(to, header);
}

static void diagnosis(struct datagram *to)
{
	struct inet_diag_msg head = { .idiag_family = AF_INET6 };
	struct nlmsghdr *header = message(to, SOCK_DIAG_BY_FAMILY, &head, sizeof(head));

	end_message(to, header);
}

static void route(struct datagram *to)
{
	struct rtmsg head = { .rtm_family = AF_INET6, .rtm_type = RTN_UNICAST };
	uint8_t address[16] = { 1 };
	uint32_t number = 9;
	struct nlmsghdr *header = message(to, RTM_NEWROUTE, &head, sizeof(head));

	attribute(to, RTA_GATEWAY, address, sizeof(address));
	attribute(to, RTA_PREFSRC, address, sizeof(address));
	attribute(to, RTA_OIF, &number, 4);
	end_message(to, header);
}

static void refusal(struct datagram *to)
{
	struct nlmsgerr head = { .error = 7 }; /* no errno is positive */
	struct nlmsghdr *header = message(to, NLMSG_ERROR, &head, sizeof(head));

	end_message(to, header);
}

/* ---- who reads them ---- */

static void read_tracked(void)
{
	struct ptl_tracked *out = malloc(sizeof(*out));

	ptl_tracked_dump(17, 0, out, 1, ERR);
	free(out);
}

static void read_links(void)
{
	uint8_t *out = malloc(sizeof(struct ptl_links_header));

	ptl_links_dump(out, sizeof(struct ptl_links_header), ERR);
	free(out);
}

static void read_filters(void)
{
	uint32_t ifindex = 1;
	struct ptl_attachment *out = malloc(sizeof(*out));

	ptl_attachments(&ifindex, 1, out, 1, ERR);
	free(out);
}

static void read_diagnosis(void)
{
	struct ptl_udp_target *target = calloc(1, sizeof(*target));
	struct ptl_destroy_result *result = malloc(sizeof(*result));

	ptl_destroy_udp(target, 1, result, ERR);
	free(target);
	free(result);
}

static void read_route(void)
{
	struct ptl_route_request *request = calloc(1, sizeof(*request));
	struct ptl_route *out = malloc(sizeof(*out));

	request->family = 6;
	ptl_route_get(request, out, ERR);
	free(request);
	free(out);
}

static const struct parser {
	void (*build)(struct datagram *to);
	void (*read)(void);
} PARSERS[] = {
	{ tracked, read_tracked }, { links, read_links },     { filters, read_filters },
	{ diagnosis, read_diagnosis }, { route, read_route },	  { refusal, read_links },
	{ refusal, read_diagnosis },
};

/* The same in every run. */
static uint32_t random_state = 1;

static uint32_t random_below(uint32_t limit)
{
	random_state = random_state * 1664525u + 1013904223u;
	return (random_state >> 8) % limit;
}

static void damage(struct datagram *datagram)
{
	static const uint16_t LENGTHS[] = { 0, 1, 3, 4, 5, 6, 7, 15, 17, 0x7fff, 0xffff };
	uint32_t changes = 1 + random_below(4);

	for (uint32_t i = 0; i < changes; i++) {
		uint16_t value = LENGTHS[random_below(sizeof(LENGTHS) / sizeof(*LENGTHS))];

		if (random_below(2)) /* where lengths and types are */
			memcpy(datagram->bytes + 2 * random_below(datagram->size / 2), &value, sizeof(value));
		else
			datagram->bytes[random_below(datagram->size)] = (uint8_t)random_below(256);
	}
	if (random_below(3) == 0)
		datagram->size = 1 + random_below(datagram->size);
}

static void feed(const struct datagram *datagram, void (*read)(void))
{
	next = datagram;
	given = 0;
	read();
	next = NULL;
}

/* The outermost length says that there is more than there is: the padding of the last message, too. */
static void cut_within(struct datagram whole, uint32_t size, void (*read)(void))
{
	struct nlmsghdr *first = (void *)whole.bytes;

	whole.size = size;
	feed(&whole, read);
	if (size < sizeof(*first))
		return;
	first->nlmsg_len = size; /* a whole message with an attribute that is cut */
	feed(&whole, read);
}

uint32_t try_netlink(void)
{
	uint32_t fed = 0;

	for (size_t i = 0; i < sizeof(PARSERS) / sizeof(*PARSERS); i++) {
		struct datagram whole = {};

		PARSERS[i].build(&whole);
		feed(&whole, PARSERS[i].read);
		for (uint32_t size = 1; size < whole.size; size++, fed++)
			cut_within(whole, size, PARSERS[i].read);
		for (uint32_t round = 0; round < RANDOM_ROUNDS; round++, fed++) {
			struct datagram damaged = whole;

			damage(&damaged);
			feed(&damaged, PARSERS[i].read);
		}
		for (uint32_t round = 0; round < RANDOM_ROUNDS / 4; round++, fed++) {
			struct datagram garbage = { .size = 1 + random_below(LARGEST) };

			for (uint32_t byte = 0; byte < garbage.size; byte++)
				garbage.bytes[byte] = (uint8_t)random_below(256);
			feed(&garbage, PARSERS[i].read);
		}
	}
	return fed;
}

/* What is longer than the room is an error, not the end of a dump; a refusal without an errno, too. Returns how many are not. */
int try_oversized(void)
{
	struct datagram whole = { .told = 65537 }, refused = {};
	struct ptl_links_header header;
	int missed = 0;

	links(&whole);
	next = &whole;
	given = 0;
	missed += ptl_links_dump(&header, sizeof(header), ERR) != -EMSGSIZE;
	refusal(&refused);
	next = &refused;
	given = 0;
	missed += ptl_links_dump(&header, sizeof(header), ERR) != -EBADMSG;
	next = NULL;
	return missed;
}

/* ---- events: a thread reads them when the kernel has some ---- */

/* Something of loopback changes: in a network namespace of its own. */
static void toggle_loopback(int fd)
{
	struct ifreq request = { .ifr_name = "lo" };

	ioctl(fd, SIOCGIFFLAGS, &request);
	request.ifr_flags ^= IFF_ALLMULTI;
	ioctl(fd, SIOCSIFFLAGS, &request);
}

/* Each damaged datagram is read by the watcher's own thread; its end is waited for by the event behind it. */
void try_events(uint32_t rounds)
{
	int control = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	for (uint32_t round = 0; round < rounds; round++) {
		struct datagram datagram = {};
		struct ptl_event event;
		int fd, watcher = ptl_events_open(PTL_GROUP_LINK, &fd, ERR);

		gone(&datagram);
		if (round == 1)
			datagram.told = 65537;
		else if (round > 1)
			damage(&datagram);
		next = &datagram;
		given = 0;
		toggle_loopback(control);
		while (__atomic_load_n(&given, __ATOMIC_ACQUIRE) == 0)
			usleep(100);
		ptl_events_close(watcher);
		next = NULL;
		while (read(fd, &event, sizeof(event)) == (ssize_t)sizeof(event))
			;
		close(fd);
	}
	close(control);
}
