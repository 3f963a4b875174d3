/* SPDX-License-Identifier: Apache-2.0 */
/* Clients: many at once, each from a port of its own, all of them over within one time. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <awake-clock.h>
#include "probe.h"

#define MAX_TRIES 1024

struct attempt {
	int fd;
	uint16_t sport;
	bool connected, done;
	int error;
	long long us;
	char text[128];
	size_t length;
};

struct goal {
	enum proto proto;
	union address dst, src;
	bool bound, again;
	uint16_t port;
	long sport;
};

static void finish(struct attempt *try, int error, long long start)
{
	try->done = true;
	try->error = error;
	try->us = awake_us() - start;
}

static void send_first(struct attempt *try, const struct goal *goal, long long start)
{
	uint8_t packet[64];
	size_t size = 4;

	memcpy(packet, "who?", 4);
	if (goal->proto == PROTO_SCTP)
		size = sctp_build(packet, try->sport, goal->port, goal->again ? SCTP_TAG : 0,
				  goal->again ? SCTP_HEARTBEAT : SCTP_INIT, 0xdead0000 | try->sport, "x");
	if (send(try->fd, packet, size, 0) < 0)
		finish(try, errno, start);
}

static void learn_port(struct attempt *try)
{
	union address own;
	socklen_t size = sizeof(own);

	if (getsockname(try->fd, &own.any, &size) == 0)
		try->sport = address_port(&own);
}

static void begin(struct attempt *try, const struct goal *goal, int index)
{
	int type = goal->proto == PROTO_TCP ? SOCK_STREAM : goal->proto == PROTO_UDP ? SOCK_DGRAM : SOCK_RAW, one = 1;
	bool raw = goal->proto == PROTO_SCTP;
	long long start = awake_us();
	union address dst = goal->dst, src = goal->src;
	uint16_t port = goal->sport ? goal->sport + index : 0;

	try->fd = socket(dst.any.sa_family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, raw ? PROTO_SCTP : 0);
	if (try->fd < 0)
		return finish(try, errno, start);
	setsockopt(try->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (raw) {
		try->sport = port ? port : 20000 + rand() % 10000;
		set_port(&dst, 0);
	} else {
		set_port(&src, port);
	}
	if (goal->bound && bind(try->fd, &src.any, address_size(&src)) < 0)
		return finish(try, errno, start);
	if (connect(try->fd, &dst.any, address_size(&dst)) < 0 && errno != EINPROGRESS)
		return finish(try, errno, start);
	if (!raw)
		learn_port(try);
	if (goal->proto == PROTO_TCP)
		return;
	try->connected = true;
	send_first(try, goal, start);
}

/* An INIT-ACK that is for this attempt. */
static bool read_sctp(struct attempt *try, const uint8_t *data, ssize_t size, int family, uint16_t port)
{
	int header = family == AF_INET ? (data[0] & 15) * 4 : 0;
	const uint8_t *packet = data + header;

	if (size < header + 16 || (packet[2] << 8 | packet[3]) != try->sport || (packet[0] << 8 | packet[1]) != port)
		return false;
	if (packet[4] != 0xde || packet[5] != 0xad)
		return false;
	return sctp_text(packet, size - header, try->text, sizeof(try->text)) != NULL;
}

static void read_answer(struct attempt *try, const struct goal *goal, long long start)
{
	uint8_t data[512];
	ssize_t size;

	if (goal->proto == PROTO_TCP) {
		size = read(try->fd, try->text + try->length, sizeof(try->text) - 1 - try->length);
		if (size < 0)
			return errno == EAGAIN ? (void)0 : finish(try, errno, start);
		try->length += size;
		if (size == 0 || memchr(try->text, '\n', try->length))
			finish(try, size == 0 && try->length == 0 ? ENODATA : 0, start);
		return;
	}
	size = recv(try->fd, data, sizeof(data), 0);
	if (size < 0)
		return errno == EAGAIN ? (void)0 : finish(try, errno, start);
	if (goal->proto == PROTO_UDP) {
		try->length = (size_t)size < sizeof(try->text) ? (size_t)size : sizeof(try->text) - 1;
		memcpy(try->text, data, try->length);
		finish(try, 0, start);
	} else if (read_sctp(try, data, size, goal->dst.any.sa_family, goal->port)) {
		finish(try, 0, start);
	}
}

static void go_on(struct attempt *try, const struct goal *goal, long long start)
{
	int error = 0;
	socklen_t size = sizeof(error);

	if (try->connected)
		return read_answer(try, goal, start);
	getsockopt(try->fd, SOL_SOCKET, SO_ERROR, &error, &size);
	if (error)
		return finish(try, error, start);
	try->connected = true;
}

static void poll_all(struct attempt *tries, int count, const struct goal *goal, long long start, long long end)
{
	static struct pollfd waiting[MAX_TRIES];
	static struct attempt *of[MAX_TRIES];

	for (;;) {
		long long left = end - awake_us();
		int open = 0;

		for (int i = 0; i < count; i++) {
			if (tries[i].done)
				continue;
			of[open] = &tries[i];
			waiting[open++] = (struct pollfd){ tries[i].fd, tries[i].connected ? POLLIN : POLLOUT, 0 };
		}
		if (open == 0 || left <= 0 || poll(waiting, open, left / 1000 + 1) < 0)
			break;
		for (int i = 0; i < open; i++)
			if (waiting[i].revents)
				go_on(of[i], goal, start);
	}
	for (int i = 0; i < count; i++)
		if (!tries[i].done)
			finish(&tries[i], ETIMEDOUT, start);
}

static void print_attempts(const struct command *command, struct attempt *tries, int count)
{
	printf("{\"id\":%ld,\"ok\":true,\"tries\":[", command->id);
	for (int i = 0; i < count; i++) {
		struct attempt *try = &tries[i];

		try->text[strcspn(try->text, "\n")] = 0;
		printf("%s{\"sport\":%u,\"us\":%lld,", i ? "," : "", try->sport, try->us);
		if (try->error)
			printf("\"error\":\"%s\"}", errno_name(try->error));
		else
			printf("\"text\":\"%s\"}", try->text);
	}
	printf("]}\n");
	fflush(stdout);
}

static bool read_goal(const struct command *command, struct goal *goal)
{
	const char *dst = arg(command, "dst"), *src = arg(command, "src");

	memset(goal, 0, sizeof(*goal));
	goal->proto = arg_proto(command);
	goal->port = arg_number(command, "port", 0);
	goal->sport = arg_number(command, "sport", 0);
	goal->bound = src != NULL;
	goal->again = arg_number(command, "again", 0);
	return dst && parse_address(dst, goal->port, &goal->dst) && (!src || parse_address(src, 0, &goal->src));
}

void client_try(const struct command *command)
{
	static struct attempt tries[MAX_TRIES];
	long count = arg_number(command, "n", 1);
	struct linger hard = { 1, 0 };
	struct goal goal;
	long long start = awake_us();

	if (!read_goal(command, &goal) || count < 1 || count > MAX_TRIES)
		return answer_error(command, "EINVAL");
	memset(tries, 0, sizeof(tries));
	srand((unsigned)start);
	for (int i = 0; i < count; i++)
		begin(&tries[i], &goal, i);
	poll_all(tries, count, &goal, start, start + arg_number(command, "timeout", 1000) * 1000);
	for (int i = 0; i < count; i++) {
		if (tries[i].fd < 0)
			continue;
		/* A reset: no port stays taken for a minute. */
		setsockopt(tries[i].fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
		close(tries[i].fd);
	}
	print_attempts(command, tries, count);
}

#define MAX_KEPT 64
static struct kept {
	char name[32];
	struct attempt try;
	struct goal goal;
} kept[MAX_KEPT];
static int kept_count;

static void answer_kept(const struct command *command, struct kept *one, long long start)
{
	poll_all(&one->try, 1, &one->goal, start, start + arg_number(command, "timeout", 2000) * 1000);
	print_attempts(command, &one->try, 1);
}

void client_open(const struct command *command)
{
	const char *name = arg(command, "handle");
	struct kept *one = &kept[kept_count];
	long long start = awake_us();

	if (!name || kept_count == MAX_KEPT || !read_goal(command, &one->goal))
		return answer_error(command, "EINVAL");
	kept_count++;
	snprintf(one->name, sizeof(one->name), "%s", name);
	memset(&one->try, 0, sizeof(one->try));
	begin(&one->try, &one->goal, 0);
	answer_kept(command, one, start);
}

void client_ask(const struct command *command)
{
	const char *name = arg(command, "handle");
	long long start = awake_us();

	for (int i = 0; name && i < kept_count; i++) {
		struct attempt *try = &kept[i].try;

		if (strcmp(kept[i].name, name) != 0)
			continue;
		try->done = false;
		try->error = 0;
		try->length = 0;
		memset(try->text, 0, sizeof(try->text));
		if (send(try->fd, "who?", 4, MSG_NOSIGNAL) < 0)
			finish(try, errno, start);
		return answer_kept(command, &kept[i], start);
	}
	answer_error(command, "ENOENT");
}

static int unhex(const char *text, uint8_t *out, size_t room)
{
	size_t size = 0;
	unsigned byte;

	while (size < room && sscanf(text + 2 * size, "%2x", &byte) == 1)
		out[size++] = byte;
	return size;
}

/* One request over TCP: the whole answer in hexadecimal, or which call failed. */
void client_exchange(const struct command *command)
{
	static uint8_t data[32768];
	static char more[2 * sizeof(data) + 64];
	struct goal goal;
	struct timeval limit = { arg_number(command, "timeout", 2000) / 1000, 0 };
	int fd, size = 0, at;
	ssize_t got = 0;

	if (!read_goal(command, &goal) || !arg(command, "hex"))
		return answer_error(command, "EINVAL");
	fd = socket(goal.dst.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if ((goal.bound && bind(fd, &goal.src.any, address_size(&goal.src)) < 0) ||
	    connect(fd, &goal.dst.any, address_size(&goal.dst)) < 0) {
		answer_error(command, errno_name(errno));
		close(fd);
		return;
	}
	got = write(fd, data, unhex(arg(command, "hex"), data, sizeof(data)));
	while (got > 0 && (size_t)size < sizeof(data) && (got = read(fd, data + size, sizeof(data) - size)) > 0)
		size += got;
	close(fd);
	at = sprintf(more, ",\"hex\":\"");
	for (int i = 0; i < size; i++)
		at += sprintf(more + at, "%02x", data[i]);
	sprintf(more + at, "\"");
	answer_ok(command, more);
}
