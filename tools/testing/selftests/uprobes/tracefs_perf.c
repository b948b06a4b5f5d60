// SPDX-License-Identifier: GPL-2.0
/* Counting by perf of the events of uprobe_events: in which processes, and for how long. */
#include <pthread.h>
#include <signal.h>

#include "perf_fixture.h"

#define ENABLE	EVENT "/enable"

static void close_all(const int *fds, unsigned int n)
{
	while (n--)
		close(fds[n]);
}

TEST_F_TIMEOUT(events, counts_a_process, TIMEOUT)
{
	struct target *target = &self->target;
	int fd;

	ASSERT_EQ(0, create(target->pid, probed_nop, ""));
	target_call(target, probed_nop, 0, 0, 10);
	fd = perf_count(target->pid);
	ASSERT_LE(0, fd);
	EXPECT_FALSE(page_is_of_file(target->pid, probed_nop));
	EXPECT_EQ(700, target_call(target, probed_nop, 3, 4, 100));
	EXPECT_EQ(100, perf_read(fd));
	EXPECT_EQ(100, profile_hits("hit"));
	EXPECT_EQ(0, profile_misses("hit"));

	ASSERT_EQ(0, ioctl(fd, PERF_EVENT_IOC_DISABLE));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(100, perf_read(fd));
	ASSERT_EQ(0, ioctl(fd, PERF_EVENT_IOC_ENABLE));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(110, perf_read(fd));
	close(fd);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

TEST_F_TIMEOUT(events, counts_on_all_processors, TIMEOUT)
{
	int fds[64], cpus = sysconf(_SC_NPROCESSORS_ONLN), i;
	struct target *target = &self->target;
	long long sum = 0;

	ASSERT_EQ(0, create(target->pid, probed_nop, "a=%di:u64 text=+0(%si):string"));
	cpus = cpus < 64 ? cpus : 64;
	for (i = 0; i < cpus; i++) {
		struct perf_event_attr attr = { .config = event_id("hit") };

		fds[i] = perf_open(&attr, -1, i);
		ASSERT_LE(0, fds[i]);
	}
	target_call(target, probed_nop, 0, 0, 100);
	for (i = 0; i < cpus; i++)
		sum += perf_read(fds[i]);
	EXPECT_EQ(100, sum);
	close_all(fds, cpus);
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
}

/* Two processes hit the event. Perf also counts in a process that cannot hit it. */
TEST_F_TIMEOUT(events, counts_in_the_right_process, TIMEOUT)
{
	struct target *first = &self->target, second;
	int fds[3];

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(first->pid, probed_nop, ""));
	fds[0] = perf_count(first->pid);
	fds[1] = perf_count(second.pid);
	fds[2] = perf_count(getpid());
	ASSERT_LE(0, fds[0]);
	ASSERT_LE(0, fds[1]);
	ASSERT_LE(0, fds[2]);
	target_call(first, probed_nop, 0, 0, 10);
	target_call(&second, probed_nop, 0, 0, 10);
	probed_nop(0, 0);
	EXPECT_EQ(10, perf_read(fds[0]));
	EXPECT_EQ(0, perf_read(fds[1]));
	EXPECT_EQ(0, perf_read(fds[2]));

	/* A new probe is in place at once if a perf event counts its hits. */
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));
	ASSERT_EQ(0, create(second.pid, probed_nop, ""));
	EXPECT_FALSE(page_is_of_file(second.pid, probed_nop));
	target_call(first, probed_nop, 0, 0, 10);
	target_call(&second, probed_nop, 0, 0, 7);
	EXPECT_EQ(20, perf_read(fds[0]));
	EXPECT_EQ(7, perf_read(fds[1]));
	EXPECT_EQ(0, perf_read(fds[2]));
	close_all(fds, 3);
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));
	EXPECT_EQ(0, target_stop(&second));
}

/* The probe is in place in a process while a perf event counts there. */
TEST_F_TIMEOUT(events, in_place_where_it_is_counted, TIMEOUT)
{
	struct target *first = &self->target, second;
	struct perf_event_attr attr = {};
	int own, one, other, again, all;

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(first->pid, probed_nop, ""));
	ASSERT_EQ(0, create(second.pid, probed_nop, ""));
	own = perf_count(0);
	ASSERT_LE(0, own);
	EXPECT_TRUE(page_is_of_file(first->pid, probed_nop));
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));
	target_call(first, probed_nop, 0, 0, 10);
	EXPECT_EQ(0, profile_hits("hit"));

	one = perf_count(first->pid);
	again = perf_count(first->pid);
	ASSERT_LE(0, one);
	ASSERT_LE(0, again);
	EXPECT_FALSE(page_is_of_file(first->pid, probed_nop));
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));
	other = perf_count(second.pid);
	ASSERT_LE(0, other);
	EXPECT_FALSE(page_is_of_file(second.pid, probed_nop));
	target_call(first, probed_nop, 0, 0, 10);
	target_call(&second, probed_nop, 0, 0, 7);
	EXPECT_EQ(17, profile_hits("hit"));
	close(one);
	EXPECT_FALSE(page_is_of_file(first->pid, probed_nop));
	target_call(first, probed_nop, 0, 0, 10);
	EXPECT_EQ(20, perf_read(again));
	close(again);
	EXPECT_TRUE(page_is_of_file(first->pid, probed_nop));
	EXPECT_FALSE(page_is_of_file(second.pid, probed_nop));
	close(other);
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));

	/* A perf event on one CPU counts in all processes. */
	attr.config = event_id("hit");
	all = perf_open(&attr, -1, 0);
	ASSERT_LE(0, all);
	EXPECT_FALSE(page_is_of_file(first->pid, probed_nop));
	EXPECT_FALSE(page_is_of_file(second.pid, probed_nop));
	close(own);
	EXPECT_FALSE(page_is_of_file(first->pid, probed_nop));
	close(all);
	EXPECT_TRUE(page_is_of_file(first->pid, probed_nop));
	EXPECT_TRUE(page_is_of_file(second.pid, probed_nop));
	EXPECT_EQ(0, target_stop(&second));
}

/* Tracing and perf begin and end in each order. */
TEST_F_TIMEOUT(events, beside_tracing, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int i;

	ASSERT_EQ(0, create(target->pid, probed_lea, "a=%di:u64"));
	for (i = 0; i < 4; i++) {
		bool perf_first = i & 1, perf_last = i & 2;
		char *trace;
		int fd = -1;

		ASSERT_EQ(0, tracefs_replace("trace", "%s", ""));
		if (perf_first) {
			fd = perf_count(target->pid);
		} else {
			ASSERT_EQ(0, tracefs_replace(ENABLE, "1"));
		}
		target_call(target, probed_lea, 1, 0, 10);
		if (perf_first) {
			ASSERT_EQ(0, tracefs_replace(ENABLE, "1"));
		} else {
			fd = perf_count(target->pid);
		}
		ASSERT_LE(0, fd);
		target_call(target, probed_lea, 2, 0, 20);
		EXPECT_EQ(perf_first ? 30 : 20, perf_read(fd));
		if (perf_last) {
			ASSERT_EQ(0, tracefs_replace(ENABLE, "0"));
		} else {
			close(fd);
		}
		target_call(target, probed_lea, 3, 0, 30);
		if (perf_last) {
			EXPECT_EQ(perf_first ? 60 : 50, perf_read(fd));
		}
		EXPECT_FALSE(page_is_of_file(target->pid, probed_lea));

		trace = tracefs_read("trace");
		EXPECT_EQ(perf_first ? 0 : 10, count_lines(trace, "a=1\n"));
		EXPECT_EQ(20, count_lines(trace, "a=2\n"));
		EXPECT_EQ(perf_last ? 0 : 30, count_lines(trace, "a=3\n"));
		free(trace);
		/* A hit counts once, for tracing and perf together. */
		EXPECT_EQ(60 * (i + 1), profile_hits("hit"));
		if (perf_last) {
			close(fd);
		} else {
			ASSERT_EQ(0, tracefs_replace(ENABLE, "0"));
		}
		EXPECT_TRUE(page_is_of_file(target->pid, probed_lea));
	}
}

TEST_F_TIMEOUT(events, in_use_it_stays, TIMEOUT)
{
	struct target *target = &self->target;
	int first, second;

	ASSERT_EQ(0, create(target->pid, probed_nop, ""));
	first = perf_count(target->pid);
	second = perf_count(getpid());
	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	EXPECT_EQ(-EBUSY, tracefs_append("uprobe_events", "-:selftest/hit"));
	EXPECT_EQ(-EBUSY, tracefs_replace("uprobe_events", "%s", ""));
	close(second);
	EXPECT_EQ(-EBUSY, tracefs_append("uprobe_events", "-:selftest/hit"));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(10, perf_read(first));
	close(first);
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
	EXPECT_FALSE(tracefs_exists(EVENT));
}

#define CALLS	200

static void *call_often(void *unused)
{
	unsigned int i;

	for (i = 0; i < CALLS; i++)
		probed_push(i, 0);
	return unused;
}

static void call_in_threads(unsigned int n)
{
	pthread_t threads[4];
	unsigned int i;

	for (i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, call_often, NULL);
	while (i--)
		pthread_join(threads[i], NULL);
}

/* Threads that are created later are counted if the perf event is inherited. */
TEST_F_TIMEOUT(events, threads_inherit, TIMEOUT)
{
	struct perf_event_attr attr = {};
	int own, all;

	ASSERT_EQ(0, create(getpid(), probed_push, "a=%di"));
	own = perf_count(0);
	attr.config = event_id("hit");
	attr.inherit = 1;
	all = perf_open(&attr, 0, -1);
	ASSERT_LE(0, own);
	ASSERT_LE(0, all);
	call_often(NULL);
	call_in_threads(4);
	EXPECT_EQ(CALLS, perf_read(own));
	EXPECT_EQ(5 * CALLS, perf_read(all));
	close(own);
	close(all);
	EXPECT_TRUE(page_is_of_file(getpid(), probed_push));
}

/* A child inherits perf's event, but has no probes. */
TEST_F_TIMEOUT(events, children_have_no_probes, TIMEOUT)
{
	struct perf_event_attr attr = { .inherit = 1 };
	int fd, status;
	pid_t child;

	ASSERT_EQ(0, create(getpid(), probed_push, ""));
	attr.config = event_id("hit");
	fd = perf_open(&attr, 0, -1);
	ASSERT_LE(0, fd);
	child = fork();
	if (!child) {
		call_often(NULL);
		call_in_threads(2);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, perf_read(fd));
	call_often(NULL);
	EXPECT_EQ(CALLS, perf_read(fd));
	close(fd);
}

TEST_F_TIMEOUT(events, perf_filter, TIMEOUT)
{
	struct target *target = &self->target;
	unsigned int i;
	int fd;

	ASSERT_EQ(0, create(target->pid, probed_lea, "a=%di:u64"));
	fd = perf_count(target->pid);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, PERF_EVENT_IOC_SET_FILTER, "a > 3 && a != 7"));
	for (i = 0; i < 10; i++)
		target_call(target, probed_lea, i, 0, 2);
	EXPECT_EQ(10, perf_read(fd));
	close(fd);
}

/* The event outlives the process, also for perf. */
TEST_F_TIMEOUT(events, process_ends_first, TIMEOUT)
{
	struct target target;
	int fd;

	ASSERT_TRUE(target_start(&target));
	ASSERT_EQ(0, create(target.pid, probed_nop, ""));
	fd = perf_count(target.pid);
	ASSERT_LE(0, fd);
	target_call(&target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, target_stop(&target));
	EXPECT_EQ(10, perf_read(fd));
	EXPECT_EQ(10, profile_hits("hit"));
	EXPECT_EQ(-EBUSY, tracefs_append("uprobe_events", "-:selftest/hit"));
	close(fd);
	EXPECT_EQ(-ESRCH, perf_count(getpid()));
	/* The failed attempt leaves nothing behind. */
	EXPECT_EQ(-ESRCH, tracefs_replace(ENABLE, "1"));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

static bool is_forbidden(int fd)
{
	return fd == -EACCES || fd == -EPERM;
}

/* An unprivileged user neither gets data of other threads nor disturbs them. */
TEST_F_TIMEOUT(events, unprivileged, TIMEOUT)
{
	struct perf_event_attr attr = {
		.exclude_kernel = 1,
		.sample_period = 1,
		.sample_type = PERF_SAMPLE_RAW,
	};
	pid_t child;
	int status;

	ASSERT_EQ(0, create(self->target.pid, probed_nop, ""));
	attr.config = event_id("hit");
	child = fork();
	if (!child) {
		int others, all, own, count;

		if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534))
			_exit(100);
		others = perf_open(&attr, self->target.pid, -1);
		all = perf_open(&attr, -1, 0);
		own = perf_open(&attr, 0, -1);
		attr.sample_type = 0;
		attr.sample_period = 0;
		count = perf_open(&attr, 0, -1);
		/* Both perf events are open while the parent examines the target. */
		raise(SIGSTOP);
		_exit((is_forbidden(others) ? 0 : 1) + (is_forbidden(all) ? 0 : 2) +
		      (own < 0 ? 4 : 0) + (count < 0 ? 8 : 0));
	}
	ASSERT_EQ(child, waitpid(child, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_TRUE(page_is_of_file(self->target.pid, probed_nop));
	target_call(&self->target, probed_nop, 0, 0, 10);
	EXPECT_EQ(0, profile_hits("hit"));
	kill(child, SIGCONT);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
	EXPECT_TRUE(page_is_of_file(self->target.pid, probed_nop));
}

static void *open_and_close(void *times)
{
	unsigned int i;

	for (i = 0; i < *(unsigned int *)times; i++) {
		int fd = perf_count(0);

		if (fd < 0)
			return (void *)1UL;
		close(fd);
	}
	return NULL;
}

/* Perf events and tracing come and go while threads hit the probe. */
TEST_F_TIMEOUT(events, comes_and_goes, TIMEOUT)
{
	unsigned int times = scaled(60), i;
	unsigned long sum = 0;
	pthread_t thread;
	void *failed;

	ASSERT_EQ(0, create(getpid(), probed_push, "a=%di:u64 s=$stack0"));
	ASSERT_EQ(0, pthread_create(&thread, NULL, open_and_close, &times));
	for (i = 0; i < times; i++) {
		ASSERT_EQ(0, tracefs_replace(ENABLE, "%d", i & 1));
		sum += call_probed(probed_push, i, 1);
	}
	ASSERT_EQ(0, pthread_join(thread, &failed));
	EXPECT_EQ(NULL, failed);
	EXPECT_EQ((unsigned long)times * (times + 1) / 2, sum);
	ASSERT_EQ(0, tracefs_replace(ENABLE, "0"));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_push));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit"));
}

TEST_HARNESS_MAIN
