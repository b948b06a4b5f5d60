// SPDX-License-Identifier: GPL-2.0
/* Quiescing of processes while threads and processes are created and exit in them. */
#include <pthread.h>
#include <sched.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "module_fixture.h"

#define CYCLES	200
#define THREADS	32

/* Counts executions of the user code of the process under test. */
static atomic_ulong *counter;

static bool share_counter(void)
{
	counter = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return counter != MAP_FAILED;
}

static bool moves(void)
{
	uint64_t end = now_ms() + 20000;
	unsigned long before = *counter;

	while (*counter == before && now_ms() < end)
		sched_yield();
	return *counter != before;
}

/* Checks that the counter stands still while the process is held, and moves when it is not. */
static void hold_and_let_go(struct __test_metadata *_metadata, int dev, pid_t pid,
			    unsigned int cycles)
{
	unsigned int i, wrong = 0;

	for (i = 0; i < cycles; i++) {
		int guard = dev_quiesce(dev, pid);
		unsigned long before;

		ASSERT_LT(0, guard) TH_LOG("cycle %u: %d", i, guard);
		before = *counter;
		sleep_ms(5);
		wrong += *counter != before;
		ASSERT_EQ(0, dev_resume(dev, guard));
		ASSERT_TRUE(moves());
	}
	EXPECT_EQ(0, wrong);
}

static void *count_a_little(void *arg)
{
	unsigned int i;

	for (i = 0; i < 2000; i++)
		(*counter)++;
	return NULL;
}

static void *make_threads(void *arg)
{
	for (;;) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, count_a_little, NULL))
			_exit(1);
		(*counter)++;
		pthread_join(thread, NULL);
	}
	return NULL;
}

static int end(pid_t pid)
{
	int status = -1;

	kill(pid, SIGKILL);
	waitpid(pid, &status, 0);
	return status;
}

TEST_F_TIMEOUT(module, threads_come_and_go, TIMEOUT)
{
	pid_t pid;

	ASSERT_TRUE(share_counter());
	pid = fork();
	if (!pid) {
		pthread_t thread;
		unsigned int i;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (i = 1; i < THREADS / 2; i++)
			pthread_create(&thread, NULL, make_threads, NULL);
		make_threads(NULL);
	}
	ASSERT_TRUE(moves());
	hold_and_let_go(_metadata, self->dev, pid, scaled(CYCLES));
	EXPECT_EQ(SIGKILL, end(pid));
}

static int count_in_shared_memory(void *arg)
{
	count_a_little(NULL);
	return 0;
}

/* Processes that share the memory without being threads are held as well. */
TEST_F_TIMEOUT(module, sharers_come_and_go, TIMEOUT)
{
	static alignas(16) char stack[4][16384];
	pid_t pid;

	ASSERT_TRUE(share_counter());
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			unsigned int i;

			for (i = 0; i < 4; i++)
				if (clone(count_in_shared_memory, stack[i] + sizeof(stack[i]),
					  CLONE_VM | SIGCHLD, NULL) < 0)
					_exit(1);
			for (i = 0; i < 4; i++)
				wait(NULL);
		}
	}
	ASSERT_TRUE(moves());
	hold_and_let_go(_metadata, self->dev, pid, scaled(CYCLES));
	EXPECT_EQ(SIGKILL, end(pid));
}

/* A vfork() child is held, and so is its parent, which waits for it. */
TEST_F_TIMEOUT(module, vfork_and_exec, TIMEOUT)
{
	pid_t pid;

	ASSERT_TRUE(share_counter());
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			pid_t child = vfork();

			if (!child) {
				count_a_little(NULL);
				execl("/bin/true", "true", NULL);
				_exit(1);
			}
			waitpid(child, NULL, 0);
			count_a_little(NULL);
		}
	}
	ASSERT_TRUE(moves());
	hold_and_let_go(_metadata, self->dev, pid, scaled(CYCLES));
	EXPECT_EQ(SIGKILL, end(pid));
}

/* Forked children have their own memory and continue to run. */
TEST_F_TIMEOUT(module, forks, TIMEOUT)
{
	atomic_ulong *forks;
	unsigned int i, rounds = scaled(CYCLES);
	pid_t pid;

	ASSERT_TRUE(share_counter());
	forks = counter + 1;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;) {
			pid_t child = fork();

			if (!child) {
				(*forks)++;
				_exit(0);
			}
			waitpid(child, NULL, 0);
			(*counter)++;
		}
	}
	ASSERT_TRUE(moves());
	for (i = 0; i < rounds; i++) {
		int guard = dev_quiesce(self->dev, pid);
		unsigned long before = *counter;

		ASSERT_LT(0, guard);
		sleep_ms(2);
		EXPECT_EQ(before, *counter);
		EXPECT_GE(before + 1, *forks);
		ASSERT_EQ(0, dev_resume(self->dev, guard));
		ASSERT_TRUE(moves());
	}
	EXPECT_EQ(SIGKILL, end(pid));
}

/* The process exits, in every way, while others try to hold it. */
TEST_F_TIMEOUT(module, ends_meanwhile, TIMEOUT)
{
	unsigned int i, rounds = scaled(CYCLES), held = 0;

	ASSERT_TRUE(share_counter());
	for (i = 0; i < rounds; i++) {
		int guard, status;
		pid_t pid = fork();

		if (!pid) {
			pthread_t thread;
			unsigned int j;

			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (j = 0; j < 3; j++)
				pthread_create(&thread, NULL, count_a_little, NULL);
			if (i % 3 == 0)
				execl("/bin/true", "true", NULL);
			if (i % 3 == 1)
				pthread_exit(NULL);
			_exit(0);
		}
		sched_yield();
		do {
			guard = dev_quiesce(self->dev, pid);
			if (guard > 0) {
				held++;
				ASSERT_EQ(0, dev_resume(self->dev, guard));
				sleep_ms(1);
			}
		} while (guard > 0);
		EXPECT_EQ(-ESRCH, guard);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
	}
	TH_LOG("held %u times", held);
}

/* Probes are registered and unregistered while the process is held again and again. */
TEST_F_TIMEOUT(module, probes_meanwhile, TIMEOUT)
{
	unsigned int i, rounds = scaled(CYCLES);
	struct target target;
	pid_t other;
	int status;

	ASSERT_TRUE(target_start(&target));
	other = fork();
	if (!other) {
		for (i = 0; i < rounds; i++)
			if (dev_quiesce_for(self->dev, target.pid, 500))
				_exit(1);
		_exit(0);
	}
	for (i = 0; i < rounds; i++) {
		int id = dev_register(self->dev, target.pid, probed_lea, UPROBES_TEST_TASK);

		ASSERT_LT(0, id);
		ASSERT_EQ(30, target_call(&target, probed_lea, 1, 2, 10));
		EXPECT_EQ(10, HITS(id));
		UNPROBE(id);
	}
	ASSERT_EQ(other, waitpid(other, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, target_stop(&target));
}

TEST_HARNESS_MAIN
