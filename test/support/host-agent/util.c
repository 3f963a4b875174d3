// SPDX-License-Identifier: Apache-2.0
/* Arguments, answers, addresses, handles, lines, content. */
#include "agent.h"
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

const char *arg(const struct command *cmd, const char *key, const char *missing)
{
	for (int i = 0; i < cmd->count; i++)
		if (strcmp(cmd->keys[i], key) == 0)
			return cmd->values[i];
	return missing;
}

long arg_num(const struct command *cmd, const char *key, long missing)
{
	const char *value = arg(cmd, key, NULL);
	return value ? atol(value) : missing;
}

void reply_raw(struct reply *r, const char *fmt, ...)
{
	for (;;) {
		va_list args;
		va_start(args, fmt);
		int need = vsnprintf(r->buf + r->len, r->size - r->len, fmt, args);
		va_end(args);
		if (need < 0)
			return;
		if (r->len + (size_t)need < r->size) {
			r->len += (size_t)need;
			return;
		}
		r->size = (r->len + (size_t)need) * 2;
		r->buf = realloc(r->buf, r->size);
	}
}

void reply_open(struct reply *r, const struct command *cmd, bool ok)
{
	r->size = 512;
	r->len = 0;
	r->buf = malloc(r->size);
	reply_raw(r, "{\"id\":%ld,\"ok\":%s", cmd->id, ok ? "true" : "false");
}

void reply_escaped(struct reply *r, const char *value)
{
	reply_raw(r, "\"");
	for (; *value; value++) {
		unsigned char c = (unsigned char)*value;
		if (c == '"' || c == '\\')
			reply_raw(r, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			reply_raw(r, "\\u%04x", c);
		else
			reply_raw(r, "%c", c);
	}
	reply_raw(r, "\"");
}

void reply_text(struct reply *r, const char *key, const char *value)
{
	reply_raw(r, ",\"%s\":", key);
	reply_escaped(r, value);
}

void reply_num(struct reply *r, const char *key, long long value)
{
	reply_raw(r, ",\"%s\":%lld", key, value);
}

void reply_send(struct reply *r)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	reply_raw(r, "}\n");
	pthread_mutex_lock(&lock);
	write_all(STDOUT_FILENO, r->buf, r->len);
	pthread_mutex_unlock(&lock);
	free(r->buf);
}

void reply_ok(const struct command *cmd)
{
	struct reply r;
	reply_open(&r, cmd, true);
	reply_send(&r);
}

void reply_error(const struct command *cmd, const char *stage, int err)
{
	struct reply r;
	reply_open(&r, cmd, false);
	reply_text(&r, "stage", stage);
	reply_text(&r, "errno", errno_name(err));
	reply_send(&r);
}

const char *errno_name(int err)
{
	const char *name = strerrorname_np(err);
	return name ? name : "EUNKNOWN";
}

long long now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

bool address_parse(union address *out, const char *host, int port, int family)
{
	memset(out, 0, sizeof(*out));
	if (*host ? inet_pton(AF_INET, host, &out->in4.sin_addr) == 1 : family == AF_INET) {
		out->in4.sin_family = AF_INET;
		out->in4.sin_port = htons((uint16_t)port);
		return true;
	}
	if (*host ? inet_pton(AF_INET6, host, &out->in6.sin6_addr) == 1 : family == AF_INET6) {
		out->in6.sin6_family = AF_INET6;
		out->in6.sin6_port = htons((uint16_t)port);
		return true;
	}
	return false;
}

socklen_t address_len(const union address *a)
{
	return a->sa.sa_family == AF_INET ? sizeof(a->in4) : sizeof(a->in6);
}

void address_show(const union address *a, char *text, int *port)
{
	if (a->sa.sa_family == AF_INET) {
		inet_ntop(AF_INET, &a->in4.sin_addr, text, INET6_ADDRSTRLEN);
		*port = ntohs(a->in4.sin_port);
		return;
	}
	if (IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		inet_ntop(AF_INET, a->in6.sin6_addr.s6_addr + 12, text, INET6_ADDRSTRLEN);
	else
		inet_ntop(AF_INET6, &a->in6.sin6_addr, text, INET6_ADDRSTRLEN);
	*port = ntohs(a->in6.sin6_port);
}

static struct handle *handles;
static pthread_mutex_t handles_lock = PTHREAD_MUTEX_INITIALIZER;

struct handle *handle_add(const char *name, int fd, int proto, void *data)
{
	struct handle *h = calloc(1, sizeof(*h));
	snprintf(h->name, sizeof(h->name), "%s", name);
	h->fd = fd;
	h->proto = proto;
	h->data = data;
	pthread_mutex_lock(&handles_lock);
	h->next = handles;
	handles = h;
	pthread_mutex_unlock(&handles_lock);
	return h;
}

struct handle *handle_find(const char *name)
{
	pthread_mutex_lock(&handles_lock);
	struct handle *h = handles;
	while (h && strcmp(h->name, name) != 0)
		h = h->next;
	pthread_mutex_unlock(&handles_lock);
	return h;
}

/* The struct stays: a thread may still look at it. A test makes few. */
void handle_remove(const char *name)
{
	pthread_mutex_lock(&handles_lock);
	for (struct handle **at = &handles; *at; at = &(*at)->next) {
		if (strcmp((*at)->name, name) == 0) {
			*at = (*at)->next;
			break;
		}
	}
	pthread_mutex_unlock(&handles_lock);
}

void thread_start(void *(*run)(void *), void *argument)
{
	pthread_attr_t attr;
	pthread_t thread;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 512 * 1024);
	if (pthread_create(&thread, &attr, run, argument) != 0) {
		perror("host-agent: pthread_create");
		_exit(1);
	}
	pthread_attr_destroy(&attr);
}

int wait_for(int fd, short events, int timeout_ms)
{
	struct pollfd p = { .fd = fd, .events = events };
	long long end = timeout_ms < 0 ? 0 : awake_us() + (long long)timeout_ms * 1000;
	for (;;) {
		long long left = timeout_ms < 0 ? -1 : (end - awake_us() + 999) / 1000;
		int n = poll(&p, 1, timeout_ms >= 0 && left < 0 ? 0 : (int)left);
		if (n > 0)
			return 0;
		if (n == 0 && left <= 0)
			return ETIMEDOUT;
		if (n < 0 && errno != EINTR)
			return errno;
	}
}

int line_read(struct line_reader *r, char *line, size_t size, int timeout_ms)
{
	for (;;) {
		char *eol = memchr(r->buf + r->start, '\n', r->end - r->start);
		if (eol) {
			size_t len = (size_t)(eol - (r->buf + r->start));
			snprintf(line, size, "%.*s", (int)len, r->buf + r->start);
			r->start += len + 1;
			return 1;
		}
		if (r->start > 0) {
			memmove(r->buf, r->buf + r->start, r->end - r->start);
			r->end -= r->start;
			r->start = 0;
		}
		int err = r->end == sizeof(r->buf) ? EMSGSIZE : wait_for(r->fd, POLLIN, timeout_ms);
		if (err) {
			errno = err;
			return -1;
		}
		ssize_t got = read(r->fd, r->buf + r->end, sizeof(r->buf) - r->end);
		if (got <= 0)
			return (int)got;
		r->end += (size_t)got;
	}
}

bool write_all(int fd, const void *data, size_t len)
{
	const char *at = data;
	while (len > 0) {
		ssize_t done = write(fd, at, len);
		if (done < 0 && errno == EINTR)
			continue;
		if (done < 0 && errno == EAGAIN && wait_for(fd, POLLOUT, 60000) == 0)
			continue;
		if (done <= 0)
			return false;
		at += done;
		len -= (size_t)done;
	}
	return true;
}

void content_fill(uint64_t *state, void *buf, size_t len)
{
	unsigned char *at = buf;
	while (len > 0) {
		*state ^= *state >> 12;
		*state ^= *state << 25;
		*state ^= *state >> 27;
		uint64_t word = *state * 0x2545f4914f6cdd1dull;
		size_t part = len < 8 ? len : 8;
		memcpy(at, &word, part);
		at += part;
		len -= part;
	}
}

uint64_t content_hash(uint64_t hash, const void *buf, size_t len)
{
	const unsigned char *at = buf;
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ at[i]) * 0x100000001b3ull;
	return hash;
}
