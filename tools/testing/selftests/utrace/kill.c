// SPDX-License-Identifier: GPL-2.0
/* The end of every stop by SIGKILL, exit_group() and exec of another thread. */
#include <pthread.h>

#include "device_fixture.h"

/* Ways to end a process whose first thread is stopped. */
enum end { KILL, EXIT_GROUP, EXEC };

static void *end_process(void *arg)
{
	shared->tid = syscall(SYS_gettid);
	reaches(&shared->go, 10);
	switch ((long)arg) {
	case EXIT_GROUP:
		_exit(6);
	case EXEC:
		execl("/bin/true", "true", NULL);
		_exit(1);
	}
	pause();
	return NULL;
}

/* Starts the thread that will end the process. */
static long prepare(long end)
{
	pthread_t thread;

	shared->tid = 0;
	if (pthread_create(&thread, NULL, end_process, (void *)end))
		return -EAGAIN;
	return reaches(&shared->tid, 1) ? 0 : -ETIMEDOUT;
}

static void ends(struct __test_metadata *_metadata, struct target *target, enum end end,
		 bool exits)
{
	int status, expected;

	if (end == KILL)
		kill(target->pid, SIGKILL);
	else
		shared->go = 10;
	switch (end) {
	case KILL:
		/* A thread that is already exiting keeps its status. */
		expected = exits ? 0 : SIGKILL;
		break;
	case EXIT_GROUP:
		expected = 6 << 8;
		break;
	default:
		expected = 0;
	}
	status = wait_status(target->pid);
	EXPECT_EQ(expected, status) TH_LOG("end %d", end);
}

/* Ways to stop the first thread. */
struct stop {
	const char *name;
	unsigned long events;
	unsigned int callback;
	unsigned int flags;
	unsigned int action;
	target_fn fn;
	long arg;
	/* Stopped by utrace_control(). */
	bool controlled;
	/* The thread blocks in a callback instead. */
	bool blocked;
};

static const struct stop stops[] = {
	{ .name = "control", .fn = do_spin, .arg = 1, .controlled = true },
	{ .name = "entry", .events = EVENT(SYSCALL_ENTRY),
	  .callback = UTRACE_TEST_SYSCALL_ENTRY, .action = UTRACE_STOP, .fn = do_getpid },
	{ .name = "return", .events = EVENT(SYSCALL_EXIT),
	  .callback = UTRACE_TEST_SYSCALL_EXIT, .action = UTRACE_STOP, .fn = do_getpid },
	{ .name = "signal", .events = UTRACE_EVENT_SIGNAL_ALL, .flags = UTRACE_TEST_KEEP,
	  .callback = UTRACE_TEST_SIGNAL, .action = UTRACE_STOP,
	  .fn = do_kill_self, .arg = SIGTERM },
	{ .name = "clone", .events = EVENT(CLONE), .callback = UTRACE_TEST_CLONE,
	  .action = UTRACE_STOP, .fn = do_fork },
	{ .name = "exit", .events = EVENT(EXIT), .callback = UTRACE_TEST_EXIT,
	  .action = UTRACE_STOP, .fn = do_exit },
	{ .name = "report", .events = EVENT(QUIESCE) | EVENT(CLONE),
	  .callback = UTRACE_TEST_QUIESCE, .action = UTRACE_STOP, .fn = do_fork },
	{ .name = "in a callback", .events = EVENT(CLONE), .callback = UTRACE_TEST_CLONE,
	  .action = UTRACE_RESUME, .flags = UTRACE_TEST_BLOCK, .fn = do_fork, .blocked = true },
};

static void stopped_ends(struct __test_metadata *_metadata, int dev, const struct stop *stop,
			 enum end end)
{
	struct utrace_test_record record;
	struct target target;
	int id;

	shared->go = 0;
	ASSERT_TRUE(target_start(&target));
	ASSERT_EQ(0, target_call(&target, prepare, end));
	id = dev_attach(dev, target.pid, stop->events);
	ASSERT_LT(0, id);
	if (!stop->controlled) {
		ASSERT_EQ(0, dev_answer(dev, &(struct utrace_test_answer){
			.id = id, .callback = stop->callback, .action = stop->action,
			.flags = stop->flags }));
	}
	ASSERT_TRUE(target_begin(&target, stop->fn, stop->arg));
	if (stop->controlled) {
		ASSERT_TRUE(spins());
		dev_control(dev, id, UTRACE_STOP);
	}
	if (stop->blocked) {
		ASSERT_TRUE(next_record(dev, stop->callback, &record));
	} else {
		ASSERT_TRUE(wait_state(target.pid, target.pid, "t"))
			TH_LOG("%s", stop->name);
	}
	ends(_metadata, &target, end, stop->fn == do_exit);
	close(target.to);
	close(target.from);
	ASSERT_EQ(0, dev_drop(dev, id));
	drop_records(dev);
}

static void all_stops(struct __test_metadata *_metadata, int dev, enum end end)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(stops); i++) {
		/* These stop an exit_group(), which only SIGKILL can end. */
		if (end != KILL && stops[i].fn == do_exit)
			continue;
		stopped_ends(_metadata, dev, &stops[i], end);
	}
}

DEVICE_TEST(sigkill)
{
	all_stops(_metadata, self->dev, KILL);
}

DEVICE_TEST(exit_group)
{
	all_stops(_metadata, self->dev, EXIT_GROUP);
}

DEVICE_TEST(exec_by_thread)
{
	all_stops(_metadata, self->dev, EXEC);
}

/* A killed thread can no longer be controlled. */
DEVICE_TEST(control_of_the_killed)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	ASSERT_EQ(0, kill(self->target.pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(self->target.pid));
	self->ended = true;
	EXPECT_EQ(-ESRCH, dev_control(self->dev, id, UTRACE_RESUME));
}

/* Repeated stops do not keep a thread from being killed. */
DEVICE_TEST(stop_while_killed)
{
	unsigned int i, rounds = scaled(100);

	for (i = 0; i < rounds; i++) {
		struct target target;
		int id;

		ASSERT_TRUE(target_start(&target));
		id = dev_attach(self->dev, target.pid, ALL_EVENTS);
		ASSERT_LT(0, id);
		ASSERT_EQ(0, dev_answer(self->dev, &(struct utrace_test_answer){
			.id = id, .callback = UTRACE_TEST_QUIESCE, .action = UTRACE_STOP }));
		ASSERT_EQ(0, dev_answer(self->dev, &(struct utrace_test_answer){
			.id = id, .callback = UTRACE_TEST_EXIT, .action = UTRACE_STOP }));
		dev_control(self->dev, id, UTRACE_INTERRUPT);
		if (i % 2)
			ASSERT_TRUE(wait_state(target.pid, target.pid, "t"));
		ASSERT_EQ(0, kill(target.pid, SIGKILL));
		dev_control(self->dev, id, UTRACE_STOP);
		ASSERT_EQ(SIGKILL, target_stop(&target));
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
}

/* Closing the file resumes all threads. */
DEVICE_TEST(close_lets_go)
{
	int other = dev_open(), id;

	ASSERT_LE(0, other);
	id = dev_attach(other, self->target.pid, EVENT(CLONE));
	ASSERT_LT(0, id);
	ASSERT_EQ(0, dev_answer(other, &(struct utrace_test_answer){
		.id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_STOP,
		.flags = UTRACE_TEST_BLOCK }));
	BEGIN(do_fork, 0);
	EXPECT_TRUE(target_busy(&self->target));
	ASSERT_EQ(0, close(other));
	EXPECT_LT(0, END());
}

TEST_HARNESS_MAIN
