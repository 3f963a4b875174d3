/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "probe.h"

const char *arg(const struct command *command, const char *key)
{
	for (int i = 0; i < command->count; i++)
		if (strcmp(command->keys[i], key) == 0)
			return command->values[i];
	return NULL;
}

long arg_number(const struct command *command, const char *key, long otherwise)
{
	const char *value = arg(command, key);

	return value ? strtol(value, NULL, 10) : otherwise;
}

enum proto arg_proto(const struct command *command)
{
	const char *name = arg(command, "proto");

	if (name && strcmp(name, "UDP") == 0)
		return PROTO_UDP;
	return name && strcmp(name, "SCTP") == 0 ? PROTO_SCTP : PROTO_TCP;
}

void answer_ok(const struct command *command, const char *more)
{
	printf("{\"id\":%ld,\"ok\":true%s}\n", command->id, more);
	fflush(stdout);
}

void answer_error(const struct command *command, const char *error)
{
	printf("{\"id\":%ld,\"ok\":false,\"error\":\"%s\"}\n", command->id, error);
	fflush(stdout);
}

static bool parse(char *line, struct command *command)
{
	char *rest = NULL, *word = strtok_r(line, " \n", &rest);

	if (!word)
		return false;
	command->id = strtol(word, NULL, 10);
	command->verb = strtok_r(NULL, " \n", &rest);
	command->count = 0;
	while (command->verb && command->count < 16 && (word = strtok_r(NULL, " \n", &rest))) {
		char *equals = strchr(word, '=');

		if (!equals)
			continue;
		*equals = 0;
		command->keys[command->count] = word;
		command->values[command->count++] = equals + 1;
	}
	return command->verb != NULL;
}

static void answer_to(const struct command *command, const char *error)
{
	if (error)
		answer_error(command, error);
	else
		answer_ok(command, "");
}

static void run(const struct command *command)
{
	const char *verb = command->verb;
	uint16_t port = arg_number(command, "port", 0);

	if (strcmp(verb, "ping") == 0)
		answer_ok(command, "");
	else if (strcmp(verb, "serve") == 0)
		answer_to(command, server_add(arg_proto(command), port, arg(command, "addr")));
	else if (strcmp(verb, "unserve") == 0)
		answer_to(command, server_remove(arg_proto(command), port));
	else if (strcmp(verb, "try") == 0)
		client_try(command);
	else if (strcmp(verb, "open") == 0)
		client_open(command);
	else if (strcmp(verb, "ask") == 0)
		client_ask(command);
	else if (strcmp(verb, "exchange") == 0)
		client_exchange(command);
	else if (strcmp(verb, "clear") == 0) {
		sniffer_clear();
		answer_ok(command, "");
	} else if (strcmp(verb, "packets") == 0)
		sniffer_packets(command);
	else if (strcmp(verb, "frame") == 0)
		sniffer_frame(command);
	else
		answer_error(command, "unknown verb");
}

int main(void)
{
	static char line[65536];

	signal(SIGPIPE, SIG_IGN);
	sniffer_start();
	server_start();
	while (fgets(line, sizeof(line), stdin)) {
		struct command command;

		if (parse(line, &command))
			run(&command);
	}
	return 0;
}
