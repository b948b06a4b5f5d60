// SPDX-License-Identifier: GPL-2.0
/* System-call events, compared with strace on the same process at the same time. */
#include "syscall_trace.h"

/* A line of `strace -n`: [NUMBER] CALL(ARGUMENTS) = RESULT */
struct line {
	int nr;
	char *args;
	/* Not for execve() and exit_group(), which strace shows in another way. */
	bool has_result;
	long result;
};

static bool line_parse(char *text, struct line *line)
{
	char *args, *result;

	if (sscanf(text, " [ %d]", &line->nr) != 1)
		return false;
	args = strchr(text, '(');
	result = strstr(text, ") ");
	if (!args || !result)
		return false;
	/* Find the last one, because names can contain any character. */
	for (char *next = result; next; next = strstr(next + 1, ") "))
		result = next;
	*result = '\0';
	line->args = args + 1;
	result = strchr(result + 1, '=');
	line->has_result = result && sscanf(result, "= %li", &line->result) == 1;
	return true;
}

/* Returns the quoted argument @index. Modifies the line. */
static char *line_name(struct line *line, int index)
{
	char *at = line->args, *end;

	while (index--) {
		int depth = 0;
		bool quoted = false;

		for (; *at && (quoted || depth || *at != ','); at++) {
			quoted ^= *at == '"';
			depth += !quoted && (*at == '[' || *at == '{');
			depth -= !quoted && (*at == ']' || *at == '}');
		}
		at += strspn(at, ", ");
	}
	if (*at != '"')
		return NULL;
	end = strchr(at + 1, '"');
	if (!end)
		return NULL;
	*end = '\0';
	return at + 1;
}

static void run_program(int to, int from, void *arg)
{
	char *const *program = arg;
	int null;

	child_wait(to);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	dup2(null, 1);
	execv(program[0], program);
	_exit(1);
}

static bool wait_traced(pid_t pid)
{
	char path[64];
	int i;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	for (i = 0; i < 3000; i++) {
		char *status = file_read(path), *at = strstr(status, "TracerPid:");
		int tracer = at ? atoi(at + strlen("TracerPid:")) : 0;

		free(status);
		if (tracer)
			return true;
		usleep(10000);
	}
	return false;
}

/* Compares the events of the program, from its execve() on, with strace's lines. */
static void compare(struct __test_metadata *_metadata, struct trace *trace, char *strace)
{
	char *rest = strace, *text;
	bool begun = false;
	size_t at = 0, calls = 0, names = 0;

	while (at < trace->count &&
	       (trace->events[at].kind != ENTER || trace->events[at].nr != SYS_execve))
		at++;
	while ((text = strsep(&rest, "\n"))) {
		const struct event *event = &trace->events[at];
		struct line line;

		if (!line_parse(text, &line))
			continue;
		begun |= line.nr == SYS_execve;
		if (!begun)
			continue;
		calls++;
		ASSERT_LT(at, trace->count);
		ASSERT_EQ(ENTER, event->kind);
		ASSERT_EQ(line.nr, event->nr) TH_LOG("call %zu", calls);
		for (at++; at < trace->count && trace->events[at].kind == PATH; at++) {
			const char *name = line_name(&line, trace->events[at].arg);

			names++;
			ASSERT_EQ(line.nr, trace->events[at].nr);
			ASSERT_NE(NULL, name) TH_LOG("call %d", line.nr);
			EXPECT_STREQ(name, trace->events[at].name);
		}
		/* exit_group() does not return. */
		if (at == trace->count)
			break;
		event = &trace->events[at++];
		ASSERT_EQ(EXIT, event->kind);
		EXPECT_EQ(line.nr, event->nr);
		if (!line.has_result)
			continue;
		/* strace shows an error as -1 and its name. */
		if (line.result == -1) {
			EXPECT_GT(0, event->result) TH_LOG("call %d", line.nr);
		} else {
			EXPECT_EQ(line.result, event->result) TH_LOG("call %d", line.nr);
		}
	}
	EXPECT_EQ(at, trace->count);
	TH_LOG("%zu calls, %zu names", calls, names);
	EXPECT_LT(20, calls);
	EXPECT_LT(3, names);
}

static void against_strace(struct __test_metadata *_metadata, char *const *program)
{
	char *strace = "/usr/bin/strace", file[] = "/tmp/utrace_strace.XXXXXX", pid[16], *text;
	struct child child;
	struct trace trace;
	pid_t tracer;
	int status;

	if (access(strace, X_OK))
		SKIP(return, "no strace");
	ASSERT_LE(0, mkstemp(file));
	ASSERT_TRUE(child_start(&child, run_program, (void *)program));
	ASSERT_EQ(0, pid_add(child.pid));
	snprintf(pid, sizeof(pid), "%d", child.pid);
	tracer = fork();
	if (!tracer) {
		execl(strace, strace, "-q", "-n", "-s", "4096", "-o", file, "-p", pid, NULL);
		_exit(127);
	}
	ASSERT_TRUE(wait_traced(child.pid));
	child_go(&child);
	EXPECT_EQ(0, child_end(&child));
	ASSERT_EQ(tracer, waitpid(tracer, &status, 0));
	EXPECT_EQ(0, status);

	trace = trace_read();
	ASSERT_FALSE(trace.lost);
	EXPECT_EQ(0, trace.odd);
	EXPECT_EQ(0, trace_of_others(&trace, child.pid));
	text = file_read(file);
	compare(_metadata, &trace, text);
	free(text);
	unlink(file);
	trace_free(&trace);
}

TEST_F_TIMEOUT(tracing, cat, TIMEOUT)
{
	static char *const program[] = { "/bin/cat", "/etc/hostname", NULL };

	against_strace(_metadata, program);
}

TEST_F_TIMEOUT(tracing, ls, TIMEOUT)
{
	static char *const program[] = { "/bin/ls", "-l", "/etc", NULL };

	against_strace(_metadata, program);
}

TEST_HARNESS_MAIN
