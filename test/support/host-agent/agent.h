// SPDX-License-Identifier: Apache-2.0
/*
 * The host agent: one small process per test host, so that a test can start servers, connect from chosen ports, send odd
 * packets and look at the wire without starting a program for each of these.
 *
 * It reads commands from stdin, one a line: `ID VERB key=value ...`, and answers each with one JSON line on stdout,
 * `{"id":ID,"ok":true,...}`. Each command runs on a thread of its own, so commands overlap, and answers may come in
 * another order. The end of stdin ends the process.
 */
#pragma once
#include <awake-clock.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/socket.h>

#define MAX_ARGS 32

struct command {
	long id;
	char *verb;
	int count;
	char *keys[MAX_ARGS];
	char *values[MAX_ARGS];
};

/* Arguments; the default when a key is missing. */
const char *arg(const struct command *cmd, const char *key, const char *missing);
long arg_num(const struct command *cmd, const char *key, long missing);

/* An answer under construction. Keys are C strings without quotes; `text` values are escaped. */
struct reply {
	char *buf;
	size_t len, size;
};
void reply_open(struct reply *r, const struct command *cmd, bool ok);
void reply_text(struct reply *r, const char *key, const char *value);
void reply_num(struct reply *r, const char *key, long long value);
void reply_raw(struct reply *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void reply_escaped(struct reply *r, const char *value);
void reply_send(struct reply *r);
void reply_ok(const struct command *cmd);
/* {"ok":false,"stage":stage,"errno":"ECONNREFUSED"} */
void reply_error(const struct command *cmd, const char *stage, int err);

const char *errno_name(int err);
/* For what is compared with the clock of others; what something took is measured by awake_us(). */
long long now_us(void);

/* One address of either family. */
union address {
	struct sockaddr sa;
	struct sockaddr_in in4;
	struct sockaddr_in6 in6;
};
/* Parses `host`, which must be numeric; an empty one is the wildcard of `family`. False when it is neither v4 nor v6. */
bool address_parse(union address *out, const char *host, int port, int family);
socklen_t address_len(const union address *a);
/* IPv4-mapped addresses are shown as IPv4. `text` has room for INET6_ADDRSTRLEN. */
void address_show(const union address *a, char *text, int *port);

/* Named things that outlive a command: sockets, servers, loads, sniffers. */
struct handle {
	char name[64];
	int fd;
	int proto;
	bool connected;
	void *data;
	struct handle *next;
};
struct handle *handle_add(const char *name, int fd, int proto, void *data);
struct handle *handle_find(const char *name);
void handle_remove(const char *name);

void thread_start(void *(*run)(void *), void *argument);

/* Reads until a line ends; keeps what follows. */
struct line_reader {
	int fd;
	size_t start, end;
	char buf[65536];
};
/* 1: a line is in `line`; 0: end of stream; -1: errno. */
int line_read(struct line_reader *r, char *line, size_t size, int timeout_ms);
bool write_all(int fd, const void *data, size_t len);
/* 0, or the errno: ETIMEDOUT when the time is over, by the clock that stands still with the machine. */
int wait_for(int fd, short events, int timeout_ms);

/* Pseudo-random content and its checksum (FNV-1a, 64 bits). */
void content_fill(uint64_t *state, void *buf, size_t len);
uint64_t content_hash(uint64_t hash, const void *buf, size_t len);
#define CONTENT_HASH_START 0xcbf29ce484222325ull

/* What a client learnt from one exchange with a server. */
struct exchange {
	const char *stage; /* where it failed, or NULL */
	int err;
	char who[64], seen[INET6_ADDRSTRLEN];
	int seen_port;
	char from[INET6_ADDRSTRLEN];
	int from_port;
	long long us;
};
int client_socket(const struct command *cmd, int proto, const union address *dst, const char **stage);
int client_connect(int fd, const union address *dst, int timeout_ms);
void exchange_tcp(int fd, int timeout_ms, struct exchange *x);
void exchange_udp(int fd, const union address *dst, long payload, int timeout_ms, struct exchange *x);

void cmd_serve(struct command *cmd);
void cmd_open(struct command *cmd);
void cmd_ask(struct command *cmd);
void cmd_close(struct command *cmd);
void cmd_connect(struct command *cmd);
void cmd_socket(struct command *cmd);
void cmd_bulk(struct command *cmd);
void cmd_standstills(struct command *cmd);
void cmd_load(struct command *cmd);
void cmd_loadstop(struct command *cmd);
void cmd_race(struct command *cmd);
void cmd_rawtcp(struct command *cmd);
void cmd_sniff(struct command *cmd);
void cmd_sniffed(struct command *cmd);
void cmd_tcx(struct command *cmd);
void cmd_tcxcount(struct command *cmd);
void cmd_tcxdetach(struct command *cmd);
