// SPDX-License-Identifier: Apache-2.0
/*
 * The server that every pod runs. Over TCP it answers lines, as long as the connection lasts:
 *   id                  -> NAME CLIENT-IP CLIENT-PORT
 *   sink BYTES          then so many bytes -> their checksum in hex
 *   source BYTES SEED   -> so many bytes of content from that seed
 * Over UDP it answers each datagram `TOKEN content` with `TOKEN NAME CLIENT-IP CLIENT-PORT`, and one that begins with `E`
 * with as many bytes as it had: its own content from there on.
 */
#include "agent.h"
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct server {
	char name[64];
	int fd;
};

struct connection {
	const struct server *server;
	struct line_reader lines;
};

static bool do_sink(struct connection *c, unsigned long long bytes)
{
	uint64_t hash = CONTENT_HASH_START;
	struct line_reader *r = &c->lines;
	while (bytes > 0) {
		if (r->start == r->end) {
			ssize_t got = read(r->fd, r->buf, sizeof(r->buf));
			if (got <= 0)
				return false;
			r->start = 0;
			r->end = (size_t)got;
		}
		size_t part = r->end - r->start < bytes ? r->end - r->start : (size_t)bytes;
		hash = content_hash(hash, r->buf + r->start, part);
		r->start += part;
		bytes -= part;
	}
	char line[64];
	int len = snprintf(line, sizeof(line), "%016llx\n", (unsigned long long)hash);
	return write_all(r->fd, line, (size_t)len);
}

static bool do_source(int fd, unsigned long long bytes, uint64_t seed)
{
	static const size_t chunk = 65536;
	char *buf = malloc(chunk);
	bool ok = true;
	while (ok && bytes > 0) {
		size_t part = bytes < chunk ? (size_t)bytes : chunk;
		content_fill(&seed, buf, part);
		ok = write_all(fd, buf, part);
		bytes -= part;
	}
	free(buf);
	return ok;
}

static bool do_id(const struct connection *c)
{
	union address peer;
	socklen_t len = sizeof(peer);
	char ip[INET6_ADDRSTRLEN], line[192];
	int port;
	if (getpeername(c->lines.fd, &peer.sa, &len) < 0)
		return false;
	address_show(&peer, ip, &port);
	int n = snprintf(line, sizeof(line), "%s %s %d\n", c->server->name, ip, port);
	return write_all(c->lines.fd, line, (size_t)n);
}

static void *serve_connection(void *argument)
{
	struct connection *c = argument;
	char line[256];
	unsigned long long bytes, seed;
	bool ok = true;
	while (ok && line_read(&c->lines, line, sizeof(line), -1) == 1) {
		if (strcmp(line, "id") == 0)
			ok = do_id(c);
		else if (sscanf(line, "sink %llu", &bytes) == 1)
			ok = do_sink(c, bytes);
		else if (sscanf(line, "source %llu %llu", &bytes, &seed) == 2)
			ok = do_source(c->lines.fd, bytes, seed);
		else
			ok = false;
	}
	close(c->lines.fd);
	free(c);
	return NULL;
}

static void *accept_all(void *argument)
{
	const struct server *server = argument;
	for (;;) {
		int fd = accept4(server->fd, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			if (errno == ECONNABORTED || errno == EINTR)
				continue;
			return NULL; /* the listener was shut down */
		}
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		struct connection *c = malloc(sizeof(*c));
		c->server = server;
		c->lines.fd = fd;
		c->lines.start = c->lines.end = 0;
		thread_start(serve_connection, c);
	}
}

static void *answer_datagrams(void *argument)
{
	const struct server *server = argument;
	char *in = malloc(65536), *out = malloc(65536), ip[INET6_ADDRSTRLEN], token[64];
	for (;;) {
		union address peer;
		socklen_t peer_len = sizeof(peer);
		int port;
		ssize_t got = recvfrom(server->fd, in, 65535, 0, &peer.sa, &peer_len);
		if (got < 0 && (errno == EINTR || errno == ECONNREFUSED || errno == EHOSTUNREACH))
			continue;
		if (got <= 0)
			break;
		in[got] = 0;
		address_show(&peer, ip, &port);
		if (sscanf(in, "%63s", token) != 1)
			continue;
		int len = snprintf(out, 65536, "%s %s %s %d ", token, server->name, ip, port);
		if (token[0] == 'E' && len < got) {
			memcpy(out + len, in + len, (size_t)(got - len));
			len = (int)got;
		}
		sendto(server->fd, out, (size_t)len, 0, &peer.sa, peer_len);
	}
	free(in);
	free(out);
	return NULL;
}

/* serve handle= proto=tcp|udp port= name= : on the wildcard addresses of both families */
void cmd_serve(struct command *cmd)
{
	bool udp = strcmp(arg(cmd, "proto", "tcp"), "udp") == 0;
	int fds[2], families[2] = { AF_INET, AF_INET6 };
	for (int i = 0; i < 2; i++) {
		union address self;
		int one = 1;
		address_parse(&self, "", (int)arg_num(cmd, "port", 0), families[i]);
		fds[i] = socket(families[i], (udp ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
		setsockopt(fds[i], SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		if (families[i] == AF_INET6)
			setsockopt(fds[i], IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		if (bind(fds[i], &self.sa, address_len(&self)) < 0 || (!udp && listen(fds[i], 4096) < 0)) {
			reply_error(cmd, "bind", errno);
			return;
		}
	}
	for (int i = 0; i < 2; i++) {
		struct server *server = calloc(1, sizeof(*server));
		snprintf(server->name, sizeof(server->name), "%s", arg(cmd, "name", "?"));
		server->fd = fds[i];
		handle_add(arg(cmd, "handle", "server"), fds[i], udp ? IPPROTO_UDP : IPPROTO_TCP, NULL);
		thread_start(udp ? answer_datagrams : accept_all, server);
	}
	reply_ok(cmd);
}
