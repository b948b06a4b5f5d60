// SPDX-License-Identifier: GPL-2.0
/*
 * Stress test: many threads in one probed function, with a storm of signals,
 * forks, and breakpoints that come and go next to permanent ones.
 *
 * Each call has a known result and is counted by its caller. The permanent
 * breakpoints must have been hit as often as there were calls, including the
 * calls in signal handlers and excluding the calls in children.
 *
 * STORM_SECONDS sets the duration (8), STORM_THREADS the number of threads
 * (64).
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#include "texts.h"
#include "ubp_selftest.h"
#include "kselftest_harness.h"

#define MAX_THREADS	256
#define MAX_TEXTS	64

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct text {
	uintptr_t start, end;
} texts[MAX_TEXTS];
static unsigned int text_count;

static atomic_bool stop;
static atomic_ulong in_handlers, wrong_results, wrong_places, signals;
static long expected[16];

static struct worker {
	pthread_t thread;
	unsigned long calls;
} workers[MAX_THREADS];

static unsigned int setting(const char *name, unsigned int otherwise)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 10) : otherwise;
}

/* Records the executable mappings that exist before there are slots. */
static void note_texts(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[512], flags[8];
	struct text text;

	while (maps && text_count < MAX_TEXTS && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %7s", &text.start, &text.end, flags) == 3 &&
		    flags[2] == 'x')
			texts[text_count++] = text;
	}
	if (maps)
		fclose(maps);
}

static void check_call(long argument)
{
	if (storm(argument) != expected[argument])
		wrong_results++;
}

static void on_signal(int sig, siginfo_t *info, void *context)
{
	uintptr_t ip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
	unsigned int i;

	for (i = 0; i < text_count; i++) {
		if (ip >= texts[i].start && ip < texts[i].end)
			break;
	}
	if (i == text_count)
		wrong_places++;
	signals++;
	/* Call the function on top of the interrupted code. */
	check_call(ip % COUNT(expected));
	in_handlers++;
}

static void *work(void *arg)
{
	const struct timespec moment = { .tv_nsec = 20000 };
	struct worker *self = arg;

	while (!stop) {
		check_call(self->calls % COUNT(expected));
		self->calls++;
		/*
		 * A thread that is preempted within a hit delays every removal.
		 */
		if (self->calls % 16 == 0)
			nanosleep(&moment, NULL);
	}
	return NULL;
}

/* Returns whether a child, which has no breakpoints, gets correct results. */
static bool fork_one(void)
{
	int status, i;
	pid_t child = fork();

	if (!child) {
		for (i = 0; i < (int)COUNT(expected); i++)
			if (storm(i) != expected[i])
				_exit(1);
		_exit(0);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec * 0.000000001;
}

FIXTURE(storm)
{
	int dev;
};

FIXTURE_SETUP(storm)
{
	struct sigaction action = { .sa_sigaction = on_signal,
				    .sa_flags = SA_SIGINFO | SA_RESTART };

	note_texts();
	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no %s", UBP_TEST_DEVICE);
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, sigaction(SIGALRM, &action, NULL));
}

FIXTURE_TEARDOWN(storm)
{
	close(self->dev);
}

TEST_F_TIMEOUT(storm, counts_are_exact, 1200)
{
	const struct itimerval often = { { 0, 2000 }, { 0, 2000 } }, never = {};
	unsigned int threads = setting("STORM_THREADS", 64), seconds = setting("STORM_SECONDS", 8);
	unsigned long calls = 0, rounds = 0, forks = 0, passed = 0;
	int ids[COUNT(storm_staying)], passers[COUNT(storm_passing)] = {};
	struct ubp_test_count count;
	double end;
	size_t i;

	ASSERT_LE(threads, MAX_THREADS);
	for (i = 0; i < COUNT(expected); i++)
		expected[i] = storm(i);
	for (i = 0; i < COUNT(storm_staying); i++) {
		ids[i] = ubp_insert(self->dev, 0, storm_staying[i],
				    i % 2 ? UBP_TEST_TASK : UBP_TEST_INTERRUPT, NULL);
		ASSERT_GT(ids[i], 0);
	}
	for (i = 0; i < threads; i++)
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	ASSERT_EQ(0, setitimer(ITIMER_REAL, &often, NULL));

	for (end = now() + seconds; now() < end; rounds++) {
		/* Insert it in one round, remove it in the next. */
		i = rounds / 2 % COUNT(storm_passing);
		if (passers[i]) {
			ASSERT_EQ(0, ubp_count(self->dev, passers[i], &count));
			passed += count.task_hits;
			ASSERT_EQ(0, ubp_remove(self->dev, passers[i]));
			passers[i] = 0;
		} else {
			passers[i] = ubp_insert(self->dev, 0, storm_passing[i], UBP_TEST_TASK,
						NULL);
			ASSERT_GT(passers[i], 0);
		}
		pthread_kill(workers[rand() % threads].thread, SIGUSR1);
		if (rounds % 4 == 0) {
			ASSERT_TRUE(fork_one());
			forks++;
		}
	}

	ASSERT_EQ(0, setitimer(ITIMER_REAL, &never, NULL));
	stop = true;
	for (i = 0; i < threads; i++) {
		ASSERT_EQ(0, pthread_join(workers[i].thread, NULL));
		calls += workers[i].calls;
	}
	calls += in_handlers;
	for (i = 0; i < COUNT(storm_passing); i++) {
		if (passers[i] && !ubp_count(self->dev, passers[i], &count))
			passed += count.task_hits;
	}
	TH_LOG("%lu calls, %lu signals, %lu changes, %lu forks, %lu other hits",
	       calls, signals, rounds, forks, passed);
	EXPECT_EQ(0, wrong_results);
	EXPECT_EQ(0, wrong_places);
	EXPECT_GT(passed, 0);
	EXPECT_GT(signals, seconds);
	for (i = 0; i < COUNT(storm_staying); i++) {
		/*
		 * rep stosb is executed once, regardless of how many bytes it
		 * fills.
		 */
		ASSERT_EQ(0, ubp_count(self->dev, ids[i], &count));
		EXPECT_EQ(calls, count.task_hits + count.interrupt_hits) {
			TH_LOG("breakpoint %zu", i);
		}
	}
}

TEST_HARNESS_MAIN
