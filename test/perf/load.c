/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for test/perf/path.bench.ts: a server that answers, and clients that ask it for so many seconds.
 *
 *   load server --port N --udp-port N [--cpu N]
 *   load tcp-rr|tcp-crr|udp-rr|tcp-stream --to ADDRESS --port N --seconds S [--cpu N] [--cgroup DIRECTORY]
 *
 * A client prints one line of JSON. A transaction is one byte there and one byte back; tcp-crr makes and closes a
 * connection for each. Every socket has a deadline, and the whole program too: it never hangs.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#include "enter-cgroup.h"

#define NS_PER_S 1000000000ull
/* Nobody waits longer for a packet; a machine that stands still for this long has spoiled the measurement anyway. */
#define DEADLINE_S 5
/* Beside what was asked for: for the whole program. */
#define GRACE_S 20
/* A server whose maker forgot it. */
#define SERVER_LIFETIME_S 7200
#define BACKLOG 1024
#define STREAM_CHUNK (128 * 1024)
/* Transactions before the clock starts: neighbours are found, windows open, code is in the caches. */
#define WARM_UP_RR 200
#define WARM_UP_CRR 50
/* A datagram that is lost is sent again after this long, and counted. */
#define UDP_RETRY_MS 200
#define UDP_TRIES 10

#define REQUEST 'r'
#define STREAM 's'

/* Buckets of a latency: 64 to a power of two, so that a figure is right within 1.6 %. */
#define SUB_BITS 6
#define SUB (1u << SUB_BITS)
#define BUCKETS ((64 - SUB_BITS + 1) * SUB)

struct options {
	const char *mode;
	const char *cgroup;
	struct sockaddr_storage to;
	socklen_t to_length;
	double seconds;
	int port;
	int udp_port;
	int cpu;
	bool has_to;
};

struct result {
	uint64_t count;       /* transactions that were measured */
	uint64_t connections; /* flows that were opened, those of the warm-up as well */
	uint64_t lost;        /* datagrams that were sent again */
	uint64_t bytes;       /* that the server has read */
	uint64_t ns;
	uint64_t histogram[BUCKETS];
};

static struct options opt = {.cpu = -1};
static struct result result;

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	int error = errno;
	va_list args;

	fprintf(stderr, "load: ");
	if (opt.mode)
		fprintf(stderr, "%s: ", opt.mode);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fprintf(stderr, error ? ": %s\n" : "\n", strerror(error));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

/* ---- latencies ---- */

static unsigned int bucket_of(uint64_t ns)
{
	unsigned int top;

	if (ns < SUB)
		return (unsigned int)ns;
	top = 63 - (unsigned int)__builtin_clzll(ns);
	return (top - SUB_BITS + 1) * SUB + (unsigned int)((ns >> (top - SUB_BITS)) & (SUB - 1));
}

/* The middle of a bucket. */
static uint64_t bucket_ns(unsigned int bucket)
{
	unsigned int shift;

	if (bucket < SUB)
		return bucket;
	shift = bucket / SUB - 1;
	return ((uint64_t)(SUB + bucket % SUB) << shift) + ((1ull << shift) >> 1);
}

static uint64_t percentile(double share)
{
	uint64_t rank = (uint64_t)(share * (double)result.count);
	uint64_t seen = 0;

	for (unsigned int i = 0; i < BUCKETS; i++) {
		seen += result.histogram[i];
		if (seen > rank)
			return bucket_ns(i);
	}
	return 0;
}

/* ---- sockets ---- */

static void set_deadline(int fd, unsigned int ms)
{
	struct timeval time = {.tv_sec = ms / 1000, .tv_usec = (suseconds_t)(ms % 1000) * 1000};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time)) ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &time, sizeof(time)))
		die("deadline of a socket");
}

static void set_flag(int fd, int level, int name)
{
	int on = 1;

	if (setsockopt(fd, level, name, &on, sizeof(on)))
		die("option %d of a socket", name);
}

static int connected(int type)
{
	int fd = socket(opt.to.ss_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	set_deadline(fd, DEADLINE_S * 1000);
	if (type == SOCK_STREAM)
		set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
	/* A connect that its deadline ended says EINPROGRESS. */
	if (connect(fd, (struct sockaddr *)&opt.to, opt.to_length)) {
		if (errno == EINPROGRESS)
			errno = ETIMEDOUT;
		die("connect");
	}
	result.connections++;
	return fd;
}

static void send_one(int fd, char byte)
{
	if (send(fd, &byte, 1, MSG_NOSIGNAL) != 1)
		die("send");
}

static void receive_one(int fd)
{
	char byte;
	ssize_t length = recv(fd, &byte, 1, 0);

	if (length == 0) {
		errno = 0;
		die("the server closed the connection");
	}
	if (length < 0)
		die(errno == EAGAIN ? "no answer in %d s" : "receive (deadline %d s)", DEADLINE_S);
}

/* ---- clients ---- */

static void transaction_tcp(int fd)
{
	send_one(fd, REQUEST);
	receive_one(fd);
}

static void transaction_crr(int unused)
{
	int fd = connected(SOCK_STREAM);

	(void)unused;
	transaction_tcp(fd);
	close(fd);
}

/* Number there, number back: an answer that comes late is not taken for that of the next. */
static void transaction_udp(int fd)
{
	static uint64_t number;
	uint64_t answer = 0;

	number++;
	for (int try = 0; try < UDP_TRIES; try++) {
		if (send(fd, &number, sizeof(number), 0) != sizeof(number))
			die("send");
		do {
			if (recv(fd, &answer, sizeof(answer), 0) < 0) {
				if (errno != EAGAIN)
					die("receive");
				break;
			}
		} while (answer != number);
		if (answer == number)
			return;
		result.lost++;
	}
	errno = 0;
	die("no answer to %d datagrams", UDP_TRIES);
}

static void transactions(void (*one)(int fd), int fd, unsigned int warm_up)
{
	uint64_t start, end, before, after;

	for (unsigned int i = 0; i < warm_up; i++)
		one(fd);
	start = before = now_ns();
	end = start + (uint64_t)(opt.seconds * 1e9);
	do {
		one(fd);
		after = now_ns();
		result.histogram[bucket_of(after - before)]++;
		result.count++;
		before = after;
	} while (after < end);
	result.ns = after - start;
}

/* From the first byte until the server has said how many it has read. */
static void stream(void)
{
	static char chunk[STREAM_CHUNK];
	int fd = connected(SOCK_STREAM);
	uint64_t start, end, total;

	memset(chunk, STREAM, sizeof(chunk));
	start = now_ns();
	end = start + (uint64_t)(opt.seconds * 1e9);
	while (now_ns() < end)
		if (send(fd, chunk, sizeof(chunk), MSG_NOSIGNAL) < 0)
			die("send");
	if (shutdown(fd, SHUT_WR))
		die("shutdown");
	if (recv(fd, &total, sizeof(total), MSG_WAITALL) != sizeof(total))
		die("the server did not say how much it has read");
	result.ns = now_ns() - start;
	result.bytes = be64toh(total);
	close(fd);
}

static void run_client(void)
{
	if (!strcmp(opt.mode, "tcp-rr")) {
		transactions(transaction_tcp, connected(SOCK_STREAM), WARM_UP_RR);
	} else if (!strcmp(opt.mode, "tcp-crr")) {
		transactions(transaction_crr, -1, WARM_UP_CRR);
	} else if (!strcmp(opt.mode, "udp-rr")) {
		int fd = connected(SOCK_DGRAM);

		set_deadline(fd, UDP_RETRY_MS);
		transactions(transaction_udp, fd, WARM_UP_RR);
	} else {
		stream();
	}
	printf("{\"mode\":\"%s\",\"count\":%lu,\"connections\":%lu,\"lost\":%lu,\"bytes\":%lu,\"seconds\":%.6f,"
	       "\"p50Ns\":%lu,\"p99Ns\":%lu}\n",
	       opt.mode, result.count, result.connections, result.lost, result.bytes,
	       (double)result.ns / 1e9, percentile(0.5), percentile(0.99));
}

/* ---- the server: one client at a time, a thread for each family and protocol ---- */

static int listening(int family, int type, int port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
	int fd = socket(family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		die("socket");
	set_flag(fd, SOL_SOCKET, SO_REUSEADDR);
	if (family == AF_INET6)
		set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY);
	if (family == AF_INET ? bind(fd, (struct sockaddr *)&v4, sizeof(v4))
			      : bind(fd, (struct sockaddr *)&v6, sizeof(v6)))
		die("bind to port %d", port);
	if (type == SOCK_STREAM && listen(fd, BACKLOG))
		die("listen on port %d", port);
	return fd;
}

static void sink(int fd, uint64_t total, char *buffer, size_t size)
{
	ssize_t length;

	while ((length = recv(fd, buffer, size, 0)) > 0)
		total += (uint64_t)length;
	total = htobe64(total);
	send(fd, &total, sizeof(total), MSG_NOSIGNAL);
}

static void *serve_tcp(void *argument)
{
	int listener = (int)(intptr_t)argument;
	char *buffer = malloc(STREAM_CHUNK);

	if (!buffer)
		die("memory");
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue; /* a client that went away while it waited */
		set_deadline(fd, DEADLINE_S * 1000);
		set_flag(fd, IPPROTO_TCP, TCP_NODELAY);
		for (;;) {
			ssize_t length = recv(fd, buffer, STREAM_CHUNK, 0);

			if (length <= 0)
				break;
			if (buffer[0] == STREAM) {
				sink(fd, (uint64_t)length, buffer, STREAM_CHUNK);
				break;
			}
			if (send(fd, buffer, (size_t)length, MSG_NOSIGNAL) != length)
				break;
		}
		close(fd);
	}
	return NULL;
}

static void *serve_udp(void *argument)
{
	int fd = (int)(intptr_t)argument;
	char buffer[64];

	for (;;) {
		struct sockaddr_storage from;
		socklen_t from_length = sizeof(from);
		ssize_t length = recvfrom(fd, buffer, sizeof(buffer), 0, (struct sockaddr *)&from, &from_length);

		if (length > 0)
			sendto(fd, buffer, (size_t)length, 0, (struct sockaddr *)&from, from_length);
	}
	return NULL;
}

static void run_server(void)
{
	static const int families[] = {AF_INET, AF_INET6};

	for (int i = 0; i < 2; i++) {
		pthread_t thread;
		int tcp = listening(families[i], SOCK_STREAM, opt.port);
		int udp = listening(families[i], SOCK_DGRAM, opt.udp_port);

		errno = pthread_create(&thread, NULL, serve_tcp, (void *)(intptr_t)tcp);
		if (!errno)
			errno = pthread_create(&thread, NULL, serve_udp, (void *)(intptr_t)udp);
		if (errno)
			die("thread");
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}

/* ---- the command line ---- */

static int number(const char *name, const char *text, int least, int most)
{
	char *rest;
	long value;

	errno = 0;
	value = strtol(text, &rest, 10);
	if (*text == '\0' || *rest != '\0' || value < least || value > most) {
		errno = 0;
		die("%s is %d to %d, not \"%s\"", name, least, most, text);
	}
	return (int)value;
}

static void parse_address(const char *text)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&opt.to;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&opt.to;

	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		opt.to_length = sizeof(*v4);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		opt.to_length = sizeof(*v6);
	} else {
		errno = 0;
		die("--to: \"%s\" is no address", text);
	}
	opt.has_to = true;
}

static void parse_option(const char *name, const char *value)
{
	char *rest;

	if (!strcmp(name, "--port")) {
		opt.port = number(name, value, 1, 65535);
	} else if (!strcmp(name, "--udp-port")) {
		opt.udp_port = number(name, value, 1, 65535);
	} else if (!strcmp(name, "--cpu")) {
		opt.cpu = number(name, value, 0, CPU_SETSIZE - 1);
	} else if (!strcmp(name, "--to")) {
		parse_address(value);
	} else if (!strcmp(name, "--cgroup")) {
		opt.cgroup = value;
	} else if (!strcmp(name, "--seconds")) {
		opt.seconds = strtod(value, &rest);
		if (*rest != '\0' || !(opt.seconds > 0 && opt.seconds <= 60)) {
			errno = 0;
			die("--seconds is above 0, and 60 at most, not \"%s\"", value);
		}
	} else {
		errno = 0;
		die("there is no option %s", name);
	}
}

static void check_options(void)
{
	static const char *const modes[] = {"server", "tcp-rr", "tcp-crr", "udp-rr", "tcp-stream"};
	bool known = false;

	errno = 0;
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		known |= !strcmp(opt.mode, modes[i]);
	if (!known)
		die("no such mode: server, tcp-rr, tcp-crr, udp-rr, tcp-stream");
	if (!opt.port)
		die("--port is missing");
	if (!strcmp(opt.mode, "server")) {
		if (!opt.udp_port)
			die("--udp-port is missing");
		return;
	}
	if (!opt.has_to || opt.seconds == 0)
		die("--to and --seconds are needed");
	if (opt.to.ss_family == AF_INET)
		((struct sockaddr_in *)&opt.to)->sin_port = htons((uint16_t)opt.port);
	else
		((struct sockaddr_in6 *)&opt.to)->sin6_port = htons((uint16_t)opt.port);
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		die("CPU %d", cpu);
}

int main(int argc, char **argv)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (argc < 2)
		die("a mode is missing: server, tcp-rr, tcp-crr, udp-rr, tcp-stream");
	opt.mode = argv[1];
	for (int i = 2; i < argc; i += 2) {
		if (i + 1 == argc)
			die("%s: a value is missing", argv[i]);
		parse_option(argv[i], argv[i + 1]);
	}
	check_options();
	if (opt.cpu >= 0)
		pin(opt.cpu);
	/* before the first socket: whose sockets are served is decided by where their process is */
	if (opt.cgroup && enter_cgroup(opt.cgroup))
		die("%s", opt.cgroup);
	if (!strcmp(opt.mode, "server")) {
		alarm(SERVER_LIFETIME_S);
		run_server();
	} else {
		alarm((unsigned int)opt.seconds + GRACE_S);
		run_client();
	}
	return 0;
}
