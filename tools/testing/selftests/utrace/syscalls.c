// SPDX-License-Identifier: GPL-2.0
/* System calls: aborted, rewritten and stopped at entry, and their results. */
#include "device_fixture.h"

#define ENTRY	.callback = UTRACE_TEST_SYSCALL_ENTRY, .flags = UTRACE_TEST_ONLY
#define RETURN	.callback = UTRACE_TEST_SYSCALL_EXIT, .flags = UTRACE_TEST_ONLY
#define SET(what, nr)	\
	.callback = UTRACE_TEST_##what, .match = nr, \
	.flags = UTRACE_TEST_ONLY | UTRACE_TEST_SET

/* Waits for the next entry to, or return from, system call @nr. */
static struct utrace_test_record next_call(struct __test_metadata *_metadata, int dev,
					   int callback, long nr)
{
	struct utrace_test_record record;

	do {
		EXPECT_TRUE(next_record(dev, callback, &record));
	} while (record.callback != UINT32_MAX && record.arg[0] != nr);
	return record;
}

#define NEXT_CALL(what, nr)	\
	next_call(_metadata, self->dev, UTRACE_TEST_SYSCALL_##what, nr)

static long do_dup2(long fd)
{
	long ret = syscall(SYS_dup2, 0, fd);

	return ret < 0 ? -errno : ret;
}

static long do_write(long fd)
{
	static const char text[] = "abc";
	long ret = syscall(SYS_write, fd, text, sizeof(text) - 1);

	return ret < 0 ? -errno : ret;
}

static long is_open(long fd)
{
	return fcntl(fd, F_GETFD) >= 0;
}

/* The number, arguments and result in reports agree with the program's. */
DEVICE_TEST(told)
{
	struct utrace_test_record record;

	ATTACH(UTRACE_EVENT_SYSCALL);
	EXPECT_EQ(77, CALL(do_dup2, 77));
	record = NEXT_CALL(ENTRY, SYS_dup2);
	EXPECT_EQ(0, record.arg[1]);
	EXPECT_EQ(77, record.arg[2]);
	EXPECT_EQ(UTRACE_RESUME | UTRACE_SYSCALL_RUN, record.found);
	record = NEXT_CALL(EXIT, SYS_dup2);
	EXPECT_EQ(77, record.arg[1]);
	EXPECT_EQ(-EBADF, CALL(do_dup2, -1));
	EXPECT_EQ(-EBADF, NEXT_CALL(EXIT, SYS_dup2).arg[1]);
}

/* A system call that does not exist is reported as well. */
static long do_unknown(long nr)
{
	return syscall(nr) < 0 ? -errno : 0;
}

DEVICE_TEST(unknown)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	EXPECT_EQ(-ENOSYS, CALL(do_unknown, 4000));
	NEXT_CALL(ENTRY, 4000);
	EXPECT_EQ(-ENOSYS, NEXT_CALL(EXIT, 4000).arg[1]);
	ANSWER(self->dev, .id = id, SET(SYSCALL_EXIT, 4000), .set = BIT(UTRACE_TEST_RESULT),
	       .value[UTRACE_TEST_RESULT] = 0, .action = UTRACE_RESUME);
	EXPECT_EQ(0, CALL(do_unknown, 4000));
}

DEVICE_TEST(abort)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, ENTRY, .match = SYS_dup2, .times = 1,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	EXPECT_EQ(-ENOSYS, CALL(do_dup2, 77));
	EXPECT_EQ(0, CALL(is_open, 77));
	/* An aborted call is reported at its return as well. */
	EXPECT_EQ(-ENOSYS, NEXT_CALL(EXIT, SYS_dup2).arg[1]);
	EXPECT_EQ(77, CALL(do_dup2, 77));
}

DEVICE_TEST(abort_with_result)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, SET(SYSCALL_ENTRY, SYS_dup2), .times = 1,
	       .set = BIT(UTRACE_TEST_RESULT), .value[UTRACE_TEST_RESULT] = -EXDEV,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	EXPECT_EQ(-EXDEV, CALL(do_dup2, 77));
	EXPECT_EQ(-EXDEV, NEXT_CALL(EXIT, SYS_dup2).arg[1]);
	ANSWER(self->dev, .id = id, SET(SYSCALL_ENTRY, SYS_dup2), .times = 1,
	       .set = BIT(UTRACE_TEST_RESULT), .value[UTRACE_TEST_RESULT] = 1234,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	EXPECT_EQ(1234, CALL(do_dup2, 77));
	EXPECT_EQ(0, CALL(is_open, 77));
}

/* Each engine finds the answer of the engine before it, and can change it. */
DEVICE_TEST(abort_is_found)
{
	int a = ATTACH(UTRACE_EVENT_SYSCALL), b = ATTACH(UTRACE_EVENT_SYSCALL);
	struct utrace_test_record record;

	/* At entry, b is called before a. */
	ANSWER(self->dev, .id = b, ENTRY, .match = SYS_dup2,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	EXPECT_EQ(-ENOSYS, CALL(do_dup2, 77));
	record = NEXT_CALL(ENTRY, SYS_dup2);
	EXPECT_EQ(b, record.id);
	record = NEXT_CALL(ENTRY, SYS_dup2);
	EXPECT_EQ(a, record.id);
	EXPECT_EQ(UTRACE_SYSCALL_ABORT, record.found & UTRACE_SYSCALL_MASK);
	ANSWER(self->dev, .id = a, ENTRY, .match = SYS_dup2,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_RUN);
	EXPECT_EQ(77, CALL(do_dup2, 77));
}

DEVICE_TEST(rewrite_arguments)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, SET(SYSCALL_ENTRY, SYS_dup2), .times = 1,
	       .set = BIT(2), .value[2] = 99, .action = UTRACE_RESUME);
	EXPECT_EQ(99, CALL(do_dup2, 77));
	EXPECT_EQ(0, CALL(is_open, 77));
	EXPECT_EQ(1, CALL(is_open, 99));
}

DEVICE_TEST(rewrite_number)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, SET(SYSCALL_ENTRY, SYS_dup2), .times = 1,
	       .set = BIT(UTRACE_TEST_NR), .value[UTRACE_TEST_NR] = SYS_getppid,
	       .action = UTRACE_RESUME);
	EXPECT_EQ(getpid(), CALL(do_dup2, 77));
	EXPECT_EQ(0, CALL(is_open, 77));
}

/* Engines see the changes of the engines that are called before them. */
DEVICE_TEST(rewritten_is_found)
{
	int a = ATTACH(UTRACE_EVENT_SYSCALL), b = ATTACH(UTRACE_EVENT_SYSCALL);
	struct utrace_test_record record;

	ANSWER(self->dev, .id = b, SET(SYSCALL_ENTRY, SYS_dup2), .times = 1,
	       .set = BIT(2), .value[2] = 99, .action = UTRACE_RESUME);
	EXPECT_EQ(99, CALL(do_dup2, 77));
	record = NEXT_CALL(ENTRY, SYS_dup2);
	EXPECT_EQ(77, record.arg[2]);
	record = NEXT_CALL(ENTRY, SYS_dup2);
	EXPECT_EQ(a, record.id);
	EXPECT_EQ(99, record.arg[2]);
}

DEVICE_TEST(rewrite_result)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, SET(SYSCALL_EXIT, SYS_dup2), .times = 1,
	       .set = BIT(UTRACE_TEST_RESULT), .value[UTRACE_TEST_RESULT] = 5,
	       .action = UTRACE_RESUME);
	EXPECT_EQ(5, CALL(do_dup2, 77));
	EXPECT_EQ(1, CALL(is_open, 77));
}

/* A stop at entry: the call has had no effect; afterwards the engines are called again. */
DEVICE_TEST(stop_at_entry)
{
	struct utrace_test_record record;
	struct user_regs_struct regs;
	int id, pipes[2];
	char text[4];

	/* The target must be created after the pipe, to inherit it. */
	ASSERT_EQ(SIGKILL, KILLED());
	ASSERT_EQ(0, pipe2(pipes, O_NONBLOCK));
	ASSERT_TRUE(target_start(&self->target));
	self->ended = false;
	id = ATTACH(UTRACE_EVENT_SYSCALL);
	drop_records(self->dev);
	ANSWER(self->dev, .id = id, ENTRY, .match = SYS_write, .times = 1,
	       .action = UTRACE_STOP);
	BEGIN(do_write, pipes[1]);
	NEXT_CALL(ENTRY, SYS_write);
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	EXPECT_EQ(-1, read(pipes[0], text, sizeof(text)));
	/* The arguments can be changed during the stop. */
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(SYS_write, regs.orig_rax);
	EXPECT_EQ(pipes[1], regs.rdi);
	EXPECT_EQ(3, regs.rdx);
	regs.rdx = 2;
	ASSERT_EQ(0, dev_set_regs(self->dev, id, &regs));
	EXPECT_TRUE(no_record(self->dev));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));

	record = NEXT(ANY);
	EXPECT_EQ(UTRACE_TEST_SYSCALL_ENTRY, record.callback);
	EXPECT_EQ(SYS_write, record.arg[0]);
	EXPECT_EQ(2, record.arg[3]);
	EXPECT_NE(0, record.found & UTRACE_SYSCALL_RESUMED);
	EXPECT_EQ(2, END());
	EXPECT_EQ(2, read(pipes[0], text, sizeof(text)));
	EXPECT_EQ(2, NEXT_CALL(EXIT, SYS_write).arg[1]);
}

/* The engine can abort the call in the second report of its entry. */
DEVICE_TEST(abort_after_stop)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);

	ANSWER(self->dev, .id = id, ENTRY, .match = SYS_dup2, .times = 1,
	       .action = UTRACE_STOP);
	ANSWER(self->dev, .id = id, ENTRY, .match = SYS_dup2, .times = 1,
	       .action = UTRACE_RESUME | UTRACE_SYSCALL_ABORT);
	BEGIN(do_dup2, 77);
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(-ENOSYS, END());
	EXPECT_EQ(0, CALL(is_open, 77));
}

DEVICE_TEST(stop_at_exit)
{
	int id = ATTACH(UTRACE_EVENT_SYSCALL);
	struct user_regs_struct regs;

	ANSWER(self->dev, .id = id, RETURN, .match = SYS_dup2, .times = 1,
	       .action = UTRACE_STOP);
	BEGIN(do_dup2, 77);
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t"));
	EXPECT_TRUE(target_busy(&self->target));
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));
	ASSERT_EQ(0, dev_get_regs(self->dev, id, &regs));
	EXPECT_EQ(77, regs.rax);
	regs.rax = 78;
	ASSERT_EQ(0, dev_set_regs(self->dev, id, &regs));
	EXPECT_EQ(0, dev_control(self->dev, id, UTRACE_RESUME));
	EXPECT_EQ(78, END());
}

/* Every entry has a return, whatever happens between the two. */
DEVICE_TEST(pairs)
{
	struct utrace_test_record record;
	int i, id = ATTACH(0), depth = 0, calls = 0;

	ASSERT_EQ(0, CALL(do_handle, SIGUSR1));
	ASSERT_EQ(0, dev_set_events(self->dev, id, UTRACE_EVENT_SYSCALL));
	for (i = 0; i < 5; i++) {
		EXPECT_EQ(self->target.pid, CALL(do_getpid, 0));
		EXPECT_EQ(0, CALL(do_kill_self, SIGUSR1));
		EXPECT_LT(0, CALL(do_fork, 0));
	}
	EXPECT_EQ(5, shared->value);
	/* The target is in read() at the beginning and at the end of the test. */
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "S"));
	ASSERT_EQ(0, dev_set_events(self->dev, id, 0));
	while (read(self->dev, &record, sizeof(record)) == sizeof(record)) {
		depth += record.callback == UTRACE_TEST_SYSCALL_ENTRY ? 1 : -1;
		EXPECT_TRUE(depth == 0 || depth == 1 || (depth == -1 && !calls));
		if (depth == -1)
			depth = 0;
		calls++;
	}
	EXPECT_EQ(1, depth);
	EXPECT_LT(40, calls);
}

TEST_HARNESS_MAIN
