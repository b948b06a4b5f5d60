// SPDX-License-Identifier: GPL-2.0
/* utrace_control() with each action, utrace_barrier(), and their return values. */
#include <sys/epoll.h>

#include "device_fixture.h"

#define CONTROL(id, action)	dev_control(self->dev, id, UTRACE_##action)
#define STATE(states)	wait_state(self->target.pid, self->target.pid, states)

DEVICE_TEST(stop_running)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, STOP));
	EXPECT_TRUE(STATE("t"));
	EXPECT_EQ(0, CONTROL(id, STOP));
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, CONTROL(id, RESUME));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
	/* RESUME also succeeds without a stop. */
	EXPECT_EQ(0, CONTROL(id, RESUME));
}

/* A thread that sleeps in a system call stops when the call ends, and not before. */
DEVICE_TEST(stop_asleep)
{
	int id, pipes[2];

	/* The target must be created after the pipe, to inherit it. */
	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, target_stop(&self->target));
	ASSERT_TRUE(target_start(&self->target));
	id = ATTACH(0);
	BEGIN(do_read, pipes[0]);
	EXPECT_TRUE(target_busy(&self->target));
	ASSERT_TRUE(STATE("S"));
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, STOP));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_TRUE(STATE("S"));
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, STOP));
	ASSERT_EQ(1, write(pipes[1], "", 1));
	EXPECT_TRUE(STATE("t"));
	EXPECT_EQ(0, CONTROL(id, STOP));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_EQ(0, CONTROL(id, RESUME));
	EXPECT_EQ(1, END());
}

static long wait_for_nothing(long arg)
{
	int epoll = epoll_create1(0);
	struct epoll_event event;
	long ret;

	shared->phase = 1;
	ret = epoll_wait(epoll, &event, 1, -1) < 0 ? -errno : 0;
	close(epoll);
	return ret;
}

/* A stop that is taken back does not disturb a thread that sleeps. */
DEVICE_TEST(stop_asleep_in_vain)
{
	int id = ATTACH(EVENT(QUIESCE));

	BEGIN(wait_for_nothing, 0);
	ASSERT_TRUE(reaches(&shared->phase, 1));
	ASSERT_TRUE(STATE("S"));
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, STOP));
	EXPECT_EQ(0, CONTROL(id, RESUME));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_TRUE(STATE("S"));
	EXPECT_EQ(0, CONTROL(id, REPORT));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_TRUE(no_record(self->dev));
}

/*
 * INTERRUPT affects a system call as SIGSTOP and SIGCONT do: epoll_wait() ends
 * with EINTR, read() does not.
 */
DEVICE_TEST(interrupt_asleep)
{
	int id = ATTACH(EVENT(QUIESCE));

	BEGIN(wait_for_nothing, 0);
	ASSERT_TRUE(reaches(&shared->phase, 1));
	ASSERT_TRUE(STATE("S"));
	ASSERT_EQ(0, kill(self->target.pid, SIGSTOP));
	ASSERT_TRUE(STATE("T"));
	ASSERT_EQ(0, kill(self->target.pid, SIGCONT));
	ASSERT_EQ(-EINTR, END());
	drop_records(self->dev);

	shared->phase = 0;
	BEGIN(wait_for_nothing, 0);
	ASSERT_TRUE(reaches(&shared->phase, 1));
	ASSERT_TRUE(STATE("S"));
	EXPECT_EQ(0, CONTROL(id, INTERRUPT));
	EXPECT_EQ(-EINTR, END());

	drop_records(self->dev);
	EXPECT_TRUE(STATE("S"));
	/* The target is in read() now. */
	EXPECT_EQ(0, CONTROL(id, INTERRUPT));
	NEXT(ANY);
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
}

static long sleep_a_second(long arg)
{
	struct timespec begin, end, length = { .tv_sec = 1 };
	long ret;

	clock_gettime(CLOCK_MONOTONIC, &begin);
	shared->phase = 1;
	ret = nanosleep(&length, NULL) ? -errno : 0;
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (ret)
		return ret;
	return (end.tv_sec - begin.tv_sec) * 1000 + (end.tv_nsec - begin.tv_nsec) / 1000000;
}

/* An interrupted sleep is restarted, and ends at its original time. */
DEVICE_TEST(interrupt_restarts)
{
	int i, id = ATTACH(EVENT(QUIESCE));
	long slept;

	BEGIN(sleep_a_second, 0);
	ASSERT_TRUE(reaches(&shared->phase, 1));
	for (i = 0; i < 5; i++) {
		EXPECT_TRUE(STATE("S"));
		EXPECT_EQ(0, CONTROL(id, INTERRUPT));
		NEXT(ANY);
	}
	slept = END();
	EXPECT_LE(1000, slept);
	EXPECT_GT(slow_kernel() ? 8000 : 3000, slept);
}

DEVICE_TEST(interrupt_running)
{
	struct utrace_test_attach how = {
		.tid = self->target.pid,
		.flags = UTRACE_ATTACH_CREATE,
		.callbacks = CALLBACK(QUIESCE),
	};
	int i, id = ATTACH(EVENT(QUIESCE));
	int other = dev_attach_how(self->dev, &how);
	struct utrace_test_record record;

	ASSERT_LT(0, other);
	ASSERT_EQ(0, dev_set_events(self->dev, other, EVENT(QUIESCE)));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(0, CONTROL(id, INTERRUPT));
		record = NEXT(ANY);
		EXPECT_EQ(id, record.id);
		/* The report comes by report_signal(), where signals are handled. */
		EXPECT_EQ(UTRACE_TEST_SIGNAL, record.callback);
		EXPECT_EQ(UTRACE_SIGNAL_REPORT, record.found & UTRACE_SIGNAL_MASK);
		EXPECT_EQ(-1, record.arg[2]);
		/* An engine without that callback gets report_quiesce(). */
		record = NEXT(ANY);
		EXPECT_EQ(other, record.id);
		EXPECT_EQ(UTRACE_TEST_QUIESCE, record.callback);
		EXPECT_EQ(0, record.arg[0]);
	}
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_TRUE(spins());
}

DEVICE_TEST(report_running)
{
	struct utrace_test_record record;
	int i, id = ATTACH(EVENT(QUIESCE));

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	for (i = 0; i < 20; i++) {
		EXPECT_EQ(0, CONTROL(id, REPORT));
		record = NEXT(ANY);
		EXPECT_TRUE((record.callback == UTRACE_TEST_QUIESCE && record.arg[0] == 0) ||
			    (record.callback == UTRACE_TEST_SIGNAL &&
			     (record.found & UTRACE_SIGNAL_MASK) == UTRACE_SIGNAL_REPORT));
		EXPECT_EQ(self->target.pid, record.tid);
	}
	EXPECT_TRUE(no_record(self->dev));
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* A thread that sleeps reports when its system call ends by itself. */
DEVICE_TEST(report_asleep)
{
	int id = ATTACH(EVENT(QUIESCE));

	EXPECT_EQ(0, CONTROL(id, REPORT));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_TRUE(STATE("S"));
	EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
	NEXT(ANY);
	EXPECT_TRUE(no_record(self->dev));
}

/* A report can stop the thread. */
DEVICE_TEST(report_answers_stop)
{
	int id = ATTACH(EVENT(QUIESCE));

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_QUIESCE, .action = UTRACE_STOP);
	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SIGNAL,
	       .action = UTRACE_STOP | UTRACE_SIGNAL_IGN);
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(0, CONTROL(id, REPORT));
	NEXT(ANY);
	EXPECT_TRUE(STATE("t"));
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, CONTROL(id, STOP));
	ASSERT_EQ(0, dev_no_answer(self->dev, id));
	EXPECT_EQ(0, CONTROL(id, RESUME));
	EXPECT_TRUE(spins());
}

DEVICE_TEST(refused)
{
	struct utrace_test_call how = { .action = UTRACE_DETACH + 1 };
	int id = ATTACH(0);

	/* The engine would not get the report, since its event set is empty. */
	EXPECT_EQ(-EINVAL, CONTROL(id, REPORT));
	EXPECT_EQ(-EINVAL, CONTROL(id, SINGLESTEP));
	EXPECT_EQ(-EINVAL, CONTROL(id, BLOCKSTEP));
	how.id = id;
	EXPECT_EQ(-EINVAL, dev_call(self->dev, UTRACE_TEST_CONTROL, &how));
	how.action = 0x100;
	EXPECT_EQ(-EINVAL, dev_call(self->dev, UTRACE_TEST_CONTROL, &how));
}

extern const char spin_loop[], spin_loop_end[];

/* A loop of three instructions, for steps. noipa ensures that the labels exist once. */
static __attribute__((noipa)) long step_here(long arg)
{
	asm volatile(".globl spin_loop, spin_loop_end\n"
		     "spin_loop:\n"
		     "	incq %0\n"
		     "	cmpl $0, %1\n"
		     "	je spin_loop\n"
		     "spin_loop_end:\n"
		     : "+m" (shared->turns) : "m" (shared->go) : "memory", "cc");
	return 0;
}

/* Makes one step. It ends in a SIGTRAP, which the engine consumes to stop the thread. */
static unsigned long long step(struct __test_metadata *_metadata, int dev, int id, pid_t pid,
			       enum utrace_resume_action action)
{
	struct user_regs_struct regs = {};
	struct utrace_test_record record;

	EXPECT_EQ(0, dev_control(dev, id, action));
	EXPECT_TRUE(next_record(dev, UTRACE_TEST_SIGNAL, &record));
	EXPECT_EQ(SIGTRAP, record.arg[0]);
	EXPECT_TRUE(wait_state(pid, pid, "t"));
	EXPECT_EQ(0, dev_get_regs(dev, id, &regs));
	return regs.rip;
}

static int start_steps(struct __test_metadata *_metadata, int dev, struct target *target)
{
	int id = dev_attach(dev, target->pid, EVENT(QUIESCE) | UTRACE_EVENT_SIGNAL_ALL);

	EXPECT_LT(0, id);
	EXPECT_TRUE(target_begin(target, step_here, 0));
	EXPECT_TRUE(spins());
	dev_control(dev, id, UTRACE_STOP);
	EXPECT_TRUE(wait_state(target->pid, target->pid, "t"));
	drop_records(dev);
	EXPECT_EQ(0, dev_answer(dev, &(struct utrace_test_answer){
		.id = id, .callback = UTRACE_TEST_SIGNAL, .match = SIGTRAP,
		.flags = UTRACE_TEST_ONLY, .action = UTRACE_STOP | UTRACE_SIGNAL_IGN }));
	return id;
}

DEVICE_TEST(singlestep)
{
	int i, id = start_steps(_metadata, self->dev, &self->target);
	unsigned long long before, now = 0;
	unsigned int loops = 0;

	for (i = 0; i < 31; i++) {
		before = now;
		now = step(_metadata, self->dev, id, self->target.pid, UTRACE_SINGLESTEP);
		EXPECT_LE((unsigned long)spin_loop, now);
		EXPECT_GT((unsigned long)spin_loop_end, now);
		if (i && now <= before) {
			/* Only the last of the three instructions jumps back. */
			EXPECT_EQ((unsigned long)spin_loop, now);
			loops++;
		}
	}
	EXPECT_LE(10, loops);
	EXPECT_GE(11, loops);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* A block step ends at a branch, or earlier if the CPU has no block steps. */
DEVICE_TEST(blockstep)
{
	int i, id = start_steps(_metadata, self->dev, &self->target);
	unsigned long long now, turns = shared->turns;

	for (i = 0; i < 12; i++) {
		now = step(_metadata, self->dev, id, self->target.pid, UTRACE_BLOCKSTEP);
		EXPECT_LE((unsigned long)spin_loop, now);
		EXPECT_GT((unsigned long)spin_loop_end, now);
	}
	EXPECT_LE(turns + 3, shared->turns);
	EXPECT_GE(turns + 13, shared->turns);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
}

/* Each step must be asked for, and a step leaves no trap for the program. */
DEVICE_TEST(step_is_for_once)
{
	int id = start_steps(_metadata, self->dev, &self->target);

	step(_metadata, self->dev, id, self->target.pid, UTRACE_SINGLESTEP);
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
	EXPECT_TRUE(no_record(self->dev));
	shared->go = 1;
	EXPECT_EQ(0, END());
}

DEVICE_TEST(detach_stopped)
{
	int id = ATTACH(0);

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	EXPECT_EQ(0, CONTROL(id, DETACH));
	EXPECT_TRUE(spins());
	EXPECT_EQ(-ESRCH, CONTROL(id, STOP));
}

static int begin_blocked(struct __test_metadata *_metadata, int dev, struct target *target)
{
	int id = dev_attach(dev, target->pid, EVENT(CLONE));
	struct utrace_test_record record;

	EXPECT_LT(0, id);
	EXPECT_EQ(0, dev_answer(dev, &(struct utrace_test_answer){
		.id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
		.flags = UTRACE_TEST_BLOCK }));
	EXPECT_TRUE(target_begin(target, do_fork, 0));
	EXPECT_TRUE(next_record(dev, UTRACE_TEST_CLONE, &record));
	return id;
}

/* Calls while a callback of the engine is executing. */
DEVICE_TEST(in_progress)
{
	int id = begin_blocked(_metadata, self->dev, &self->target);
	struct utrace_test_count count;

	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	ASSERT_EQ(1, count.active);
	/* Events can be added at once. Removing events needs a barrier. */
	EXPECT_EQ(0, dev_set_events(self->dev, id, EVENT(CLONE) | EVENT(EXIT)));
	EXPECT_EQ(-EINPROGRESS, dev_set_events(self->dev, id, EVENT(EXIT)));
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, STOP));
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, DETACH));
	EXPECT_EQ(-ESRCH, CONTROL(id, DETACH));
	ASSERT_EQ(0, dev_go(self->dev, id));
	EXPECT_LT(0, END());
	EXPECT_EQ(-ESRCH, dev_barrier(self->dev, id));
}

static void nothing(int sig)
{
}

/* A barrier waits for the callback; a signal can interrupt it. */
DEVICE_TEST(barrier)
{
	struct sigaction action = { .sa_handler = nothing };
	int id = begin_blocked(_metadata, self->dev, &self->target);
	struct utrace_test_count count;
	pid_t pid;

	sigaction(SIGUSR1, &action, NULL);
	EXPECT_EQ(-EINPROGRESS, CONTROL(id, DETACH));
	pid = fork();
	if (!pid) {
		int ret = dev_barrier(self->dev, id);

		shared->phase = 1;
		_exit(ret == -EINTR ? 42 : !(ret == 0 || ret == -ESRCH));
	}
	sleep_ms(100);
	EXPECT_EQ(0, shared->phase);
	ASSERT_TRUE(wait_state(pid, pid, "S"));
	ASSERT_EQ(0, kill(pid, SIGUSR1));
	EXPECT_EQ(42 << 8, wait_status(pid));

	shared->phase = 0;
	pid = fork();
	if (!pid) {
		int ret = dev_barrier(self->dev, id);

		shared->phase = 1;
		_exit(!(ret == 0 || ret == -ESRCH));
	}
	sleep_ms(100);
	EXPECT_EQ(0, shared->phase);
	ASSERT_EQ(0, dev_go(self->dev, id));
	EXPECT_EQ(0, wait_status(pid));
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(0, count.active);
	EXPECT_LT(0, END());
}

DEVICE_TEST(barrier_without_callback)
{
	int id = ATTACH(EVENT(CLONE));

	EXPECT_EQ(0, dev_barrier(self->dev, id));
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	EXPECT_EQ(0, dev_barrier(self->dev, id));
	STOP(id);
	EXPECT_EQ(0, dev_barrier(self->dev, id));
}

/* The state and tracer of a stopped thread in /proc. */
DEVICE_TEST(proc_state)
{
	char path[64], line[256], state[64] = "";
	int id = ATTACH(0), tracer = -1;
	FILE *status;

	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	STOP(id);
	snprintf(path, sizeof(path), "/proc/%d/status", self->target.pid);
	status = fopen(path, "r");
	ASSERT_NE(NULL, status);
	while (fgets(line, sizeof(line), status)) {
		sscanf(line, "State: %63[^\n]", state);
		sscanf(line, "TracerPid: %d", &tracer);
	}
	fclose(status);
	EXPECT_STREQ("t (tracing stop)", state);
	EXPECT_EQ(0, tracer);
	EXPECT_EQ(0, CONTROL(id, RESUME));
	EXPECT_TRUE(STATE("R"));
}

/* utrace_control() on a dead thread, before and after its reap. */
DEVICE_TEST(of_the_dead)
{
	int id = ATTACH(EVENT(QUIESCE)), reap = ATTACH(EVENT(QUIESCE) | EVENT(REAP));
	int death = ATTACH(EVENT(DEATH));

	BEGIN(do_exit, 0);
	EXPECT_TRUE(calls_reach(self->dev, death, UTRACE_TEST_DEATH, 1));
	EXPECT_EQ(-ESRCH, CONTROL(id, STOP));
	EXPECT_EQ(-ESRCH, CONTROL(id, INTERRUPT));
	EXPECT_EQ(-ESRCH, CONTROL(id, REPORT));
	EXPECT_EQ(-ESRCH, CONTROL(id, SINGLESTEP));
	EXPECT_EQ(-ESRCH, CONTROL(id, RESUME));
	EXPECT_EQ(-EALREADY, CONTROL(reap, DETACH));
	EXPECT_EQ(0, ENDED());
	EXPECT_EQ(-ESRCH, CONTROL(id, STOP));
	EXPECT_EQ(-ESRCH, CONTROL(id, DETACH));
	EXPECT_EQ(-ESRCH, CONTROL(reap, DETACH));
	EXPECT_EQ(UTRACE_TEST_REAP, NEXT(UTRACE_TEST_REAP).callback);
}

TEST_HARNESS_MAIN
