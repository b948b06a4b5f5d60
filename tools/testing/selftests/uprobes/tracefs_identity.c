// SPDX-License-Identifier: GPL-2.0
/*
 * Identity of processes in uprobe_events. Events refer to processes, not to pids: an exited process
 * does not get in the way, and pids are relative to a pid namespace.
 */
#include <errno.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/personality.h>
#include <sys/syscall.h>

#include "tracefs_fixture.h"

#define EVENT	"events/selftest/hit"

static int create(pid_t pid, probed_fn fn)
{
	return tracefs_append("uprobe_events", "p:selftest/hit %d:%p", pid, fn);
}

static void expect_lines(struct __test_metadata *_metadata, const char *file,
			 const char *containing, unsigned int n)
{
	char *text = tracefs_read(file);

	EXPECT_EQ(n, count_lines(text, containing)) TH_LOG("%s: %s", containing, text);
	free(text);
}

/* Returns a probe's line as listed for a reader that sees the process with this pid. */
static const char *listed(pid_t pid)
{
	static char line[128];

	snprintf(line, sizeof(line), "%sp:selftest/hit %d:0x%016lx\n", pid ? "\n" : "# ", pid,
		 (unsigned long)probed_nop);
	return line;
}

/* Returns all lines of uprobe_events, each with a newline before it as well. */
static char *list_read(void)
{
	char *list = tracefs_read("uprobe_events"), *with;

	if (asprintf(&with, "\n%s", list) < 0)
		with = NULL;
	free(list);
	return with;
}

static bool is_listed(pid_t pid)
{
	char *list = list_read();
	bool is = strstr(list, listed(pid));

	free(list);
	return is;
}

TEST_F_TIMEOUT(events, one_of_two_is_over, TIMEOUT)
{
	struct target *target = &self->target, second;

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(second.pid, probed_nop));
	ASSERT_EQ(0, create(target->pid, probed_nop));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	EXPECT_EQ(0, target_stop(&second));

	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	EXPECT_TRUE(page_is_of_file(target->pid, probed_nop));
	/* As with events/enable, which takes longer. */
	ASSERT_EQ(0, tracefs_replace("events/selftest/enable", "1"));
	target_call(target, probed_nop, 0, 0, 10);
	ASSERT_EQ(0, tracefs_replace("events/selftest/enable", "0"));
	EXPECT_EQ(20, profile_hits("hit"));

	/* The probe of the exited process is listed as a comment. Writing that has no effect. */
	EXPECT_TRUE(is_listed(0));
	EXPECT_TRUE(is_listed(target->pid));
	expect_lines(_metadata, "uprobe_profile", "  0:0x", 1);
	EXPECT_EQ(0, tracefs_append("uprobe_events", "%s", listed(0)));
	/* It can be removed by the pid that it was created with. */
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit %d:%p", second.pid,
				    probed_nop));
	expect_lines(_metadata, "uprobe_events", "selftest/hit", 1);
	EXPECT_TRUE(is_listed(target->pid));
}

TEST_F_TIMEOUT(events, all_are_over, TIMEOUT)
{
	struct target targets[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(target_start(&targets[i]));
		ASSERT_EQ(0, create(targets[i].pid, probed_nop));
	}
	/* The target that was started last holds the pipe of the other open. */
	for (i = 2; i--;)
		EXPECT_EQ(0, target_stop(&targets[i]));
	EXPECT_EQ(-ESRCH, tracefs_replace(EVENT "/enable", "1"));
	EXPECT_EQ(-ESRCH, tracefs_replace("events/selftest/enable", "1"));
	/* Others are enabled nevertheless, and a new probe makes the event useful again. */
	ASSERT_EQ(0, create(self->target.pid, probed_nop));
	EXPECT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	target_call(&self->target, probed_nop, 0, 0, 10);
	EXPECT_EQ(10, profile_hits("hit"));
}

/* A process exits while the event is enabled, and another one is probed. */
TEST_F_TIMEOUT(events, over_while_enabled, TIMEOUT)
{
	struct target *target = &self->target, second;

	ASSERT_TRUE(target_start(&second));
	ASSERT_EQ(0, create(second.pid, probed_nop));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	EXPECT_EQ(0, target_stop(&second));
	ASSERT_EQ(0, create(target->pid, probed_nop));
	target_call(target, probed_nop, 0, 0, 10);
	EXPECT_EQ(10, profile_hits("hit"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
}

static void wait_for_end(int from)
{
	char byte;

	while (read(from, &byte, 1) < 0 && errno == EINTR)
		;
}

struct thread {
	int from;
	int to;
};

static void *say_number_and_wait(void *arg)
{
	struct thread *thread = arg;
	pid_t tid = gettid();

	if (write(thread->to, &tid, sizeof(tid)) != sizeof(tid))
		_exit(1);
	wait_for_end(thread->from);
	return NULL;
}

/* The pids of two threads name one process. */
TEST_F_TIMEOUT(events, threads_of_one_process, TIMEOUT)
{
	int pipes[4], status;
	pid_t child, tid;

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, pipe(pipes + 2));
	child = fork();
	if (!child) {
		struct thread thread = { .from = pipes[0], .to = pipes[3] };
		pthread_t id;

		close(pipes[1]);
		pthread_create(&id, NULL, say_number_and_wait, &thread);
		pthread_join(id, NULL);
		_exit(0);
	}
	ASSERT_EQ(sizeof(tid), read(pipes[2], &tid, sizeof(tid)));
	ASSERT_NE(child, tid);
	EXPECT_EQ(0, create(tid, probed_nop));
	EXPECT_EQ(-EEXIST, create(child, probed_nop));
	EXPECT_EQ(-EEXIST, create(tid, probed_nop));
	/* The process is listed, and any of its threads names it. */
	EXPECT_TRUE(is_listed(child));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit %d:%p", child, probed_nop));
	EXPECT_EQ(0, create(child, probed_nop));
	EXPECT_EQ(0, tracefs_append("uprobe_events", "-:selftest/hit %d:%p", tid, probed_nop));
	close(pipes[1]);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
}

#define EXECUTED	"SELFTEST_EXECUTED"

/* Runs after each exec. Calls probed_nop() for each byte, and executes itself again at an 'x'. */
static void __attribute__((constructor)) executed(void)
{
	unsigned long at = (unsigned long)probed_nop;
	char byte;

	if (!getenv(EXECUTED))
		return;
	if (write(STDOUT_FILENO, &at, sizeof(at)) != sizeof(at))
		_exit(1);
	while (read(STDIN_FILENO, &byte, 1) == 1) {
		if (byte == 'x')
			execl("/proc/self/exe", "executed", NULL);
		probed_nop(0, 0);
		if (write(STDOUT_FILENO, &at, sizeof(at)) != sizeof(at))
			_exit(1);
	}
	_exit(0);
}

/* Starts this program so that it has the same addresses after each execve(). */
static pid_t start_executed(int *to, int *from, unsigned long *at)
{
	int pipes[4];
	pid_t pid;

	if (pipe(pipes) || pipe(pipes + 2))
		return -1;
	pid = fork();
	if (!pid) {
		dup2(pipes[0], STDIN_FILENO);
		dup2(pipes[3], STDOUT_FILENO);
		close(pipes[1]);
		personality(ADDR_NO_RANDOMIZE);
		setenv(EXECUTED, "1", 1);
		execl("/proc/self/exe", "executed", NULL);
		_exit(127);
	}
	close(pipes[0]);
	close(pipes[3]);
	*to = pipes[1];
	*from = pipes[2];
	return read(*from, at, sizeof(*at)) == sizeof(*at) ? pid : -1;
}

/* Lets the program continue until it waits again. */
static bool tell(int to, int from, char byte)
{
	unsigned long at;

	return write(to, &byte, 1) == 1 && read(from, &at, sizeof(at)) == sizeof(at);
}

/* After an execve(), the same line replaces the probe of the old image. */
TEST_F_TIMEOUT(events, same_line_after_exec, TIMEOUT)
{
	int to, from, status;
	unsigned long at;
	unsigned int i;
	pid_t pid;

	pid = start_executed(&to, &from, &at);
	ASSERT_LT(0, pid);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, create(pid, (void *)at));
		expect_lines(_metadata, "uprobe_events", "selftest/hit", 1);
		EXPECT_EQ(-EEXIST, create(pid, (void *)at));
		if (!i)
			ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
		ASSERT_TRUE(tell(to, from, '.'));
		/* The counts of a replaced probe go with it. */
		EXPECT_EQ(1, profile_hits("hit"));
		ASSERT_TRUE(tell(to, from, 'x'));
		ASSERT_TRUE(tell(to, from, '.'));
		expect_lines(_metadata, "uprobe_events", "# p:selftest/hit 0:", 1);
		EXPECT_EQ(1, profile_hits("hit"));
	}
	close(to);
	close(from);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
}

/* Creates a child with this pid, which waits for the end of the pipe. */
static pid_t child_numbered(pid_t pid, int *to)
{
	struct clone_args args = {
		.exit_signal = SIGCHLD,
		.set_tid = pid ? (unsigned long)&pid : 0,
		.set_tid_size = pid ? 1 : 0,
	};
	int pipes[2];
	pid_t child;

	if (pipe(pipes))
		return -1;
	child = syscall(SYS_clone3, &args, sizeof(args));
	if (!child) {
		close(pipes[1]);
		wait_for_end(pipes[0]);
		_exit(0);
	}
	close(pipes[0]);
	*to = pipes[1];
	return child;
}

/* A pid that is used again names another process. */
TEST_F_TIMEOUT(events, number_is_used_again, TIMEOUT)
{
	pid_t first, second;
	int to;

	first = child_numbered(0, &to);
	ASSERT_LT(0, first);
	ASSERT_EQ(0, create(first, probed_nop));
	EXPECT_EQ(-EEXIST, create(first, probed_nop));
	close(to);
	ASSERT_EQ(first, waitpid(first, NULL, 0));
	second = child_numbered(first, &to);
	if (second < 0)
		SKIP(return, "cannot choose a number");
	ASSERT_EQ(first, second);
	/* The listed line does not name the new process. */
	EXPECT_TRUE(is_listed(0));
	EXPECT_EQ(-ESRCH, tracefs_replace(EVENT "/enable", "1"));
	ASSERT_EQ(0, create(second, probed_nop));
	expect_lines(_metadata, "uprobe_events", "selftest/hit", 1);
	EXPECT_TRUE(is_listed(second));
	close(to);
	ASSERT_EQ(second, waitpid(second, NULL, 0));
}

/* Runs in the first process of a pid namespace: writes its own line, and reports its reads. */
static void in_namespace(int from, int to, pid_t outside)
{
	char list[512], *text;
	int ret;

	while (read(from, list, 1) == 1) {
		ret = 0;
		switch (*list) {
		case 'w':
			ret = create(getpid(), probed_nop);
			break;
		case 'l':
			/* This process is listed with its own pid, the one outside with none. */
			ret = getpid() == 1 && is_listed(1) && is_listed(0) && !is_listed(outside);
			break;
		case 'h':
			ret = probed_nop(0, 0);
			break;
		case 'c':
			/* The whole list is written back. The lines with a pid exist already. */
			text = tracefs_read("uprobe_events");
			ret = tracefs_append("uprobe_events", "%s", text);
			free(text);
			break;
		}
		if (write(to, &ret, sizeof(ret)) != sizeof(ret))
			_exit(1);
	}
	_exit(0);
}

struct inner {
	pid_t pid;
	int to;
	int from;
};

static bool inner_start(struct inner *inner, pid_t outside)
{
	struct clone_args args = { .exit_signal = SIGCHLD, .flags = CLONE_NEWPID };
	int pipes[4];

	if (pipe(pipes) || pipe(pipes + 2))
		return false;
	inner->pid = syscall(SYS_clone3, &args, sizeof(args));
	if (inner->pid < 0)
		return false;
	if (!inner->pid) {
		close(pipes[1]);
		close(pipes[2]);
		in_namespace(pipes[0], pipes[3], outside);
	}
	close(pipes[0]);
	close(pipes[3]);
	inner->to = pipes[1];
	inner->from = pipes[2];
	return true;
}

static int inner_do(struct inner *inner, char what)
{
	int ret;

	if (write(inner->to, &what, 1) != 1 ||
	    read(inner->from, &ret, sizeof(ret)) != sizeof(ret))
		return -EPIPE;
	return ret;
}

static void inner_stop(struct __test_metadata *_metadata, struct inner *inner)
{
	int status;

	close(inner->to);
	close(inner->from);
	ASSERT_EQ(inner->pid, waitpid(inner->pid, &status, 0));
	EXPECT_EQ(0, status);
}

/* Pids are relative to the reader. A line that is written back names the same process. */
TEST_F_TIMEOUT(events, pid_namespaces, TIMEOUT)
{
	struct target *target = &self->target;
	struct inner inner;
	char *list;

	ASSERT_EQ(0, create(target->pid, probed_nop));
	if (!inner_start(&inner, target->pid))
		SKIP(return, "no pid namespaces");
	EXPECT_EQ(0, inner_do(&inner, 'w'));
	EXPECT_EQ(1, inner_do(&inner, 'l'));
	EXPECT_TRUE(is_listed(target->pid));
	EXPECT_TRUE(is_listed(inner.pid));
	expect_lines(_metadata, "uprobe_events", ":0x", 2);
	/* Inside, its own line is known already, and the other one is a comment. */
	EXPECT_EQ(-EEXIST, inner_do(&inner, 'c'));
	expect_lines(_metadata, "uprobe_events", ":0x", 2);

	list = tracefs_read("uprobe_events");
	ASSERT_EQ(0, tracefs_replace("uprobe_events", "%s", list));
	free(list);
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	EXPECT_FALSE(page_is_of_file(inner.pid, probed_nop));
	EXPECT_EQ(0, inner_do(&inner, 'h'));
	EXPECT_EQ(1, profile_hits("hit"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	inner_stop(_metadata, &inner);
}

/* Two processes with the same pid, each in its own namespace, and the same address. */
TEST_F_TIMEOUT(events, same_number_in_two_namespaces, TIMEOUT)
{
	struct inner inner[2];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (!inner_start(&inner[i], self->target.pid))
			SKIP(return, "no pid namespaces");
		EXPECT_EQ(0, inner_do(&inner[i], 'w'));
		EXPECT_EQ(-EEXIST, inner_do(&inner[i], 'w'));
	}
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "1"));
	for (i = 0; i < 2; i++)
		EXPECT_EQ(0, inner_do(&inner[i], 'h'));
	EXPECT_EQ(2, profile_hits("hit"));
	ASSERT_EQ(0, tracefs_replace(EVENT "/enable", "0"));
	for (i = 2; i--;)
		inner_stop(_metadata, &inner[i]);
}

TEST_HARNESS_MAIN
