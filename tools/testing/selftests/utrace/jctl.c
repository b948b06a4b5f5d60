// SPDX-License-Identifier: GPL-2.0
/* Job control: what engines are told of it, and that they do not get in its way. */
#include "device_fixture.h"

#define KILL(sig)	ASSERT_EQ(0, kill(self->target.pid, sig))
#define STATE(states)	wait_state(self->target.pid, self->target.pid, states)

static void expect_stopped(struct __test_metadata *_metadata, pid_t pid)
{
	int status = 0;

	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	EXPECT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(SIGSTOP, WSTOPSIG(status));
}

static void expect_continued(struct __test_metadata *_metadata, pid_t pid)
{
	int status = 0;

	ASSERT_EQ(pid, waitpid(pid, &status, WCONTINUED));
	EXPECT_TRUE(WIFCONTINUED(status));
}

DEVICE_TEST(told)
{
	struct utrace_test_record record;

	ATTACH(EVENT(JCTL));
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_JCTL, record.callback);
	EXPECT_EQ(self->target.pid, record.tid);
	EXPECT_EQ(CLD_STOPPED, record.arg[0]);
	EXPECT_EQ(CLD_STOPPED, record.arg[1]);
	EXPECT_TRUE(no_record(self->dev));
	KILL(SIGCONT);
	expect_continued(_metadata, self->target.pid);
	record = NEXT(ANY);
	EXPECT_EQ(CLD_CONTINUED, record.arg[0]);
	EXPECT_EQ(CLD_CONTINUED, record.arg[1]);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_TRUE(no_record(self->dev));
}

/*
 * Of several threads one tells the parent, each its engine. It may be none if they
 * stop at the same time, see report_jctl: but not always, and never two.
 */
DEVICE_TEST(threads)
{
	enum { ROUNDS = 10 };
	struct utrace_test_record record;
	unsigned int i, round, notified, told = 0;

	ASSERT_EQ(0, CALL(do_thread, false));
	ASSERT_EQ(0, CALL(do_thread, false));
	ASSERT_LT(0, dev_attach_process(self->dev, self->target.pid, EVENT(JCTL)));
	for (round = 0; round < ROUNDS; round++) {
		KILL(SIGSTOP);
		expect_stopped(_metadata, self->target.pid);
		notified = 0;
		for (i = 0; i < 3; i++) {
			record = NEXT(ANY);
			EXPECT_EQ(CLD_STOPPED, record.arg[0]);
			notified += record.arg[1] == CLD_STOPPED;
		}
		EXPECT_GE(1, notified);
		told += notified;
		EXPECT_TRUE(no_record(self->dev));
		KILL(SIGCONT);
		expect_continued(_metadata, self->target.pid);
		EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
		EXPECT_EQ(CLD_CONTINUED, NEXT(ANY).arg[0]);
	}
	EXPECT_LT(0, told);
}

/* Stopped by an engine: a stop by a signal comes on top of it, and goes again. */
DEVICE_TEST(stop_of_the_stopped)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	KILL(SIGCONT);
	expect_continued(_metadata, self->target.pid);
	EXPECT_TRUE(spins_not());
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
}

DEVICE_TEST(engine_resumes_first)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(STATE("T"));
	KILL(SIGCONT);
	EXPECT_TRUE(spins());
}

/* The other way round: the engine's stop outlasts SIGCONT. */
DEVICE_TEST(engine_stops_the_stopped)
{
	int ret, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	KILL(SIGCONT);
	expect_continued(_metadata, self->target.pid);
	EXPECT_TRUE(STATE("t"));
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
}

/* What utrace_control() calls stopped can be looked at. */
DEVICE_TEST(examine_the_stopped)
{
	struct user_regs_struct regs;
	int ret, id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	ret = dev_control(self->dev, id, UTRACE_STOP);
	EXPECT_TRUE(ret == 0 || ret == -EINPROGRESS);
	EXPECT_EQ(ret ? -EAGAIN : 0, dev_prepare(self->dev, id));
	EXPECT_EQ(ret ? -EAGAIN : 0, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(ret ? -EAGAIN : 0, dev_finish(self->dev, id));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	KILL(SIGCONT);
	EXPECT_TRUE(spins());
}

/* A stopped process that gets and loses engines stays as it is. */
DEVICE_TEST(attach_to_the_stopped)
{
	int id;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	id = ATTACH(ALL_EVENTS);
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_REPORT));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(STATE("T"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_TRUE(STATE("T"));
	KILL(SIGCONT);
	EXPECT_TRUE(spins());
}

/* The terminal's ^Z, in a group of its own with a parent that is a shell's. */
static long lead_group(long arg)
{
	return setpgid(0, 0) ? -errno : 0;
}

DEVICE_TEST(tstp)
{
	int status;

	ATTACH(EVENT(JCTL) | UTRACE_EVENT_SIGNAL_ALL);
	ASSERT_EQ(0, CALL(lead_group, 0));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	ASSERT_EQ(0, kill(-self->target.pid, SIGTSTP));
	ASSERT_EQ(self->target.pid, waitpid(self->target.pid, &status, WUNTRACED));
	EXPECT_EQ(SIGTSTP, WSTOPSIG(status));
	EXPECT_TRUE(spins_not());
	TOLD("a.signal a.jctl", 2);
	ASSERT_EQ(0, kill(-self->target.pid, SIGCONT));
	expect_continued(_metadata, self->target.pid);
	EXPECT_TRUE(spins());
}

/* A program's handler of SIGCONT is run. */
DEVICE_TEST(handler_of_sigcont)
{
	ATTACH(EVENT(JCTL) | UTRACE_EVENT_SIGNAL_ALL);
	ASSERT_EQ(0, CALL(do_handle, SIGCONT));
	KILL(SIGSTOP);
	expect_stopped(_metadata, self->target.pid);
	KILL(SIGCONT);
	expect_continued(_metadata, self->target.pid);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(1, shared->value);
}

TEST_HARNESS_MAIN
