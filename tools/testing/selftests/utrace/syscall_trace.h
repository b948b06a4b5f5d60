/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture of the tests of system-call events: the control file and the trace. */
#ifndef _SYSCALL_TRACE_H
#define _SYSCALL_TRACE_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#define TRACEFS		"/sys/kernel/tracing/"
#define PIDS		TRACEFS "utrace_syscall_pids"
/* The trace instance for the events. */
#define INSTANCE	TRACEFS "instances/utrace_selftest/"

/* Seconds that a test may take on the slowest kernel. */
#define TIMEOUT		150
/* The number of a nonexistent system call, which marks a point in the trace. */
#define MARK		9999

enum kind { ENTER, EXIT, PATH };

/* A line of the trace. */
struct event {
	enum kind kind;
	pid_t tid;
	int nr;
	int compat;
	unsigned long ip;
	unsigned long args[6];
	long result;
	int arg;
	unsigned long ptr;
	unsigned int len;
	/* The name as the trace shows it. */
	const char *name;
};

struct trace {
	struct event *events;
	size_t count;
	/* Number of lines that could not be parsed as an event of utrace. */
	size_t odd;
	/* Whether events were lost because the buffer was too small. */
	bool lost;
	char *text;
};

/* Writes @text in one call. Returns 0 or a negative errno. */
static inline int file_write(const char *path, int flags, const char *text, size_t len)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC | flags), ret = 0;

	if (fd < 0)
		return -errno;
	if (len) {
		ssize_t done = write(fd, text, len);

		if (done < 0)
			ret = -errno;
		else if ((size_t)done != len)
			ret = -EIO;
	}
	close(fd);
	return ret;
}

/* Returns the contents of a file. The caller must free them. */
static inline char *file_read(const char *path)
{
	size_t len = 0, size = 1 << 16;
	char *text = calloc(1, size);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;

	while (text && fd >= 0 && (got = read(fd, text + len, size - len - 1)) > 0) {
		len += got;
		text[len] = '\0';
		if (size - len < 8192) {
			size *= 2;
			text = realloc(text, size);
		}
	}
	if (fd >= 0)
		close(fd);
	return text;
}

static inline int setting(const char *path, const char *value)
{
	return file_write(path, 0, value, strlen(value));
}

/* `echo TEXT >> utrace_syscall_pids`, and with `>`. */
static inline int pids_append(const char *text)
{
	return file_write(PIDS, O_APPEND, text, strlen(text));
}

static inline int pids_replace(const char *text)
{
	return file_write(PIDS, O_TRUNC, text, strlen(text));
}

static inline int pid_add(pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "%d\n", pid);
	return pids_append(text);
}

static inline int pid_remove(pid_t pid)
{
	char text[32];

	snprintf(text, sizeof(text), "!%d\n", pid);
	return pids_append(text);
}

/* Returns how often utrace_syscall_pids lists @pid. */
static inline int pid_listed(pid_t pid)
{
	char *text = file_read(PIDS), *rest = text, *line;
	int found = 0;

	while ((line = strsep(&rest, "\n")))
		found += *line && atoi(line) == pid;
	free(text);
	return found;
}

static inline bool event_parse(char *line, struct event *event)
{
	char *what = strstr(line, ": utrace_sys_"), *at, *name, *end;
	char kind[16];

	if (!what)
		return false;
	*what = '\0';
	/* COMM-TID [CPU], where COMM can contain any character. */
	at = strrchr(line, '[');
	if (!at)
		return false;
	while (at > line && at[-1] == ' ')
		at--;
	while (at > line && at[-1] >= '0' && at[-1] <= '9')
		at--;
	event->tid = atoi(at);

	what += strlen(": utrace_sys_");
	if (sscanf(what, "%15[a-z]: nr=%d compat=%d", kind, &event->nr, &event->compat) != 3)
		return false;
	if (!strcmp(kind, "enter")) {
		unsigned long *a = event->args;

		event->kind = ENTER;
		return sscanf(what, "enter: nr=%*d compat=%*d ip=%lx args=(%lx, %lx, %lx, %lx, %lx, %lx)",
			      &event->ip, a, a + 1, a + 2, a + 3, a + 4, a + 5) == 7;
	}
	if (!strcmp(kind, "exit")) {
		event->kind = EXIT;
		return sscanf(what, "exit: nr=%*d compat=%*d ip=%lx result=%ld",
			      &event->ip, &event->result) == 2;
	}
	event->kind = PATH;
	if (sscanf(what, "path: nr=%*d compat=%*d arg=%d ptr=%lx len=%u",
		   &event->arg, &event->ptr, &event->len) != 3)
		return false;
	name = strstr(what, " name=\"");
	end = strrchr(what, '"');
	if (!name || end < name + 7)
		return false;
	*end = '\0';
	event->name = name + 7;
	return true;
}

/* Reads and parses the trace. */
static inline struct trace trace_read(void)
{
	struct trace trace = { .text = file_read(INSTANCE "trace") };
	char *rest = trace.text, *line;
	size_t room = 0;

	while ((line = strsep(&rest, "\n"))) {
		unsigned long in_buffer, written;

		if (sscanf(line, "# entries-in-buffer/entries-written: %lu/%lu",
			   &in_buffer, &written) == 2)
			trace.lost = in_buffer != written;
		if (!*line || *line == '#')
			continue;
		if (trace.count == room) {
			room = room * 2 + 1024;
			trace.events = realloc(trace.events, room * sizeof(*trace.events));
		}
		memset(&trace.events[trace.count], 0, sizeof(*trace.events));
		if (event_parse(line, &trace.events[trace.count]))
			trace.count++;
		else
			trace.odd++;
	}
	return trace;
}

static inline void trace_free(struct trace *trace)
{
	free(trace->events);
	free(trace->text);
}

static inline size_t trace_count(const struct trace *trace, enum kind kind, pid_t tid, int nr)
{
	size_t i, count = 0;

	for (i = 0; i < trace->count; i++) {
		const struct event *event = &trace->events[i];

		count += event->kind == kind && event->tid == tid && event->nr == nr;
	}
	return count;
}

/* Returns the number of events of other threads than @tid. */
static inline size_t trace_of_others(const struct trace *trace, pid_t tid)
{
	size_t i, count = 0;

	for (i = 0; i < trace->count; i++)
		count += trace->events[i].tid != tid;
	return count;
}

/* A child that waits for the parent between its steps. */
struct child {
	pid_t pid;
	int go;
	int done;
};

static inline void child_wait(int from)
{
	char c;

	while (read(from, &c, 1) < 0 && errno == EINTR)
		;
}

/*
 * Runs @run in a child. The child can wait for the parent with child_wait(to), and
 * write to it with write(from).
 */
static inline bool child_start(struct child *child, void (*run)(int to, int from, void *arg),
			       void *arg)
{
	int to[2], from[2];

	if (pipe2(to, O_CLOEXEC) || pipe2(from, O_CLOEXEC))
		return false;
	child->pid = fork();
	if (!child->pid) {
		int fd;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		/* Close the pipes of other children too, so that these see the end of theirs. */
		for (fd = 3; fd < 64; fd++)
			if (fd != to[0] && fd != from[1])
				close(fd);
		run(to[0], from[1], arg);
		_exit(0);
	}
	close(to[0]);
	close(from[1]);
	child->go = to[1];
	child->done = from[0];
	return child->pid > 0;
}

/* Waits until the child sleeps. */
static inline void child_asleep(struct child *child)
{
	char path[64], state = 0;

	snprintf(path, sizeof(path), "/proc/%d/stat", child->pid);
	while (state != 'S') {
		char *text = file_read(path), *at = strrchr(text, ')');

		state = at ? at[2] : 'S';
		free(text);
	}
}

static inline void child_go(struct child *child)
{
	if (write(child->go, "", 1) != 1)
		abort();
}

/* Waits for a byte from the child. Returns false if the child ends instead. */
static inline bool child_said(struct child *child)
{
	char c;

	return read(child->done, &c, 1) == 1;
}

/* Ends the child, and returns its wait status. */
static inline int child_end(struct child *child)
{
	int status = -1;

	close(child->go);
	close(child->done);
	waitpid(child->pid, &status, 0);
	return status;
}

static inline bool tracing_ready(void)
{
	if (access(PIDS, F_OK))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	return !access(PIDS, F_OK);
}

FIXTURE(tracing)
{
};

FIXTURE_SETUP(tracing)
{
	if (geteuid())
		SKIP(return, "needs root");
	if (!tracing_ready())
		SKIP(return, "no utrace_syscall_pids");
	ASSERT_EQ(0, pids_replace(""));
	rmdir(INSTANCE);
	ASSERT_EQ(0, mkdir(INSTANCE, 0700));
	/* The clock may be too coarse to order events of two CPUs. */
	ASSERT_EQ(0, setting(INSTANCE "trace_clock", "counter"));
	ASSERT_EQ(0, setting(INSTANCE "buffer_size_kb", "4096"));
	ASSERT_EQ(0, setting(INSTANCE "events/utrace/enable", "1"));
}

FIXTURE_TEARDOWN(tracing)
{
	char *left;

	EXPECT_EQ(0, pids_replace(""));
	left = file_read(PIDS);
	EXPECT_STREQ("", left);
	free(left);
	EXPECT_EQ(0, rmdir(INSTANCE));
}

#endif /* _SYSCALL_TRACE_H */
