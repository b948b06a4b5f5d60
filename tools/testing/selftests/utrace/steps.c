// SPDX-License-Identifier: GPL-2.0
/* Steps of engines, invisible to the program and to a debugger. */
#define _GNU_SOURCE
#include <sched.h>

#include "ptrace_fixture.h"

#define TF		0x100

#define ATTACH_FOR_STEPS()	ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL)

/* Has the target, which must be spinning, make a step for an engine. */
#define STEP(id) do {							\
	struct utrace_test_record __step;				\
									\
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));	\
	do {								\
		__step = NEXT(UTRACE_TEST_SIGNAL);			\
	} while ((__step.found & UTRACE_SIGNAL_MASK) != UTRACE_SIGNAL_STEP); \
	EXPECT_EQ(SIGTRAP, __step.arg[0]);				\
	EXPECT_EQ(TRAP_TRACE, __step.arg[1]);				\
	EXPECT_EQ(-1, __step.arg[2]);					\
} while (0)

/* An engine ends its steps by detaching in a report. */
DEVICE_TEST(detach_in_report)
{
	unsigned int i, rounds = scaled(100);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int ret, id = ATTACH_FOR_STEPS();
		uint64_t end = now_ms() + 20000;

		ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
		       .flags = UTRACE_TEST_ONLY, .match = SIGTRAP,
		       .action = UTRACE_SINGLESTEP | UTRACE_SIGNAL_IGN);
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
		NEXT(UTRACE_TEST_SIGNAL);
		ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
		       .flags = UTRACE_TEST_ONLY, .match = 0,
		       .action = UTRACE_DETACH | UTRACE_SIGNAL_IGN);
		ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_QUIESCE,
		       .action = UTRACE_SINGLESTEP);
		do {
			ret = dev_control(self->dev, id, UTRACE_INTERRUPT);
		} while (!ret && now_ms() < end);
		ASSERT_EQ(-ESRCH, ret);
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
		ASSERT_TRUE(spins()) TH_LOG("after %u rounds", i);
	}
	shared->go = 1;
	EXPECT_EQ(0, END());
}

static long kill_init_from_inside(long arg)
{
	pid_t pid = fork();

	if (!pid) {
		kill(1, SIGTERM);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return getpid();
}

/* After a step, an init process still ignores signals that it has no handler for. */
DEVICE_TEST(init)
{
	int ret, id;

	ASSERT_EQ(0, target_stop(&self->target));
	ASSERT_EQ(0, unshare(CLONE_NEWPID));
	ASSERT_TRUE(target_start(&self->target));
	ASSERT_EQ(1, CALL(kill_init_from_inside, 0));
	id = ATTACH_FOR_STEPS();
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
	NEXT(UTRACE_TEST_SIGNAL);
	/* The callback may still be executing. */
	ret = dev_control(self->dev, id, UTRACE_DETACH);
	ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
	ASSERT_EQ(-ESRCH, dev_barrier(self->dev, id));
	shared->go = 1;
	EXPECT_EQ(0, END());
	EXPECT_EQ(1, CALL(kill_init_from_inside, 0));
}

static long handles_and_blocks(long sig)
{
	struct sigaction action;
	sigset_t mask;

	if (sigaction(sig, NULL, &action) || sigprocmask(SIG_BLOCK, NULL, &mask))
		return -errno;
	return (action.sa_handler != SIG_DFL) + 2 * sigismember(&mask, sig);
}

/* Steps do not change the program's disposition of SIGTRAP. */
DEVICE_TEST(disposition)
{
	int i, id;

	ASSERT_EQ(0, CALL(do_handle, SIGTRAP));
	ASSERT_EQ(0, CALL(do_block, SIGTRAP));
	id = ATTACH_FOR_STEPS();
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < 5; i++)
		STEP(id);
	shared->go = 1;
	EXPECT_EQ(0, END());
	EXPECT_EQ(3, CALL(handles_and_blocks, SIGTRAP));
	EXPECT_EQ(0, shared->value);
}

/* A step requested during the report of the step before is not lost. */
DEVICE_TEST(asked_for_in_report)
{
	int id = ATTACH_FOR_STEPS();

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL, .times = 1,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_BLOCK, .match = SIGTRAP,
	       .action = UTRACE_RESUME | UTRACE_SIGNAL_IGN);
	STEP(id);
	/* The callback is still executing. */
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
	ASSERT_EQ(0, dev_go(self->dev, id));
	EXPECT_EQ(UTRACE_SIGNAL_STEP, NEXT(UTRACE_TEST_SIGNAL).found & UTRACE_SIGNAL_MASK);
	EXPECT_TRUE(spins());
}

/* A step is reported only to the engine that requested it, and not to a debugger. */
DEVICE_TEST(under_a_debugger)
{
	int id = ATTACH_FOR_STEPS(), other = ATTACH_FOR_STEPS();
	struct utrace_test_count count;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	STEP(id);
	EXPECT_TRUE(spins());
	EXPECT_EQ(0, waitpid(PID, NULL, WNOHANG | __WALL));
	ASSERT_EQ(0, dev_count(self->dev, other, &count));
	EXPECT_EQ(0, count.calls[UTRACE_TEST_SIGNAL]);

	/* The debugger resumes the thread without a step, so only the engine's step remains. */
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	drop_records(self->dev);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
	PTRACE(CONT, NULL, NULL);
	EXPECT_EQ(UTRACE_SIGNAL_STEP, NEXT(UTRACE_TEST_SIGNAL).found & UTRACE_SIGNAL_MASK);
	EXPECT_TRUE(spins());
	EXPECT_EQ(0, waitpid(PID, NULL, WNOHANG | __WALL));
}

/* An engine and a debugger step at the same time: both get the step, and go on separately. */
DEVICE_TEST(with_a_debugger)
{
	int i, id = ATTACH_FOR_STEPS();
	struct user_regs_struct before, after;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	for (i = 0; i < 5; i++) {
		PTRACE(GETREGS, NULL, &before);
		EXPECT_EQ(0, before.eflags & TF);
		drop_records(self->dev);
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
		PTRACE(SINGLESTEP, NULL, NULL);
		EXPECT_EQ(SIGTRAP, traced_stop(PID));
		EXPECT_EQ(UTRACE_SIGNAL_STEP,
			  NEXT(UTRACE_TEST_SIGNAL).found & UTRACE_SIGNAL_MASK);
		PTRACE(GETREGS, NULL, &after);
		EXPECT_NE(before.rip, after.rip);
		/* The engine's step is over, which does not end the debugger's. */
		PTRACE(SINGLESTEP, NULL, NULL);
		EXPECT_EQ(SIGTRAP, traced_stop(PID));
	}
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
}

/* As from a debugger, the TF of a step is hidden from an engine: it is not the program's. */
DEVICE_TEST(hidden_flag)
{
	struct user_regs_struct regs;
	int ret, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	PTRACE(SEIZE, NULL, NULL);
	PTRACE(INTERRUPT, NULL, NULL);
	ASSERT_EQ(EVENT_STOP, traced_stop(PID));
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	PTRACE(SINGLESTEP, NULL, NULL);
	ASSERT_TRUE(wait_state(PID, PID, "t"));
	do
		ret = dev_get_regs(self->dev, id, &regs);
	while (ret == -EAGAIN);
	ASSERT_EQ(0, ret);
	EXPECT_EQ(0, regs.eflags & TF);
	EXPECT_EQ(0, dev_set_regs(self->dev, id, &regs));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	/* The debugger's step is still pending. */
	EXPECT_EQ(SIGTRAP, traced_stop(PID));
	PTRACE(DETACH, NULL, NULL);
	EXPECT_TRUE(spins());
}

static __attribute__((noipa)) long step_itself(long arg)
{
	long turns = shared->value;

	asm volatile("pushf; orq $0x100, (%%rsp); popf\n"
		     "nop; nop; nop\n"
		     "pushf; andq $~0x100, (%%rsp); popf" ::: "memory", "cc");
	return shared->value - turns;
}

/* A program that steps itself still gets its signals. */
DEVICE_TEST(program_steps)
{
	long traps;
	int id;

	ASSERT_EQ(0, CALL(do_handle, SIGTRAP));
	traps = CALL(step_itself, 0);
	EXPECT_LE(3, traps);
	id = ATTACH_FOR_STEPS();
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_SINGLESTEP));
	EXPECT_EQ(traps, CALL(step_itself, 0));
}

TEST_HARNESS_MAIN
