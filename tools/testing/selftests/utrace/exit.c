// SPDX-License-Identifier: GPL-2.0
/* Exit, death and reap of threads and processes, and control of engines at that time. */
#include <pthread.h>

#include "device_fixture.h"

#define EXIT_EVENTS	(EVENT(EXIT) | EVENT(LAST_EXIT) | EVENT(DEATH) | EVENT(REAP))

DEVICE_TEST(codes)
{
	struct utrace_test_record record;

	ATTACH(EXIT_EVENTS);
	BEGIN(do_exit, 5);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_EXIT, record.callback);
	EXPECT_EQ(5 << 8, record.arg[0]);
	EXPECT_EQ(5 << 8, record.arg[1]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_LAST_EXIT, record.callback);
	EXPECT_EQ(5 << 8, record.arg[0]);
	/* The process still has its memory. */
	EXPECT_EQ(1, record.arg[1]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_DEATH, record.callback);
	EXPECT_EQ(true, record.arg[0]);
	EXPECT_EQ(SIGCHLD, record.arg[1]);
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(5 << 8, ENDED());
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_REAP, record.callback);
	EXPECT_EQ(self->target.pid, record.tid);
	/* The waiting parent has reaped the process. */
	EXPECT_EQ(false, record.arg[0]);
}

DEVICE_TEST(killed)
{
	ATTACH(EXIT_EVENTS);
	EXPECT_EQ(SIGKILL, KILLED());
	EXPECT_EQ(SIGKILL, NEXT(UTRACE_TEST_EXIT).arg[0]);
	EXPECT_EQ(SIGKILL, NEXT(UTRACE_TEST_LAST_EXIT).arg[0]);
	TOLD("a.death a.reap", 2);
}

DEVICE_TEST(change_code)
{
	int a = ATTACH(EXIT_EVENTS), b = ATTACH(EXIT_EVENTS);
	struct utrace_test_record record;

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_EXIT, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_SET, .value[0] = 9 << 8);
	BEGIN(do_exit, 5);
	EXPECT_EQ(9 << 8, ENDED());
	record = NEXT(ANY);
	EXPECT_EQ(5 << 8, record.arg[1]);
	record = NEXT(ANY);
	EXPECT_EQ(b, record.id);
	EXPECT_EQ(5 << 8, record.arg[0]);
	EXPECT_EQ(9 << 8, record.arg[1]);
	EXPECT_EQ(9 << 8, NEXT(UTRACE_TEST_LAST_EXIT).arg[0]);
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"

static bool write_text(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, mode);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return done;
}

/* Waits for a file with one complete line, and reads it. */
static bool line_of(const char *path, char *line, size_t size)
{
	uint64_t end = now_ms() + 60000;
	ssize_t got;
	int fd;

	do {
		fd = open(path, O_RDONLY);
		got = fd < 0 ? 0 : read(fd, line, size - 1);
		close(fd);
		if (got > 0 && line[got - 1] == '\n') {
			line[got] = 0;
			return true;
		}
		sleep_ms(5);
	} while (now_ms() < end);
	return false;
}

static bool dumps(pid_t pid)
{
	uint64_t end = now_ms() + 20000;
	char path[64], line[200];
	bool found = false;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	do {
		FILE *status = fopen(path, "r");

		while (status && !found && fgets(line, sizeof(line), status))
			found = !strncmp(line, "CoreDumping:\t1", 14);
		if (status)
			fclose(status);
		if (!found)
			sleep_ms(2);
	} while (!found && now_ms() < end);
	return found;
}

/* Writes programs to @dir that read a core dump once a file "go" exists. */
static bool set_core_handler(const char *dir)
{
	char path[80], text[400];

	snprintf(path, sizeof(path), "%s/handler", dir);
	snprintf(text, sizeof(text), "#!/bin/sh\ncd %s\n"
		 "while [ ! -e go ]; do sleep 0.05; done\n"
		 "size=$(wc -c)\necho \"$size\" >size\n", dir);
	if (!write_text(path, text, 0700))
		return false;
	/* The kernel starts the program in init's root, which may differ from this one. */
	snprintf(path, sizeof(path), "%s/start", dir);
	snprintf(text, sizeof(text), "#!/bin/sh\nexec chroot /proc/%d/root %s/handler\n",
		 getpid(), dir);
	if (!write_text(path, text, 0700))
		return false;
	snprintf(text, sizeof(text), "|/proc/%d/root%s", getpid(), path);
	return write_text(CORE_PATTERN, text, 0);
}

/*
 * Returns the size of a core dump during which an engine interrupts the dumping
 * thread @interrupts times; 0 on failure.
 */
static long size_of_dump(int dev, const char *dir, unsigned int interrupts)
{
	char go[80], path[80], size[40];
	struct target target;
	bool done;
	int id;

	snprintf(go, sizeof(go), "%s/go", dir);
	snprintf(path, sizeof(path), "%s/size", dir);
	if (!target_start(&target))
		return 0;
	id = dev_attach(dev, target.pid, EVENT(QUIESCE));
	done = id > 0 && target_begin(&target, do_kill_self, SIGQUIT);
	/* The thread sleeps interruptibly only while the pipe is full. */
	done = done && dumps(target.pid) && wait_state(target.pid, target.pid, "S");
	while (done && interrupts--) {
		done = !dev_control(dev, id, UTRACE_INTERRUPT);
		sleep_ms(5);
	}
	done = write_text(go, "\n", 0600) && done;
	done = wait_status(target.pid) == (SIGQUIT | 0x80) && done;
	close(target.to);
	close(target.from);
	done = done && line_of(path, size, sizeof(size));
	unlink(go);
	unlink(path);
	return done ? atol(size) : 0;
}

/*
 * An engine that interrupts a dumping thread shortens neither the core dump nor the
 * wait after it. The dump goes to a pipe that is not read at first.
 */
DEVICE_TEST(interrupt_dumping)
{
	char dir[] = "/tmp/utrace-XXXXXX", before[200], command[60];
	long size = 0, interrupted = 0;

	ASSERT_NE(NULL, mkdtemp(dir));
	ASSERT_TRUE(line_of(CORE_PATTERN, before, sizeof(before)));
	before[strcspn(before, "\n")] = 0;
	if (set_core_handler(dir)) {
		size = size_of_dump(self->dev, dir, 0);
		interrupted = size_of_dump(self->dev, dir, 20);
	}
	EXPECT_TRUE(write_text(CORE_PATTERN, before, 0));
	snprintf(command, sizeof(command), "rm -r %s", dir);
	EXPECT_EQ(0, system(command));
	EXPECT_LT(1 << 17, size);
	EXPECT_EQ(size, interrupted);
}

/* A stop at exit: the memory of the process can still be read. */
DEVICE_TEST(stop)
{
	int id = ATTACH(EXIT_EVENTS), mem;
	unsigned long long word = 0;
	char path[64];

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_EXIT, .action = UTRACE_STOP);
	shared->turns = 0x1234;
	BEGIN(do_exit, 0);
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(0, dev_prepare(self->dev, id));
	snprintf(path, sizeof(path), "/proc/%d/mem", self->target.pid);
	mem = open(path, O_RDONLY);
	ASSERT_LE(0, mem);
	EXPECT_EQ(sizeof(word), pread(mem, &word, sizeof(word), (unsigned long)&shared->turns));
	EXPECT_EQ(0x1234, word);
	close(mem);
	EXPECT_EQ(0, dev_finish(self->dev, id));
	EXPECT_EQ(0, waitpid(self->target.pid, NULL, WNOHANG));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(0, ENDED());
}

/* A killed thread does not stop at its exit. */
DEVICE_TEST(stop_of_the_killed)
{
	int id = ATTACH(EXIT_EVENTS);

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_EXIT, .action = UTRACE_STOP);
	EXPECT_EQ(SIGKILL, KILLED());
	TOLD("a.exit a.last_exit a.death a.reap", 4);
}

/* An engine that detaches at death gets no report of the reap. */
DEVICE_TEST(detach_at_death)
{
	int a = ATTACH(EXIT_EVENTS);

	ATTACH(EXIT_EVENTS);
	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_DEATH, .action = UTRACE_DETACH);
	BEGIN(do_exit, 0);
	EXPECT_EQ(0, ENDED());
	TOLD("a.exit b.exit a.last_exit b.last_exit a.death b.death b.reap", 7);
	EXPECT_TRUE(no_record(self->dev));
	ASSERT_EQ(0, dev_put(self->dev, a));
	EXPECT_TRUE(released(self->dev, a, 1));
}

DEVICE_TEST(detach_at_exit)
{
	int id = ATTACH(EXIT_EVENTS);

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_EXIT, .action = UTRACE_DETACH);
	BEGIN(do_exit, 0);
	EXPECT_EQ(0, ENDED());
	TOLD("a.exit", 1);
	EXPECT_TRUE(no_record(self->dev));
}

/* An engine with REAP only gets the reap. */
DEVICE_TEST(reap_only)
{
	int id = ATTACH(EVENT(REAP)), death = ATTACH(EVENT(DEATH));

	BEGIN(do_exit, 0);
	EXPECT_TRUE(calls_reach(self->dev, death, UTRACE_TEST_DEATH, 1));
	drop_records(self->dev);
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(-EALREADY, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_EQ(0, ENDED());
	TOLD("a.reap", 1);
	EXPECT_EQ(-ESRCH, dev_control(self->dev, id, UTRACE_DETACH));
	EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_REAP, 1));
}

/* After utrace_detach(), an engine gets no callback, even if its thread is dead. */
DEVICE_TEST(detach_for_certain)
{
	int id = ATTACH(EXIT_EVENTS), other = ATTACH(EXIT_EVENTS);

	BEGIN(do_exit, 0);
	EXPECT_TRUE(calls_reach(self->dev, id, UTRACE_TEST_DEATH, 1));
	EXPECT_TRUE(calls_reach(self->dev, other, UTRACE_TEST_DEATH, 1));
	EXPECT_EQ(-EALREADY, dev_control(self->dev, id, UTRACE_DETACH));
	drop_records(self->dev);
	ASSERT_EQ(0, dev_drop(self->dev, id));
	EXPECT_EQ(0, ENDED());
	EXPECT_EQ(other, NEXT(ANY).id);
	EXPECT_TRUE(no_record(self->dev));
}

/* A thread that is not the leader reaps itself. */
DEVICE_TEST(thread)
{
	int id = ATTACH(EVENT(CLONE));
	struct utrace_test_record record;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_CHILD, .callbacks = UTRACE_TEST_ALL_CALLBACKS,
	       .events = EXIT_EVENTS);
	EXPECT_EQ(0, CALL(do_thread, true));
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_CLONE, record.callback);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_EXIT, record.callback);
	EXPECT_EQ(0, record.arg[0]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_DEATH, record.callback);
	EXPECT_EQ(shared->tid, record.tid);
	EXPECT_EQ(false, record.arg[0]);
	EXPECT_EQ(-1, record.arg[1]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_REAP, record.callback);
	EXPECT_EQ(true, record.arg[0]);
	EXPECT_TRUE(no_record(self->dev));
}

/* A child reaps itself if its parent ignores SIGCHLD. */
static long exit_alone(long code)
{
	pid_t pid;

	signal(SIGCHLD, SIG_IGN);
	pid = fork();
	if (!pid)
		_exit(code);
	waitpid(pid, NULL, 0);
	return pid;
}

DEVICE_TEST(nobody_waits)
{
	int id = ATTACH(EVENT(CLONE));
	struct utrace_test_record record;

	ANSWER(self->dev, .id = id, .callback = UTRACE_TEST_CLONE, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_CHILD, .callbacks = UTRACE_TEST_ALL_CALLBACKS,
	       .events = EXIT_EVENTS);
	EXPECT_LT(0, CALL(exit_alone, 3));
	TOLD("a.clone b.exit b.last_exit", 3);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_DEATH, record.callback);
	EXPECT_EQ(true, record.arg[0]);
	EXPECT_EQ(-1, record.arg[1]);
	TOLD("b.reap", 1);
}

static void *outlive(void *arg)
{
	shared->tid = syscall(SYS_gettid);
	reaches(&shared->go, 1);
	_exit(4);
}

static long leader_exits(long arg)
{
	pthread_t thread;

	shared->tid = 0;
	pthread_create(&thread, NULL, outlive, NULL);
	reaches(&shared->tid, 1);
	syscall(SYS_exit, 2);
	return -1;
}

/* A leader that exits before another thread is dead, but cannot be waited for yet. */
DEVICE_TEST(leader_first)
{
	struct utrace_test_record record;
	int id = ATTACH(EXIT_EVENTS), other;

	ASSERT_LT(0, id);
	BEGIN(leader_exits, 0);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_EXIT, record.callback);
	EXPECT_EQ(2 << 8, record.arg[0]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_DEATH, record.callback);
	EXPECT_EQ(false, record.arg[0]);
	EXPECT_EQ(-2, record.arg[1]);
	other = dev_attach(self->dev, shared->tid, EXIT_EVENTS);
	ASSERT_LT(0, other);
	shared->go = 1;
	EXPECT_EQ(4 << 8, ENDED());
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_EXIT, record.callback);
	EXPECT_EQ(other, record.id);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_LAST_EXIT, record.callback);
	EXPECT_EQ(other, record.id);
	EXPECT_EQ(4 << 8, record.arg[0]);
	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_DEATH, record.callback);
	EXPECT_EQ(true, record.arg[0]);
}

/* Attaching to a thread in report_exit() fails with ESRCH, or the engine gets the death. */
DEVICE_TEST(attach_while_exiting)
{
	int a = ATTACH(EXIT_EVENTS), b;

	ANSWER(self->dev, .id = a, .callback = UTRACE_TEST_EXIT, .action = UTRACE_RESUME,
	       .flags = UTRACE_TEST_BLOCK);
	BEGIN(do_exit, 0);
	NEXT(UTRACE_TEST_EXIT);
	b = dev_attach(self->dev, self->target.pid, EXIT_EVENTS);
	if (b > 0) {
		ASSERT_EQ(0, dev_go(self->dev, a));
		EXPECT_EQ(0, ENDED());
		TOLD("a.last_exit b.last_exit a.death b.death a.reap b.reap", 6);
	} else {
		EXPECT_EQ(-ESRCH, b);
		ASSERT_EQ(0, dev_go(self->dev, a));
		EXPECT_EQ(0, ENDED());
	}
}

TEST_HARNESS_MAIN
