// SPDX-License-Identifier: Apache-2.0
/*
 * netload serve PORT                  answers on PORT until killed
 * netload rr|crr|bulk ADDR PORT SECONDS   prints transactions a second (rr, crr) or MB a second (bulk)
 * One byte there and back: rr on one connection, crr on a connection each. bulk: from client to server.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void *conversation(void *at)
{
	int fd = (int)(long)at, one = 1;
	static __thread char buffer[1 << 17];
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	for (;;) {
		ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
		if (n <= 0)
			break;
		if (n == 1 && send(fd, buffer, 1, MSG_NOSIGNAL) < 0)
			break;
	}
	close(fd);
	return NULL;
}

static int serve(int port)
{
	int fd = socket(AF_INET6, SOCK_STREAM, 0), one = 1;
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&at, sizeof(at)) || listen(fd, 1024))
		return perror("serve"), 1;
	puts("ready");
	fflush(stdout);
	for (;;) {
		int peer = accept(fd, NULL, NULL);
		pthread_t thread;
		char first;
		if (peer < 0)
			continue;
		/* short ones here, the others by a thread: the first byte says which */
		if (recv(peer, &first, 1, 0) != 1) {
			close(peer);
			continue;
		}
		send(peer, &first, 1, MSG_NOSIGNAL);
		if (first == 'c') {
			close(peer);
			continue;
		}
		pthread_create(&thread, NULL, conversation, (void *)(long)peer);
		pthread_detach(thread);
	}
}

static int open_to(const char *address, int port)
{
	struct sockaddr_in four = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 six = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int v6 = strchr(address, ':') != NULL, one = 1, fd = socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
	inet_pton(v6 ? AF_INET6 : AF_INET, address, v6 ? (void *)&six.sin6_addr : (void *)&four.sin_addr);
	if (connect(fd, v6 ? (void *)&six : (void *)&four, v6 ? sizeof(six) : sizeof(four)))
		return perror("connect"), exit(1), -1;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return serve(atoi(argv[2]));
	const char *kind = argv[1], *address = argv[2];
	int port = atoi(argv[3]), fd = -1;
	double seconds = atof(argv[4]), start = now(), end = start + seconds, done = 0;
	static char data[1 << 17];
	char byte = kind[0] == 'c' ? 'c' : 'r';
	if (kind[0] != 'c') {
		fd = open_to(address, port);
		send(fd, &byte, 1, 0);
		recv(fd, &byte, 1, 0);
		start = now();
		end = start + seconds;
	}
	while (now() < end) {
		if (kind[0] == 'b') {
			ssize_t n = send(fd, data, sizeof(data), 0);
			if (n <= 0)
				return perror("send"), 1;
			done += n / 1e6;
			continue;
		}
		if (kind[0] == 'c')
			fd = open_to(address, port);
		if (send(fd, &byte, 1, 0) != 1 || recv(fd, &byte, 1, 0) != 1)
			return perror("exchange"), 1;
		if (kind[0] == 'c') {
			struct linger reset = { 1, 0 };
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* no TIME_WAIT: ports would run out */
			close(fd);
		}
		done += 1;
	}
	printf("%.1f\n", done / (now() - start));
	return 0;
}
