// SPDX-License-Identifier: Apache-2.0
/* Two flows that begin from one port at the very same moment. */
#include "agent.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct race {
	pthread_barrier_t start, end;
	union address goals[2];
	int proto, first_port, rounds, timeout_ms;
	int ready; /* racers at the line, over all rounds */
	long good[2], slow[2], failed[2];
};

struct racer {
	struct race *race;
	int index;
};

/* A socket of the round's port that needs only a packet to be sent; -1 with errno. */
static int prepare(const struct race *race, int index, int round)
{
	const union address *goal = &race->goals[index];
	union address self;
	int one = 1;
	int type = race->proto == IPPROTO_UDP ? SOCK_DGRAM : SOCK_STREAM;
	int fd = socket(goal->sa.sa_family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	address_parse(&self, "", race->first_port + round, goal->sa.sa_family);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, &self.sa, address_len(&self)) < 0 ||
	    (race->proto == IPPROTO_UDP && client_connect(fd, goal, 0) != 0)) {
		int err = errno;
		close(fd);
		errno = err;
		return -1;
	}
	return fd;
}

static void run_one(struct race *race, int index, int fd)
{
	struct exchange x = { 0 };
	struct linger now = { .l_onoff = 1, .l_linger = 0 };
	long long start = awake_us();
	int err = race->proto == IPPROTO_TCP ? client_connect(fd, &race->goals[index], race->timeout_ms) : 0;
	if (err)
		x.stage = "connect";
	else if (race->proto == IPPROTO_TCP)
		exchange_tcp(fd, race->timeout_ms, &x);
	else
		exchange_udp(fd, NULL, 0, race->timeout_ms, &x);
	if (x.stage)
		race->failed[index]++;
	else
		race->good[index]++;
	if (!x.stage && awake_us() - start > 900000)
		race->slow[index]++;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void *run_racer(void *argument)
{
	const struct racer *racer = argument;
	struct race *race = racer->race;
	for (int round = 0; round < race->rounds; round++) {
		int fd = prepare(race, racer->index, round);
		pthread_barrier_wait(&race->start);
		/* Waking up takes longer than the moment that matters: whoever is awake spins until the other one is. */
		__atomic_add_fetch(&race->ready, 1, __ATOMIC_SEQ_CST);
		while (__atomic_load_n(&race->ready, __ATOMIC_SEQ_CST) < 2 * (round + 1))
			;
		if (fd >= 0)
			run_one(race, racer->index, fd);
		else
			race->failed[racer->index]++;
		pthread_barrier_wait(&race->end);
		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

/* race proto= dst= port= dst2= port2= sport= rounds= timeout= : round i starts both flows from port sport + i */
void cmd_race(struct command *cmd)
{
	struct race race = { .first_port = (int)arg_num(cmd, "sport", 20000) };
	struct racer racers[2] = { { &race, 0 }, { &race, 1 } };
	pthread_t threads[2];
	race.rounds = (int)arg_num(cmd, "rounds", 100);
	race.timeout_ms = (int)arg_num(cmd, "timeout", 3000);
	race.proto = strcmp(arg(cmd, "proto", "tcp"), "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
	if (!address_parse(&race.goals[0], arg(cmd, "dst", "?"), (int)arg_num(cmd, "port", 0), AF_UNSPEC) ||
	    !address_parse(&race.goals[1], arg(cmd, "dst2", "?"), (int)arg_num(cmd, "port2", 0), AF_UNSPEC)) {
		reply_error(cmd, "address", EINVAL);
		return;
	}
	pthread_barrier_init(&race.start, NULL, 2);
	pthread_barrier_init(&race.end, NULL, 2);
	for (int i = 0; i < 2; i++)
		pthread_create(&threads[i], NULL, run_racer, &racers[i]);
	for (int i = 0; i < 2; i++)
		pthread_join(threads[i], NULL);
	struct reply r;
	reply_open(&r, cmd, true);
	reply_raw(&r, ",\"good\":[%ld,%ld],\"slow\":[%ld,%ld],\"failed\":[%ld,%ld]", race.good[0], race.good[1], race.slow[0],
		  race.slow[1], race.failed[0], race.failed[1]);
	reply_send(&r);
}
