// SPDX-License-Identifier: GPL-2.0
/* Several engines on one thread: order of callbacks, and arbitration of actions. */
#include "device_fixture.h"

#define RETURNS(engine, what, value)	\
	ANSWER(self->dev, .id = engine, .callback = UTRACE_TEST_##what, .action = value)

/* Engines are called in the order of attachment, except at system-call entry. */
DEVICE_TEST(order)
{
	unsigned long events = EVENT(QUIESCE) | EVENT(EXIT) | EVENT(DEATH) | EVENT(REAP);

	ATTACH(events);
	ATTACH(events);
	ATTACH(events);
	BEGIN(do_exit, 0);
	EXPECT_EQ(0, ENDED());
	TOLD("a.quiesce:exit a.exit b.quiesce:exit b.exit c.quiesce:exit c.exit "
	     "a.quiesce:death a.death b.quiesce:death b.death c.quiesce:death c.death "
	     "a.reap b.reap c.reap", 15);
}

/* Discards records up to the first entry to system call @nr, which is discarded too. */
static void let_in(struct __test_metadata *_metadata, int dev, int nr)
{
	struct utrace_test_record record;

	do {
		ASSERT_TRUE(next_record(dev, UTRACE_TEST_SYSCALL_ENTRY, &record));
	} while (record.arg[0] != nr);
}

DEVICE_TEST(reverse_at_entry)
{
	int a = ATTACH(UTRACE_EVENT_SYSCALL), b = ATTACH(UTRACE_EVENT_SYSCALL);
	int c = ATTACH(UTRACE_EVENT_SYSCALL);
	struct utrace_test_record record;

	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	let_in(_metadata, self->dev, SYS_getpid);
	/* let_in() has consumed the first record, the one of c. */
	TOLD("b.entry a.entry a.return b.return c.return", 5);
	EXPECT_EQ(a + 1, b);
	EXPECT_EQ(b + 1, c);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_SYSCALL_ENTRY, record.callback);
	EXPECT_EQ(c, record.id);
}

/* Each engine finds the smallest action of the engines before it. */
DEVICE_TEST(smallest_action_is_found)
{
	int a = ATTACH(EVENT(PATH) | EVENT(CLONE)), b = ATTACH(EVENT(CLONE));
	int c = ATTACH(EVENT(CLONE)), d = ATTACH(EVENT(CLONE)), e = ATTACH(EVENT(CLONE));

	RETURNS(b, CLONE, UTRACE_BLOCKSTEP);
	RETURNS(c, CLONE, UTRACE_REPORT);
	RETURNS(d, CLONE, UTRACE_SINGLESTEP);
	/* Steps end in SIGTRAP, which the program must not get. */
	ANSWER(self->dev, .id = e, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_SIGNAL_IGN | UTRACE_RESUME);
	ASSERT_EQ(0, dev_set_events(self->dev, e, EVENT(CLONE) | UTRACE_EVENT_SIGNAL_ALL));
	ASSERT_LT(0, CALL(do_fork, 0));
	EXPECT_EQ(UTRACE_RESUME, NEXT(UTRACE_TEST_CLONE).found);
	EXPECT_EQ(UTRACE_RESUME, NEXT(UTRACE_TEST_CLONE).found);
	EXPECT_EQ(UTRACE_BLOCKSTEP, NEXT(UTRACE_TEST_CLONE).found);
	EXPECT_EQ(UTRACE_REPORT, NEXT(UTRACE_TEST_CLONE).found);
	EXPECT_EQ(UTRACE_REPORT, NEXT(UTRACE_TEST_CLONE).found);
	EXPECT_LT(0, a);
}

/* UTRACE_STOP overrides all other actions. Only the engine that asked for it can end it. */
DEVICE_TEST(one_stop_is_enough)
{
	int a = ATTACH(EVENT(CLONE)), b = ATTACH(EVENT(CLONE));

	RETURNS(a, CLONE, UTRACE_STOP);
	BEGIN(do_fork, 0);
	NEXT(UTRACE_TEST_CLONE);
	EXPECT_EQ(UTRACE_STOP, NEXT(UTRACE_TEST_CLONE).found);
	/* The thread stops on its way back to user mode from fork(). */
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, b, UTRACE_RESUME));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_EQ(0, dev_control(self->dev, b, UTRACE_DETACH));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, a, UTRACE_RESUME));
	EXPECT_LT(0, END());
}

DEVICE_TEST(two_stops)
{
	int a = ATTACH(0), b = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(a);
	EXPECT_EQ(0, dev_control(self->dev, b, UTRACE_STOP));
	EXPECT_EQ(0, dev_control(self->dev, a, UTRACE_RESUME));
	EXPECT_TRUE(spins_not());
	/* a has resumed the thread, so the stop that remains is b's. */
	EXPECT_EQ(-EINVAL, dev_prepare(self->dev, a));
	EXPECT_EQ(0, dev_control(self->dev, b, UTRACE_DETACH));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* An engine is detached if its callback returns DETACH. The other engines stay. */
DEVICE_TEST(detach_in_callback)
{
	int a = ATTACH(EVENT(CLONE));

	ATTACH(EVENT(CLONE));
	RETURNS(a, CLONE, UTRACE_DETACH);
	ASSERT_LT(0, CALL(do_fork, 0));
	ASSERT_LT(0, CALL(do_fork, 0));
	TOLD("a.clone b.clone b.clone", 3);
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, a, UTRACE_DETACH));
	EXPECT_EQ(-ESRCH, dev_barrier(self->dev, a));
	ASSERT_EQ(0, dev_put(self->dev, a));
	EXPECT_TRUE(released(self->dev, a, 1));
}

/* A callback detaches its own engine by utrace_control(). */
DEVICE_TEST(control_in_callback)
{
	struct utrace_test_record record;
	int a = ATTACH(EVENT(CLONE));

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_BARRIER_ME);
	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_CONTROL_ME, .value[0] = UTRACE_DETACH);
	ASSERT_LT(0, CALL(do_fork, 0));
	/* A barrier does not wait for the callback that calls it. */
	EXPECT_EQ(0, NEXT(ANY).result);
	ASSERT_LT(0, CALL(do_fork, 0));
	record = NEXT(ANY);
	EXPECT_TRUE(record.result == 0 || record.result == -EINPROGRESS);
	ASSERT_LT(0, CALL(do_fork, 0));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, a, UTRACE_DETACH));
}

/* An engine that a callback attaches misses the current event, and gets the next. */
DEVICE_TEST(attach_in_callback)
{
	int a = ATTACH(EVENT(CLONE));

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_SECOND, .callbacks = UTRACE_TEST_ALL_CALLBACKS,
	       .events = EVENT(CLONE));
	ASSERT_LT(0, CALL(do_fork, 0));
	ASSERT_LT(0, CALL(do_fork, 0));
	TOLD("a.clone a.clone b.clone", 3);
	EXPECT_TRUE(no_record(self->dev));
}

/* The same holds at system-call entry, where the new engine would be called first. */
DEVICE_TEST(attach_at_entry)
{
	int a = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_SYSCALL_ENTRY,
	       .action = UTRACE_RESUME, .times = 1,
	       .flags = UTRACE_TEST_SECOND | UTRACE_TEST_ONLY, .match = SYS_getpid,
	       .callbacks = UTRACE_TEST_ALL_CALLBACKS, .events = UTRACE_EVENT_SYSCALL);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	let_in(_metadata, self->dev, SYS_getpid);
	TOLD("a.return b.return b.entry a.entry a.return b.return", 6);
}

/* Each engine finds the action that the engine before it chose for a signal. */
DEVICE_TEST(signal_is_passed_on)
{
	int a = ATTACH(UTRACE_EVENT_SIGNAL_ALL), b = ATTACH(UTRACE_EVENT_SIGNAL_ALL);

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_SIGNAL_IGN | UTRACE_RESUME,
	       .flags = UTRACE_TEST_ONLY, .match = SIGTERM);
	ASSERT_EQ(0, CALL(do_kill_self, SIGTERM));
	EXPECT_EQ(UTRACE_SIGNAL_TERM, NEXT(ANY).found & UTRACE_SIGNAL_MASK);
	EXPECT_EQ(UTRACE_SIGNAL_IGN, NEXT(ANY).found & UTRACE_SIGNAL_MASK);
	EXPECT_LT(a, b);
}

/* An engine with QUIESCE only does not change the answers of others. */
DEVICE_TEST(quiesce_keeps_the_answer)
{
	int a = ATTACH(UTRACE_EVENT_SIGNAL_ALL | EVENT(SYSCALL_ENTRY));

	ATTACH(EVENT(QUIESCE));
	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_SIGNAL_IGN | UTRACE_RESUME,
	       .flags = UTRACE_TEST_ONLY, .match = SIGTERM);
	EXPECT_EQ(0, CALL(do_kill_self, SIGTERM));
	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_SYSCALL_ENTRY,
	       .action = UTRACE_SYSCALL_ABORT | UTRACE_RESUME,
	       .flags = UTRACE_TEST_ONLY, .match = SYS_getpid);
	EXPECT_EQ(-ENOSYS, CALL(do_getpid, 0));
}

TEST_HARNESS_MAIN
