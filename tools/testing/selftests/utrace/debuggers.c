// SPDX-License-Identifier: GPL-2.0
/* strace and gdb on a thread that has engines. */
#include "device_fixture.h"

static char output[] = "/tmp/utrace_debugger.XXXXXX";

/* Runs a program, with its output to a file. */
static pid_t run(char *const args[])
{
	int fd = mkstemp(output);
	pid_t pid;

	if (fd < 0)
		return -errno;
	pid = fork();
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd, STDOUT_FILENO);
		dup2(fd, STDERR_FILENO);
		execvp(args[0], args);
		_exit(127);
	}
	close(fd);
	return pid;
}

/* Waits longer than wait_status(), because gdb reads symbols on a slow kernel. */
static int long_wait_status(pid_t pid)
{
	int status = -1, tries;

	for (tries = 0; status == -1 && tries < 6; tries++)
		status = wait_status(pid);
	return status;
}

static bool wrote(const char *text)
{
	char line[1024];
	bool found = false;
	FILE *file = fopen(output, "r");

	while (file && fgets(line, sizeof(line), file))
		found |= !!strstr(line, text);
	if (file)
		fclose(file);
	return found;
}

static void show_output(void)
{
	char line[1024];
	FILE *file = fopen(output, "r");

	while (file && fgets(line, sizeof(line), file))
		printf("# | %s", line);
	if (file)
		fclose(file);
}

static bool have(const char *program)
{
	char command[64];

	snprintf(command, sizeof(command), "command -v %s >/dev/null", program);
	return !system(command);
}

static bool traced_by(pid_t pid, pid_t tracer)
{
	uint64_t end = now_ms() + 30000;
	char path[64], line[256];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	do {
		int now = -1;
		FILE *file = fopen(path, "r");

		while (file && fgets(line, sizeof(line), file))
			sscanf(line, "TracerPid: %d", &now);
		if (file)
			fclose(file);
		if (now == tracer)
			return true;
		sleep_ms(5);
	} while (now_ms() < end);
	return false;
}

static long call_getppid(long arg)
{
	return syscall(SYS_getppid);
}

/* strace attaches, shows a system call and detaches. The engine gets the same call. */
DEVICE_TEST(strace)
{
	struct utrace_test_record record;
	char pid[16];
	char *const args[] = { "strace", "-e", "trace=getppid", "-p", pid, NULL };
	pid_t strace;

	if (!have("strace"))
		SKIP(return, "no strace");
	ATTACH(ALL_EVENTS);
	snprintf(pid, sizeof(pid), "%d", self->target.pid);
	strace = run(args);
	ASSERT_LT(0, strace);
	ASSERT_TRUE(traced_by(self->target.pid, strace));
	EXPECT_EQ(getpid(), CALL(call_getppid, 0));
	do {
		record = NEXT(UTRACE_TEST_SYSCALL_EXIT);
	} while (record.arg[0] != SYS_getppid);
	EXPECT_EQ(getpid(), record.arg[1]);
	ASSERT_EQ(0, kill(strace, SIGINT));
	EXPECT_NE(-1, wait_status(strace));
	EXPECT_TRUE(traced_by(self->target.pid, 0));
	EXPECT_TRUE(wrote("getppid()"));
	if (!__test_passed(_metadata))
		show_output();
	unlink(output);
	EXPECT_EQ(getpid(), CALL(call_getppid, 0));
}

/* gdb attaches, steps and detaches. Afterwards the engine can stop the thread. */
DEVICE_TEST(gdb)
{
	int id = ATTACH(EVENT(EXIT) | EVENT(REAP));
	char pid[16];
	char *const args[] = {
		"gdb", "-nx", "-batch", "-p", pid, "-ex", "stepi", "-ex", "stepi",
		"-ex", "info registers rip", "-ex", "detach", NULL,
	};
	pid_t gdb;

	if (!have("gdb"))
		SKIP(return, "no gdb");
	BEGIN(do_spin, 1);
	ASSERT_TRUE(spins());
	snprintf(pid, sizeof(pid), "%d", self->target.pid);
	gdb = run(args);
	ASSERT_LT(0, gdb);
	EXPECT_EQ(0, long_wait_status(gdb));
	EXPECT_TRUE(wrote("rip "));
	EXPECT_TRUE(wrote("detached"));
	if (!__test_passed(_metadata))
		show_output();
	unlink(output);
	EXPECT_TRUE(spins());
	STOP(id);
	EXPECT_TRUE(spins_not());
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_TRUE(spins());
	shared->go = 1;
	EXPECT_EQ(0, END());
	EXPECT_TRUE(no_record(self->dev));
}

/* gdb kills the process, and the engine gets the exit. */
DEVICE_TEST(gdb_kills)
{
	char pid[16];
	char *const args[] = {
		"gdb", "-nx", "-batch", "-p", pid, "-ex", "kill", NULL,
	};
	pid_t gdb;

	if (!have("gdb"))
		SKIP(return, "no gdb");
	ATTACH(EVENT(EXIT) | EVENT(REAP));
	snprintf(pid, sizeof(pid), "%d", self->target.pid);
	gdb = run(args);
	ASSERT_LT(0, gdb);
	EXPECT_NE(-1, long_wait_status(gdb));
	EXPECT_EQ(SIGKILL, wait_status(self->target.pid));
	self->ended = true;
	unlink(output);
	TOLD("a.exit a.reap", 2);
}

TEST_HARNESS_MAIN
