/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets of the network namespace: its cookie, and the end of connected UDP sockets that talk to a backend which is gone. */
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "internal.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif

#define CONNECTED 1 /* TCP_ESTABLISHED: the state of a connected UDP socket too */
#define DUMP_ATTEMPTS 4

EXPORT int ptl_netns_cookie(void *cookie_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	uint64_t cookie = 0;
	socklen_t length = sizeof(cookie);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return fail(&err, errno, PTL_E_KERNEL, "netns_cookie", "socket", "Cannot make a socket: %s", strerror(errno));
	int result = getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &length) < 0 ? -errno : 1;

	close(fd);
	if (result < 0 && result != -ENOPROTOOPT)
		return fail(&err, result, PTL_E_KERNEL, "netns_cookie", "socket", "Cannot read the cookie of the network namespace: %s",
			    strerror(-result));
	if (result < 0)
		cookie = 0;
	memcpy(cookie_out, &cookie, sizeof(cookie));
	return result > 0;
}

struct diag_request {
	struct nlmsghdr header;
	struct inet_diag_req_v2 diag;
};

static struct diag_request diag_request(uint16_t type, uint16_t flags, uint8_t family)
{
	return (struct diag_request){
		.header = { .nlmsg_len = sizeof(struct diag_request), .nlmsg_type = type, .nlmsg_flags = NLM_F_REQUEST | flags },
		.diag = { .sdiag_family = family, .sdiag_protocol = IPPROTO_UDP, .idiag_states = 1u << CONNECTED },
	};
}

struct found {
	uint8_t family;
	struct inet_diag_sockid id;
};

struct search {
	const struct ptl_udp_target *targets; /* sorted */
	uint32_t target_count;
	struct found *found;
	uint32_t count;
	uint32_t capacity;
};

static int compare_targets(const void *a, const void *b)
{
	const struct ptl_udp_target *left = a, *right = b;
	int order = memcmp(left->address, right->address, sizeof(left->address));

	if (order == 0)
		order = memcmp(left->port, right->port, sizeof(left->port));
	if (order == 0)
		order = left->cookie < right->cookie ? -1 : left->cookie > right->cookie;
	return order;
}

/* Whether this very socket is meant, or every socket with its remote end. */
static bool is_target(const struct search *search, uint8_t family, const struct inet_diag_sockid *id)
{
	struct ptl_udp_target key = {};

	if (search->target_count == 0)
		return false;
	if (family == AF_INET) {
		key.address[10] = key.address[11] = 0xff;
		memcpy(key.address + 12, id->idiag_dst, 4);
	} else {
		memcpy(key.address, id->idiag_dst, 16);
	}
	memcpy(key.port, &id->idiag_dport, sizeof(key.port));
	if (bsearch(&key, search->targets, search->target_count, sizeof(key), compare_targets))
		return true;
	key.cookie = id->idiag_cookie[0] | (uint64_t)id->idiag_cookie[1] << 32;
	return bsearch(&key, search->targets, search->target_count, sizeof(key), compare_targets) != NULL;
}

static int visit_socket(const void *data, void *context)
{
	const struct nlmsghdr *message = data;
	const struct inet_diag_msg *socket = NLMSG_DATA(message);
	struct search *search = context;

	if (message->nlmsg_type == NLMSG_DONE) { /* it carries the errno of a dump that failed */
		int status = 0;

		if (message->nlmsg_len >= NLMSG_LENGTH(sizeof(status)))
			memcpy(&status, NLMSG_DATA(message), sizeof(status));
		return status < 0 ? status : 0;
	}
	if (message->nlmsg_type != SOCK_DIAG_BY_FAMILY || message->nlmsg_len < NLMSG_LENGTH(sizeof(*socket)) ||
	    !is_target(search, socket->idiag_family, &socket->id))
		return 0;
	if (search->count == search->capacity) {
		uint32_t capacity = search->capacity ? search->capacity * 2 : 64;
		struct found *grown = realloc(search->found, capacity * sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		search->found = grown;
		search->capacity = capacity;
	}
	search->found[search->count++] = (struct found){ socket->idiag_family, socket->id };
	return 0;
}

/* IPv4 targets are found in both families: IPv6 sockets reach them by v4-mapped addresses. */
static int find_sockets(struct search *search)
{
	const uint8_t families[] = { AF_INET, AF_INET6 };
	int status = 0;

	for (int i = 0; i < 2 && status == 0; i++) {
		struct diag_request request = diag_request(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, families[i]);
		uint32_t before = search->count;

		for (int attempt = 0; attempt < DUMP_ATTEMPTS; attempt++) {
			search->count = before;
			status = netlink_dump_of(NETLINK_SOCK_DIAG, &request, sizeof(request), visit_socket, search);
			if (status != -EINTR) /* the table changed under the dump */
				break;
		}
	}
	return status;
}

/* The id holds the socket's cookie: no other socket that took its addresses meanwhile is hit. */
static int destroy(const struct found *found)
{
	struct diag_request request = diag_request(SOCK_DESTROY, 0, found->family);

	request.diag.id = found->id;
	return netlink_request_to(NETLINK_SOCK_DIAG, &request, sizeof(request));
}

static int destroy_all(const struct search *search, struct ptl_destroy_result *result)
{
	result->matched = search->count;
	for (uint32_t i = 0; i < search->count; i++) {
		int status = destroy(&search->found[i]);

		if (status == -EOPNOTSUPP) {
			result->unsupported = 1;
			return 0;
		}
		if (status < 0 && status != -ENOENT)
			return status;
		result->destroyed += status == 0;
	}
	return 0;
}

EXPORT int ptl_destroy_udp(const void *targets, uint32_t count, void *result_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct ptl_destroy_result result = {};
	struct ptl_udp_target *sorted = malloc((count ? count : 1) * sizeof(*sorted));
	struct search search = { .targets = sorted, .target_count = count };
	int status = sorted ? 0 : -ENOMEM;

	if (status == 0 && count) {
		memcpy(sorted, targets, count * sizeof(*sorted));
		qsort(sorted, count, sizeof(*sorted), compare_targets);
		status = find_sockets(&search);
		if (status == -ENOENT || status == -EOPNOTSUPP) { /* no UDP diagnosis in this kernel */
			result.unsupported = 1;
			status = 0;
		} else if (status == 0) {
			status = destroy_all(&search, &result);
		}
	}
	free(sorted);
	free(search.found);
	memcpy(result_out, &result, sizeof(result));
	return status < 0 ? fail(&err, status, PTL_E_KERNEL, "destroy_udp", "sockets", "Cannot destroy UDP sockets: %s",
				 strerror(-status)) :
			    0;
}

/* Asks for the end of a socket that cannot be: the answer tells whether one that is would have ended. */
int probe_udp_destroy(void)
{
	struct search search = { .target_count = 0 };
	struct found nobody = { .family = AF_INET };
	int status = find_sockets(&search); /* loads the kernel's module for it, if it is one */

	if (status == 0)
		status = destroy(&nobody);
	else if (status == -ENOENT)
		status = -EOPNOTSUPP;
	return status == -EOPNOTSUPP ? 0 : status == -ENOENT ? 1 : status;
}
