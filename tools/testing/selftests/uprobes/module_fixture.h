/* SPDX-License-Identifier: GPL-2.0 */
/* The fixture of the tests that need the module, and what there is to do with its probes. */
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

/* A probe of this process, counted in task context. */
#define PROBE(fn) ({						\
	int __id = dev_register(self->dev, getpid(), (void *)(fn), UPROBES_TEST_TASK); \
	ASSERT_LT(0, __id);					\
	__id;							\
})

/* A probe, as struct uprobes_test_register says, of this process, if that names none. */
#define REGISTER(...) ({					\
	struct uprobes_test_register __how = { __VA_ARGS__ };	\
	if (!__how.pid)						\
		__how.pid = getpid();				\
	dev_register_how(self->dev, &__how);			\
})

/* The same, which must succeed. */
#define PROBE_HOW(...) ({					\
	int __id = REGISTER(__VA_ARGS__);			\
	ASSERT_LT(0, __id);					\
	__id;							\
})

#define OF(function)	.vaddr = (unsigned long)(function)

/* The same, for entries and returns of a function whose size is not given. */
#define PROBE_BOTH(function, ...) PROBE_HOW(OF(function),		\
	.flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN, __VA_ARGS__)

/* What a probe has counted. */
#define COUNT(id) ({						\
	struct uprobes_test_count __count;			\
	ASSERT_EQ(0, dev_count(self->dev, id, &__count));	\
	__count;						\
})

#define HITS(id)	dev_hits(self->dev, id)
#define RETURNS(id)	(COUNT(id).return_hits)
#define UNPROBE(id)	ASSERT_EQ(0, dev_unregister(self->dev, id))

#endif /* _MODULE_FIXTURE_H */
