/* SPDX-License-Identifier: Apache-2.0 */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include "probe.h"

bool parse_address(const char *text, uint16_t port, union address *out)
{
	memset(out, 0, sizeof(*out));
	if (inet_pton(AF_INET, text, &out->v4.sin_addr) == 1) {
		out->v4.sin_family = AF_INET;
		out->v4.sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, text, &out->v6.sin6_addr) == 1) {
		out->v6.sin6_family = AF_INET6;
		out->v6.sin6_port = htons(port);
		return true;
	}
	return false;
}

socklen_t address_size(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

uint16_t address_port(const union address *address)
{
	return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port : address->v4.sin_port);
}

void set_port(union address *address, uint16_t port)
{
	if (address->any.sa_family == AF_INET6)
		address->v6.sin6_port = htons(port);
	else
		address->v4.sin_port = htons(port);
}

void address_text(const union address *address, char *out, size_t size)
{
	if (address->any.sa_family == AF_INET6)
		inet_ntop(AF_INET6, &address->v6.sin6_addr, out, size);
	else
		inet_ntop(AF_INET, &address->v4.sin_addr, out, size);
}

int greeting(const union address *self, const union address *peer, char *out, size_t size)
{
	char here[INET6_ADDRSTRLEN], there[INET6_ADDRSTRLEN];

	address_text(self, here, sizeof(here));
	address_text(peer, there, sizeof(there));
	return snprintf(out, size, "%s %u %s %u\n", here, address_port(self), there, address_port(peer));
}

const char *errno_name(int number)
{
	const char *name = strerrorname_np(number);

	return name ? name : "EUNKNOWN";
}
