// SPDX-License-Identifier: GPL-2.0
/* Failures of each allocation of clone(), on kernels with fault injection. */
#define _GNU_SOURCE
#include <sched.h>

#include "device_fixture.h"
#include "fail_nth.h"

#define CREATED		1
#define FAILED		2

static int end_at_once(void *arg)
{
	return 0;
}

/* Creates a thread while the @nth allocation fails, and waits until the thread has ended. */
static long do_clone(long nth)
{
	static long double stack[4096];	/* aligned */
	static atomic_int tid;
	int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
		    CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;
	int pid, error;
	bool any;

	tid = 1;
	fail(nth);
	pid = clone(end_at_once, stack + 4096, flags, NULL, NULL, NULL, &tid);
	error = errno;
	any = failed();
	if (pid < 0)
		return error == ENOMEM || error == EAGAIN ? FAILED * any : -error;
	while (tid)
		sleep_ms(1);
	return CREATED + FAILED * any;
}

/* A new thread gets all engines of its process, or is not created. */
DEVICE_TEST(clone)
{
	struct utrace_test_count count;
	unsigned int nth, threads = 0;
	int ids[2], i;
	long ret;

	if (!fail_set_up())
		SKIP(return, "no fault injection");
	for (i = 0; i < 2; i++) {
		ids[i] = dev_attach_process(self->dev, self->target.pid, EVENT(EXIT));
		ASSERT_LT(0, ids[i]);
	}
	for (nth = 1, ret = FAILED; ret & FAILED && nth < 500; nth++) {
		ret = CALL(do_clone, nth);
		ASSERT_LE(0, ret);
		threads += ret & CREATED;
		for (i = 0; i < 2; i++) {
			ASSERT_EQ(0, dev_count(self->dev, ids[i], &count));
			ASSERT_EQ(threads, count.calls[UTRACE_TEST_EXIT])
				TH_LOG("allocation %u", nth);
		}
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(3, nth);
	EXPECT_LT(0, threads);
	EXPECT_EQ(0, dev_drop(self->dev, ids[0]));
	EXPECT_EQ(0, dev_drop(self->dev, ids[1]));
}

TEST_HARNESS_MAIN
