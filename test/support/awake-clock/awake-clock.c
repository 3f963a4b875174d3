/* SPDX-License-Identifier: Apache-2.0 */
#include "awake-clock.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define TICK_US 20000
/* What others on a busy machine may take at once; the rest of a longer gap is lost. */
#define LATE_US 100000
/* Shorter than the first repetition of a SYN, a second. */
#define STANDSTILL_US 500000
#define MAX_CPUS 64

static pthread_once_t started = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int cpus;
static int cpu_of[MAX_CPUS];
/* When each CPU's thread ran last, the standstill that was counted last, and the time that was lost, up to which moment. */
static long long ticked[MAX_CPUS], counted_until[MAX_CPUS];
static long long lost_us, lost_until;
static long stood_still;

static long long monotonic_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (long long)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

/* What is lost until now on one CPU, as far as no other CPU lost it too. */
static void count_lost(int cpu, long long now)
{
	long long from = ticked[cpu] + LATE_US;
	if (now - ticked[cpu] > STANDSTILL_US && counted_until[cpu] != ticked[cpu]) {
		counted_until[cpu] = ticked[cpu];
		stood_still++;
	}
	if (from < lost_until)
		from = lost_until;
	if (from >= now)
		return;
	lost_us += now - from;
	lost_until = now;
}

static void *tick(void *argument)
{
	int cpu = (int)(long)argument;
	cpu_set_t own;
	CPU_ZERO(&own);
	CPU_SET(cpu_of[cpu], &own);
	/* Without this the thread tells of the machine as a whole, which will do too. */
	pthread_setaffinity_np(pthread_self(), sizeof(own), &own);
	for (;;) {
		usleep(TICK_US);
		pthread_mutex_lock(&lock);
		long long now = monotonic_us();
		count_lost(cpu, now);
		ticked[cpu] = now;
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void start(void)
{
	cpu_set_t usable;
	pthread_attr_t attr;
	pthread_attr_init(&attr);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	sched_getaffinity(0, sizeof(usable), &usable);
	for (int cpu = 0; cpu < CPU_SETSIZE && cpus < MAX_CPUS; cpu++)
		if (CPU_ISSET(cpu, &usable))
			cpu_of[cpus++] = cpu;
	for (int i = 0; i < cpus; i++)
		ticked[i] = monotonic_us();
	for (int i = 0; i < cpus; i++) {
		pthread_t thread;
		if (pthread_create(&thread, &attr, tick, (void *)(long)i) != 0) {
			perror("awake-clock: pthread_create");
			exit(1);
		}
	}
	pthread_attr_destroy(&attr);
}

long long awake_us(void)
{
	pthread_once(&started, start);
	pthread_mutex_lock(&lock);
	/* Who wakes first need not be the one that ticks. */
	long long now = monotonic_us();
	for (int i = 0; i < cpus; i++)
		count_lost(i, now);
	long long awake = now - lost_us;
	pthread_mutex_unlock(&lock);
	return awake;
}

long standstills(void)
{
	awake_us();
	pthread_mutex_lock(&lock);
	long count = stood_still;
	pthread_mutex_unlock(&lock);
	return count;
}
