// SPDX-License-Identifier: GPL-2.0
/* Return probes of calls with stacks close to each other, in one page. */
#include <pthread.h>
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

#define STACKS		4U
#define STACK		(RETURNS_PAGE / STACKS)
/* Calls at the same depth keep each other from their bucket: see returns/buckets.rs. */
#define TOP(page, i)	((page) + (i) * STACK + 976 + (i) * 16)
/* The maximum depth of returns_deep() on one of these stacks. */
#define DEPTH		6

#define EXPECT_ALL_RETURNED(calls, id) do {			\
	struct uprobes_test_count __all = COUNT(id);		\
								\
	EXPECT_EQ(calls, __all.task_hits);			\
	EXPECT_EQ(calls, __all.return_hits);			\
	EXPECT_EQ(0, __all.misses);				\
} while (0)

static char *map_page(void)
{
	return mmap(NULL, RETURNS_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

struct work {
	char *top;
	unsigned int rounds;
	/* The number of calls of returns_deep(). */
	unsigned long calls;
	bool failed;
};

static void *call_on_small_stack(void *arg)
{
	struct work *work = arg;
	unsigned long i;

	for (i = 0; i < work->rounds; i++) {
		unsigned long depth = i % (DEPTH + 1);

		work->failed |= call_on_stack(returns_deep, depth, 0, work->top) != depth;
		work->failed |= call_on_stack(returns_by_tail, i, 2, work->top) != i + 3;
		work->calls += depth + 1;
	}
	return NULL;
}

TEST_F_TIMEOUT(module, threads_in_one_page, TIMEOUT)
{
	int deep = PROBE_BOTH(returns_deep), tail = PROBE_BOTH(returns_by_tail);
	int leaf = PROBE_BOTH(returns_leaf);
	unsigned int i, rounds = scaled(20000);
	char *page = map_page();
	struct work work[STACKS];
	pthread_t thread[STACKS];
	unsigned long calls = 0;

	ASSERT_NE(MAP_FAILED, page);
	for (i = 0; i < STACKS; i++) {
		work[i] = (struct work) { .top = TOP(page, i), .rounds = rounds };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, call_on_small_stack, &work[i]));
	}
	for (i = 0; i < STACKS; i++) {
		ASSERT_EQ(0, pthread_join(thread[i], NULL));
		EXPECT_FALSE(work[i].failed);
		calls += work[i].calls;
	}
	EXPECT_ALL_RETURNED(calls, deep);
	EXPECT_ALL_RETURNED(STACKS * rounds, tail);
	EXPECT_ALL_RETURNED(STACKS * rounds, leaf);
	UNPROBE(deep);
	UNPROBE(tail);
	UNPROBE(leaf);
}

/* Return-address locations have any alignment, not only that of the ABI. */
TEST_F_TIMEOUT(module, any_alignment, TIMEOUT)
{
	int deep = PROBE_BOTH(returns_deep), tail = PROBE_BOTH(returns_by_tail);
	char *page = map_page();
	struct work work = { .rounds = 2 * (DEPTH + 1) };
	unsigned int offset;

	ASSERT_NE(MAP_FAILED, page);
	for (offset = 0; offset < 64; offset++) {
		work.top = page + STACK + offset;
		call_on_small_stack(&work);
	}
	EXPECT_FALSE(work.failed);
	EXPECT_ALL_RETURNED(work.calls, deep);
	EXPECT_ALL_RETURNED(64 * work.rounds, tail);
	UNPROBE(deep);
	UNPROBE(tail);
}

TEST_HARNESS_MAIN
