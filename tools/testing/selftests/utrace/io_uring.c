// SPDX-License-Identifier: GPL-2.0
/* Requests of io_uring, which are no events because io_uring holds a lock. */
#include "device_fixture.h"
#include "raw_ring.h"

/* Opens and closes /dev/null. */
static long do_ring(long flags)
{
	struct ring ring;
	int fd, ret = ring_open(&ring, 0);

	if (ret)
		return ret;
	fd = ring_open_file(&ring, "/dev/null", flags);
	ring_close(&ring);
	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

DEVICE_TEST(names)
{
	if (!has_io_uring())
		SKIP(return, "no io_uring");
	ATTACH(EVENT(PATH));
	ASSERT_EQ(0, CALL(do_ring, 0));
	EXPECT_TRUE(no_record(self->dev));
	/* The file names of system calls are reported. */
	ASSERT_EQ(0, CALL(do_open, 0));
	EXPECT_STREQ("/dev/null", NEXT(UTRACE_TEST_PATH).name);
}

/* A worker is a thread of the process, but is not reported to any engine. */
DEVICE_TEST(workers)
{
	int id;

	if (!has_io_uring())
		SKIP(return, "no io_uring");
	id = dev_attach_process(self->dev, self->target.pid,
				EVENT(CLONE) | EVENT(PATH) | EVENT(EXIT) | EVENT(DEATH));
	ASSERT_LT(0, id);
	ASSERT_EQ(0, CALL(do_ring, IOSQE_ASYNC));
	EXPECT_TRUE(no_record(self->dev));
	EXPECT_EQ(0, ENDED());
	EXPECT_EQ(UTRACE_TEST_EXIT, NEXT(ANY).callback);
	EXPECT_EQ(UTRACE_TEST_DEATH, NEXT(ANY).callback);
	EXPECT_TRUE(no_record(self->dev));
}

static long do_exit_with_poller(long how)
{
	static struct ring ring;
	int ret = ring_open(&ring, IORING_SETUP_SQPOLL);

	if (ret)
		return ret;
	return syscall(how, 3);
}

/*
 * The last thread to exit is a worker that polls a queue of the process. The last exit
 * is reported for the last thread that engines know.
 */
DEVICE_TEST(last_exit)
{
	static const int how[] = { SYS_exit, SYS_exit_group };
	struct utrace_test_record record;
	struct target target;
	unsigned int i;
	int id;

	if (!has_io_uring())
		SKIP(return, "no io_uring");
	for (i = 0; i < 2; i++) {
		ASSERT_TRUE(target_start(&target));
		id = dev_attach_process(self->dev, target.pid, EVENT(LAST_EXIT) | EVENT(DEATH));
		ASSERT_LT(0, id);
		ASSERT_TRUE(target_begin(&target, do_exit_with_poller, how[i]));
		record = NEXT(ANY);
		EXPECT_EQ(UTRACE_TEST_LAST_EXIT, record.callback);
		EXPECT_EQ(3 << 8, record.arg[0]);
		EXPECT_EQ(UTRACE_TEST_DEATH, NEXT(ANY).callback);
		/* The worker keeps the ring open, so it lives until it is killed. */
		EXPECT_EQ(how[i] == SYS_exit ? SIGKILL : 3 << 8, target_kill(&target));
		EXPECT_EQ(0, dev_drop(self->dev, id));
	}
}

TEST_HARNESS_MAIN
