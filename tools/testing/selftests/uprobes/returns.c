// SPDX-License-Identifier: GPL-2.0
/* Return handlers: their calls, and the values that they see and change, in both forms. */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

#define PAGE	4096UL

/* Whether the size of the function is given, or its return instructions must be found. */
FIXTURE_VARIANT(module)
{
	bool sized;
};

FIXTURE_VARIANT_ADD(module, by_exits) {
	.sized = false,
};

FIXTURE_VARIANT_ADD(module, by_size) {
	.sized = true,
};

/* The handler of entries counts as well. */
#define PROBE_VARIANT(function, ...) PROBE_HOW(OF(function),		\
	.flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN,		\
	.size = variant->sized ? SIZE_OF(function) : 0, __VA_ARGS__)

#define PROBE_RETURN(function, ...) PROBE_HOW(OF(function), .flags = UPROBES_TEST_RETURN, \
	.size = variant->sized ? SIZE_OF(function) : 0, __VA_ARGS__)

TEST_F_TIMEOUT(module, each_return_once, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_leaf);
	struct uprobes_test_count count;
	unsigned long i, sum = 0;

	for (i = 0; i < 1000; i++) {
		unsigned long got = call_probed(returns_leaf, i, 5);

		ASSERT_EQ(i + 5, got);
		sum += got;
		count = COUNT(id);
		ASSERT_EQ(i + 1, count.return_hits);
		ASSERT_EQ(got, count.return_ax);
	}
	EXPECT_EQ(1000, count.task_hits);
	EXPECT_EQ(1000, count.return_preemptible);
	EXPECT_EQ(sum, count.ax_sum);
	EXPECT_LT(count.task_sequence, count.return_sequence);
	EXPECT_EQ(gettid(), count.last_tid);
	EXPECT_EQ(0, count.counts_error);
	EXPECT_EQ(1000, count.hits);
	EXPECT_EQ(1000, count.returns);
	EXPECT_EQ(0, count.misses);
	EXPECT_EQ((unsigned long)call_probed_return, count.return_ip);
	UNPROBE(id);
	EXPECT_EQ(11, call_probed(returns_leaf, 5, 6));
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
	EXPECT_TRUE(text_is_of_file(getpid(), call_probed, 64));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
	EXPECT_TRUE(page_is_of_file(getpid(), call_probed));
}

/* Returns only: no handler is called at the entry. */
TEST_F_TIMEOUT(module, only_returns, TIMEOUT)
{
	int id = PROBE_RETURN(returns_leaf);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1, call_probed(returns_leaf, i, 1));
	EXPECT_EQ(0, COUNT(id).task_hits);
	EXPECT_EQ(100, RETURNS(id));
	EXPECT_EQ(100, COUNT(id).returns);
	UNPROBE(id);
}

/* Calls from two places, and returns by two instructions. */
TEST_F_TIMEOUT(module, several_ways, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_twice);
	unsigned int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(1, call_probed(returns_twice, 0, 0));
		ASSERT_EQ(2, returns_twice(1, 0));
		ASSERT_EQ(102, call_and_add(returns_twice, 2, 0));
	}
	EXPECT_EQ(300, COUNT(id).task_hits);
	EXPECT_EQ(300, RETURNS(id));
	EXPECT_EQ(500, COUNT(id).ax_sum);
	UNPROBE(id);
}

/* The return instruction is also the entry. */
TEST_F_TIMEOUT(module, one_byte, TIMEOUT)
{
	int id, only;
	unsigned int i;

	ASSERT_EQ(1, SIZE_OF(returns_at_once));
	id = PROBE_VARIANT(returns_at_once);
	only = PROBE_RETURN(returns_at_once);
	for (i = 0; i < 100; i++)
		ASSERT_EQ((unsigned long)returns_at_once, call_probed(returns_at_once, 1, 2));
	EXPECT_EQ(100, COUNT(id).task_hits);
	EXPECT_EQ(100, RETURNS(id));
	EXPECT_EQ(100, RETURNS(only));
	EXPECT_EQ((unsigned long)returns_at_once, COUNT(id).return_ax);
	EXPECT_LT(COUNT(id).task_sequence, COUNT(id).return_sequence);
	UNPROBE(id);
	EXPECT_EQ((unsigned long)returns_at_once, call_probed(returns_at_once, 1, 2));
	EXPECT_EQ(101, RETURNS(only));
	UNPROBE(only);
}

#define DEEP	10000UL

static void *call_deep(void *arg)
{
	return (void *)returns_deep((unsigned long)arg, 0);
}

TEST_F_TIMEOUT(module, recursion, TIMEOUT)
{
	size_t size = 8 << 20;
	void *stack = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int id = PROBE_VARIANT(returns_deep);
	struct uprobes_test_count count;
	pthread_attr_t attr;
	unsigned int round;

	ASSERT_NE(MAP_FAILED, stack);
	ASSERT_EQ(0, pthread_attr_init(&attr));
	ASSERT_EQ(0, pthread_attr_setstack(&attr, stack, size));
	for (round = 1; round <= 2; round++) {
		pthread_t thread;
		void *got;

		ASSERT_EQ(0, pthread_create(&thread, &attr, call_deep, (void *)DEEP));
		ASSERT_EQ(0, pthread_join(thread, &got));
		EXPECT_EQ(DEEP, (unsigned long)got);
		count = COUNT(id);
		EXPECT_EQ(round * (DEEP + 1), count.task_hits);
		EXPECT_EQ(round * (DEEP + 1), count.return_hits);
		EXPECT_EQ(round * DEEP * (DEEP + 1) / 2, count.ax_sum);
		EXPECT_EQ(0, count.misses);
	}
	UNPROBE(id);
	pthread_attr_destroy(&attr);
	munmap(stack, size);
}

TEST_F_TIMEOUT(module, callee_pops, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_and_pops);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 3, call_and_pop(i, 3));
	EXPECT_EQ(100, COUNT(id).task_hits);
	EXPECT_EQ(100, RETURNS(id));
	EXPECT_EQ(102, COUNT(id).return_ax);
	EXPECT_EQ((unsigned long)call_and_pop_return, COUNT(id).return_ip);
	UNPROBE(id);
}

/* Two probes of one function. One of them changes the return value. */
TEST_F_TIMEOUT(module, two_probes, TIMEOUT)
{
	int first = PROBE_VARIANT(returns_leaf, .add_ax = 1000);
	int second = PROBE_VARIANT(returns_leaf);
	struct uprobes_test_count one, two;
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1002, call_probed(returns_leaf, i, 2));
	one = COUNT(first);
	two = COUNT(second);
	EXPECT_EQ(100, one.return_hits);
	EXPECT_EQ(100, two.return_hits);
	EXPECT_EQ(101, one.return_ax);
	EXPECT_EQ(1101, two.return_ax);
	EXPECT_LT(one.return_sequence, two.return_sequence);
	UNPROBE(first);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(101, RETURNS(second));
	UNPROBE(second);
}

/* A handler moves the instruction pointer, so an instruction of the caller is not executed. */
TEST_F_TIMEOUT(module, moved, TIMEOUT)
{
	int id = PROBE_RETURN(returns_leaf, .add_return_ip = 4);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(3, call_and_add(returns_leaf, 1, 2));
	EXPECT_EQ(100, RETURNS(id));
	UNPROBE(id);
	EXPECT_EQ(103, call_and_add(returns_leaf, 1, 2));
}

/* The return address, or the return instruction, has a probe of its own. */
TEST_F_TIMEOUT(module, site_is_probed, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_leaf);
	int site = PROBE(call_probed_return);
	int ret = PROBE(RET_OF(returns_leaf));
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 2, call_probed(returns_leaf, i, 2));
	EXPECT_EQ(100, RETURNS(id));
	EXPECT_EQ(100, HITS(site));
	EXPECT_EQ(100, HITS(ret));
	UNPROBE(site);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(101, RETURNS(id));
	site = PROBE(call_probed_return);
	UNPROBE(id);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(1, HITS(site));
	EXPECT_EQ(102, HITS(ret));
	UNPROBE(site);
	UNPROBE(ret);
	EXPECT_TRUE(page_is_of_file(getpid(), call_probed));
}

/* A thread that reaches the return address, or the RET, in another way has not returned. */
TEST_F_TIMEOUT(module, other_functions_return_there, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_leaf);
	unsigned int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(3, call_probed(returns_leaf, 1, 2));
		ASSERT_EQ(7, call_probed(probed_lea, 3, 4));
		ASSERT_EQ(7, call_probed(probed_push, 3, 4));
	}
	EXPECT_EQ(100, RETURNS(id));
	EXPECT_EQ(300, COUNT(id).ax_sum);
	UNPROBE(id);
}

/* An unwinder within a probed function finds the same stack as without the probe. */
TEST_F_TIMEOUT(module, return_address_stays, TIMEOUT)
{
	int id = PROBE_VARIANT(returns_own_address);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ((unsigned long)call_probed_return,
			  call_probed(returns_own_address, 0, 0));
	EXPECT_EQ(100, RETURNS(id));
	UNPROBE(id);
}

#define THREADS	8
#define CALLS	5000

static atomic_uint wrong;
static unsigned int calls;

static void *call_in_thread(void *arg)
{
	unsigned long i;

	for (i = 0; i < calls; i++) {
		wrong += call_probed(returns_leaf, i, 1) != i + 1;
		wrong += returns_deep(i % 10, 0) != i % 10;
	}
	return NULL;
}

TEST_F_TIMEOUT(module, many_threads, TIMEOUT)
{
	int leaf = PROBE_VARIANT(returns_leaf), deep = PROBE_VARIANT(returns_deep);
	struct uprobes_test_count count;
	pthread_t thread[THREADS];
	unsigned int i;

	calls = scaled(CALLS) / 10 * 10;
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_in_thread, NULL));
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	count = COUNT(leaf);
	EXPECT_EQ(THREADS * calls, count.task_hits);
	EXPECT_EQ(THREADS * calls, count.return_hits);
	EXPECT_EQ(THREADS * calls, count.hits);
	EXPECT_EQ(THREADS * calls, count.returns);
	EXPECT_EQ(0, count.misses);
	EXPECT_EQ((unsigned long)THREADS * calls * (calls + 1) / 2, count.ax_sum);
	count = COUNT(deep);
	/* One to ten calls each. */
	EXPECT_EQ(THREADS * calls / 10 * 55, count.task_hits);
	EXPECT_EQ(THREADS * calls / 10 * 55, count.return_hits);
	UNPROBE(leaf);
	UNPROBE(deep);
}

static atomic_bool stop;

static void *call_until_stop(void *arg)
{
	while (!stop) {
		wrong += call_probed(returns_leaf, 1, 2) != 3;
		wrong += returns_deep(5, 0) != 5;
	}
	return NULL;
}

/* Return probes come and go while threads are anywhere in the functions. */
TEST_F_TIMEOUT(module, come_and_go, TIMEOUT)
{
	unsigned int i, rounds = scaled(300);
	pthread_t thread[4];

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_until_stop, NULL));
	for (i = 0; i < rounds; i++) {
		int leaf = PROBE_RETURN(returns_leaf), deep = PROBE_VARIANT(returns_deep);

		UNPROBE(leaf);
		UNPROBE(deep);
	}
	stop = true;
	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
	EXPECT_EQ(0, wrong);
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
	EXPECT_TRUE(text_is_of_file(getpid(), call_probed, 64));
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

TEST_HARNESS_MAIN
