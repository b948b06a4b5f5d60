/* SPDX-License-Identifier: GPL-2.0 */
/* Fixture of the tests that need the module, with macros for its probes. */
#ifndef _MODULE_FIXTURE_H
#define _MODULE_FIXTURE_H

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"
#include "uprobes_selftest.h"

#ifndef OWN_FIXTURE
FIXTURE(module)
{
	int dev;
};

FIXTURE_SETUP(module)
{
	if (geteuid())
		SKIP(return, "needs root");
	self->dev = dev_open();
	if (self->dev < 0)
		SKIP(return, "no " UPROBES_TEST_DEVICE);
	ASSERT_TRUE(dev_clean(self->dev));
}

FIXTURE_TEARDOWN(module)
{
	close(self->dev);
	self->dev = dev_open();
	EXPECT_TRUE(dev_clean(self->dev));
	close(self->dev);
}
#endif /* OWN_FIXTURE */

/* Registers a probe of this process that is counted in task context. */
#define PROBE(fn) ({						\
	int __id = dev_register(self->dev, getpid(), (void *)(fn), UPROBES_TEST_TASK); \
	ASSERT_LT(0, __id);					\
	__id;							\
})

/* Registers a probe as in struct uprobes_test_register, by default in this process. */
#define REGISTER(...) ({					\
	struct uprobes_test_register __how = { __VA_ARGS__ };	\
	if (!__how.pid)						\
		__how.pid = getpid();				\
	dev_register_how(self->dev, &__how);			\
})

/* As REGISTER(), but the registration must succeed. */
#define PROBE_HOW(...) ({					\
	int __id = REGISTER(__VA_ARGS__);			\
	ASSERT_LT(0, __id);					\
	__id;							\
})

#define OF(function)	.vaddr = (unsigned long)(function)

/* As PROBE_HOW(), for entries and returns of a function whose size is not given. */
#define PROBE_BOTH(function, ...) PROBE_HOW(OF(function),		\
	.flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN, __VA_ARGS__)

/* Returns the counts of a probe. */
#define COUNT(id) ({						\
	struct uprobes_test_count __count;			\
	ASSERT_EQ(0, dev_count(self->dev, id, &__count));	\
	__count;						\
})

#define HITS(id)	dev_hits(self->dev, id)
#define RETURNS(id)	(COUNT(id).return_hits)
#define UNPROBE(id)	ASSERT_EQ(0, dev_unregister(self->dev, id))

#endif /* _MODULE_FIXTURE_H */
