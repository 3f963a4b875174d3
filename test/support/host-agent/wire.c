// SPDX-License-Identifier: Apache-2.0
/* Packets as no well-behaved socket would send them, and a look at the wire. */
#include "agent.h"
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static uint32_t sum16(uint32_t sum, const void *data, size_t len)
{
	const unsigned char *at = data;
	for (size_t i = 0; i + 1 < len; i += 2)
		sum += (uint32_t)(at[i] << 8 | at[i + 1]);
	return len & 1 ? sum + (uint32_t)(at[len - 1] << 8) : sum;
}

static uint16_t tcp_checksum(const union address *src, const union address *dst, const struct tcphdr *tcp)
{
	uint32_t sum = IPPROTO_TCP + sizeof(*tcp);
	if (src->sa.sa_family == AF_INET)
		sum = sum16(sum16(sum, &src->in4.sin_addr, 4), &dst->in4.sin_addr, 4);
	else
		sum = sum16(sum16(sum, &src->in6.sin6_addr, 16), &dst->in6.sin6_addr, 16);
	sum = sum16(sum, tcp, sizeof(*tcp));
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return htons((uint16_t)~sum);
}

static void set_flags(struct tcphdr *tcp, const char *flags)
{
	for (; *flags; flags++) {
		tcp->syn |= *flags == 'S';
		tcp->ack |= *flags == 'A';
		tcp->fin |= *flags == 'F';
		tcp->rst |= *flags == 'R';
		tcp->psh |= *flags == 'P';
	}
}

/* rawtcp dst= port= sport= flags=SAFRP [seq= acknum= src=]: one segment without a socket behind it */
void cmd_rawtcp(struct command *cmd)
{
	union address dst, src;
	socklen_t len = sizeof(src);
	if (!address_parse(&dst, arg(cmd, "dst", "?"), 0, AF_UNSPEC)) {
		reply_error(cmd, "address", EINVAL);
		return;
	}
	int fd = socket(dst.sa.sa_family, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP);
	const char *from = arg(cmd, "src", "");
	if (fd < 0 ||
	    (*from && (!address_parse(&src, from, 0, AF_UNSPEC) || bind(fd, &src.sa, address_len(&src)) < 0)) ||
	    connect(fd, &dst.sa, address_len(&dst)) < 0 || getsockname(fd, &src.sa, &len) < 0) {
		reply_error(cmd, "socket", errno);
		if (fd >= 0)
			close(fd);
		return;
	}
	struct tcphdr tcp = { 0 };
	tcp.source = htons((uint16_t)arg_num(cmd, "sport", 0));
	tcp.dest = htons((uint16_t)arg_num(cmd, "port", 0));
	tcp.seq = htonl((uint32_t)arg_num(cmd, "seq", 1000));
	tcp.ack_seq = htonl((uint32_t)arg_num(cmd, "acknum", 0));
	tcp.doff = 5;
	tcp.window = htons(65535);
	set_flags(&tcp, arg(cmd, "flags", "S"));
	tcp.check = tcp_checksum(&src, &dst, &tcp);
	if (send(fd, &tcp, sizeof(tcp), 0) != sizeof(tcp))
		reply_error(cmd, "send", errno);
	else
		reply_ok(cmd);
	close(fd);
}

#define MAX_SEEN 4096

/* One packet as far as tests look at it. */
struct seen {
	char dev[IF_NAMESIZE], src[INET6_ADDRSTRLEN], dst[INET6_ADDRSTRLEN], flags[8];
	int proto, sport, dport, type, code, len;
	bool out;
};

struct sniffer {
	char name[64];
	int fd, proto, port;
	union address host;
	bool by_host;
	pthread_mutex_t lock;
	int count;
	long more;
	struct seen seen[MAX_SEEN];
};

static void show_tcp(struct seen *s, const struct tcphdr *tcp)
{
	snprintf(s->flags, sizeof(s->flags), "%s%s%s%s%s", tcp->syn ? "S" : "", tcp->ack ? "A" : "", tcp->fin ? "F" : "",
		 tcp->rst ? "R" : "", tcp->psh ? "P" : "");
}

static void parse_l4(struct seen *s, const unsigned char *at, size_t left)
{
	if ((s->proto == IPPROTO_TCP || s->proto == IPPROTO_UDP) && left >= 8) {
		s->sport = at[0] << 8 | at[1];
		s->dport = at[2] << 8 | at[3];
	}
	if (s->proto == IPPROTO_TCP && left >= sizeof(struct tcphdr)) {
		struct tcphdr tcp;
		memcpy(&tcp, at, sizeof(tcp));
		show_tcp(s, &tcp);
	}
	if ((s->proto == IPPROTO_ICMP || s->proto == IPPROTO_ICMPV6) && left >= 8) {
		s->type = at[0];
		s->code = at[1];
	}
}

static bool parse_packet(struct seen *s, const unsigned char *at, size_t len, int protocol)
{
	memset(s, 0, sizeof(*s));
	s->len = (int)len;
	if (protocol == ETH_P_IP && len >= 20) {
		size_t header = (size_t)(at[0] & 15) * 4;
		s->proto = at[9];
		inet_ntop(AF_INET, at + 12, s->src, sizeof(s->src));
		inet_ntop(AF_INET, at + 16, s->dst, sizeof(s->dst));
		if (header <= len)
			parse_l4(s, at + header, len - header);
		return true;
	}
	if (protocol == ETH_P_IPV6 && len >= 40) {
		s->proto = at[6];
		inet_ntop(AF_INET6, at + 8, s->src, sizeof(s->src));
		inet_ntop(AF_INET6, at + 24, s->dst, sizeof(s->dst));
		parse_l4(s, at + 40, len - 40);
		return true;
	}
	return false;
}

static bool wanted(const struct sniffer *n, const struct seen *s)
{
	char host[INET6_ADDRSTRLEN];
	int port;
	if (n->proto && n->proto != s->proto && !(n->proto == IPPROTO_ICMP && s->proto == IPPROTO_ICMPV6))
		return false;
	if (n->port && n->port != s->sport && n->port != s->dport)
		return false;
	if (!n->by_host)
		return true;
	address_show(&n->host, host, &port);
	return strcmp(host, s->src) == 0 || strcmp(host, s->dst) == 0;
}

/* Whether the handle was closed (close(2) does not wake who waits in recvfrom, and a new socket may get its number). */
static bool is_over(const struct sniffer *n)
{
	const struct handle *h = handle_find(n->name);
	return !h || h->data != n;
}

static void *run_sniffer(void *argument)
{
	struct sniffer *n = argument;
	unsigned char *buf = malloc(65536);
	for (;;) {
		struct sockaddr_ll from;
		socklen_t from_len = sizeof(from);
		struct seen s;
		ssize_t got = recvfrom(n->fd, buf, 65536, 0, (struct sockaddr *)&from, &from_len);
		bool again = got >= 0 || errno == EINTR || errno == EAGAIN || errno == ENETDOWN;
		if (!again || is_over(n))
			break;
		if (got < 0 || !parse_packet(&s, buf, (size_t)got, ntohs(from.sll_protocol)) || !wanted(n, &s))
			continue;
		s.out = from.sll_pkttype == PACKET_OUTGOING;
		if_indextoname((unsigned)from.sll_ifindex, s.dev);
		pthread_mutex_lock(&n->lock);
		if (n->count < MAX_SEEN)
			n->seen[n->count++] = s;
		else
			n->more++;
		pthread_mutex_unlock(&n->lock);
	}
	free(buf);
	close(n->fd);
	return NULL;
}

/* sniff handle= [dev= proto=tcp|udp|icmp port= host=]: remembers the packets of an interface, or of all */
void cmd_sniff(struct command *cmd)
{
	struct sniffer *n = calloc(1, sizeof(*n));
	const char *proto = arg(cmd, "proto", ""), *dev = arg(cmd, "dev", ""), *host = arg(cmd, "host", "");
	n->proto = !strcmp(proto, "tcp") ? IPPROTO_TCP : !strcmp(proto, "udp") ? IPPROTO_UDP : !strcmp(proto, "icmp") ? IPPROTO_ICMP : 0;
	n->port = (int)arg_num(cmd, "port", 0);
	n->by_host = *host && address_parse(&n->host, host, 0, AF_UNSPEC);
	pthread_mutex_init(&n->lock, NULL);
	n->fd = socket(AF_PACKET, SOCK_DGRAM | SOCK_CLOEXEC, htons(ETH_P_ALL));
	struct sockaddr_ll self = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	self.sll_ifindex = *dev ? (int)if_nametoindex(dev) : 0;
	if (n->fd < 0 || (*dev && self.sll_ifindex == 0) || bind(n->fd, (struct sockaddr *)&self, sizeof(self)) < 0) {
		reply_error(cmd, "socket", errno);
		free(n);
		return;
	}
	/* The thread has a descriptor of its own, which it closes when it sees that the handle's is closed. */
	struct timeval look = { .tv_sec = 1 };
	setsockopt(n->fd, SOL_SOCKET, SO_RCVTIMEO, &look, sizeof(look));
	snprintf(n->name, sizeof(n->name), "%s", arg(cmd, "handle", "sniff"));
	int kept = n->fd;
	n->fd = dup(kept);
	handle_add(n->name, kept, 0, n);
	thread_start(run_sniffer, n);
	reply_ok(cmd);
}

/* sniffed handle=: what was seen so far */
void cmd_sniffed(struct command *cmd)
{
	struct handle *h = handle_find(arg(cmd, "handle", "sniff"));
	if (!h) {
		reply_error(cmd, "handle", ENOENT);
		return;
	}
	struct sniffer *n = h->data;
	struct reply r;
	reply_open(&r, cmd, true);
	pthread_mutex_lock(&n->lock);
	reply_num(&r, "more", n->more);
	reply_raw(&r, ",\"packets\":[");
	for (int i = 0; i < n->count; i++) {
		const struct seen *s = &n->seen[i];
		reply_raw(&r,
			  "%s{\"dev\":\"%s\",\"out\":%s,\"src\":\"%s\",\"dst\":\"%s\",\"proto\":%d,\"sport\":%d,\"dport\":%d,"
			  "\"flags\":\"%s\",\"type\":%d,\"code\":%d,\"len\":%d}",
			  i ? "," : "", s->dev, s->out ? "true" : "false", s->src, s->dst, s->proto, s->sport, s->dport, s->flags,
			  s->type, s->code, s->len);
	}
	pthread_mutex_unlock(&n->lock);
	reply_raw(&r, "]");
	reply_send(&r);
}
