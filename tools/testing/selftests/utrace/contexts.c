// SPDX-License-Identifier: GPL-2.0
/* The contexts of callbacks and stops: grace periods, nested events, oopses, vfork(). */
#include <sys/mman.h>

#include "cgroup.h"
#include "device_fixture.h"

#define PID	(self->target.pid)

/*
 * A thread that sleeps in report_death() does not block a grace period of Tasks
 * RCU, and neither does a thread that waits for the grace period there.
 */
DEVICE_TEST(death_and_tasks_rcu)
{
	int sleeps = ATTACH(EVENT(DEATH)), waits;
	struct utrace_test_count count;
	struct target other;

	ASSERT_TRUE(target_start(&other));
	waits = dev_attach(self->dev, other.pid, EVENT(DEATH));
	ASSERT_LT(0, waits);
	ANSWER(self->dev, .id = sleeps, .callback = UTRACE_TEST_DEATH, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_BLOCK);
	ANSWER(self->dev, .id = waits, .callback = UTRACE_TEST_DEATH, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_TASKS_RCU);
	BEGIN(do_exit, 0);
	EXPECT_EQ(sleeps, NEXT(UTRACE_TEST_DEATH).id);
	ASSERT_TRUE(target_begin(&other, do_exit, 0));
	/* The module records the death after the grace period. */
	EXPECT_EQ(waits, NEXT(UTRACE_TEST_DEATH).id);
	ASSERT_EQ(0, dev_count(self->dev, sleeps, &count));
	EXPECT_EQ(1, count.active);
	ASSERT_EQ(0, dev_go(self->dev, sleeps));
	EXPECT_EQ(0, ENDED());
	EXPECT_EQ(0, target_stop(&other));
}

static const char name[] = "/dev/null";

/* Calls utrace_barrier() in a process of its own. */
static pid_t start_barrier(int dev, int id)
{
	pid_t pid = fork();

	if (!pid)
		_exit(!!dev_barrier(dev, id));
	return pid;
}

/*
 * An event that a callback causes is not reported, and a barrier waits for the
 * callback as before.
 */
DEVICE_TEST(event_within_a_callback)
{
	int id = ATTACH(EVENT(SYSCALL_ENTRY) | EVENT(PATH)), other = ATTACH(EVENT(PATH));
	struct utrace_test_record record;
	pid_t barrier;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_SYSCALL_ENTRY, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_KEEP | UTRACE_TEST_LOOK_UP |
	       UTRACE_TEST_BLOCK, .match = SYS_getpid, .value = { (unsigned long)name });
	BEGIN(do_getpid, 0);
	do {
		record = NEXT(ANY);
		ASSERT_EQ(UTRACE_TEST_SYSCALL_ENTRY, record.callback);
	} while (record.arg[0] != SYS_getpid);
	EXPECT_EQ(0, record.result);

	barrier = start_barrier(self->dev, id);
	EXPECT_TRUE(wait_state(barrier, barrier, "S"));
	sleep_ms(100);
	EXPECT_EQ(0, waitpid(barrier, NULL, WNOHANG));
	ASSERT_EQ(0, dev_go(self->dev, id));
	EXPECT_EQ(0, wait_status(barrier));
	EXPECT_EQ(PID, END());

	/* Events of the program are still reported. */
	drop_records(self->dev);
	ASSERT_EQ(0, CALL(do_open, 0));
	do {
		record = NEXT(UTRACE_TEST_PATH);
	} while (record.id != other);
	EXPECT_STREQ(name, record.name);
}

/* The exit of a thread that dies of an oops in a callback is reported; engines can detach. */
static void dies(struct __test_metadata *_metadata, int dev, struct target *target, int id)
{
	ANSWER(dev, .id = id, .callback = UTRACE_TEST_SYSCALL_ENTRY, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_ONLY | UTRACE_TEST_KEEP | UTRACE_TEST_DIE,
	       .match = SYS_getpid);
	ASSERT_TRUE(target_begin(target, do_getpid, 0));
	EXPECT_EQ(SIGKILL, target_stop(target));
	EXPECT_TRUE(calls_reach(dev, id, UTRACE_TEST_EXIT, 1));
	EXPECT_TRUE(calls_reach(dev, id, UTRACE_TEST_LAST_EXIT, 1));
	EXPECT_TRUE(calls_reach(dev, id, UTRACE_TEST_REAP, 1));
	EXPECT_EQ(0, dev_drop(dev, id));
}

#define LIFE	(EVENT(SYSCALL_ENTRY) | EVENT(EXIT) | EVENT(LAST_EXIT) | EVENT(DEATH) | EVENT(REAP))

DEVICE_TEST(oops)
{
	int id = ATTACH(LIFE);

	self->ended = true;
	dies(_metadata, self->dev, &self->target, id);
}

DEVICE_TEST(oops_in_process)
{
	int id = dev_attach_process(self->dev, PID, LIFE);

	ASSERT_LT(0, id);
	self->ended = true;
	dies(_metadata, self->dev, &self->target, id);
}

/* do_exit() starts over, but the exit is reported once. The callback counts at its end. */
DEVICE_TEST(oops_in_exit)
{
	struct utrace_test_count count;
	int id = ATTACH(LIFE);

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_EXIT, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_DIE);
	BEGIN(do_exit, 0);
	EXPECT_EQ(0, ENDED());
	EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_REAP, 1));
	ASSERT_EQ(0, dev_count(self->dev, id, &count));
	EXPECT_EQ(0, count.calls[UTRACE_TEST_EXIT]);
	EXPECT_EQ(1, count.calls[UTRACE_TEST_LAST_EXIT]);
	EXPECT_EQ(0, dev_drop(self->dev, id));
}

/* Closes all files first, because they would stay open for ever. */
static long do_exit_without_files(long code)
{
	syscall(SYS_close_range, 0, ~0U, 0);
	return do_exit(code);
}

/* As after each oops in do_exit(), the thread stays for ever. Its engine can be detached. */
static void dies_in(struct __test_metadata *_metadata, int dev, struct target *target,
		    enum utrace_test_callback callback)
{
	int id = dev_attach_process(dev, target->pid, LIFE);

	ASSERT_LT(0, id);
	ANSWER(dev, .id = id, .callback = callback, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_DIE);
	ASSERT_TRUE(target_begin(target, do_exit_without_files, 0));
	EXPECT_TRUE(wait_state(target->pid, target->pid, "X"));
	EXPECT_EQ(0, dev_drop(dev, id));
}

DEVICE_TEST(oops_in_last_exit)
{
	self->ended = true;
	dies_in(_metadata, self->dev, &self->target, UTRACE_TEST_LAST_EXIT);
}

DEVICE_TEST(oops_in_death)
{
	self->ended = true;
	dies_in(_metadata, self->dev, &self->target, UTRACE_TEST_DEATH);
}

static long do_vfork(long spins)
{
	pid_t pid = vfork();

	if (!pid) {
		shared->phase = 1;
		while (spins)
			shared->turns++;
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return pid;
}

/* Starts a vfork() that an engine stops. Returns the child. */
static pid_t stop_at_vfork(struct __test_metadata *_metadata, int dev, struct target *target,
			   int id, bool spins)
{
	struct utrace_test_record record;

	ANSWER(dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_STOP, .times = 1);
	shared->phase = 0;
	EXPECT_TRUE(target_begin(target, do_vfork, spins));
	EXPECT_TRUE(next_record(dev, UTRACE_TEST_CLONE, &record));
	EXPECT_TRUE(wait_state(target->pid, target->pid, "t"));
	return record.arg[1];
}

/* The child runs and ends during the stop. */
DEVICE_TEST(vfork)
{
	int id = ATTACH(EVENT(CLONE));
	pid_t child = stop_at_vfork(_metadata, self->dev, &self->target, id, false);

	EXPECT_TRUE(wait_state(child, child, "Z"));
	EXPECT_TRUE(wait_state(PID, PID, "t"));
	EXPECT_TRUE(target_busy(&self->target));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(child, END());
}

/* The child can be killed during the stop. */
DEVICE_TEST(vfork_killed)
{
	int id = ATTACH(EVENT(CLONE));
	pid_t child = stop_at_vfork(_metadata, self->dev, &self->target, id, true);

	EXPECT_TRUE(spins());
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_TRUE(wait_state(child, child, "Z"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(child, END());
}

/* Parent and child can be frozen during the stop. */
DEVICE_TEST(vfork_frozen)
{
	int id = ATTACH(EVENT(CLONE));
	char cgroup[CGROUP_PATH];
	pid_t child;

	if (!cgroup_make(cgroup))
		SKIP(return, "no cgroup v2");
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.procs", PID));
	child = stop_at_vfork(_metadata, self->dev, &self->target, id, true);
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 1));
	EXPECT_TRUE(frozen(cgroup, 1));
	EXPECT_TRUE(spins_not());
	ASSERT_TRUE(cgroup_write(cgroup, "cgroup.freeze", 0));
	EXPECT_TRUE(spins());
	EXPECT_EQ(0, kill(child, SIGKILL));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(child, END());
	EXPECT_EQ(SIGKILL, KILLED());
	cgroup_remove(cgroup);
}

/* Collects the names of the lines of /proc/PID/status. */
static bool status_lines(pid_t pid, char *names, size_t size)
{
	char path[64], line[1024];
	size_t used = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "r");
	if (!status)
		return false;
	while (fgets(line, sizeof(line), status)) {
		line[strcspn(line, ":")] = '\0';
		used += snprintf(names + used, size - used, "%s ", line);
	}
	fclose(status);
	return used < size;
}

/* /proc/PID/status does not show that a thread has an engine. */
DEVICE_TEST(status_does_not_tell)
{
	char before[4096], after[4096];

	ASSERT_TRUE(status_lines(PID, before, sizeof(before)));
	ATTACH(ALL_EVENTS);
	ASSERT_TRUE(status_lines(PID, after, sizeof(after)));
	EXPECT_STREQ(before, after);
}

TEST_HARNESS_MAIN
