// SPDX-License-Identifier: GPL-2.0
/*
 * Calls of functions that cannot be followed, and calls that are left other than by a return. Each
 * entry is a return, a miss, or was left in another way.
 */
#include <pthread.h>

#include "module_fixture.h"
#include "returns_calls_text.h"
#include "returns_text.h"

static void expect_circle(struct __test_metadata *_metadata, struct _test_data_module *self,
			  probed_fn one, probed_fn two)
{
	int id = PROBE_BOTH(one), other = PROBE_BOTH(two);
	struct uprobes_test_count count;
	unsigned int i;

	for (i = 0; i < 10; i++)
		EXPECT_EQ(1, one(7, 1));
	count = COUNT(id);
	EXPECT_EQ(40, HITS(id));
	EXPECT_EQ(40, count.return_hits + count.misses);
	EXPECT_LE(10, count.return_hits);
	count = COUNT(other);
	EXPECT_EQ(40, HITS(other));
	EXPECT_EQ(40, count.return_hits + count.misses);
	EXPECT_LE(10, count.return_hits);
	UNPROBE(id);
	UNPROBE(other);
}

TEST_F_TIMEOUT(module, circle_of_tail_calls, TIMEOUT)
{
	expect_circle(_metadata, self, calls_circle, calls_circle_other);
}

/* The walk passes through both functions. */
TEST_F_TIMEOUT(module, circle_of_jumps, TIMEOUT)
{
	expect_circle(_metadata, self, calls_direct_circle, calls_direct_circle_other);
}

static unsigned long end_thread(unsigned long base, unsigned long add)
{
	pthread_exit(NULL);
}

static void *returns_arg(void *arg)
{
	asm volatile("");
	return arg;
}

static void run_thread(struct __test_metadata *_metadata, void *(*start)(void *))
{
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, start, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* The next thread has the stack of the one before, and returns to the same address. */
TEST_F_TIMEOUT(module, ended_threads, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_call);
	unsigned int i;

	opaque_callee = end_thread;
	for (i = 0; i < 20; i++) {
		run_thread(_metadata, (void *(*)(void *))opaque_call);
		run_thread(_metadata, returns_arg);
	}
	EXPECT_EQ(20, HITS(id));
	EXPECT_EQ(0, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	opaque_callee = returns_leaf;
	for (i = 0; i < 20; i++)
		run_thread(_metadata, (void *(*)(void *))opaque_call);
	EXPECT_EQ(40, HITS(id));
	EXPECT_EQ(20, RETURNS(id));
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
}

TEST_HARNESS_MAIN
