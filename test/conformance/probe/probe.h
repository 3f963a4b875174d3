/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The conformance probe: one process in each test host. It reads commands on standard input, one a line, as
 *   ID VERB key=value ...
 * and answers each with one line of JSON on standard output: {"id":ID,"ok":true,...} or {"id":ID,"ok":false,"error":"..."}.
 *
 *   ping
 *   serve    proto port [addr]              who connects is told "ADDRESS PORT ADDRESS PORT": the server's and the client's
 *   unserve  proto port
 *   try      proto dst port [src] [sport] n timeout(ms) [again]   n at once, each from a port of its own; again=1: SCTP
 *                                           goes on with what it has opened from that port
 *   open     handle proto dst port [src] timeout   a TCP connection or UDP socket that is kept
 *   ask      handle timeout                 asks over it once more
 *   clear                                   forget the packets seen so far
 *   packets                                 all packets seen since, on every interface, both directions
 *   frame    dev hex                        sends a link-layer frame as it is
 *   exchange dst port hex timeout [src]     writes bytes over TCP and reads until the end
 */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <netinet/in.h>
#include <sys/socket.h>

enum proto { PROTO_TCP = 6, PROTO_UDP = 17, PROTO_SCTP = 132 };

struct command {
	long id;
	char *verb;
	char *keys[16];
	char *values[16];
	int count;
};

/* command.c */
const char *arg(const struct command *command, const char *key);
long arg_number(const struct command *command, const char *key, long otherwise);
enum proto arg_proto(const struct command *command);
void answer_ok(const struct command *command, const char *more);
void answer_error(const struct command *command, const char *error);

/* address.c */
union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};
bool parse_address(const char *text, uint16_t port, union address *out);
socklen_t address_size(const union address *address);
uint16_t address_port(const union address *address);
void set_port(union address *address, uint16_t port);
void address_text(const union address *address, char *out, size_t size);
/* "ADDRESS PORT ADDRESS PORT\n" */
int greeting(const union address *self, const union address *peer, char *out, size_t size);
const char *errno_name(int number);

/* server.c */
void server_start(void);
const char *server_add(enum proto proto, uint16_t port, const char *address);
const char *server_remove(enum proto proto, uint16_t port);

/* client.c */
void client_try(const struct command *command);
void client_exchange(const struct command *command);
void client_open(const struct command *command);
void client_ask(const struct command *command);

/* sniffer.c */
void sniffer_start(void);
void sniffer_clear(void);
void sniffer_packets(const struct command *command);
void sniffer_frame(const struct command *command);

/* sctp.c */
#define SCTP_INIT 1
#define SCTP_INIT_ACK 2
#define SCTP_HEARTBEAT 4
#define SCTP_HEARTBEAT_ACK 5
/* The tag of every server. */
#define SCTP_TAG 0xcafef00d
size_t sctp_build(uint8_t *out, uint16_t sport, uint16_t dport, uint32_t tag, uint8_t type, uint32_t own_tag,
		  const char *text);
/* The text of an INIT-ACK or HEARTBEAT-ACK that came whole; NULL when it is none, or its checksum is wrong. */
const char *sctp_text(const uint8_t *packet, size_t size, char *out, size_t room);
bool sctp_checksum_right(const uint8_t *packet, size_t size);
