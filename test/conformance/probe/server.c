/* SPDX-License-Identifier: Apache-2.0 */
/* Servers which tell each client whom it has reached, and as whom. One thread for all of them. */
#include <errno.h>
#include <netinet/ip.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "probe.h"

struct server {
	enum proto proto;
	uint16_t port;
	int fd;
	int family;
	/* A connection: it is told who it talks to at first, and again whenever it says something. */
	bool connection;
	union address self, peer;
};

#define MAX_SERVERS 512
static struct server servers[MAX_SERVERS];
static int server_count;
static bool sctp_ports[65536];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int poller;

static void greet(const struct server *connection)
{
	char text[128];

	(void)!write(connection->fd, text, greeting(&connection->self, &connection->peer, text, sizeof(text)));
}

static void serve_tcp(const struct server *server)
{
	struct server *connection = calloc(1, sizeof(*connection));
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = connection };
	socklen_t size = sizeof(connection->peer);

	connection->proto = PROTO_TCP;
	connection->connection = true;
	connection->fd = accept4(server->fd, &connection->peer.any, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (connection->fd < 0) {
		free(connection);
		return;
	}
	size = sizeof(connection->self);
	getsockname(connection->fd, &connection->self.any, &size);
	greet(connection);
	epoll_ctl(poller, EPOLL_CTL_ADD, connection->fd, &event);
}

static void serve_connection(struct server *connection)
{
	char data[512];

	if (read(connection->fd, data, sizeof(data)) > 0)
		return greet(connection);
	close(connection->fd);
	free(connection);
}

/* The local address of a datagram, from what the kernel says beside it. */
static bool local_of(struct msghdr *message, union address *self)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			self->v4.sin_family = AF_INET;
			self->v4.sin_addr = ((struct in_pktinfo *)CMSG_DATA(c))->ipi_addr;
			return true;
		}
		if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			self->v6.sin6_family = AF_INET6;
			self->v6.sin6_addr = ((struct in6_pktinfo *)CMSG_DATA(c))->ipi6_addr;
			return true;
		}
	}
	return false;
}

static ssize_t receive(int fd, void *data, size_t room, union address *self, union address *peer)
{
	char control[256];
	struct iovec part = { data, room };
	struct msghdr message = { .msg_name = peer, .msg_namelen = sizeof(*peer), .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t size = recvmsg(fd, &message, MSG_DONTWAIT);

	memset(self, 0, sizeof(*self));
	if (size >= 0 && !local_of(&message, self))
		return -1;
	return size;
}

/* Sends from the address that was asked. */
static void reply(int fd, const void *data, size_t size, const union address *self, union address *peer)
{
	char control[256] = { 0 };
	struct iovec part = { (void *)data, size };
	struct msghdr message = { .msg_name = peer, .msg_namelen = address_size(peer), .msg_iov = &part, .msg_iovlen = 1,
				  .msg_control = control, .msg_controllen = sizeof(control) };
	struct cmsghdr *c = CMSG_FIRSTHDR(&message);

	if (self->any.sa_family == AF_INET) {
		struct in_pktinfo info = { .ipi_spec_dst = self->v4.sin_addr };

		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		message.msg_controllen = CMSG_SPACE(sizeof(info));
	} else {
		struct in6_pktinfo info = { .ipi6_addr = self->v6.sin6_addr };

		c->cmsg_level = IPPROTO_IPV6;
		c->cmsg_type = IPV6_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		message.msg_controllen = CMSG_SPACE(sizeof(info));
	}
	sendmsg(fd, &message, 0);
}

static void serve_udp(const struct server *server)
{
	char data[512], text[128];
	union address self, peer;

	if (receive(server->fd, data, sizeof(data), &self, &peer) < 0)
		return;
	set_port(&self, server->port);
	reply(server->fd, text, greeting(&self, &peer, text, sizeof(text)), &self, &peer);
}

static void serve_sctp(const struct server *server)
{
	uint8_t data[512], out[256];
	union address self, peer;
	char text[128];
	ssize_t size = receive(server->fd, data, sizeof(data), &self, &peer);
	const uint8_t *packet = data;
	uint32_t tag;

	if (size > 0 && server->family == AF_INET) {
		size -= (data[0] & 15) * 4;
		packet += (data[0] & 15) * 4;
	}
	if (size < 20 || !sctp_ports[packet[2] << 8 | packet[3]])
		return;
	if (packet[12] != SCTP_INIT && packet[12] != SCTP_HEARTBEAT)
		return;
	if (!sctp_checksum_right(packet, size))
		return; /* as a real stack: silence */
	set_port(&self, packet[2] << 8 | packet[3]);
	set_port(&peer, packet[0] << 8 | packet[1]);
	greeting(&self, &peer, text, sizeof(text));
	tag = (uint32_t)packet[16] << 24 | packet[17] << 16 | packet[18] << 8 | packet[19];
	size = sctp_build(out, address_port(&self), address_port(&peer), tag,
			  packet[12] == SCTP_INIT ? SCTP_INIT_ACK : SCTP_HEARTBEAT_ACK, SCTP_TAG, text);
	set_port(&peer, 0); /* raw sockets have none, and IPv6 insists */
	reply(server->fd, out, size, &self, &peer);
}

static void *serve(void *unused)
{
	struct epoll_event events[64];

	(void)unused;
	for (;;) {
		int count = epoll_wait(poller, events, 64, -1);

		for (int i = 0; i < count; i++) {
			struct server *server = events[i].data.ptr;

			pthread_mutex_lock(&lock);
			if (server->fd < 0)
				;
			else if (server->connection)
				serve_connection(server);
			else if (server->proto == PROTO_TCP)
				serve_tcp(server);
			else if (server->proto == PROTO_UDP)
				serve_udp(server);
			else
				serve_sctp(server);
			pthread_mutex_unlock(&lock);
		}
	}
	return NULL;
}

void server_start(void)
{
	pthread_t thread;

	poller = epoll_create1(EPOLL_CLOEXEC);
	pthread_create(&thread, NULL, serve, NULL);
}

static const char *open_server(enum proto proto, int family, const union address *at)
{
	int type = proto == PROTO_TCP ? SOCK_STREAM : proto == PROTO_UDP ? SOCK_DGRAM : SOCK_RAW, one = 1;
	int fd = socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, proto == PROTO_SCTP ? PROTO_SCTP : 0);
	struct epoll_event event = { .events = EPOLLIN };
	struct server *server;

	if (fd < 0)
		return errno_name(errno);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (family == AF_INET && proto != PROTO_TCP)
		setsockopt(fd, IPPROTO_IP, IP_PKTINFO, &one, sizeof(one));
	if (family == AF_INET6 && proto != PROTO_TCP)
		setsockopt(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, &one, sizeof(one));
	if (bind(fd, &at->any, address_size(at)) < 0 || (proto == PROTO_TCP && listen(fd, 1024) < 0) ||
	    server_count == MAX_SERVERS) {
		int error = server_count == MAX_SERVERS ? EMFILE : errno;

		close(fd);
		return errno_name(error);
	}
	server = &servers[server_count++];
	*server = (struct server){ .proto = proto, .port = address_port(at), .fd = fd, .family = family };
	event.data.ptr = server;
	epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
	return NULL;
}

static bool has_sctp(void)
{
	for (int i = 0; i < server_count; i++)
		if (servers[i].proto == PROTO_SCTP && servers[i].fd >= 0)
			return true;
	return false;
}

/* SCTP: one raw socket of each family for all ports. */
static const char *add_locked(enum proto proto, uint16_t port, const char *text)
{
	bool raw = proto == PROTO_SCTP;
	union address at;
	const char *error;

	if (raw) {
		bool first = !has_sctp();

		sctp_ports[port] = true;
		if (!first)
			return NULL;
	}
	if (text && !raw) {
		if (!parse_address(text, port, &at))
			return "EINVAL";
		return open_server(proto, at.any.sa_family, &at);
	}
	parse_address("0.0.0.0", raw ? 0 : port, &at);
	error = open_server(proto, AF_INET, &at);
	if (error)
		return error;
	parse_address("::", raw ? 0 : port, &at);
	return open_server(proto, AF_INET6, &at);
}

const char *server_add(enum proto proto, uint16_t port, const char *address)
{
	const char *error;

	pthread_mutex_lock(&lock);
	error = add_locked(proto, port, address);
	pthread_mutex_unlock(&lock);
	return error;
}

const char *server_remove(enum proto proto, uint16_t port)
{
	const char *error = "ENOENT";

	pthread_mutex_lock(&lock);
	if (proto == PROTO_SCTP) {
		sctp_ports[port] = false;
		error = NULL;
	}
	for (int i = 0; i < server_count; i++) {
		if (servers[i].fd < 0 || servers[i].proto != proto || servers[i].port != port || proto == PROTO_SCTP)
			continue;
		close(servers[i].fd);
		servers[i].fd = -1;
		error = NULL;
	}
	pthread_mutex_unlock(&lock);
	return error;
}
