// SPDX-License-Identifier: GPL-2.0
/* Filters of probes, and the counts that the kernel keeps. */
#include <pthread.h>
#include <stdatomic.h>

#include "module_fixture.h"
#include "returns_text.h"

#define ALL	(UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT | UPROBES_TEST_RETURN)

FIXTURE_VARIANT(module)
{
	unsigned int flags;
	unsigned long size;
};

FIXTURE_VARIANT_ADD(module, task) {
	.flags = UPROBES_TEST_TASK,
};

FIXTURE_VARIANT_ADD(module, interrupt) {
	.flags = UPROBES_TEST_INTERRUPT,
};

FIXTURE_VARIANT_ADD(module, returns) {
	.flags = UPROBES_TEST_RETURN,
};

FIXTURE_VARIANT_ADD(module, sized_returns) {
	.flags = UPROBES_TEST_RETURN,
	.size = 5,
};

FIXTURE_VARIANT_ADD(module, all) {
	.flags = ALL,
};

FIXTURE_VARIANT_ADD(module, all_sized) {
	.flags = ALL,
	.size = 5,
};

#define THREADS	4

static struct worker {
	pthread_t thread;
	atomic_int tid;
	unsigned int calls;
	unsigned int wrong;
} workers[THREADS];

static atomic_bool go;

static void *work(void *arg)
{
	struct worker *self = arg;
	unsigned int i;

	self->tid = gettid();
	while (!go)
		sched_yield();
	for (i = 0; i < self->calls; i++)
		self->wrong += call_probed(returns_leaf, i, 1) != i + 1;
	return NULL;
}

static void start(struct __test_metadata *_metadata, unsigned int calls)
{
	unsigned int i;

	go = false;
	for (i = 0; i < THREADS; i++) {
		/* Each thread makes another number of calls. */
		workers[i] = (struct worker) { .calls = calls + i };
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));
	}
	for (i = 0; i < THREADS; i++)
		while (!workers[i].tid)
			sched_yield();
}

static void finish(struct __test_metadata *_metadata)
{
	unsigned int i;

	go = true;
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(workers[i].thread, NULL));
		EXPECT_EQ(0, workers[i].wrong);
	}
}

/* Expects @calls calls of each handler in @flags, and the same of the kernel's counts. */
static void expect_calls(struct __test_metadata *_metadata, int dev, int id, unsigned int flags,
			 unsigned int calls)
{
	struct uprobes_test_count count;

	ASSERT_EQ(0, dev_count(dev, id, &count));
	EXPECT_EQ(flags & UPROBES_TEST_TASK ? calls : 0, count.task_hits);
	EXPECT_EQ(flags & UPROBES_TEST_INTERRUPT ? calls : 0, count.interrupt_hits);
	EXPECT_EQ(flags & UPROBES_TEST_RETURN ? calls : 0, count.return_hits);
	EXPECT_EQ(0, count.counts_error);
	EXPECT_EQ(count.return_hits, count.returns);
	if (flags & (UPROBES_TEST_TASK | UPROBES_TEST_INTERRUPT))
		EXPECT_EQ(calls, count.hits);
	EXPECT_EQ(0, count.misses);
	EXPECT_EQ(0, count.filter_wrong);
}

TEST_F_TIMEOUT(module, one_passes, TIMEOUT)
{
	int id[THREADS], all;
	unsigned int i;

	start(_metadata, 100);
	for (i = 0; i < THREADS; i++)
		id[i] = PROBE_HOW(OF(returns_leaf), .flags = variant->flags | UPROBES_TEST_FILTER,
				  .size = variant->size, .filter_tid = workers[i].tid);
	all = PROBE_HOW(OF(returns_leaf), .flags = variant->flags, .size = variant->size);
	/* This thread does not pass. */
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	finish(_metadata);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	for (i = 0; i < THREADS; i++) {
		expect_calls(_metadata, self->dev, id[i], variant->flags, workers[i].calls);
		EXPECT_EQ(workers[i].tid, COUNT(id[i]).last_tid);
		/* The filter was asked about all of them. */
		EXPECT_LE(THREADS * 100 + 8, COUNT(id[i]).filter_calls);
		UNPROBE(id[i]);
	}
	expect_calls(_metadata, self->dev, all, variant->flags, THREADS * 100 + 6 + 2);
	EXPECT_EQ(0, COUNT(all).filter_calls);
	UNPROBE(all);
}

TEST_F_TIMEOUT(module, none_passes, TIMEOUT)
{
	int id = PROBE_HOW(OF(returns_leaf), .flags = variant->flags | UPROBES_TEST_FILTER,
			   .size = variant->size, .filter_tid = 1);

	start(_metadata, 100);
	finish(_metadata);
	expect_calls(_metadata, self->dev, id, variant->flags, 0);
	EXPECT_LE(THREADS * 100 + 6, COUNT(id).filter_calls);
	UNPROBE(id);
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
}

/* All CPUs count at once. */
TEST_F_TIMEOUT(module, counts, TIMEOUT)
{
	int id = PROBE_HOW(OF(returns_leaf), .flags = variant->flags, .size = variant->size);
	unsigned int calls = scaled(20000);

	start(_metadata, calls);
	finish(_metadata);
	expect_calls(_metadata, self->dev, id, variant->flags, THREADS * calls + 6);
	UNPROBE(id);
	/* A new registration counts from zero. */
	id = PROBE_HOW(OF(returns_leaf), .flags = variant->flags, .size = variant->size);
	expect_calls(_metadata, self->dev, id, variant->flags, 0);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	expect_calls(_metadata, self->dev, id, variant->flags, 1);
	UNPROBE(id);
}

TEST_HARNESS_MAIN
