/* SPDX-License-Identifier: GPL-2.0 */
/* The fixture of the tests: the test module, and a process to attach to. */
#ifndef _DEVICE_FIXTURE_H
#define _DEVICE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "utrace_selftest.h"

FIXTURE(device)
{
	int dev;
	struct target target;
	/* The target has ended, and has been waited for. */
	bool ended;
};

FIXTURE_SETUP(device)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->dev = dev_open();
	if (self->dev < 0)
		SKIP(return, "no " UTRACE_TEST_DEVICE);
	ASSERT_TRUE(dev_clean(self->dev));
	ASSERT_TRUE(share());
	ASSERT_TRUE(target_start(&self->target));
}

FIXTURE_TEARDOWN(device)
{
	if (!self->ended)
		EXPECT_NE(-1, target_kill(&self->target));
	close(self->dev);
	self->dev = dev_open();
	EXPECT_TRUE(dev_clean(self->dev));
	close(self->dev);
}

#define DEVICE_TEST(name)	TEST_F_TIMEOUT(device, name, TIMEOUT)

/* Attaches an engine to the target. */
#define ATTACH(events) ({						\
	int __id = dev_attach(self->dev, self->target.pid, events);	\
	ASSERT_LT(0, __id);						\
	__id;								\
})

#define CALL(fn, arg)	target_call(&self->target, fn, arg)
#define BEGIN(fn, arg)	ASSERT_TRUE(target_begin(&self->target, fn, arg))
#define END()		target_end(&self->target)
/* Returns the wait status of the target, which ends by itself, or is killed. */
#define ENDED()		(self->ended = true, target_stop(&self->target))
#define KILLED()	(self->ended = true, target_kill(&self->target))

/* Returns the next record of a callback, or of any. */
#define NEXT(callback) ({						\
	struct utrace_test_record __record;				\
	ASSERT_TRUE(next_record(self->dev, callback, &__record))	\
		TH_LOG("no record");					\
	__record;							\
})

#define TOLD(expected, records)	EXPECT_STREQ(expected, next_records(self->dev, records))

/* Stops the target, which must not sleep in a system call. */
#define STOP(id) do {							\
	int __ret = dev_control(self->dev, id, UTRACE_STOP);		\
	ASSERT_TRUE(__ret == 0 || __ret == -EINPROGRESS);		\
	ASSERT_TRUE(wait_state(self->target.pid, self->target.pid, "t")); \
	ASSERT_EQ(0, dev_control(self->dev, id, UTRACE_STOP));		\
} while (0)

#endif /* _DEVICE_FIXTURE_H */
