// SPDX-License-Identifier: GPL-2.0
/* Races of engines with exits, callbacks, exec, debuggers and SIGKILL. */
#include <pthread.h>
#include <sched.h>

#include "ptrace_fixture.h"

static pid_t start_body(int dev, void (*body)(void))
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

/* Waits for a pseudorandom time of up to a few system calls. */
static void short_while(unsigned int round)
{
	volatile unsigned int turns = round * 7919 % 20000;

	while (turns--)
		;
}

#define LIFE	(EVENT(EXIT) | EVENT(LAST_EXIT) | EVENT(DEATH) | EVENT(REAP))

/* An engine that attaches in time gets each later event once, and in order. */
DEVICE_TEST(attach_and_exit)
{
	unsigned int i, attached = 0, rounds = scaled(400);

	for (i = 0; i < rounds; i++) {
		struct utrace_test_count count;
		pid_t pid = fork();
		int id;

		if (!pid) {
			short_while(i);
			_exit(0);
		}
		short_while(i * 31);
		id = dev_attach(self->dev, pid, LIFE);
		if (id == -ESRCH || id == -EALREADY) {
			ASSERT_EQ(0, wait_status(pid));
			continue;
		}
		ASSERT_LT(0, id);
		attached++;
		ASSERT_EQ(0, wait_status(pid));
		EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_REAP, 1));
		ASSERT_EQ(0, dev_count(self->dev, id, &count));
		/* The thread may have reported its exit before the attachment. */
		EXPECT_GE(1, count.calls[UTRACE_TEST_EXIT]);
		EXPECT_LE(count.calls[UTRACE_TEST_EXIT], count.calls[UTRACE_TEST_LAST_EXIT]);
		EXPECT_EQ(1, count.calls[UTRACE_TEST_DEATH]);
		ASSERT_EQ(0, dev_drop(self->dev, id));
	}
	TH_LOG("%u of %u in time", attached, rounds);
	EXPECT_LT(0, attached);
}

static void stop_and_resume_for_ever(int dev, int id)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		dev_control(dev, id, UTRACE_STOP);
		sched_yield();
		dev_control(dev, id, UTRACE_RESUME);
	}
}

/*
 * An engine ends its own stops, and none of a debugger's. The window is a few
 * instructions wide, so a faulty kernel fails this test only in some runs.
 */
DEVICE_TEST(resume_and_debugger)
{
	unsigned int i, rounds = scaled(3000);
	struct user_regs_struct regs;
	int status, id = ATTACH(EVENT(QUIESCE));
	pid_t pid = self->target.pid, owner;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	owner = fork();
	if (!owner)
		stop_and_resume_for_ever(self->dev, id);
	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, pid, NULL, NULL));
	for (i = 0; i < rounds; i++) {
		ASSERT_EQ(0, ptrace(PTRACE_INTERRUPT, pid, NULL, NULL));
		ASSERT_EQ(pid, waitpid(pid, &status, __WALL));
		ASSERT_EQ(EVENT_STOP, status >> 8);
		short_while(i);
		ASSERT_EQ(0, ptrace(PTRACE_GETREGS, pid, NULL, &regs)) TH_LOG("round %u", i);
		ASSERT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	}
	kill(owner, SIGKILL);
	EXPECT_EQ(SIGKILL, wait_status(owner));
}

static long do_pause(long arg)
{
	return pause() ? -errno : 0;
}

/*
 * A SIGCONT discards the SIGSTOP for which a thread leaves the engine's stop. The
 * handler of SIGCONT still ends pause(). The window is a few instructions wide, so a
 * faulty kernel fails this test only in some rounds.
 */
DEVICE_TEST(discarded_stop)
{
	int id = ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL);
	unsigned int i, rounds = scaled(300);

	ASSERT_EQ(0, CALL(do_handle, SIGCONT));
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL, .flags = UTRACE_TEST_ONLY,
	       .match = 0, .action = UTRACE_STOP | UTRACE_SIGNAL_IGN);
	for (i = 0; i < rounds; i++) {
		BEGIN(do_pause, 0);
		ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "S"));
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_INTERRUPT));
		ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
		kill(self->target.pid, SIGSTOP);
		short_while(i);
		kill(self->target.pid, SIGCONT);
		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
		ASSERT_EQ(-EINTR, END()) TH_LOG("round %u", i);
		drop_records(self->dev);
	}
}

static long call_all_the_time(long until)
{
	while (shared->go != until) {
		syscall(SYS_getppid);
		shared->turns++;
	}
	return 0;
}

/* No callback runs after DETACH has returned 0, or a barrier has. The module checks this. */
DEVICE_TEST(detach_and_callback)
{
	unsigned int i, busy = 0, rounds = scaled(2000);

	BEGIN(call_all_the_time, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int ret, id = ATTACH(EVENT(QUIESCE) | UTRACE_EVENT_SYSCALL);

		ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_REPORT));
		short_while(i);
		ret = dev_control(self->dev, id, UTRACE_DETACH);
		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
		if (ret) {
			struct utrace_test_count count;

			busy++;
			ret = dev_barrier(self->dev, id);
			EXPECT_TRUE(ret == 0 || ret == -ESRCH);
			ASSERT_EQ(0, dev_count(self->dev, id, &count));
			EXPECT_EQ(0, count.active);
		}
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
	TH_LOG("%u of %u were in a callback", busy, rounds);
	EXPECT_LT(0, busy);
	drop_records(self->dev);
	EXPECT_TRUE(no_record(self->dev));
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* No callback runs after all engines of a process are detached. */
DEVICE_TEST(detach_process_and_callback)
{
	unsigned int i, rounds = scaled(300);
	struct utrace_test_count count;
	unsigned long long calls = 0;

	ASSERT_EQ(0, CALL(do_thread, false));
	BEGIN(call_all_the_time, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int id = dev_attach_process(self->dev, self->target.pid,
					    UTRACE_EVENT_SYSCALL | EVENT(QUIESCE));

		ASSERT_LT(0, id);
		short_while(i);
		ASSERT_EQ(0, dev_count(self->dev, id, &count));
		calls += count.calls[UTRACE_TEST_SYSCALL_EXIT];
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
	TH_LOG("%llu calls", calls);
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* Two engines stop and resume a thread concurrently; no stop and no resume is lost. */
DEVICE_TEST(stop_and_resume)
{
	unsigned int i, rounds = scaled(300);
	int a = ATTACH(0), b = ATTACH(EVENT(QUIESCE));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int ret = dev_control(self->dev, a, UTRACE_STOP);

		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
		short_while(i);
		if (i % 2)
			ASSERT_EQ(0, dev_control(self->dev, b, UTRACE_REPORT));
		if (i % 3 == 0)
			ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
		ASSERT_EQ(0, dev_control(self->dev, a, UTRACE_RESUME));
	}
	EXPECT_TRUE(spins());
	STOP(a);
	EXPECT_TRUE(spins_not());
	ASSERT_EQ(0, dev_control(self->dev, a, UTRACE_RESUME));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

static void *execute(void *arg)
{
	execl("/bin/true", "true", NULL);
	_exit(1);
}

static void *wait_forever(void *arg)
{
	pause();
	return NULL;
}

static void exec_by_thread(void)
{
	pthread_t threads[4];
	unsigned int i;

	for (i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, i == 2 ? execute : wait_forever, NULL);
	pause();
}

/* A thread other than the leader calls execve() while engines stop the leader. */
DEVICE_TEST(exec_by_thread)
{
	unsigned int i, told = 0, rounds = scaled(100);

	for (i = 0; i < rounds; i++) {
		pid_t pid = start_body(self->dev, exec_by_thread);
		struct utrace_test_count count;
		int id, leader;

		short_while(i * 13);
		id = dev_attach_process(self->dev, pid, LIFE | EVENT(EXEC) | EVENT(CLONE));
		leader = dev_attach(self->dev, pid, EVENT(QUIESCE));
		if (leader > 0) {
			dev_control(self->dev, leader, UTRACE_STOP);
			short_while(i * 17);
			dev_drop(self->dev, leader);
		} else {
			EXPECT_EQ(-ESRCH, leader);
		}
		ASSERT_EQ(0, wait_status(pid));
		if (id < 0) {
			EXPECT_EQ(-ESRCH, id);
			continue;
		}
		EXPECT_TRUE(deaths_settle(self->dev, id, &count));
		EXPECT_GE(1, count.calls[UTRACE_TEST_EXEC]);
		/* The exit of the last thread is reported in either case. */
		EXPECT_LE(1, count.calls[UTRACE_TEST_EXIT]);
		EXPECT_EQ(1, count.calls[UTRACE_TEST_LAST_EXIT])
			TH_LOG("round %u: %llu clone, %llu exec, %llu exit", i,
			       count.calls[UTRACE_TEST_CLONE], count.calls[UTRACE_TEST_EXEC],
			       count.calls[UTRACE_TEST_EXIT]);
		told += count.calls[UTRACE_TEST_EXEC];
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
	TH_LOG("%u of %u in time", told, rounds);
}

/* SIGKILL while the thread is stopped, about to stop, or about to resume. */
DEVICE_TEST(kill_and_stop)
{
	unsigned int i, rounds = scaled(300);

	for (i = 0; i < rounds; i++) {
		struct utrace_test_count count;
		pid_t pid = fork();
		int id, ret;

		if (!pid) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				syscall(SYS_getppid);
		}
		id = dev_attach(self->dev, pid, LIFE);
		ASSERT_LT(0, id);
		ret = dev_control(self->dev, id, UTRACE_STOP);
		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS);
		short_while(i);
		ASSERT_EQ(0, kill(pid, SIGKILL));
		ret = dev_control(self->dev, id, i % 2 ? UTRACE_STOP : UTRACE_RESUME);
		ASSERT_TRUE(ret == 0 || ret == -EINPROGRESS || ret == -ESRCH);
		ASSERT_EQ(SIGKILL, wait_status(pid));
		EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_REAP, 1));
		ASSERT_EQ(0, dev_count(self->dev, id, &count));
		EXPECT_EQ(1, count.calls[UTRACE_TEST_EXIT]);
		EXPECT_EQ(1, count.calls[UTRACE_TEST_DEATH]);
		ASSERT_EQ(0, dev_drop(self->dev, id));
		drop_records(self->dev);
	}
}

/* A file is closed while callbacks of its engines are executing. */
DEVICE_TEST(close_and_callbacks)
{
	unsigned int i, rounds = scaled(100);

	BEGIN(call_all_the_time, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < rounds; i++) {
		int other = dev_open();

		ASSERT_LE(0, other);
		ASSERT_LT(0, dev_attach(other, self->target.pid, ALL_EVENTS));
		ASSERT_LT(0, dev_attach_process(other, self->target.pid, ALL_EVENTS));
		short_while(i);
		ASSERT_EQ(0, close(other));
	}
	EXPECT_TRUE(spins());
	EXPECT_TRUE(dev_clean(self->dev));
	shared->go = 1;
	EXPECT_EQ(0, END());
}

TEST_HARNESS_MAIN
