// SPDX-License-Identifier: GPL-2.0
/* Lifecycle tests of breakpoints and of their owners. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include "ubp_fixture.h"

#define CALLS	1000
#define THREADS	4

static atomic_bool stop;
static atomic_ulong calls;
static atomic_ulong wrong;

static void *call_until_stop(void *arg)
{
	probed_fn function = arg;

	while (!stop) {
		wrong += function(1, 2) != 3;
		calls++;
	}
	return NULL;
}

static void *call_many(void *arg)
{
	probed_fn function = arg;
	unsigned int i;

	for (i = 0; i < CALLS; i++)
		wrong += function(1, 2) != 3;
	return NULL;
}

FIXTURE_VARIANT(ubp)
{
	probed_fn function;
};

FIXTURE_VARIANT_ADD(ubp, nop) {
	.function = probed_nop,
};

FIXTURE_VARIANT_ADD(ubp, push) {
	.function = probed_push,
};

FIXTURE_VARIANT_ADD(ubp, lea) {
	.function = probed_lea,
};

TEST_F_TIMEOUT(ubp, hits_of_all_threads_are_counted, TIMEOUT)
{
	int id = INSERT(variant->function);
	pthread_t threads[THREADS];
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, call_many, variant->function));
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_HITS(THREADS * CALLS, id);
	REMOVE(id);
}

static bool wait_hit(int dev, int id)
{
	uint64_t end = now_ms() + 20000;
	struct ubp_test_count count;

	do {
		if (ubp_count(dev, id, &count))
			return false;
		if (count.task_hits)
			return true;
		sched_yield();
	} while (now_ms() < end);
	return false;
}

/* Threads execute the instruction all the time, by each of the plans. */
TEST_F_TIMEOUT(ubp, removal_while_it_is_executed, 2 * TIMEOUT)
{
	unsigned int i, rounds = scaled(200), hit = 0;
	pthread_t threads[THREADS];

	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, call_until_stop, variant->function));
	for (i = 0; i < rounds; i++) {
		unsigned long from = calls;
		int id = INSERT(variant->function);
		struct ubp_test_count count;

		if (i % 4 == 0) {
			ASSERT_TRUE(wait_hit(self->dev, id));
		} else if (i % 4 == 1) {
			sched_yield();
		}
		ASSERT_EQ(0, ubp_count(self->dev, id, &count));
		/*
		 * A call that was counted as a hit may not have returned yet.
		 */
		EXPECT_GE(calls - from + THREADS, count.task_hits);
		hit += count.interrupt_hits > 0;
		REMOVE(id);
		EXPECT_NE(0xcc, byte_at(variant->function));
	}
	stop = true;
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	TH_LOG("%u rounds, %u with hits, %lu calls", rounds, hit, (unsigned long)calls);
	EXPECT_LE(rounds / 4, hit);
	EXPECT_EQ(0, wrong);
}

/* Starts a process that calls @function forever. */
static pid_t start_caller(probed_fn function)
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		while (function(1, 2) == 3)
			;
		_exit(1);
	}
	return pid;
}

TEST_F_TIMEOUT(ubp, process_is_killed_in_the_middle, TIMEOUT)
{
	unsigned int i, rounds = scaled(50);

	for (i = 0; i < rounds; i++) {
		pid_t pid = start_caller(variant->function);
		int status, id = ubp_insert(self->dev, pid, variant->function, BOTH, NULL);

		ASSERT_LT(0, id);
		ASSERT_TRUE(wait_hit(self->dev, id));
		ASSERT_EQ(0, kill(pid, SIGKILL));
		/* Exit and removal may meet in either order. */
		if (i % 2)
			REMOVE(id);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, status);
		if (i % 2 == 0)
			REMOVE(id);
	}
}

TEST_F_TIMEOUT(ubp, process_exits_with_breakpoints, TIMEOUT)
{
	struct target target;
	int id, nop;

	ASSERT_TRUE(target_start(&target));
	id = ubp_insert(self->dev, target.pid, variant->function, BOTH, NULL);
	ASSERT_LT(0, id);
	nop = ubp_insert(self->dev, target.pid, (const char *)probed_nop + 1, BOTH, NULL);
	ASSERT_LT(0, nop);
	EXPECT_EQ(3 * CALLS, target_call(&target, variant->function, 1, 2, CALLS));
	EXPECT_EQ(0, target_stop(&target));
	EXPECT_HITS(CALLS, id);
	REMOVE(id);
	REMOVE(nop);
}

/*
 * The process probes itself; closing the file removes the breakpoints that are
 * left.
 */
TEST_F_TIMEOUT(ubp, process_exits_with_its_own_breakpoints, TIMEOUT)
{
	pid_t pid = fork();
	int status;

	if (!pid) {
		int dev = ubp_open();

		if (ubp_insert(dev, 0, variant->function, BOTH, NULL) <= 0)
			_exit(1);
		_exit(variant->function(1, 2) != 3);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
}

TEST_F_TIMEOUT(ubp, new_image_has_none, TIMEOUT)
{
	pid_t pid = fork();
	int status, id;

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		raise(SIGSTOP);
		if (variant->function(1, 2) != 3)
			_exit(1);
		execl("/bin/true", "true", NULL);
		_exit(2);
	}
	ASSERT_EQ(pid, waitpid(pid, NULL, WUNTRACED));
	id = ubp_insert(self->dev, pid, variant->function, BOTH, NULL);
	ASSERT_LT(0, id);
	ASSERT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_HITS(1, id);
	REMOVE(id);
}

TEST_F_TIMEOUT(ubp, file_is_closed_with_breakpoints, TIMEOUT)
{
	int dev = ubp_open();

	ASSERT_LE(0, dev);
	ASSERT_LT(0, ubp_insert(dev, 0, variant->function, BOTH, NULL));
	ASSERT_LT(0, ubp_insert(dev, 0, (const char *)probed_nop + 1, BOTH, NULL));
	EXPECT_EQ(3, variant->function(1, 2));
	close(dev);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
	EXPECT_EQ(3, variant->function(1, 2));
}

/* The owner of a breakpoint in this process is killed. */
TEST_F_TIMEOUT(ubp, owner_is_killed, TIMEOUT)
{
	pid_t parent = getpid(), pid = fork();

	if (!pid) {
		int dev = ubp_open();

		if (ubp_insert(dev, parent, variant->function, BOTH, NULL) <= 0)
			_exit(1);
		raise(SIGKILL);
	}
	while (!waitpid(pid, NULL, WNOHANG))
		EXPECT_EQ(3, variant->function(1, 2));
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

TEST_F_TIMEOUT(ubp, copy_has_none, TIMEOUT)
{
	int id = INSERT(variant->function), status;
	pid_t pid = fork();

	if (!pid) {
		bool same = text_is_of_file(getpid(), probed_nop, 4096);

		call_many(variant->function);
		_exit(!same || wrong);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_HITS(0, id);
	EXPECT_EQ(3, variant->function(1, 2));
	EXPECT_HITS(1, id);
	REMOVE(id);
}

/* The mapping is gone, and another may be at the address. */
TEST_F_TIMEOUT(ubp, mapping_is_gone, TIMEOUT)
{
	unsigned char *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	probed_fn copy = (probed_fn)code;
	int id, again;

	ASSERT_NE(MAP_FAILED, code);
	memcpy(code, variant->function, 64);
	id = INSERT(code);
	EXPECT_EQ(3, copy(1, 2));
	EXPECT_HITS(1, id);
	ASSERT_EQ(code, mmap(code, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	memcpy(code, variant->function, 64);
	EXPECT_EQ(3, copy(1, 2));
	EXPECT_HITS(1, id);

	/* Removing the old breakpoint does not affect the new one. */
	again = INSERT(code);
	REMOVE(id);
	EXPECT_EQ(3, copy(1, 2));
	EXPECT_HITS(1, again);
	ASSERT_EQ(0, munmap(code, 4096));
	REMOVE(again);
}

TEST_HARNESS_MAIN
