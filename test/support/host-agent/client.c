// SPDX-License-Identifier: Apache-2.0
/* Sockets of a client: one exchange with a server, or a socket that is kept for several. */
#include "agent.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int proto_of(const struct command *cmd)
{
	return strcmp(arg(cmd, "proto", "tcp"), "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
}

/* A socket of the family of `dst`, bound to src= and sport= when these are given; -1 with the stage and errno. */
int client_socket(const struct command *cmd, int proto, const union address *dst, const char **stage)
{
	int family = dst->sa.sa_family, one = 1;
	*stage = "socket";
	int fd = socket(family, (proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -1;
	/* Only for a chosen port: else the kernel would give one UDP port to several sockets by itself. */
	if (arg_num(cmd, "sport", 0))
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (proto == IPPROTO_TCP)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (arg_num(cmd, "nocheck", 0))
		setsockopt(fd, SOL_SOCKET, SO_NO_CHECK, &one, sizeof(one));
	if (arg_num(cmd, "df", 0)) {
		int mode = family == AF_INET ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
		setsockopt(fd, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6,
			   family == AF_INET ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER, &mode, sizeof(mode));
	}
	const char *src = arg(cmd, "src", "");
	int sport = (int)arg_num(cmd, "sport", 0);
	union address self;
	*stage = "bind";
	if ((*src || sport) && (!address_parse(&self, src, sport, family) || bind(fd, &self.sa, address_len(&self)) < 0)) {
		int err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

/* 0 or the errno. */
int client_connect(int fd, const union address *dst, int timeout_ms)
{
	int err = 0;
	socklen_t len = sizeof(err);
	if (connect(fd, &dst->sa, address_len(dst)) == 0)
		return 0;
	if (errno != EINPROGRESS)
		return errno;
	err = wait_for(fd, POLLOUT, timeout_ms);
	if (err)
		return err;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len);
	return err;
}

static void failed(struct exchange *x, const char *stage, int err)
{
	x->stage = stage;
	x->err = err;
}

/* Asks over a connected TCP socket who is there. */
void exchange_tcp(int fd, int timeout_ms, struct exchange *x)
{
	char line[256];
	struct line_reader *r = malloc(sizeof(*r));
	r->fd = fd;
	r->start = r->end = 0;
	x->stage = NULL;
	if (!write_all(fd, "id\n", 3)) {
		failed(x, "send", errno);
	} else {
		int got = line_read(r, line, sizeof(line), timeout_ms);
		if (got != 1)
			failed(x, "receive", got == 0 ? ENODATA : errno);
		else if (sscanf(line, "%63s %45s %d", x->who, x->seen, &x->seen_port) != 3)
			failed(x, "answer", EBADMSG);
	}
	free(r);
}

/* Whether an answer has the size of what was sent, and behind its own words (`head` bytes) the same content. */
static bool same_content(const char *sent, size_t len, const char *got, size_t got_len, size_t head)
{
	return got_len == (len > head ? len : head) && (len <= head || memcmp(sent + head, got + head, len - head) == 0);
}

/*
 * Sends one datagram and waits for the answer to exactly this one. `dst` is NULL for a connected socket. With `payload`
 * the datagram has so many bytes, and the answer must be the same.
 */
void exchange_udp(int fd, const union address *dst, long payload, int timeout_ms, struct exchange *x)
{
	static int counter;
	char *buf = calloc(1, 65536), *sent = malloc(65536), token[64], got_token[64];
	int err, head, len = snprintf(token, sizeof(token), "%c%x.%x", payload ? 'E' : 'T', getpid(),
				__atomic_add_fetch(&counter, 1, __ATOMIC_RELAXED));
	long long start = awake_us(), end = start + (long long)timeout_ms * 1000;
	x->stage = NULL;
	uint64_t seed = (uint64_t)start;
	if (payload > 0)
		content_fill(&seed, sent, (size_t)payload < 65536 ? (size_t)payload : 65536);
	memcpy(sent, token, (size_t)len);
	sent[len] = ' ';
	if (payload > len)
		len = (int)payload;
	if (sendto(fd, sent, (size_t)len, 0, dst ? &dst->sa : NULL, dst ? address_len(dst) : 0) < 0) {
		failed(x, "send", errno);
		free(buf);
		free(sent);
		return;
	}
	for (;;) {
		union address from;
		socklen_t from_len = sizeof(from);
		long long left = (end - awake_us()) / 1000; /* less than nothing would be for ever */
		if ((err = wait_for(fd, POLLIN, left < 0 ? 0 : (int)left))) {
			failed(x, "receive", err);
			break;
		}
		ssize_t got = recvfrom(fd, buf, 65535, 0, &from.sa, &from_len);
		if (got < 0 && errno == EAGAIN)
			continue; /* another thread took it, or its checksum was wrong */
		if (got < 0) {
			failed(x, "receive", errno);
			break;
		}
		buf[got] = 0;
		if (sscanf(buf, "%63s %63s %45s %d%n", got_token, x->who, x->seen, &x->seen_port, &head) == 4 &&
		    strcmp(token, got_token) == 0) {
			if (payload && !same_content(sent, (size_t)len, buf, (size_t)got, (size_t)head + 1))
				failed(x, "content", EBADMSG);
			address_show(&from, x->from, &x->from_port);
			break;
		}
	}
	free(buf);
	free(sent);
}

/* Whom the socket says it is connected to: for a socket that was translated, the Service. */
static void reply_peer(struct reply *r, int fd)
{
	union address peer;
	socklen_t len = sizeof(peer);
	char ip[INET6_ADDRSTRLEN];
	int port;
	if (fd < 0 || getpeername(fd, &peer.sa, &len) < 0)
		return;
	address_show(&peer, ip, &port);
	reply_text(r, "peer", ip);
	reply_num(r, "peerPort", port);
}

static void fill_exchange(struct reply *r, const struct command *cmd, const struct exchange *x, int fd)
{
	union address self;
	socklen_t len = sizeof(self);
	reply_open(r, cmd, x->stage == NULL);
	if (x->stage) {
		reply_text(r, "stage", x->stage);
		reply_text(r, "errno", errno_name(x->err));
	} else {
		reply_text(r, "who", x->who);
		reply_text(r, "seen", x->seen);
		reply_num(r, "seenPort", x->seen_port);
		if (x->from[0]) {
			reply_text(r, "from", x->from);
			reply_num(r, "fromPort", x->from_port);
		}
	}
	reply_num(r, "us", x->us);
	if (fd >= 0 && getsockname(fd, &self.sa, &len) == 0) {
		char ip[INET6_ADDRSTRLEN];
		int port;
		address_show(&self, ip, &port);
		reply_text(r, "local", ip);
		reply_num(r, "localPort", port);
	}
	reply_peer(r, fd);
}

static void reply_exchange(const struct command *cmd, const struct exchange *x, int fd)
{
	struct reply r;
	fill_exchange(&r, cmd, x, fd);
	reply_send(&r);
}

/* Opens (and for TCP, or with connected=1, connects); -1 and the exchange says why. */
static int open_client(const struct command *cmd, int proto, union address *dst, struct exchange *x)
{
	const char *stage = "address";
	memset(x, 0, sizeof(*x));
	if (!address_parse(dst, arg(cmd, "dst", "?"), (int)arg_num(cmd, "port", 0), AF_UNSPEC)) {
		failed(x, stage, EINVAL);
		return -1;
	}
	int fd = client_socket(cmd, proto, dst, &stage);
	if (fd < 0) {
		failed(x, stage, errno);
		return -1;
	}
	if (proto == IPPROTO_UDP && !arg_num(cmd, "connected", 0))
		return fd;
	int err = client_connect(fd, dst, (int)arg_num(cmd, "timeout", 5000));
	if (err) {
		failed(x, "connect", err);
		close(fd);
		return -1;
	}
	return fd;
}

static void shut(int fd, bool reset)
{
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	if (reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

/* connect proto= dst= port= [src= sport= timeout= connected=1 payload= rst=1]: open, ask, close */
void cmd_connect(struct command *cmd)
{
	struct exchange x;
	union address dst;
	int proto = proto_of(cmd), timeout = (int)arg_num(cmd, "timeout", 5000);
	long long start = awake_us();
	int fd = open_client(cmd, proto, &dst, &x);
	if (fd >= 0) {
		if (proto == IPPROTO_TCP)
			exchange_tcp(fd, timeout, &x);
		else
			exchange_udp(fd, arg_num(cmd, "connected", 0) ? NULL : &dst, arg_num(cmd, "payload", 0), timeout, &x);
	}
	x.us = awake_us() - start;
	struct reply r;
	fill_exchange(&r, cmd, &x, fd);
	/* who has read the reply may use the port again: it must be free by then */
	if (fd >= 0)
		shut(fd, arg_num(cmd, "rst", 0));
	reply_send(&r);
}

/* open handle= ...: as connect, but the socket is kept and nothing is asked yet */
void cmd_open(struct command *cmd)
{
	struct exchange x;
	union address dst;
	int proto = proto_of(cmd);
	long long start = awake_us();
	int fd = open_client(cmd, proto, &dst, &x);
	if (fd < 0) {
		x.us = awake_us() - start;
		reply_exchange(cmd, &x, -1);
		return;
	}
	union address *kept = malloc(sizeof(dst));
	*kept = dst;
	struct handle *h = handle_add(arg(cmd, "handle", "socket"), fd, proto, kept);
	h->connected = proto == IPPROTO_TCP || arg_num(cmd, "connected", 0);
	struct reply r;
	union address self;
	socklen_t len = sizeof(self);
	char ip[INET6_ADDRSTRLEN];
	int port;
	getsockname(fd, &self.sa, &len);
	address_show(&self, ip, &port);
	reply_open(&r, cmd, true);
	reply_text(&r, "local", ip);
	reply_num(&r, "localPort", port);
	reply_peer(&r, fd);
	reply_num(&r, "us", awake_us() - start);
	reply_send(&r);
}

/* ask handle= [dst= port= payload= timeout=]: one exchange on a kept socket */
void cmd_ask(struct command *cmd)
{
	struct handle *h = handle_find(arg(cmd, "handle", "socket"));
	struct exchange x = { 0 };
	int timeout = (int)arg_num(cmd, "timeout", 5000);
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	union address dst = *(union address *)h->data;
	const char *other = arg(cmd, "dst", NULL);
	if (other && !address_parse(&dst, other, (int)arg_num(cmd, "port", 0), AF_UNSPEC)) {
		reply_error(cmd, "address", EINVAL);
		return;
	}
	long long start = awake_us();
	if (h->proto == IPPROTO_TCP)
		exchange_tcp(h->fd, timeout, &x);
	else
		exchange_udp(h->fd, h->connected ? NULL : &dst, arg_num(cmd, "payload", 0), timeout, &x);
	x.us = awake_us() - start;
	reply_exchange(cmd, &x, h->fd);
}

/* close handle= [rst=1]: closes all sockets of that name */
void cmd_close(struct command *cmd)
{
	const char *name = arg(cmd, "handle", "socket");
	struct handle *h = handle_find(name);
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	for (; h; h = handle_find(name)) {
		handle_remove(name);
		if (h->proto != 0)
			shutdown(h->fd, SHUT_RDWR); /* wakes a thread that accepts or receives */
		shut(h->fd, arg_num(cmd, "rst", 0));
	}
	reply_ok(cmd);
}

/* socket handle=: what the kernel knows of a kept socket: path MTU, segment size, retransmissions, pending error */
void cmd_socket(struct command *cmd)
{
	struct handle *h = handle_find(arg(cmd, "handle", "socket"));
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	struct reply r;
	const union address *dst = h->data;
	int mtu = 0, err = 0;
	socklen_t len = sizeof(mtu);
	bool v4 = dst->sa.sa_family == AF_INET;
	getsockopt(h->fd, v4 ? IPPROTO_IP : IPPROTO_IPV6, v4 ? IP_MTU : IPV6_MTU, &mtu, &len);
	len = sizeof(err);
	getsockopt(h->fd, SOL_SOCKET, SO_ERROR, &err, &len);
	reply_open(&r, cmd, true);
	reply_num(&r, "mtu", mtu);
	reply_text(&r, "error", err ? errno_name(err) : "");
	if (h->proto == IPPROTO_TCP) {
		struct tcp_info info = { 0 };
		len = sizeof(info);
		getsockopt(h->fd, IPPROTO_TCP, TCP_INFO, &info, &len);
		reply_num(&r, "mss", info.tcpi_snd_mss);
		reply_num(&r, "retransmits", info.tcpi_total_retrans);
		reply_num(&r, "state", info.tcpi_state);
	}
	reply_send(&r);
}

static bool bulk_up(int fd, unsigned long long bytes, uint64_t seed, uint64_t *hash)
{
	char line[64], *buf = malloc(65536);
	int len = snprintf(line, sizeof(line), "sink %llu\n", bytes);
	bool ok = write_all(fd, line, (size_t)len);
	while (ok && bytes > 0) {
		size_t part = bytes < 65536 ? (size_t)bytes : 65536;
		content_fill(&seed, buf, part);
		*hash = content_hash(*hash, buf, part);
		ok = write_all(fd, buf, part);
		bytes -= part;
	}
	free(buf);
	return ok;
}

static bool bulk_down(int fd, unsigned long long bytes, uint64_t seed, uint64_t *expected, uint64_t *hash)
{
	char line[64], *buf = malloc(65536), *want = malloc(65536);
	int len = snprintf(line, sizeof(line), "source %llu %llu\n", bytes, (unsigned long long)seed);
	bool ok = write_all(fd, line, (size_t)len);
	unsigned long long left = bytes;
	for (; ok && left > 0;) { /* what the server will generate */
		size_t part = left < 65536 ? (size_t)left : 65536;
		content_fill(&seed, want, part);
		*expected = content_hash(*expected, want, part);
		left -= part;
	}
	while (ok && bytes > 0) {
		int err = wait_for(fd, POLLIN, 20000);
		ssize_t got = err ? -1 : read(fd, buf, bytes < 65536 ? (size_t)bytes : 65536);
		if (err)
			errno = err;
		ok = got > 0;
		if (ok) {
			*hash = content_hash(*hash, buf, (size_t)got);
			bytes -= (unsigned long long)got;
		}
	}
	free(buf);
	free(want);
	return ok;
}

/* The server's line after an upload: the checksum of what it received. */
static bool read_hash(int fd, uint64_t *hash)
{
	char line[64];
	unsigned long long value = 0;
	struct line_reader *r = malloc(sizeof(*r));
	r->fd = fd;
	r->start = r->end = 0;
	int got = line_read(r, line, sizeof(line), 20000);
	free(r);
	if (got != 1 || sscanf(line, "%llx", &value) != 1)
		return false;
	*hash = value;
	return true;
}

/* bulk dst= port= dir=up|down bytes= seed= : content with checksums of both ends */
void cmd_bulk(struct command *cmd)
{
	struct exchange x;
	union address dst;
	unsigned long long bytes = (unsigned long long)arg_num(cmd, "bytes", 1 << 20);
	uint64_t seed = (uint64_t)arg_num(cmd, "seed", 1), sent = CONTENT_HASH_START, received = CONTENT_HASH_START;
	bool up = strcmp(arg(cmd, "dir", "up"), "up") == 0;
	long long start = awake_us();
	int fd = open_client(cmd, IPPROTO_TCP, &dst, &x);
	if (fd < 0) {
		reply_exchange(cmd, &x, -1);
		return;
	}
	bool ok = up ? bulk_up(fd, bytes, seed, &sent) && read_hash(fd, &received) :
		       bulk_down(fd, bytes, seed, &sent, &received);
	int err = errno;
	struct tcp_info info = { 0 };
	socklen_t len = sizeof(info);
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len);
	struct reply r;
	char text[32];
	reply_open(&r, cmd, ok);
	if (!ok) {
		reply_text(&r, "stage", "transfer");
		reply_text(&r, "errno", errno_name(err));
	}
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)sent);
	reply_text(&r, "sent", text);
	snprintf(text, sizeof(text), "%016llx", (unsigned long long)received);
	reply_text(&r, "received", text);
	reply_num(&r, "us", awake_us() - start);
	reply_num(&r, "retransmits", info.tcpi_total_retrans);
	reply_num(&r, "pmtu", info.tcpi_pmtu);
	reply_num(&r, "mss", info.tcpi_snd_mss);
	reply_send(&r);
	close(fd);
}
