// SPDX-License-Identifier: Apache-2.0
/* Commands in, one thread each. */
#include "agent.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void cmd_read(struct command *cmd)
{
	FILE *file = fopen(arg(cmd, "path", ""), "r");
	if (!file) {
		reply_error(cmd, "open", errno);
		return;
	}
	size_t size = 1 << 20, len = 0, got;
	char *text = malloc(size + 1);
	while (len < size && (got = fread(text + len, 1, size - len, file)) > 0)
		len += got;
	fclose(file);
	text[len] = 0;
	struct reply r;
	reply_open(&r, cmd, true);
	reply_text(&r, "text", text);
	reply_send(&r);
	free(text);
}

static void cmd_write(struct command *cmd)
{
	FILE *file = fopen(arg(cmd, "path", ""), "w");
	if (!file || fputs(arg(cmd, "text", ""), file) < 0 || fclose(file) != 0)
		reply_error(cmd, "write", errno);
	else
		reply_ok(cmd);
}

static void cmd_ping(struct command *cmd)
{
	reply_ok(cmd);
}

static const struct {
	const char *verb;
	void (*run)(struct command *);
} verbs[] = {
	{ "ping", cmd_ping },	    { "read", cmd_read },	  { "write", cmd_write },   { "serve", cmd_serve },
	{ "open", cmd_open },	    { "ask", cmd_ask },		  { "close", cmd_close },   { "connect", cmd_connect },
	{ "socket", cmd_socket },   { "bulk", cmd_bulk },	  { "load", cmd_load },	    { "loadstop", cmd_loadstop },
	{ "standstills", cmd_standstills },
	{ "rawtcp", cmd_rawtcp },   { "sniff", cmd_sniff },	  { "sniffed", cmd_sniffed },
	{ "tcx", cmd_tcx },	    { "race", cmd_race },
	{ "tcxcount", cmd_tcxcount }, { "tcxdetach", cmd_tcxdetach },
};

static void *run_command(void *argument)
{
	struct command *cmd = argument;
	bool known = false;
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		if (strcmp(verbs[i].verb, cmd->verb) == 0) {
			known = true;
			verbs[i].run(cmd);
		}
	}
	if (!known)
		reply_error(cmd, "unknown verb", EINVAL);
	for (int i = 0; i < cmd->count; i++)
		free(cmd->keys[i]);
	free(cmd->verb);
	free(cmd);
	return NULL;
}

/* `ID VERB key=value ...`; values hold no blanks. NULL when the line is not one. */
static struct command *parse(char *line)
{
	struct command *cmd = calloc(1, sizeof(*cmd));
	char *save = NULL, *word = strtok_r(line, " \n", &save);
	if (word)
		cmd->id = atol(word);
	word = word ? strtok_r(NULL, " \n", &save) : NULL;
	if (!word) {
		free(cmd);
		return NULL;
	}
	cmd->verb = strdup(word);
	while ((word = strtok_r(NULL, " \n", &save)) && cmd->count < MAX_ARGS) {
		char *copy = strdup(word), *equals = strchr(copy, '=');
		if (equals)
			*equals = 0;
		cmd->keys[cmd->count] = copy;
		cmd->values[cmd->count++] = equals ? equals + 1 : copy + strlen(copy);
	}
	return cmd;
}

int main(void)
{
	char *line = NULL;
	size_t size = 0;
	signal(SIGPIPE, SIG_IGN);
	while (getline(&line, &size, stdin) > 0) {
		struct command *cmd = parse(line);
		if (cmd)
			thread_start(run_command, cmd);
	}
	_exit(0);
}
