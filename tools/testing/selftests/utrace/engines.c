// SPDX-License-Identifier: GPL-2.0
/* Several engines on one thread: order, and who wins. */
#include "device_fixture.h"

#define RETURNS(engine, what, value)	\
	ANSWER(self->dev, .id = engine, .callback = UTRACE_TEST_##what, .action = value)

/* In the order in which they were attached, but for entries to system calls. */
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

/* Returns from system calls only: told() has to begin with an entry. */
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
	/* That was the first of them. */
	TOLD("b.entry a.entry a.return b.return c.return", 5);
	EXPECT_EQ(a + 1, b);
	EXPECT_EQ(b + 1, c);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_SYSCALL_ENTRY, record.callback);
	EXPECT_EQ(c, record.id);
}

/* Each finds the smallest action of those before it. */
DEVICE_TEST(smallest_action_is_found)
{
	int a = ATTACH(EVENT(PATH) | EVENT(CLONE)), b = ATTACH(EVENT(CLONE));
	int c = ATTACH(EVENT(CLONE)), d = ATTACH(EVENT(CLONE)), e = ATTACH(EVENT(CLONE));

	RETURNS(b, CLONE, UTRACE_BLOCKSTEP);
	RETURNS(c, CLONE, UTRACE_REPORT);
	RETURNS(d, CLONE, UTRACE_SINGLESTEP);
	/* Steps lead to SIGTRAP, which is not for the program. */
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

/* A stop is stronger than all else, and only who asked for it takes it back. */
DEVICE_TEST(one_stop_is_enough)
{
	int a = ATTACH(EVENT(CLONE)), b = ATTACH(EVENT(CLONE));

	RETURNS(a, CLONE, UTRACE_STOP);
	BEGIN(do_fork, 0);
	NEXT(UTRACE_TEST_CLONE);
	EXPECT_EQ(UTRACE_STOP, NEXT(UTRACE_TEST_CLONE).found);
	/* It reads what fork() returned, and is then stopped on the way back. */
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
	/* The first has resumed it: now it is not its stop any more. */
	EXPECT_EQ(-EINVAL, dev_prepare(self->dev, a));
	EXPECT_EQ(0, dev_control(self->dev, b, UTRACE_DETACH));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* One that returns DETACH is gone; the others are not. */
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

/* The same by utrace_control() in a callback. */
DEVICE_TEST(control_in_callback)
{
	struct utrace_test_record record;
	int a = ATTACH(EVENT(CLONE));

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_BARRIER_ME);
	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_CONTROL_ME, .value[0] = UTRACE_DETACH);
	ASSERT_LT(0, CALL(do_fork, 0));
	/* A thread does not wait for itself. */
	EXPECT_EQ(0, NEXT(ANY).result);
	ASSERT_LT(0, CALL(do_fork, 0));
	record = NEXT(ANY);
	EXPECT_TRUE(record.result == 0 || record.result == -EINPROGRESS);
	ASSERT_LT(0, CALL(do_fork, 0));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, a, UTRACE_DETACH));
}

/* An engine that a callback attaches misses this event, and sees the next. */
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

/* Also at the entry to a system call, where it would be the first. */
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

/* What one says of a signal is what the next one finds. */
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

/* An engine that is only told of quiescing does not change an answer. */
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
