// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of utrace engines on threads that hit breakpoints: engines request
 * steps or cancel them while a displaced instruction is stepped, and engines
 * hold signals.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <sys/mman.h>

#include "device_fixture.h"
#include "texts.h"
#include "ubp_selftest.h"

#define LENGTH	(256UL << 20)

#define ATTACH_FOR_STEPS()	ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL)

/* Inserts a breakpoint in the target, which is removed when the test ends. */
#define PROBE(at) ({							\
	int __ubp = ubp_open();						\
	int __id = ubp_insert(__ubp, self->target.pid, at, UBP_TEST_TASK, NULL); \
									\
	ASSERT_LT(0, __id);						\
	(struct probe) { __ubp, __id };					\
})

struct probe {
	int dev, id;
};

/* Returns whether the target handles a signal soon. */
static bool handles_signals(pid_t pid)
{
	long before = shared->value;
	uint64_t end = now_ms() + 5000;

	if (kill(pid, SIGUSR1))
		return false;
	while (shared->value == before && now_ms() < end)
		sleep_ms(1);
	return shared->value != before;
}

static long do_load(long until)
{
	long value = 42;

	do_handle(SIGUSR1);
	while (shared->go != until) {
		if (load_first(&value) != 42)
			return -1;
		shared->turns++;
	}
	return 0;
}

/*
 * An engine that steps the target is detached, mostly while the target is on
 * the way to a slot, in it, or on the way back. The step must neither become a
 * signal nor keep signals from the target.
 */
DEVICE_TEST(detached_during_a_step)
{
	unsigned int i, rounds = scaled(300);
	struct probe probes[] = { PROBE(load_value), PROBE(load_swap) };

	BEGIN(do_load, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int ret, id = ATTACH_FOR_STEPS();

		ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
		       .flags = UTRACE_TEST_ONLY, .match = SIGTRAP,
		       .action = UTRACE_SINGLESTEP | UTRACE_SIGNAL_IGN);
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
		NEXT(UTRACE_TEST_SIGNAL);
		usleep(i % 37);
		ret = dev_control(self->dev, id, UTRACE_DETACH);
		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
		ASSERT_TRUE(spins()) TH_LOG("after %u rounds", i);
		ASSERT_TRUE(handles_signals(self->target.pid)) TH_LOG("after %u rounds", i);
	}
	shared->go = 1;
	EXPECT_EQ(0, END());
	close(probes[0].dev);
	close(probes[1].dev);
}

/*
 * Calls with a stack that is not present, which only the CPU detects, in a
 * slot.
 */
static long do_call(long until)
{
	char *stack = mmap(NULL, UBP_PAGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (stack == MAP_FAILED)
		return -errno;
	while (shared->go != until) {
		if (madvise(stack, UBP_PAGE, MADV_DONTNEED))
			return -errno;
		call_first(stack + UBP_PAGE, 0);
		shared->turns++;
	}
	return 0;
}

/*
 * An engine requests a step of a thread that is being stepped for a breakpoint,
 * and gets it.
 */
DEVICE_TEST(requested_during_a_step)
{
	unsigned int i, rounds = scaled(300);
	struct probe probe = PROBE(call_indirect);
	int id = ATTACH_FOR_STEPS();

	BEGIN(do_call, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		struct utrace_test_record record;

		usleep(i % 37);
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
		do {
			ASSERT_TRUE(next_record(self->dev, UTRACE_TEST_SIGNAL, &record))
				TH_LOG("no step after %u rounds", i);
		} while ((record.found & UTRACE_SIGNAL_MASK) != UTRACE_SIGNAL_STEP);
		ASSERT_TRUE(spins()) TH_LOG("after %u rounds", i);
	}
	shared->go = 1;
	EXPECT_EQ(0, END());
	close(probe.dev);
}

static long do_fill_holding(long arg)
{
	char *memory = mmap(NULL, LENGTH, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	siginfo_t info = { .si_signo = SIGSEGV, .si_code = SEGV_MAPERR };

	if (memory == MAP_FAILED)
		return -errno;
	do_handle(SIGUSR1);
	/* The signal looks like an exception's, but an engine holds it. */
	if (syscall(SYS_rt_tgsigqueueinfo, getpid(), getpid(), SIGSEGV, &info))
		return -errno;
	shared->phase = 1;
	fill(memory, LENGTH);
	munmap(memory, LENGTH);
	return shared->value;
}

/*
 * While an engine holds an exception's signal, other signals still wait for an
 * instruction.
 */
DEVICE_TEST(held_signal_of_an_exception)
{
	struct probe probe = PROBE(fill_rep);
	struct ubp_test_count count;
	int i, id = ATTACH_FOR_STEPS();

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .flags = UTRACE_TEST_ONLY, .match = SIGSEGV,
	       .action = UTRACE_RESUME | UTRACE_SIGNAL_IGN | UTRACE_SIGNAL_HOLD);
	BEGIN(do_fill_holding, 0);
	ASSERT_TRUE(reaches(&shared->phase, 1));
	for (i = 0; i < 5; i++) {
		kill(self->target.pid, SIGUSR1);
		sleep_ms(10);
	}
	EXPECT_LT(0, END());
	ASSERT_EQ(0, ubp_count(probe.dev, probe.id, &count));
	EXPECT_EQ(1, count.task_hits);
	close(probe.dev);
	KILLED();
}

TEST_HARNESS_MAIN
