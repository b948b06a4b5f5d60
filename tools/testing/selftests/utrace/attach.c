// SPDX-License-Identifier: GPL-2.0
/* Attachment, lookup and release of engines, with each error. */
#include "device_fixture.h"

#define ALL	UTRACE_TEST_ALL_CALLBACKS
#define OTHER	(CALLBACK(QUIESCE) | CALLBACK(EXIT))

static int attach(int dev, pid_t tid, int flags, unsigned int callbacks, int data)
{
	return dev_attach_how(dev, &(struct utrace_test_attach){
		.tid = tid, .flags = flags, .callbacks = callbacks, .data = data });
}

#define ATTACH_HOW(flags, callbacks, data)	\
	attach(self->dev, self->target.pid, flags, callbacks, data)
#define MATCH(what)	UTRACE_ATTACH_MATCH_##what
#define CREATE		UTRACE_ATTACH_CREATE
#define EXCLUSIVE	(UTRACE_ATTACH_CREATE | UTRACE_ATTACH_EXCLUSIVE)

DEVICE_TEST(finds)
{
	int a = ATTACH_HOW(CREATE, ALL, 0);
	int b = ATTACH_HOW(CREATE, OTHER, 0);
	/* The ops of a, and the data of b. */
	int c = ATTACH_HOW(CREATE, ALL, b);

	ASSERT_LT(0, a);
	ASSERT_LT(0, b);
	ASSERT_LT(0, c);
	EXPECT_EQ(a, ATTACH_HOW(MATCH(OPS), ALL, 0));
	EXPECT_EQ(b, ATTACH_HOW(MATCH(OPS), OTHER, 0));
	EXPECT_EQ(a, ATTACH_HOW(MATCH(DATA), OTHER, a));
	EXPECT_EQ(b, ATTACH_HOW(MATCH(DATA), ALL, b));
	EXPECT_EQ(a, ATTACH_HOW(MATCH(OPS) | MATCH(DATA), ALL, a));
	EXPECT_EQ(b, ATTACH_HOW(MATCH(OPS) | MATCH(DATA), OTHER, b));
	EXPECT_EQ(c, ATTACH_HOW(MATCH(OPS) | MATCH(DATA), ALL, b));

	EXPECT_EQ(-ENOENT, ATTACH_HOW(MATCH(OPS), ALL & ~OTHER, 0));
	EXPECT_EQ(-ENOENT, ATTACH_HOW(MATCH(DATA), ALL, 0));
	EXPECT_EQ(-ENOENT, ATTACH_HOW(MATCH(OPS) | MATCH(DATA), OTHER, a));
	/* None of these engines is on another thread. */
	EXPECT_EQ(-ENOENT, attach(self->dev, getpid(), MATCH(OPS), ALL, 0));
}

DEVICE_TEST(exclusive)
{
	int a = ATTACH_HOW(EXCLUSIVE | MATCH(OPS), ALL, 0);

	ASSERT_LT(0, a);
	EXPECT_EQ(-EEXIST, ATTACH_HOW(EXCLUSIVE | MATCH(OPS), ALL, 0));
	EXPECT_EQ(-EEXIST, ATTACH_HOW(EXCLUSIVE | MATCH(OPS) | MATCH(DATA), ALL, a));
	EXPECT_EQ(-EEXIST, ATTACH_HOW(EXCLUSIVE | MATCH(DATA), OTHER, a));
	/* No engine matches these. */
	EXPECT_LT(0, ATTACH_HOW(EXCLUSIVE | MATCH(OPS), OTHER, 0));
	EXPECT_LT(0, ATTACH_HOW(EXCLUSIVE | MATCH(OPS) | MATCH(DATA), ALL, 0));
	/* Without EXCLUSIVE, an engine is attached although another one matches. */
	EXPECT_LT(a, ATTACH_HOW(CREATE | MATCH(OPS), ALL, 0));
}

DEVICE_TEST(refused)
{
	struct utrace_test_attach how = {
		.tid = self->target.pid,
		.flags = CREATE,
		.callbacks = ALL,
		.how = UTRACE_TEST_NO_OPS,
	};
	pid_t ended = fork();

	if (!ended)
		_exit(0);
	EXPECT_EQ(-EINVAL, dev_attach_how(self->dev, &how));
	how.how |= UTRACE_TEST_BY_PID;
	EXPECT_EQ(-EINVAL, dev_attach_how(self->dev, &how));
	EXPECT_EQ(-EPERM, attach(self->dev, 2, CREATE, ALL, 0));
	EXPECT_EQ(-EINVAL, ATTACH_HOW(CREATE | 0x100, ALL, 0));

	ASSERT_TRUE(wait_state(ended, ended, "Z"));
	EXPECT_EQ(-ESRCH, attach(self->dev, ended, CREATE, ALL, 0));
	EXPECT_EQ(-ESRCH, dev_attach_process(self->dev, ended, EVENT(EXIT)));
	ASSERT_EQ(ended, waitpid(ended, NULL, 0));
	EXPECT_EQ(-ESRCH, attach(self->dev, ended, CREATE, ALL, 0));
	EXPECT_EQ(-EPERM, dev_attach_process(self->dev, 2, EVENT(EXIT)));
	/* The failed calls have left no engine behind. */
	EXPECT_TRUE(dev_clean(self->dev));
}

/* The functions that take a struct pid. */
DEVICE_TEST(by_pid)
{
	struct utrace_test_attach how = {
		.tid = self->target.pid,
		.flags = CREATE,
		.callbacks = ALL,
		.how = UTRACE_TEST_BY_PID,
	};
	struct utrace_test_call call = { .how = UTRACE_TEST_BY_PID };
	int id = dev_attach_how(self->dev, &how);

	ASSERT_LT(0, id);
	call.id = id;
	call.events = EVENT(SYSCALL_ENTRY);
	EXPECT_EQ(0, dev_call(self->dev, UTRACE_TEST_EVENTS, &call));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_LT(0, NEXT(UTRACE_TEST_SYSCALL_ENTRY).tid);
	EXPECT_EQ(0, dev_call(self->dev, UTRACE_TEST_BARRIER, &call));
	call.action = UTRACE_DETACH;
	EXPECT_EQ(0, dev_call(self->dev, UTRACE_TEST_CONTROL, &call));
	EXPECT_EQ(-ESRCH, dev_call(self->dev, UTRACE_TEST_CONTROL, &call));
}

DEVICE_TEST(detached)
{
	int id = ATTACH(EVENT(QUIESCE) | EVENT(SYSCALL_ENTRY));

	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	/* The target is back in read(), so no callback is executing. */
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "S"));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
	drop_records(self->dev);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-ENOENT, ATTACH_HOW(MATCH(DATA), ALL, id));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(-ESRCH, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(-ESRCH, dev_set_events(self->dev, id, EVENT(EXIT)));
	EXPECT_EQ(-ESRCH, dev_barrier(self->dev, id));
}

/* release() is called once, after the last reference is put. */
DEVICE_TEST(release)
{
	int id = ATTACH(EVENT(EXIT));

	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_TRUE(released(self->dev, id, 0));
	ASSERT_EQ(0, dev_put(self->dev, id));
	EXPECT_TRUE(released(self->dev, id, 1));
}

/* The thread holds the last reference. */
DEVICE_TEST(release_with_the_thread)
{
	int a = ATTACH(EVENT(EXIT)), b = ATTACH(EVENT(EXIT) | EVENT(REAP));
	int c = ATTACH(0);

	ASSERT_EQ(0, dev_put(self->dev, a));
	ASSERT_EQ(0, dev_put(self->dev, b));
	ASSERT_EQ(0, dev_put(self->dev, c));
	EXPECT_TRUE(released(self->dev, a, 0));
	EXPECT_EQ(SIGKILL, KILLED());
	EXPECT_TRUE(released(self->dev, a, 1));
	EXPECT_TRUE(released(self->dev, b, 1));
	EXPECT_TRUE(released(self->dev, c, 1));
}

/* Shared data gets a release() for each engine that uses it. */
DEVICE_TEST(release_shared_data)
{
	int a = ATTACH_HOW(CREATE, ALL, 0), b;

	ASSERT_LT(0, a);
	b = ATTACH_HOW(CREATE, ALL, a);
	ASSERT_LT(0, b);
	ASSERT_EQ(0, dev_drop(self->dev, b));
	EXPECT_TRUE(released(self->dev, a, 1));
	ASSERT_EQ(0, dev_control(self->dev, a, UTRACE_DETACH));
	ASSERT_EQ(0, dev_put(self->dev, a));
	EXPECT_TRUE(released(self->dev, a, 2));
}

/* The engines of a process share their data, which is released once. */
DEVICE_TEST(release_process)
{
	struct utrace_test_state state;
	int i, id;

	for (i = 0; i < 4; i++)
		ASSERT_EQ(0, CALL(do_thread, false));
	id = dev_attach_process(self->dev, self->target.pid, EVENT(CLONE));
	ASSERT_LT(0, id);
	ASSERT_EQ(0, CALL(do_thread, false));
	ASSERT_EQ(0, dev_state(self->dev, &state));
	EXPECT_EQ(1, state.attached);
	EXPECT_TRUE(released(self->dev, id, 0));
	ASSERT_EQ(0, dev_drop(self->dev, id));
	/* A second release() would make the count of engines wrong. */
	EXPECT_TRUE(dev_clean(self->dev));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
}

/* Closing the file detaches all engines. */
DEVICE_TEST(close)
{
	struct utrace_test_state state;
	int other = dev_open();

	ASSERT_LE(0, other);
	ASSERT_LT(0, dev_attach(other, self->target.pid, ALL_EVENTS));
	ASSERT_LT(0, dev_attach_process(other, self->target.pid, ALL_EVENTS));
	ASSERT_EQ(0, dev_state(self->dev, &state));
	EXPECT_EQ(2, state.attached);
	ASSERT_EQ(0, close(other));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_TRUE(dev_clean(self->dev));
}

DEVICE_TEST(many)
{
	unsigned int i, count = scaled(1000), calls = 0;
	struct utrace_test_count counts;
	int first = 0, last = 0;

	for (i = 0; i < count; i++) {
		last = ATTACH(EVENT(EXIT));
		if (!first)
			first = last;
	}
	BEGIN(do_exit, 7);
	EXPECT_EQ(7 << 8, ENDED());
	for (i = first; i <= last; i++) {
		ASSERT_EQ(0, dev_count(self->dev, i, &counts));
		calls += counts.calls[UTRACE_TEST_EXIT];
	}
	EXPECT_EQ(count, calls);
}

/* An engine is on one thread only. A thread may attach one to itself. */
DEVICE_TEST(one_thread_only)
{
	struct utrace_test_record record;
	int id;

	ASSERT_EQ(0, CALL(do_thread, false));
	id = dev_attach(self->dev, shared->tid, EVENT(SYSCALL_ENTRY));
	ASSERT_LT(0, id);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_TRUE(no_record(self->dev));

	id = dev_attach(self->dev, getpid(), EVENT(SYSCALL_EXIT));
	ASSERT_LT(0, id);
	syscall(SYS_getppid);
	ASSERT_EQ(0, dev_set_events(self->dev, id, 0));
	do {
		record = NEXT(UTRACE_TEST_SYSCALL_EXIT);
	} while (record.arg[0] != SYS_getppid);
	EXPECT_EQ(getppid(), record.arg[1]);
	EXPECT_EQ(getpid(), record.tid);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
}

TEST_HARNESS_MAIN
