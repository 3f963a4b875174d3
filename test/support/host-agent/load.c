// SPDX-License-Identifier: Apache-2.0
/* Many clients that connect without pause, and count. */
#include "agent.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_KINDS 64

/* How often a pod answered, or a failure happened, and when the last such attempt began and which port it used. */
struct tally {
	char name[96];
	long count;
	long long last_start_us;
	int last_port;
};

struct load {
	struct command cmd;
	int proto;
	union address dst;
	int timeout_ms;
	long limit; /* attempts in all; 0: until loadstop */
	int gap_us;
	bool reset;
	pthread_mutex_t lock;
	pthread_cond_t ended;
	bool stop;
	int running;
	long attempts, good, slow;
	long long slowest_us;
	struct tally who[MAX_KINDS], errors[MAX_KINDS];
	long uncounted;
};

static void count(struct load *l, struct tally *kinds, const char *name, long long start, int port)
{
	for (int i = 0; i < MAX_KINDS; i++) {
		if (kinds[i].count == 0)
			snprintf(kinds[i].name, sizeof(kinds[i].name), "%s", name);
		if (strcmp(kinds[i].name, name) == 0) {
			kinds[i].count++;
			if (start > kinds[i].last_start_us) {
				kinds[i].last_start_us = start;
				kinds[i].last_port = port;
			}
			return;
		}
	}
	l->uncounted++;
}

static int local_port(int fd)
{
	union address self;
	socklen_t len = sizeof(self);
	char ip[INET6_ADDRSTRLEN];
	int port = 0;
	if (fd >= 0 && getsockname(fd, &self.sa, &len) == 0)
		address_show(&self, ip, &port);
	return port;
}

static void attempt(struct load *l)
{
	struct exchange x = { 0 };
	long long start = now_us(), awake = awake_us();
	int fd = client_socket(&l->cmd, l->proto, &l->dst, &x.stage);
	if (fd < 0) {
		x.err = errno;
	} else {
		x.stage = NULL;
		x.err = client_connect(fd, &l->dst, l->timeout_ms);
		if (x.err)
			x.stage = "connect";
		else if (l->proto == IPPROTO_TCP)
			exchange_tcp(fd, l->timeout_ms, &x);
		else
			exchange_udp(fd, NULL, 0, l->timeout_ms, &x);
	}
	int port = local_port(fd);
	long long us = awake_us() - awake;
	pthread_mutex_lock(&l->lock);
	l->attempts++;
	if (x.stage) {
		char kind[96];
		snprintf(kind, sizeof(kind), "%s %s", x.stage, errno_name(x.err));
		count(l, l->errors, kind, start, port);
	} else {
		l->good++;
		count(l, l->who, x.who, start, port);
	}
	if (us > 900000)
		l->slow++; /* a lost SYN is sent again after a second: that, too, is a loss */
	if (us > l->slowest_us)
		l->slowest_us = us;
	pthread_mutex_unlock(&l->lock);
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	if (fd >= 0 && l->reset)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (fd >= 0)
		close(fd);
}

static void *run_load(void *argument)
{
	struct load *l = argument;
	long done = 0;
	for (;;) {
		pthread_mutex_lock(&l->lock);
		bool stop = l->stop || (l->limit > 0 && done >= l->limit);
		pthread_mutex_unlock(&l->lock);
		if (stop)
			break;
		attempt(l);
		done++;
		if (l->gap_us > 0)
			usleep((useconds_t)l->gap_us);
	}
	pthread_mutex_lock(&l->lock);
	l->running--;
	pthread_cond_broadcast(&l->ended);
	pthread_mutex_unlock(&l->lock);
	return NULL;
}

static void reply_kinds(struct reply *r, const char *key, const struct tally *kinds)
{
	reply_raw(r, ",\"%s\":{", key);
	for (int i = 0; i < MAX_KINDS && kinds[i].count > 0; i++) {
		reply_raw(r, "%s", i ? "," : "");
		reply_escaped(r, kinds[i].name);
		reply_raw(r, ":{\"count\":%ld,\"lastStartUs\":%lld,\"lastPort\":%d}", kinds[i].count,
			  kinds[i].last_start_us, kinds[i].last_port);
	}
	reply_raw(r, "}");
}

static void wait_and_reply(const struct command *cmd, struct load *l)
{
	struct reply r;
	pthread_mutex_lock(&l->lock);
	while (l->running > 0)
		pthread_cond_wait(&l->ended, &l->lock);
	reply_open(&r, cmd, true);
	reply_num(&r, "attempts", l->attempts);
	reply_num(&r, "good", l->good);
	reply_num(&r, "slow", l->slow);
	reply_num(&r, "slowestUs", l->slowest_us);
	reply_num(&r, "uncounted", l->uncounted);
	reply_kinds(&r, "who", l->who);
	reply_kinds(&r, "errors", l->errors);
	pthread_mutex_unlock(&l->lock);
	reply_send(&r);
}

static void copy_command(struct command *to, const struct command *from)
{
	*to = *from;
	for (int i = 0; i < from->count; i++) {
		to->keys[i] = strdup(from->keys[i]);
		to->values[i] = strdup(from->values[i]);
	}
}

/* load handle= proto= dst= port= threads= timeout= gap= rst= [count=]: with count= it answers when all is done, else at once */
void cmd_load(struct command *cmd)
{
	struct load *l = calloc(1, sizeof(*l));
	int threads = (int)arg_num(cmd, "threads", 4);
	copy_command(&l->cmd, cmd);
	l->proto = strcmp(arg(cmd, "proto", "tcp"), "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
	l->timeout_ms = (int)arg_num(cmd, "timeout", 10000);
	l->limit = arg_num(cmd, "count", 0) / threads;
	l->gap_us = (int)arg_num(cmd, "gap", 0);
	l->reset = arg_num(cmd, "rst", 0);
	pthread_mutex_init(&l->lock, NULL);
	pthread_cond_init(&l->ended, NULL);
	if (!address_parse(&l->dst, arg(cmd, "dst", "?"), (int)arg_num(cmd, "port", 0), AF_UNSPEC)) {
		reply_error(cmd, "address", EINVAL);
		return;
	}
	l->running = threads;
	handle_add(arg(cmd, "handle", "load"), -1, 0, l);
	for (int i = 0; i < threads; i++)
		thread_start(run_load, l);
	if (l->limit > 0)
		wait_and_reply(cmd, l);
	else
		reply_ok(cmd);
}

/* loadstop handle=: ends it and tells the counts */
void cmd_loadstop(struct command *cmd)
{
	const char *name = arg(cmd, "handle", "load");
	struct handle *h = handle_find(name);
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	struct load *l = h->data;
	handle_remove(name);
	pthread_mutex_lock(&l->lock);
	l->stop = true;
	pthread_mutex_unlock(&l->lock);
	wait_and_reply(cmd, l);
}

/* standstills: how often the machine stood still, on each CPU, so far */
void cmd_standstills(struct command *cmd)
{
	struct reply r;
	reply_open(&r, cmd, true);
	reply_num(&r, "count", standstills());
	reply_send(&r);
}
