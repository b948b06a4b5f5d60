// SPDX-License-Identifier: GPL-2.0
/* The control file utrace_syscall_pids: its input, its errors and its contents. */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "syscall_trace.h"

/* Makes system call MARK each time that the parent writes. */
static void run_marks(int to, int from, void *arg)
{
	char c;

	while (read(to, &c, 1) == 1) {
		syscall(MARK);
		if (write(from, "", 1) != 1)
			break;
	}
}

/* Has the child make its call, and returns the number of events of it. */
static size_t marks(struct child *child)
{
	struct trace trace;
	size_t count;

	file_write(INSTANCE "trace", O_TRUNC, "", 0);
	child_go(child);
	child_said(child);
	trace = trace_read();
	count = trace_count(&trace, ENTER, child->pid, MARK);
	if (trace_count(&trace, EXIT, child->pid, MARK) != count)
		count = -1;
	trace_free(&trace);
	return count;
}

TEST_F_TIMEOUT(tracing, add_and_remove, TIMEOUT)
{
	struct child a, b;
	char text[64];

	ASSERT_TRUE(child_start(&a, run_marks, NULL));
	ASSERT_TRUE(child_start(&b, run_marks, NULL));
	EXPECT_EQ(0, marks(&a));
	ASSERT_EQ(0, pid_add(a.pid));
	EXPECT_EQ(1, marks(&a));
	EXPECT_EQ(0, marks(&b));
	ASSERT_EQ(0, pid_add(b.pid));
	EXPECT_EQ(1, pid_listed(a.pid));
	EXPECT_EQ(1, pid_listed(b.pid));
	EXPECT_EQ(1, marks(&a));
	EXPECT_EQ(1, marks(&b));

	/* Adding a listed process succeeds, and changes nothing. */
	ASSERT_EQ(0, pid_add(a.pid));
	EXPECT_EQ(1, pid_listed(a.pid));
	EXPECT_EQ(1, marks(&a));

	ASSERT_EQ(0, pid_remove(a.pid));
	EXPECT_EQ(0, pid_listed(a.pid));
	EXPECT_EQ(0, marks(&a));
	EXPECT_EQ(1, marks(&b));
	EXPECT_EQ(-ESRCH, pid_remove(a.pid));

	/* '>' replaces the list. */
	snprintf(text, sizeof(text), "%d\n", a.pid);
	ASSERT_EQ(0, pids_replace(text));
	EXPECT_EQ(0, pid_listed(b.pid));
	EXPECT_EQ(1, marks(&a));
	EXPECT_EQ(0, marks(&b));

	/* Words take effect in order. '-' and '!' both remove. */
	snprintf(text, sizeof(text), " %d\t-%d\n\n%d !%d %d", b.pid, a.pid, a.pid, b.pid, b.pid);
	ASSERT_EQ(0, pids_append(text));
	EXPECT_EQ(1, marks(&a));
	EXPECT_EQ(1, marks(&b));
	snprintf(text, sizeof(text), "-%d !%d", a.pid, b.pid);
	ASSERT_EQ(0, pids_append(text));
	EXPECT_EQ(0, marks(&a));
	EXPECT_EQ(0, marks(&b));

	/* Empty input changes nothing. */
	ASSERT_EQ(0, pid_add(a.pid));
	EXPECT_EQ(0, pids_append(" \n"));
	EXPECT_EQ(1, pid_listed(a.pid));
	EXPECT_EQ(0, pids_replace("\n"));
	EXPECT_EQ(0, pid_listed(a.pid));
	EXPECT_EQ(0, child_end(&a));
	EXPECT_EQ(0, child_end(&b));
}

/* A write that fails has no effect at all. */
TEST_F_TIMEOUT(tracing, refused, TIMEOUT)
{
	static const char *const malformed[] = {
		"0", "-0", "!0", "-", "!", "+1", "--1", "!!1", "0x10", "1a", "a", "1,2",
		"2147483648", "4294967297", "99999999999999999999", "1 x", "1\n2 -",
	};
	static char long_text[4097];
	struct child child, dead;
	char text[64];
	siginfo_t info;
	size_t i;

	ASSERT_TRUE(child_start(&child, run_marks, NULL));
	for (i = 0; i < ARRAY_SIZE(malformed); i++)
		EXPECT_EQ(-EINVAL, pids_append(malformed[i])) TH_LOG("line %zu", i);
	EXPECT_EQ(-EINVAL, file_write(PIDS, O_APPEND, "1\0", 3));

	/* No process has this number, the highest that can be written. */
	EXPECT_EQ(-ESRCH, pids_append("2147483647"));
	EXPECT_EQ(-ESRCH, pids_append("!2147483647"));
	/* kthreadd */
	EXPECT_EQ(-EPERM, pids_append("2"));
	EXPECT_EQ(-ESRCH, pids_append("!2"));

	memset(long_text, ' ', sizeof(long_text));
	EXPECT_EQ(-E2BIG, file_write(PIDS, O_APPEND, long_text, sizeof(long_text)));
	EXPECT_EQ(0, file_write(PIDS, O_APPEND, long_text, sizeof(long_text) - 1));

	/* Words before the word that fails are undone. */
	snprintf(text, sizeof(text), "%d 2", child.pid);
	EXPECT_EQ(-EPERM, pids_append(text));
	EXPECT_EQ(0, pid_listed(child.pid));
	EXPECT_EQ(0, marks(&child));
	ASSERT_EQ(0, pid_add(child.pid));
	snprintf(text, sizeof(text), "!%d 2147483647", child.pid);
	EXPECT_EQ(-ESRCH, pids_append(text));
	EXPECT_EQ(1, pid_listed(child.pid));
	EXPECT_EQ(1, marks(&child));
	snprintf(text, sizeof(text), "!%d x", child.pid);
	EXPECT_EQ(-EINVAL, pids_append(text));
	EXPECT_EQ(1, marks(&child));
	EXPECT_EQ(0, child_end(&child));

	/* A zombie, which still has its number. */
	ASSERT_TRUE(child_start(&dead, run_marks, NULL));
	close(dead.go);
	ASSERT_EQ(0, waitid(P_PID, dead.pid, &info, WEXITED | WNOWAIT));
	EXPECT_EQ(-ESRCH, pid_add(dead.pid));
	waitpid(dead.pid, NULL, 0);
	EXPECT_EQ(-ESRCH, pid_add(dead.pid));
	close(dead.done);
}

static void run_unprivileged(int to, int from, void *arg)
{
	if (setgid(65534) || setuid(65534))
		_exit(1);
	_exit(open(PIDS, O_RDONLY) >= 0 || errno != EACCES ||
	      open(PIDS, O_WRONLY) >= 0 || errno != EACCES);
}

TEST_F_TIMEOUT(tracing, root_only, TIMEOUT)
{
	struct stat st;
	struct child child;

	ASSERT_EQ(0, stat(PIDS, &st));
	EXPECT_EQ(S_IFREG | 0640, st.st_mode);
	EXPECT_EQ(0, st.st_uid);
	ASSERT_TRUE(child_start(&child, run_unprivileged, NULL));
	EXPECT_EQ(0, child_end(&child));
}

static _Atomic pid_t *shared_tid;

static void *wait_in_thread(void *to)
{
	*shared_tid = syscall(SYS_gettid);
	child_wait((long)to);
	return NULL;
}

static void run_leader_exits(int to, int from, void *arg)
{
	pthread_t thread;

	pthread_create(&thread, NULL, wait_in_thread, (void *)(long)to);
	while (!*shared_tid)
		sched_yield();
	if (write(from, "", 1) == 1)
		syscall(SYS_exit, 0);
}

/* Any thread's number names its process, which may outlive its first thread. */
TEST_F_TIMEOUT(tracing, by_thread, TIMEOUT)
{
	struct child child;
	struct trace trace;
	char c;

	shared_tid = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, shared_tid);
	ASSERT_TRUE(child_start(&child, run_leader_exits, NULL));
	ASSERT_TRUE(child_said(&child));
	/* Wait until the first thread has exited. */
	for (c = 0; c != 'Z'; ) {
		char path[64], *text, *at;

		snprintf(path, sizeof(path), "/proc/%d/stat", child.pid);
		text = file_read(path);
		at = strrchr(text, ')');
		c = at ? at[2] : 'Z';
		free(text);
	}
	ASSERT_EQ(0, pid_add(*shared_tid));
	EXPECT_EQ(1, pid_listed(child.pid));
	EXPECT_EQ(0, pid_listed(*shared_tid));
	/* The number of the first thread still names the process. */
	ASSERT_EQ(0, pid_add(child.pid));
	EXPECT_EQ(1, pid_listed(child.pid));
	child_go(&child);
	EXPECT_EQ(0, child_end(&child));
	EXPECT_EQ(0, pid_listed(child.pid));
	trace = trace_read();
	EXPECT_EQ(1, trace_count(&trace, EXIT, *shared_tid, SYS_read));
	trace_free(&trace);
}

/* A process is removed from the list at its exit, in whichever way it exits. */
TEST_F_TIMEOUT(tracing, exit_removes, TIMEOUT)
{
	struct child child;
	siginfo_t info;
	char *left;
	int i;

	for (i = 0; i < 50; i++) {
		ASSERT_TRUE(child_start(&child, run_marks, NULL));
		ASSERT_EQ(0, pid_add(child.pid));
		EXPECT_EQ(1, pid_listed(child.pid));
		if (i % 2)
			kill(child.pid, SIGKILL);
		else
			close(child.go);
		ASSERT_EQ(0, waitid(P_PID, child.pid, &info, WEXITED | WNOWAIT));
		EXPECT_EQ(0, pid_listed(child.pid));
		EXPECT_EQ(-ESRCH, pid_remove(child.pid));
		waitpid(child.pid, NULL, 0);
		if (i % 2)
			close(child.go);
		close(child.done);
	}
	left = file_read(PIDS);
	EXPECT_STREQ("", left);
	free(left);
}

static void *exit_all(void *arg)
{
	_exit(0);
}

/* Exits at once, from a second thread or from the only one. */
static void run_exit(int to, int from, void *arg)
{
	pthread_t thread;

	child_wait(to);
	if (arg && !pthread_create(&thread, NULL, exit_all, NULL))
		pthread_join(thread, NULL);
}

static unsigned long now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000UL + ts.tv_nsec / 1000;
}

/* Adding a process that is exiting fails, or its exit removes it again. */
TEST_F_TIMEOUT(tracing, add_against_exit, TIMEOUT)
{
	unsigned int i, in_time = 0, too_late = 0;
	unsigned long longest = 0;
	struct child child;
	char *left;
	int ret;

	/* Measure the time that the exit takes on this kernel. */
	for (i = 0; i < 10; i++) {
		unsigned long start;

		ASSERT_TRUE(child_start(&child, run_exit, (void *)1));
		child_asleep(&child);
		start = now_us();
		child_go(&child);
		EXPECT_EQ(0, child_end(&child));
		if (now_us() - start > longest)
			longest = now_us() - start;
	}
	for (i = 0; i < 400; i++) {
		ASSERT_TRUE(child_start(&child, run_exit, (void *)(long)(i % 2)));
		child_asleep(&child);
		child_go(&child);
		/* Wait up to twice that time, and not at all in every 20th round. */
		if (i % 20)
			usleep(longest * (i % 20) / 10);
		ret = pid_add(child.pid);
		in_time += ret == 0;
		too_late += ret == -ESRCH;
		EXPECT_EQ(0, child_end(&child));
		EXPECT_EQ(0, pid_listed(child.pid));
	}
	EXPECT_EQ(400, in_time + too_late);
	EXPECT_LT(0, in_time);
	EXPECT_LT(0, too_late);
	TH_LOG("%u in time, %u too late", in_time, too_late);
	left = file_read(PIDS);
	EXPECT_STREQ("", left);
	free(left);
}

static void run_in_namespace(int to, int from, void *arg)
{
	char *list;
	int ok;

	/* In its new namespace this process is number 1; processes outside have no number there. */
	ok = getpid() == 1 && !pids_append("1") && pids_append("!4194304") == -ESRCH;
	list = file_read(PIDS);
	ok = ok && !strcmp(list, "1\n");
	if (write(from, ok ? "1" : "0", 1) == 1)
		run_marks(to, from, arg);
}

TEST_F_TIMEOUT(tracing, pid_namespace, TIMEOUT)
{
	struct child outside, inside;
	char ok = 0;

	ASSERT_TRUE(child_start(&outside, run_marks, NULL));
	ASSERT_EQ(0, pid_add(outside.pid));
	if (unshare(CLONE_NEWPID))
		SKIP(return, "no pid namespaces");
	ASSERT_TRUE(child_start(&inside, run_in_namespace, NULL));
	ASSERT_EQ(1, read(inside.done, &ok, 1));
	EXPECT_EQ('1', ok);
	/* In the namespace of the test, both processes have numbers. */
	EXPECT_EQ(1, pid_listed(inside.pid));
	EXPECT_EQ(1, pid_listed(outside.pid));
	EXPECT_EQ(1, marks(&inside));
	EXPECT_EQ(0, child_end(&inside));
	EXPECT_EQ(0, child_end(&outside));
}

/* Makes system calls in a loop, in one of the short-lived threads. */
static void *call_often(void *arg)
{
	int i;

	for (i = 0; i < 200; i++)
		access("/nowhere", F_OK);
	return NULL;
}

static struct {
	atomic_bool over;
} *stress;

static void run_stress(int to, int from, void *arg)
{
	pthread_t threads[4];
	int i;

	while (!stress->over) {
		for (i = 0; i < 4; i++)
			pthread_create(&threads[i], NULL, call_often, NULL);
		for (i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
}

/* A process is added and removed under load. No event follows its removal. */
TEST_F_TIMEOUT(tracing, under_load, TIMEOUT)
{
	struct child child;
	struct trace trace;
	size_t i, seen = 0;

	stress = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, stress);
	ASSERT_TRUE(child_start(&child, run_stress, NULL));
	for (i = 0; i < 60; i++) {
		ASSERT_EQ(0, pid_add(child.pid));
		usleep(3000);
		ASSERT_EQ(0, pid_remove(child.pid));
		if (i % 10)
			continue;
		trace = trace_read();
		seen += trace.count;
		EXPECT_EQ(0, trace.odd);
		trace_free(&trace);
		ASSERT_EQ(0, file_write(INSTANCE "trace", O_TRUNC, "", 0));
		usleep(10000);
		trace = trace_read();
		EXPECT_EQ(0, trace.count);
		trace_free(&trace);
	}
	EXPECT_LT(0, seen);
	/* The process exits while it is listed. */
	ASSERT_EQ(0, pid_add(child.pid));
	stress->over = true;
	EXPECT_EQ(0, child_end(&child));
	EXPECT_EQ(0, pid_listed(child.pid));
}

TEST_HARNESS_MAIN
