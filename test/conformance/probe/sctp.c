/* SPDX-License-Identifier: Apache-2.0 */
/* As much SCTP as one INIT and one INIT-ACK need (RFC 9260): common header, one chunk, a cookie that carries a text. */
#include <arpa/inet.h>
#include <string.h>
#include "probe.h"

#define HEADER 12
#define INIT_SIZE 20
#define COOKIE 7

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value;
}

static void put32(uint8_t *at, uint32_t value)
{
	put16(at, value >> 16);
	put16(at + 2, value);
}

static uint32_t crc32c(const uint8_t *data, size_t size)
{
	uint32_t crc = ~0u;

	while (size--) {
		crc ^= *data++;
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78 : 0);
	}
	return ~crc;
}

/* The checksum is the only field which goes over the wire with its low byte first. */
static void put_checksum(uint8_t *packet, size_t size)
{
	uint32_t crc;

	memset(packet + 8, 0, 4);
	crc = crc32c(packet, size);
	for (int i = 0; i < 4; i++)
		packet[8 + i] = crc >> 8 * i;
}

bool sctp_checksum_right(const uint8_t *packet, size_t size)
{
	uint8_t copy[512];

	if (size < HEADER || size > sizeof(copy))
		return false;
	memcpy(copy, packet, size);
	put_checksum(copy, size);
	return memcmp(copy + 8, packet + 8, 4) == 0;
}

size_t sctp_build(uint8_t *out, uint16_t sport, uint16_t dport, uint32_t tag, uint8_t type, uint32_t own_tag,
		  const char *text)
{
	size_t length = strlen(text), chunk = INIT_SIZE + 4 + length, size = HEADER + ((chunk + 3) & ~3u);
	uint8_t *body = out + HEADER;

	memset(out, 0, size);
	put16(out, sport);
	put16(out + 2, dport);
	put32(out + 4, tag);
	body[0] = type;
	put16(body + 2, chunk);
	put32(body + 4, own_tag);
	put32(body + 8, 106496);
	put16(body + 12, 10);
	put16(body + 14, 10);
	put32(body + 16, 7);
	put16(body + 20, COOKIE);
	put16(body + 22, 4 + length);
	memcpy(body + 24, text, length);
	put_checksum(out, size);
	return size;
}

const char *sctp_text(const uint8_t *packet, size_t size, char *out, size_t room)
{
	size_t length;

	if (size < HEADER + INIT_SIZE + 4 || !sctp_checksum_right(packet, size))
		return NULL;
	if (packet[HEADER] != SCTP_INIT_ACK && packet[HEADER] != SCTP_HEARTBEAT_ACK)
		return NULL;
	length = (packet[HEADER + 22] << 8 | packet[HEADER + 23]) - 4;
	if (length >= room || HEADER + INIT_SIZE + 4 + length > size)
		return NULL;
	memcpy(out, packet + HEADER + INIT_SIZE + 4, length);
	out[length] = 0;
	return out;
}
