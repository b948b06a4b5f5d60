// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest, as costs.c, with uprobes_test.ko: prints how many instructions it
 * takes to quiesce a process of one thread and to let it go on, lines NAME
 * INSTRUCTIONS: when there are few other threads, when another process has
 * THREADS, and when, besides, a third process shares the memory of the first, for
 * which all threads have to be looked at.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "uprobes_test.h"

#define THREADS	2000
#define ROUNDS	50

static inline uint64_t instructions(void)
{
	uint32_t low, high;

	asm volatile("rdtsc" : "=a"(low), "=d"(high) :: "memory");
	return (uint64_t)high << 32 | low;
}

/* The fewest of all rounds: those without an interrupt. */
static uint64_t quiesce(int dev, pid_t pid)
{
	struct uprobes_test_quiesce how = { .pid = pid };
	uint64_t best = UINT64_MAX;
	int round;

	for (round = 0; round < ROUNDS; round++) {
		uint64_t spent = instructions();
		int guard = ioctl(dev, UPROBES_TEST_QUIESCE, &how);

		if (guard < 0 || ioctl(dev, UPROBES_TEST_RESUME, guard))
			err(1, "quiescing");
		spent = instructions() - spent;
		best = spent < best ? spent : best;
	}
	return best;
}

static void *wait_in_kernel(void *arg)
{
	pause();
	return arg;
}

static int share(void *arg)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	wait_in_kernel(arg);
	return 0;
}

/* A process that sleeps when this returns, with more threads. */
static pid_t start(int threads)
{
	pthread_attr_t small;
	int ready[2];
	char byte;
	pid_t pid;

	if (pipe(ready))
		err(1, "pipe");
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		pthread_attr_init(&small);
		pthread_attr_setstacksize(&small, 16384);
		while (threads--) {
			pthread_t thread;

			if (pthread_create(&thread, &small, wait_in_kernel, NULL))
				_exit(1);
		}
		if (write(ready[1], &byte, 1) != 1)
			_exit(1);
		wait_in_kernel(NULL);
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		errx(1, "no process");
	close(ready[0]);
	return pid;
}

static pid_t start_shared(void)
{
	static char stack[16384] __attribute__((aligned(16)));
	pid_t pid = fork();

	if (pid < 0)
		err(1, "fork");
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (clone(share, stack + sizeof(stack), CLONE_VM | SIGCHLD, NULL) < 0)
			_exit(1);
		wait_in_kernel(NULL);
	}
	sleep(1);
	return pid;
}

int main(void)
{
	int dev = open(UPROBES_TEST_DEVICE, O_RDWR);
	pid_t alone = start(0);

	if (dev < 0)
		err(1, UPROBES_TEST_DEVICE);
	printf("quiesce %ju\n", (uintmax_t)quiesce(dev, alone));
	start(THREADS);
	printf("quiesce_among_%d %ju\n", THREADS, (uintmax_t)quiesce(dev, alone));
	printf("quiesce_shared_among_%d %ju\n", THREADS, (uintmax_t)quiesce(dev, start_shared()));
	return 0;
}
