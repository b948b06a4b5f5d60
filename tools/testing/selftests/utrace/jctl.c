// SPDX-License-Identifier: GPL-2.0
/* Job control: its reports to engines, and its function beside them. */
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
 * Each thread reports to its engine, and one of them notifies the parent. If they
 * stop at the same time it may be none (see report_jctl), but not in every round,
 * and never two.
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

/* A group stop of a thread that an engine has stopped: it begins and ends within the stop. */
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

/* An engine stops a thread in a group stop: the engine's stop outlasts SIGCONT. */
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

/* A thread in a group stop can be examined if utrace_control(STOP) has returned 0. */
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

/* Attaching and detaching engines does not change a stopped process. */
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

/* The terminal's ^Z, for a job of a shell: a process group with a parent outside it. */
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

/* The program's handler of SIGCONT runs. */
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
