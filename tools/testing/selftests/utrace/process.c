// SPDX-License-Identifier: GPL-2.0
/* Engines on all threads of a process: each event is reported once, to the right engines. */
#include <pthread.h>

#include "device_fixture.h"

/* Starts a process under test. Its body waits for values of shared->go. */
static pid_t start(int dev, void (*body)(void))
{
	pid_t pid = fork();

	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		close(dev);
		body();
		_exit(0);
	}
	return pid;
}

/* The expected number of reports of each event, over all threads. */
struct expected {
	unsigned long long clone, exec, exit, last_exit, death;
};

static void expect_calls(struct __test_metadata *_metadata, int dev, int id,
			 const struct expected *expected)
{
	struct utrace_test_count count;

	EXPECT_TRUE(calls_reach(dev, id, UTRACE_TEST_DEATH, expected->death));
	ASSERT_EQ(0, dev_count(dev, id, &count));
	EXPECT_EQ(expected->clone, count.calls[UTRACE_TEST_CLONE]);
	EXPECT_EQ(expected->exec, count.calls[UTRACE_TEST_EXEC]);
	EXPECT_EQ(expected->exit, count.calls[UTRACE_TEST_EXIT]);
	EXPECT_EQ(expected->last_exit, count.calls[UTRACE_TEST_LAST_EXIT]);
	EXPECT_EQ(expected->death, count.calls[UTRACE_TEST_DEATH]);
}

#define CALLS(id, ...)	\
	expect_calls(_metadata, self->dev, id, &(struct expected){ __VA_ARGS__ })

#define LIFE	(EVENT(CLONE) | EVENT(EXEC) | EVENT(EXIT) | EVENT(LAST_EXIT) | EVENT(DEATH))

static void *wait_to_go(void *arg)
{
	shared->phase++;
	reaches(&shared->go, (long)arg);
	return NULL;
}

static void threads(void)
{
	pthread_t before[4], after[4];
	unsigned int i;

	for (i = 0; i < 4; i++)
		pthread_create(&before[i], NULL, wait_to_go, (void *)2);
	reaches(&shared->go, 1);
	for (i = 0; i < 4; i++)
		pthread_create(&after[i], NULL, wait_to_go, (void *)2);
	for (i = 0; i < 4; i++) {
		pthread_join(before[i], NULL);
		pthread_join(after[i], NULL);
	}
	shared->phase = 100;
	reaches(&shared->go, 3);
}

/* Threads created before and after the attachment, and threads that these create. */
DEVICE_TEST(threads)
{
	pid_t pid = start(self->dev, threads);
	int id;

	ASSERT_TRUE(reaches(&shared->phase, 4));
	id = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, id);
	CALLS(id);
	shared->go = 1;
	ASSERT_TRUE(reaches(&shared->phase, 8));
	CALLS(id, .clone = 4);
	shared->go = 2;
	ASSERT_TRUE(reaches(&shared->phase, 100));
	/* pthread_join() may return before the thread is dead. */
	CALLS(id, .clone = 4, .exit = 8, .death = 8);
	shared->go = 3;
	EXPECT_EQ(0, wait_status(pid));
	CALLS(id, .clone = 4, .exit = 9, .last_exit = 1, .death = 9);
	EXPECT_EQ(0, dev_drop(self->dev, id));
}

/* A process can be named by any of its threads. */
DEVICE_TEST(by_any_thread)
{
	int id;

	ASSERT_EQ(0, CALL(do_thread, false));
	id = dev_attach_process(self->dev, shared->tid, EVENT(SYSCALL_ENTRY));
	ASSERT_LT(0, id);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	EXPECT_EQ(self->target.pid, NEXT(UTRACE_TEST_SYSCALL_ENTRY).tid);
}

static void forks(void)
{
	shared->phase = 1;
	reaches(&shared->go, 1);
	if (!fork()) {
		pthread_t thread;

		pthread_create(&thread, NULL, wait_to_go, (void *)0);
		pthread_join(thread, NULL);
		if (!fork())
			_exit(0);
		wait(NULL);
		_exit(0);
	}
	wait(NULL);
}

/* A child process has no engine, so its events are not reported. */
DEVICE_TEST(fork)
{
	pid_t pid = start(self->dev, forks);
	int first, second;

	ASSERT_TRUE(reaches(&shared->phase, 1));
	first = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, first);
	second = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, second);
	shared->go = 1;
	EXPECT_EQ(0, wait_status(pid));
	/* Both engines get each event. */
	CALLS(first, .clone = 1, .exit = 1, .last_exit = 1, .death = 1);
	CALLS(second, .clone = 1, .exit = 1, .last_exit = 1, .death = 1);
	EXPECT_EQ(0, dev_drop(self->dev, second));
	EXPECT_EQ(0, dev_drop(self->dev, first));
}

static void *execute(void *arg)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

static void exec_by_leader(void)
{
	shared->phase = 1;
	reaches(&shared->go, 1);
	execute(NULL);
}

static void exec_by_thread(void)
{
	pthread_t thread;

	shared->phase = 1;
	reaches(&shared->go, 1);
	pthread_create(&thread, NULL, execute, NULL);
	pause();
}

DEVICE_TEST(exec_by_leader)
{
	pid_t pid = start(self->dev, exec_by_leader);
	int id;

	ASSERT_TRUE(reaches(&shared->phase, 1));
	id = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, id);
	shared->go = 1;
	EXPECT_EQ(0, wait_status(pid));
	CALLS(id, .exec = 1, .exit = 1, .last_exit = 1, .death = 1);
}

/* The thread that calls execve() becomes the leader, and keeps its engine. */
DEVICE_TEST(exec_by_thread)
{
	pid_t pid = start(self->dev, exec_by_thread);
	struct utrace_test_record record;
	int id;

	ASSERT_TRUE(reaches(&shared->phase, 1));
	id = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, id);
	shared->go = 1;
	EXPECT_EQ(0, wait_status(pid));
	CALLS(id, .clone = 1, .exec = 1, .exit = 2, .last_exit = 1, .death = 2);
	record = NEXT(UTRACE_TEST_EXEC);
	EXPECT_EQ(pid, record.tid);
}

/* Each thread of a process has an engine of its own, which can be looked up. */
DEVICE_TEST(control_one_thread)
{
	struct utrace_test_call how = { .action = UTRACE_STOP };
	int id;

	ASSERT_EQ(0, CALL(do_thread, false));
	id = dev_attach_process(self->dev, self->target.pid, EVENT(QUIESCE));
	ASSERT_LT(0, id);
	how.id = id;
	how.tid = self->target.pid;
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(-EINPROGRESS, dev_call(self->dev, UTRACE_TEST_CONTROL, &how));
	EXPECT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_TRUE(spins_not());
	EXPECT_TRUE(wait_state(self->target.pid, shared->tid, "S"));
	how.action = UTRACE_RESUME;
	EXPECT_EQ(0, dev_call(self->dev, UTRACE_TEST_CONTROL, &how));
	EXPECT_TRUE(spins());
	/* Detaching the engines of the process resumes a stopped thread. */
	how.action = UTRACE_STOP;
	EXPECT_EQ(-EINPROGRESS, dev_call(self->dev, UTRACE_TEST_CONTROL, &how));
	EXPECT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_drop(self->dev, id));
	EXPECT_TRUE(spins());
}

/* Detaching waits for a callback that is executing. */
DEVICE_TEST(detach_waits)
{
	int id = dev_attach_process(self->dev, self->target.pid, EVENT(CLONE));
	struct utrace_test_count count;

	ASSERT_LT(0, id);
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_BLOCK);
	BEGIN(do_fork, 0);
	NEXT(UTRACE_TEST_CLONE);
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(1, count.active);
	/* dev_drop() ends the callback. dev_clean() reports a callback that comes too late. */
	EXPECT_EQ(0, dev_drop(self->dev, id));
	EXPECT_LT(0, END());
}

static void *make_threads(void *arg)
{
	for (;;) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, wait_to_go, (void *)0))
			_exit(1);
		pthread_join(thread, NULL);
	}
	return NULL;
}

static void makers(void)
{
	pthread_t thread;
	unsigned int i;

	reaches(&shared->go, 1);
	for (i = 1; i < 10; i++)
		pthread_create(&thread, NULL, make_threads, NULL);
	make_threads(NULL);
}

/* Engines attach and detach while threads are created and exit. The counts must agree. */
DEVICE_TEST(while_threads_come_and_go)
{
	unsigned int i, tries, rounds = scaled(100);
	struct utrace_test_count count;
	pid_t pid = start(self->dev, makers);
	int all;

	all = dev_attach_process(self->dev, pid, LIFE);
	ASSERT_LT(0, all);
	shared->go = 1;
	ASSERT_TRUE(reaches(&shared->phase, 10));
	for (i = 0; i < rounds; i++) {
		int id = dev_attach_process(self->dev, pid, LIFE), from = shared->phase;

		ASSERT_LT(0, id);
		ASSERT_TRUE(reaches(&shared->phase, from + 5));
		/* Threads count themselves while they run; their exit is later. */
		for (tries = 0; tries < 10000; tries++) {
			ASSERT_EQ(0, dev_count(self->dev, id, &count));
			if (count.calls[UTRACE_TEST_CLONE] && count.calls[UTRACE_TEST_EXIT])
				break;
			sleep_ms(1);
		}
		EXPECT_LT(0, count.calls[UTRACE_TEST_CLONE]);
		EXPECT_LT(0, count.calls[UTRACE_TEST_EXIT]);
		ASSERT_EQ(0, dev_drop(self->dev, id));
	}
	ASSERT_EQ(0, kill(pid, SIGKILL));
	EXPECT_EQ(SIGKILL, wait_status(pid));
	/* Each thread that was created has exited, and so has the first one. */
	ASSERT_EQ(0, dev_count(self->dev, all, &count));
	EXPECT_TRUE(calls_reach(self->dev, all, UTRACE_TEST_DEATH,
				count.calls[UTRACE_TEST_EXIT]));
	EXPECT_EQ(count.calls[UTRACE_TEST_CLONE] + 1, count.calls[UTRACE_TEST_EXIT]);
	EXPECT_EQ(1, count.calls[UTRACE_TEST_LAST_EXIT]);
	TH_LOG("%llu threads", (unsigned long long)count.calls[UTRACE_TEST_CLONE]);
}

TEST_HARNESS_MAIN
