/* SPDX-License-Identifier: Apache-2.0 */
/* What passes the host's interfaces, from the moment of the last `clear` on. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "probe.h"

struct seen {
	int ifindex;
	uint8_t kind; /* sll_pkttype */
	uint8_t family, proto, flags, type, code;
	uint8_t src[16], dst[16];
	uint16_t sport, dport;
	bool has_inner;
	uint8_t inner_proto, inner_src[16], inner_dst[16];
	uint16_t inner_sport, inner_dport;
};

#define MAX_SEEN 8192
static struct seen seen[MAX_SEEN];
static int seen_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static uint16_t get16(const uint8_t *at)
{
	return at[0] << 8 | at[1];
}

/* The header's size, 0 when it is none; extension headers of IPv6 are not followed. */
static size_t read_ip(const uint8_t *data, size_t size, uint8_t *src, uint8_t *dst, uint8_t *proto, uint8_t *family)
{
	if (size >= 20 && data[0] >> 4 == 4) {
		memcpy(src, data + 12, 4);
		memcpy(dst, data + 16, 4);
		*proto = data[9];
		*family = AF_INET;
		return (data[0] & 15) * 4;
	}
	if (size >= 40 && data[0] >> 4 == 6) {
		memcpy(src, data + 8, 16);
		memcpy(dst, data + 24, 16);
		*proto = data[6];
		*family = AF_INET6;
		return 40;
	}
	return 0;
}

static void read_inner(const uint8_t *data, size_t size, struct seen *out)
{
	uint8_t family;
	size_t header = read_ip(data, size, out->inner_src, out->inner_dst, &out->inner_proto, &family);

	if (header == 0 || size < header + 4)
		return;
	out->has_inner = true;
	out->inner_sport = get16(data + header);
	out->inner_dport = get16(data + header + 2);
}

static bool read_packet(const uint8_t *data, size_t size, struct seen *out)
{
	size_t header = read_ip(data, size, out->src, out->dst, &out->proto, &out->family);
	const uint8_t *l4 = data + header;

	if (header == 0 || size < header + 4)
		return false;
	if (out->proto == IPPROTO_ICMP || out->proto == IPPROTO_ICMPV6) {
		out->type = l4[0];
		out->code = l4[1];
		if (size > header + 8 && (out->proto == IPPROTO_ICMP ? out->type != 0 && out->type != 8 : out->type < 128))
			read_inner(l4 + 8, size - header - 8, out);
		return true;
	}
	out->sport = get16(l4);
	out->dport = get16(l4 + 2);
	if (out->proto == PROTO_TCP && size >= header + 14)
		out->flags = l4[13];
	return true;
}

static void *sniff(void *socket)
{
	int fd = (int)(intptr_t)socket;
	uint8_t data[2048];

	for (;;) {
		struct sockaddr_ll from;
		socklen_t length = sizeof(from);
		ssize_t size = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &length);
		struct seen one = { 0 };

		if (size < 0 && errno != EINTR && errno != ENETDOWN)
			return NULL;
		if (size <= 0 || !read_packet(data, size, &one))
			continue;
		one.ifindex = from.sll_ifindex;
		one.kind = from.sll_pkttype;
		pthread_mutex_lock(&lock);
		if (seen_count < MAX_SEEN)
			seen[seen_count++] = one;
		pthread_mutex_unlock(&lock);
	}
}

void sniffer_start(void)
{
	int fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL)), size = 1 << 22;
	pthread_t thread;

	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
	pthread_create(&thread, NULL, sniff, (void *)(intptr_t)fd);
}

void sniffer_clear(void)
{
	pthread_mutex_lock(&lock);
	seen_count = 0;
	pthread_mutex_unlock(&lock);
}

static void print_pair(const char *names, int family, const uint8_t *src, const uint8_t *dst, int proto, int sport, int dport)
{
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];

	inet_ntop(family, src, a, sizeof(a));
	inet_ntop(family, dst, b, sizeof(b));
	printf("%s\"src\":\"%s\",\"dst\":\"%s\",\"proto\":%d,\"sport\":%d,\"dport\":%d", names, a, b, proto, sport, dport);
}

void sniffer_packets(const struct command *command)
{
	usleep(5000); /* what was sent a moment ago is on its way to the thread */
	pthread_mutex_lock(&lock);
	printf("{\"id\":%ld,\"ok\":true,\"packets\":[", command->id);
	for (int i = 0; i < seen_count; i++) {
		const struct seen *one = &seen[i];
		char name[IF_NAMESIZE] = "?";

		if_indextoname(one->ifindex, name);
		printf("%s{\"dev\":\"%s\",\"kind\":%d,\"flags\":%d,\"type\":%d,\"code\":%d,", i ? "," : "", name, one->kind,
		       one->flags, one->type, one->code);
		print_pair("", one->family, one->src, one->dst, one->proto, one->sport, one->dport);
		if (one->has_inner) {
			print_pair(",\"inner\":{", one->family, one->inner_src, one->inner_dst, one->inner_proto,
				   one->inner_sport, one->inner_dport);
			printf("}");
		}
		printf("}");
	}
	printf("]}\n");
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

void sniffer_frame(const struct command *command)
{
	const char *hex = arg(command, "hex"), *dev = arg(command, "dev");
	uint8_t data[2048];
	size_t size = 0;
	unsigned byte;
	int fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_ifindex = dev ? if_nametoindex(dev) : 0, .sll_halen = 6 };

	while (hex && size < sizeof(data) && sscanf(hex + 2 * size, "%2x", &byte) == 1)
		data[size++] = byte;
	if (sendto(fd, data, size, 0, (struct sockaddr *)&to, sizeof(to)) < 0)
		answer_error(command, errno_name(errno));
	else
		answer_ok(command, "");
	close(fd);
}
