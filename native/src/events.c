/* SPDX-License-Identifier: Apache-2.0 */
/* Link, address and route events: a thread reads rtnetlink and writes records of a fixed size into a pipe. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#include "internal.h"

#define MAX_WATCHERS 16
#define RECEIVE_BUFFER (1 << 20)

_Static_assert(sizeof(struct ptl_event) == 64, "a write below PIPE_BUF is whole or not at all");

struct watcher {
	pthread_t thread;
	int netlink;
	int pipe;
	int stop;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct watcher *watchers[MAX_WATCHERS];

/* false: the reader is gone, or we are to stop */
static bool emit(struct watcher *watcher, const struct ptl_event *event)
{
	for (;;) {
		if (write(watcher->pipe, event, sizeof(*event)) == (ssize_t)sizeof(*event))
			return true;
		if (errno != EAGAIN && errno != EINTR)
			return false;
		/* A slow reader: wait here. What the kernel cannot queue meanwhile comes back as a resync. */
		struct pollfd fds[2] = { { watcher->pipe, POLLOUT, 0 }, { watcher->stop, POLLIN, 0 } };

		if (poll(fds, 2, -1) < 0 && errno != EINTR)
			return false;
		if (fds[1].revents || (fds[0].revents & POLLERR))
			return false;
	}
}

static void read_link(const struct nlmsghdr *message, struct ptl_event *event)
{
	const struct ifinfomsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));

	/* A bridge tells about its ports in messages of its own family: RTM_DELLINK there is no end of the interface. */
	if (!netlink_has(message, sizeof(*info)) || info->ifi_family != AF_UNSPEC)
		return;
	event->kind = message->nlmsg_type == RTM_NEWLINK ? PTL_EVENT_LINK : PTL_EVENT_LINK_GONE;
	event->ifindex = (uint32_t)info->ifi_index;
	event->flags = info->ifi_flags;
	for (const struct rtattr *a = IFLA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if (a->rta_type == IFLA_IFNAME)
			netlink_text(event->name, sizeof(event->name), a);
		if (a->rta_type == IFLA_MASTER)
			netlink_number(&event->master, a);
	}
}

static void read_address(const struct nlmsghdr *message, struct ptl_event *event)
{
	const struct ifaddrmsg *info = NLMSG_DATA(message);
	int left = (int)message->nlmsg_len - (int)NLMSG_LENGTH(sizeof(*info));
	bool local = false;

	if (!netlink_has(message, sizeof(*info)))
		return;
	size_t size = info->ifa_family == AF_INET ? 4 : 16;

	event->kind = message->nlmsg_type == RTM_NEWADDR ? PTL_EVENT_ADDRESS : PTL_EVENT_ADDRESS_GONE;
	event->ifindex = info->ifa_index;
	event->family = info->ifa_family == AF_INET ? 4 : 6;
	event->prefix = info->ifa_prefixlen;
	for (const struct rtattr *a = IFA_RTA(info); RTA_OK(a, left); a = RTA_NEXT(a, left)) {
		if ((a->rta_type == IFA_LOCAL || (a->rta_type == IFA_ADDRESS && !local)) && RTA_PAYLOAD(a) >= size)
			memcpy(event->address, RTA_DATA(a), size);
		local = local || a->rta_type == IFA_LOCAL;
	}
}

static bool handle_message(struct watcher *watcher, const struct nlmsghdr *message)
{
	struct ptl_event event = {};

	switch (message->nlmsg_type) {
	case RTM_NEWLINK:
	case RTM_DELLINK: read_link(message, &event); break;
	case RTM_NEWADDR:
	case RTM_DELADDR: read_address(message, &event); break;
	case RTM_NEWROUTE:
	case RTM_DELROUTE: event.kind = PTL_EVENT_ROUTE; break;
	}
	return event.kind == 0 || emit(watcher, &event);
}

static bool receive(struct watcher *watcher, uint8_t *buffer, size_t size)
{
	ssize_t length = recv(watcher->netlink, buffer, size, MSG_DONTWAIT | MSG_TRUNC);

	/* What had no room is lost, in the socket or here. */
	if ((length < 0 && errno == ENOBUFS) || length > (ssize_t)size) {
		struct ptl_event event = { .kind = PTL_EVENT_RESYNC };

		return emit(watcher, &event);
	}
	if (length < 0)
		return errno == EAGAIN || errno == EINTR;
	int left = (int)length; /* signed: behind a last message without padding it is below 0 */

	for (struct nlmsghdr *message = (void *)buffer; netlink_ok(message, left); message = NLMSG_NEXT(message, left))
		if (!handle_message(watcher, message))
			return false;
	return true;
}

static void *watch(void *argument)
{
	static const size_t size = 65536;
	struct watcher *watcher = argument;
	uint8_t *buffer = malloc(size);
	bool running = buffer != NULL;

	while (running) {
		/* POLLERR of the pipe: the reader has closed its end. */
		struct pollfd fds[3] = { { watcher->netlink, POLLIN, 0 }, { watcher->stop, POLLIN, 0 }, { watcher->pipe, 0, 0 } };

		if (poll(fds, 3, -1) < 0 && errno != EINTR)
			break;
		if (fds[1].revents || fds[2].revents)
			break;
		if (fds[0].revents)
			running = receive(watcher, buffer, size);
	}
	free(buffer);
	close(watcher->netlink);
	close(watcher->pipe); /* the reader sees the end */
	watcher->netlink = watcher->pipe = -1;
	return NULL;
}

static int subscribe(uint32_t groups)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK };
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	int room = RECEIVE_BUFFER;

	if (fd < 0)
		return -errno;
	if (groups & PTL_GROUP_LINK)
		address.nl_groups |= RTMGRP_LINK;
	if (groups & PTL_GROUP_ADDRESS)
		address.nl_groups |= RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR;
	if (groups & PTL_GROUP_ROUTE)
		address.nl_groups |= RTMGRP_IPV4_ROUTE | RTMGRP_IPV6_ROUTE;
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof(room)) < 0)
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		int number = errno;

		close(fd);
		return -number;
	}
	return fd;
}

/* A thread of ours must take no signal that Node waits for. */
static int start(struct watcher *watcher)
{
	sigset_t all, before;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int number = pthread_create(&watcher->thread, NULL, watch, watcher);

	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -number;
}

static int keep(struct watcher *watcher)
{
	int slot = -EMFILE;

	pthread_mutex_lock(&lock);
	for (int i = 0; i < MAX_WATCHERS && slot < 0; i++) {
		if (watchers[i])
			continue;
		watchers[i] = watcher;
		slot = i + 1;
	}
	pthread_mutex_unlock(&lock);
	return slot;
}

static struct watcher *take(int number)
{
	struct watcher *watcher = NULL;

	pthread_mutex_lock(&lock);
	if (number >= 1 && number <= MAX_WATCHERS) {
		watcher = watchers[number - 1];
		watchers[number - 1] = NULL;
	}
	pthread_mutex_unlock(&lock);
	return watcher;
}

EXPORT int ptl_events_open(uint32_t groups, void *fd_out, char *text, uint32_t text_size)
{
	struct error err = error_begin(text, text_size);
	struct watcher *watcher = calloc(1, sizeof(*watcher));
	int pipes[2] = { -1, -1 };
	int number;

	if (!watcher)
		return fail(&err, ENOMEM, PTL_E_KERNEL, "events", "netlink", "Out of memory");
	watcher->netlink = subscribe(groups);
	watcher->stop = eventfd(0, EFD_CLOEXEC);
	number = watcher->netlink < 0 ? watcher->netlink : 0;
	if (number == 0 && (watcher->stop < 0 || pipe2(pipes, O_CLOEXEC | O_NONBLOCK) < 0))
		number = -errno;
	watcher->pipe = pipes[1];
	if (number == 0)
		number = keep(watcher);
	if (number > 0) {
		int started = start(watcher);

		if (started < 0) {
			take(number);
			number = started;
		}
	}
	if (number > 0) {
		memcpy(fd_out, &pipes[0], sizeof(int));
		return number;
	}
	for (int *fd = (int[]){ watcher->netlink, watcher->stop, pipes[0], pipes[1], -2 }; *fd != -2; fd++)
		if (*fd >= 0)
			close(*fd);
	free(watcher);
	return fail(&err, number, PTL_E_KERNEL, "events", "netlink", "Cannot watch interfaces: %s", strerror(-number));
}

EXPORT int ptl_events_close(int number)
{
	struct watcher *watcher = take(number);
	uint64_t one = 1;

	if (!watcher)
		return -EBADF;
	ssize_t written = write(watcher->stop, &one, sizeof(one));

	(void)written; /* an eventfd of ours takes a 1 */
	pthread_join(watcher->thread, NULL);
	close(watcher->stop);
	free(watcher);
	return 0;
}
