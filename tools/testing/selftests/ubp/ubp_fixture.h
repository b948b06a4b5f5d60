/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture for tests that insert breakpoints. */
#ifndef _UBP_FIXTURE_H
#define _UBP_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "ubp_selftest.h"
#include "uprobes_selftest.h"

#define BOTH	(UBP_TEST_TASK | UBP_TEST_INTERRUPT)

FIXTURE(ubp)
{
	int dev;
};

FIXTURE_SETUP(ubp)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no " UBP_TEST_DEVICE);
}

/* Closing the file removes everything that a test has left. */
FIXTURE_TEARDOWN(ubp)
{
	close(self->dev);
	EXPECT_TRUE(text_is_of_file(getpid(), probed_nop, 4096));
	EXPECT_TRUE(page_is_of_file(getpid(), probed_nop));
}

/* Inserts a breakpoint in this process, which counts hits in both contexts. */
#define INSERT(at) ({							\
	int __id = ubp_insert(self->dev, 0, (const void *)(at), BOTH, NULL); \
	ASSERT_LT(0, __id);						\
	__id;								\
})

#define REMOVE(id)	ASSERT_EQ(0, ubp_remove(self->dev, id))

/* Both contexts must have counted the same number of hits. */
#define EXPECT_HITS(expected, id) do {					\
	struct ubp_test_count __count;					\
	ASSERT_EQ(0, ubp_count(self->dev, id, &__count));		\
	EXPECT_EQ(expected, __count.task_hits);				\
	EXPECT_EQ(expected, __count.interrupt_hits);			\
	EXPECT_EQ(0, __count.active);					\
} while (0)

#endif /* _UBP_FIXTURE_H */
