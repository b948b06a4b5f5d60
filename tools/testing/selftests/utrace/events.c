// SPDX-License-Identifier: GPL-2.0
/* Each event: its time, its thread and its arguments. */
#include <linux/sched.h>
#include <pthread.h>

#include "device_fixture.h"

static long stop_and_continue(long arg)
{
	pid_t pid = fork();

	/* The child continues this process once it has stopped. */
	if (!pid) {
		wait_state(getppid(), getppid(), "T");
		_exit(kill(getppid(), SIGCONT));
	}
	kill(getpid(), SIGSTOP);
	waitpid(pid, NULL, 0);
	return 0;
}

/* A way to cause an event. */
static const struct occasion {
	unsigned int event;
	unsigned int callback;
	target_fn prepare;
	long prepare_arg;
	target_fn fn;
	long arg;
} occasions[] = {
	{ _UTRACE_EVENT_REAP, UTRACE_TEST_REAP, NULL, 0, do_exit, 0 },
	{ _UTRACE_EVENT_CLONE, UTRACE_TEST_CLONE, NULL, 0, do_fork, 0 },
	{ _UTRACE_EVENT_CLONE, UTRACE_TEST_CLONE, NULL, 0, do_thread, true },
	{ _UTRACE_EVENT_EXEC, UTRACE_TEST_EXEC, NULL, 0, do_exec, 0 },
	{ _UTRACE_EVENT_EXIT, UTRACE_TEST_EXIT, NULL, 0, do_exit, 0 },
	{ _UTRACE_EVENT_EXIT, UTRACE_TEST_EXIT, NULL, 0, do_kill_self, SIGKILL },
	{ _UTRACE_EVENT_DEATH, UTRACE_TEST_DEATH, NULL, 0, do_exit, 0 },
	{ _UTRACE_EVENT_SYSCALL_ENTRY, UTRACE_TEST_SYSCALL_ENTRY, NULL, 0, do_getpid, 0 },
	{ _UTRACE_EVENT_SYSCALL_EXIT, UTRACE_TEST_SYSCALL_EXIT, NULL, 0, do_getpid, 0 },
	{ _UTRACE_EVENT_SIGNAL, UTRACE_TEST_SIGNAL, do_handle, SIGUSR1, do_kill_self, SIGUSR1 },
	{ _UTRACE_EVENT_SIGNAL_IGN, UTRACE_TEST_SIGNAL, do_ignore, SIGUSR1,
	  do_kill_self, SIGUSR1 },
	{ _UTRACE_EVENT_SIGNAL_IGN, UTRACE_TEST_SIGNAL, NULL, 0, do_kill_self, SIGWINCH },
	{ _UTRACE_EVENT_SIGNAL_STOP, UTRACE_TEST_SIGNAL, NULL, 0, stop_and_continue, 0 },
	{ _UTRACE_EVENT_SIGNAL_TERM, UTRACE_TEST_SIGNAL, NULL, 0, do_kill_self, SIGTERM },
	{ _UTRACE_EVENT_SIGNAL_CORE, UTRACE_TEST_SIGNAL, NULL, 0, do_kill_self, SIGQUIT },
	{ _UTRACE_EVENT_JCTL, UTRACE_TEST_JCTL, NULL, 0, stop_and_continue, 0 },
	{ _UTRACE_EVENT_PATH, UTRACE_TEST_PATH, NULL, 0, do_open, 0 },
	{ _UTRACE_EVENT_LAST_EXIT, UTRACE_TEST_LAST_EXIT, NULL, 0, do_exit, 0 },
};

FIXTURE(occasion)
{
	int dev;
};

FIXTURE_SETUP(occasion)
{
	self->dev = geteuid() ? -EPERM : dev_open();
	if (self->dev < 0)
		SKIP(return, "needs root and " UTRACE_TEST_DEVICE);
	ASSERT_TRUE(share());
}

FIXTURE_TEARDOWN(occasion)
{
	EXPECT_TRUE(dev_clean(self->dev));
	close(self->dev);
}

/* Whether @callback returns an action. */
static bool has_action(unsigned int callback)
{
	return callback != UTRACE_TEST_LAST_EXIT && callback != UTRACE_TEST_DEATH &&
	       callback != UTRACE_TEST_REAP && callback != UTRACE_TEST_PATH;
}

/* Whether the callback comes without a report_quiesce() before it. */
static bool comes_alone(const struct occasion *occasion)
{
	return occasion->callback == UTRACE_TEST_REAP || occasion->callback == UTRACE_TEST_SIGNAL;
}

/* Checks one event. With QUIESCE, report_quiesce() for it precedes its callback. */
static void tells(struct __test_metadata *_metadata, int dev, const struct occasion *occasion,
		  bool quiesce)
{
	unsigned long event = BIT(occasion->event);
	struct utrace_test_record record;
	struct target target;
	int id;

	ASSERT_TRUE(target_start(&target));
	if (occasion->prepare)
		ASSERT_EQ(0, target_call(&target, occasion->prepare, occasion->prepare_arg));
	id = dev_attach(dev, target.pid, event | (quiesce ? EVENT(QUIESCE) : 0));
	ASSERT_LT(0, id);
	ASSERT_TRUE(target_begin(&target, occasion->fn, occasion->arg));
	if (occasion->event == _UTRACE_EVENT_REAP) {
		EXPECT_TRUE(wait_state(target.pid, target.pid, "Z"));
		ASSERT_NE(-1, target_kill(&target));
	}
	ASSERT_TRUE(next_record(dev, ANY, &record));
	if (quiesce) {
		long before = 0;

		/* QUIESCE also reports events that are not in the engine's set. */
		while (record.callback == UTRACE_TEST_QUIESCE) {
			EXPECT_EQ(target.pid, record.tid);
			before = record.arg[0];
			ASSERT_TRUE(next_record(dev, ANY, &record));
		}
		if (!comes_alone(occasion))
			EXPECT_EQ(event, before) TH_LOG("%s", event_name(before));
	}
	EXPECT_EQ(occasion->callback, record.callback);
	EXPECT_EQ(target.pid, record.tid);
	if (has_action(record.callback))
		EXPECT_EQ(UTRACE_RESUME, record.found & UTRACE_RESUME_MASK);
	if (occasion->event != _UTRACE_EVENT_REAP)
		target_kill(&target);
	ASSERT_EQ(0, dev_drop(dev, id));
	drop_records(dev);
}

TEST_F_TIMEOUT(occasion, each, TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(occasions); i++) {
		TH_LOG("%s %u", event_name(BIT(occasions[i].event)), i);
		tells(_metadata, self->dev, &occasions[i], false);
	}
}

TEST_F_TIMEOUT(occasion, each_after_quiesce, TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(occasions); i++) {
		TH_LOG("%s %u", event_name(BIT(occasions[i].event)), i);
		tells(_metadata, self->dev, &occasions[i], true);
	}
}

/* An engine does not get events that are not in its set. */
TEST_F_TIMEOUT(occasion, others_are_not_told, TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(occasions); i++) {
		const struct occasion *occasion = &occasions[i];
		unsigned int only = occasion->event;
		struct utrace_test_record record;
		struct target target;
		int id;

		ASSERT_TRUE(target_start(&target));
		if (occasion->prepare)
			ASSERT_EQ(0, target_call(&target, occasion->prepare,
						 occasion->prepare_arg));
		/* Reap is the last event: every other event is reported before it. */
		id = dev_attach(self->dev, target.pid, BIT(only) | EVENT(REAP));
		ASSERT_LT(0, id);
		ASSERT_TRUE(target_begin(&target, occasion->fn, occasion->arg));
		do {
			if (only == _UTRACE_EVENT_REAP)
				break;
			ASSERT_TRUE(next_record(self->dev, ANY, &record));
			EXPECT_EQ(occasion->callback, record.callback);
		} while (record.callback != occasion->callback);
		target_kill(&target);
		while (next_record(self->dev, ANY, &record)) {
			if (record.callback == UTRACE_TEST_REAP)
				break;
			EXPECT_EQ(occasion->callback, record.callback);
		}
		EXPECT_EQ(UTRACE_TEST_REAP, record.callback);
		EXPECT_TRUE(read(self->dev, &record, sizeof(record)) < 0);
		ASSERT_EQ(0, dev_drop(self->dev, id));
	}
}

/* Callbacks that are NULL in the ops are not called; the others are. */
DEVICE_TEST(missing_callbacks)
{
	struct utrace_test_attach how = {
		.tid = self->target.pid,
		.flags = UTRACE_ATTACH_CREATE,
		.callbacks = CALLBACK(REAP),
	};
	int id = dev_attach_how(self->dev, &how);

	ASSERT_LT(0, id);
	ASSERT_EQ(0, dev_set_events(self->dev, id, ALL_EVENTS));
	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	ASSERT_EQ(0, CALL(do_kill_self, SIGUSR1));
	ASSERT_EQ(0, CALL(do_kill_self, SIGWINCH));
	ASSERT_LT(0, CALL(do_fork, 0));
	ASSERT_EQ(0, CALL(stop_and_continue, 0));
	EXPECT_EQ(1, shared->value);
	BEGIN(do_exec, 0);
	EXPECT_EQ(0, ENDED());
	TOLD("a.reap", 1);
	EXPECT_TRUE(no_record(self->dev));
}

DEVICE_TEST(clone_process)
{
	struct utrace_test_record record;
	int id = ATTACH(EVENT(CLONE));
	pid_t child = CALL(do_fork, 0);

	record = NEXT(UTRACE_TEST_CLONE);
	EXPECT_EQ(id, record.id);
	EXPECT_EQ(child, record.arg[1]);
	EXPECT_EQ(0, record.arg[0] & CLONE_THREAD);
}

DEVICE_TEST(clone_thread)
{
	struct utrace_test_record record;

	ATTACH(EVENT(CLONE));
	ASSERT_EQ(0, CALL(do_thread, false));
	record = NEXT(UTRACE_TEST_CLONE);
	EXPECT_EQ(shared->tid, record.arg[1]);
	EXPECT_NE(0, record.arg[0] & CLONE_THREAD);
	EXPECT_TRUE(no_record(self->dev));
}

/* The child has not run at report_clone(): an engine on it sees its first system call. */
DEVICE_TEST(clone_attach_to_child)
{
	struct utrace_test_record record;
	int id = ATTACH(EVENT(CLONE));
	pid_t child;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .times = 1, .flags = UTRACE_TEST_CHILD, .callbacks = UTRACE_TEST_ALL_CALLBACKS,
	       .events = EVENT(EXIT) | EVENT(DEATH) | EVENT(REAP));
	child = CALL(do_fork, 0);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_CLONE, record.callback);
	EXPECT_EQ(id + 1, record.result);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_EXIT, record.callback);
	EXPECT_EQ(id + 1, record.id);
	EXPECT_EQ(child, record.tid);
	TOLD("b.death b.reap", 2);
}

DEVICE_TEST(exec)
{
	struct utrace_test_record record;

	ATTACH(EVENT(EXEC) | EVENT(PATH));
	BEGIN(do_exec, 0);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_PATH, record.callback);
	EXPECT_STREQ("/bin/true", record.name);
	record = NEXT(UTRACE_TEST_EXEC);
	EXPECT_STREQ("/bin/true", record.name);
	EXPECT_NE(0, record.arg[0]);
	EXPECT_EQ(0, ENDED());
}

static const char path[] = "/proc/self/status";

static long open_path(long arg)
{
	return close(syscall(SYS_openat, AT_FDCWD, path, O_RDONLY));
}

DEVICE_TEST(path)
{
	struct utrace_test_record record;

	ATTACH(EVENT(PATH) | EVENT(SYSCALL_ENTRY) | EVENT(SYSCALL_EXIT));
	ASSERT_EQ(0, CALL(open_path, 0));
	do {
		record = NEXT(UTRACE_TEST_SYSCALL_ENTRY);
	} while (record.arg[0] != SYS_openat);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_PATH, record.callback);
	EXPECT_STREQ(path, record.name);
	EXPECT_EQ((long)path, record.arg[0]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_SYSCALL_EXIT, record.callback);
	EXPECT_EQ(SYS_openat, record.arg[0]);
}

/* The events of a target's whole life, in order. */
DEVICE_TEST(order)
{
	ATTACH(ALL_EVENTS & ~(UTRACE_EVENT_SYSCALL | EVENT(PATH)));
	ASSERT_LT(0, CALL(do_fork, 0));
	/* The last is SIGCHLD, which is ignored. */
	TOLD("a.quiesce:clone a.clone a.signal", 3);
	BEGIN(do_exec, 0);
	EXPECT_EQ(0, ENDED());
	TOLD("a.quiesce:exec a.exec a.quiesce:exit a.exit "
	     "a.quiesce:last_exit a.last_exit a.quiesce:death a.death a.reap", 9);
	EXPECT_TRUE(no_record(self->dev));
}

/* A change of the event set takes effect from the next event on. */
DEVICE_TEST(set_events)
{
	int id = ATTACH(EVENT(PATH));
	struct utrace_test_count count;

	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(EVENT(PATH), count.flags & ALL_EVENTS);
	ASSERT_EQ(0, CALL(do_open, 0));
	TOLD("a.path", 1);
	ASSERT_EQ(0, dev_set_events(self->dev, id, EVENT(CLONE)));
	ASSERT_EQ(0, CALL(do_open, 0));
	ASSERT_LT(0, CALL(do_fork, 0));
	TOLD("a.clone", 1);
	ASSERT_EQ(0, dev_set_events(self->dev, id, 0));
	ASSERT_EQ(0, CALL(do_open, 0));
	ASSERT_LT(0, CALL(do_fork, 0));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-EINVAL, dev_set_events(self->dev, id, BIT(_UTRACE_NEVENTS)));
}

/* After death, only some changes of the event set are possible. */
DEVICE_TEST(errors_of_events)
{
	int id = ATTACH(ALL_EVENTS), other = ATTACH(EVENT(REAP));

	BEGIN(do_exit, 0);
	EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_DEATH, 1));
	/* It is too late to remove DEATH, and to add DEATH or QUIESCE. */
	EXPECT_EQ(-EALREADY, dev_set_events(self->dev, id, EVENT(REAP)));
	EXPECT_EQ(-EALREADY, dev_set_events(self->dev, other, EVENT(REAP) | EVENT(DEATH)));
	EXPECT_EQ(-EALREADY, dev_set_events(self->dev, other, EVENT(REAP) | EVENT(QUIESCE)));
	/* REAP can still be removed and added. */
	EXPECT_EQ(0, dev_set_events(self->dev, other, 0));
	EXPECT_EQ(0, dev_set_events(self->dev, other, EVENT(REAP)));
	EXPECT_EQ(0, ENDED());
	EXPECT_EQ(UTRACE_TEST_REAP, NEXT(UTRACE_TEST_REAP).callback);
	EXPECT_EQ(UTRACE_TEST_REAP, NEXT(ANY).callback);
	EXPECT_EQ(-ESRCH, dev_set_events(self->dev, id, ALL_EVENTS));
	EXPECT_EQ(-ESRCH, dev_set_events(self->dev, other, 0));
}

TEST_HARNESS_MAIN
