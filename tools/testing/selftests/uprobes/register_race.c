// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that hit a probe while it is registered and unregistered.
 *
 * Each handler adds one to SI, and the probed functions return it, so each call knows how often it
 * was handled. A call between the end of a registration and the beginning of its removal must be
 * handled once. A call outside of any registration must not be handled. Any other call is handled
 * once or not at all. The sum must be the kernel's count.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

#include "module_fixture.h"

#define THREADS	8
#define CYCLES	1000

/* The four epochs of a cycle: the probe changes, is on, changes, is off. */
enum { COMING = 0, ON = 1, GOING = 2, OFF = 3 };

static atomic_ulong epoch;
static atomic_bool stop;
static probed_fn function;

static struct worker {
	pthread_t thread;
	atomic_ulong calls;
	unsigned long handled;
	unsigned long wrong;
	unsigned long surely_on;
	unsigned long surely_off;
} workers[THREADS];

static void *work(void *arg)
{
	struct worker *self = arg;
	const struct timespec moment = { .tv_nsec = 20000 };
	unsigned long calls;

	while (!stop) {
		unsigned long before = epoch, after, got;

		got = function(100, 0) - 100;
		after = epoch;
		self->handled += got;
		if (got > 1)
			self->wrong++;
		if (before == after && before % 4 == ON) {
			self->surely_on++;
			if (got != 1)
				self->wrong++;
		} else if (before == after && before % 4 == OFF) {
			self->surely_off++;
			if (got)
				self->wrong++;
		}
		calls = atomic_fetch_add_explicit(&self->calls, 1, memory_order_relaxed);
		/*
		 * There are more threads than CPUs, and a thread that is preempted within a hit
		 * delays every removal.
		 */
		if (calls % 128 == 0)
			nanosleep(&moment, NULL);
	}
	return NULL;
}

static unsigned long all_calls(void)
{
	unsigned long sum = 0;
	unsigned int i;

	for (i = 0; i < THREADS; i++)
		sum += workers[i].calls;
	return sum;
}

/* Waits for calls on other CPUs or, with @yield, on this one as well. */
static void let_work(bool yield)
{
	unsigned long from = all_calls();
	unsigned int tries = 0;

	if (yield)
		sched_yield();
	while (all_calls() < from + 4 * THREADS)
		if (++tries % 1024 == 0)
			sched_yield();
}

FIXTURE_VARIANT(module)
{
	probed_fn function;
	unsigned int flags;
	unsigned int cycles;
};

FIXTURE_VARIANT_ADD(module, stepped) {
	.function = probed_lea,
	.flags = UPROBES_TEST_TASK,
	.cycles = CYCLES,
};

FIXTURE_VARIANT_ADD(module, nop) {
	.function = probed_nop,
	.flags = UPROBES_TEST_TASK,
	.cycles = CYCLES / 5,
};

FIXTURE_VARIANT_ADD(module, interrupt) {
	.function = probed_push,
	.flags = UPROBES_TEST_INTERRUPT | UPROBES_TEST_EARLY,
	.cycles = CYCLES / 5,
};

TEST_F_TIMEOUT(module, every_hit_once, 2 * TIMEOUT)
{
	unsigned long handled = 0, on = 0, off = 0, calls = 0;
	struct uprobes_test_register how = {
		.pid = getpid(),
		.vaddr = (unsigned long)variant->function,
		.flags = variant->flags,
		.add_si = 1,
	};
	struct uprobes_test_state state;
	unsigned int i;

	function = variant->function;
	for (i = 0; i < THREADS; i++)
		ASSERT_EQ(0, pthread_create(&workers[i].thread, NULL, work, &workers[i]));

	for (i = 0; i < variant->cycles; i++) {
		int id;

		epoch = 4UL * i + COMING;
		id = dev_register_how(self->dev, &how);
		ASSERT_LT(0, id) TH_LOG("cycle %u: %d", i, id);
		epoch = 4UL * i + ON;
		let_work(i % 4 == 0);
		epoch = 4UL * i + GOING;
		ASSERT_EQ(0, dev_unregister(self->dev, id));
		epoch = 4UL * i + OFF;
		let_work(i % 4 == 1);
	}
	stop = true;
	for (i = 0; i < THREADS; i++) {
		ASSERT_EQ(0, pthread_join(workers[i].thread, NULL));
		EXPECT_EQ(0, workers[i].wrong);
		handled += workers[i].handled;
		on += workers[i].surely_on;
		off += workers[i].surely_off;
		calls += workers[i].calls;
	}
	TH_LOG("%u cycles, %lu calls: %lu on, %lu off, %lu handled", variant->cycles, calls,
	       on, off, handled);
	ASSERT_EQ(0, dev_state(self->dev, &state));
	EXPECT_EQ(state.ended_hits, handled);
	/* The test is void unless it saw both. */
	EXPECT_LT(variant->cycles, on);
	EXPECT_LT(variant->cycles, off);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

TEST_HARNESS_MAIN
