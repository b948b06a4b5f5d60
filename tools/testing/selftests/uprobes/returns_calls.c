// SPDX-License-Identifier: GPL-2.0
/* Returns of functions whose calls do not come back, or not with the stack as it was. */
#include "module_fixture.h"

#define FUNCTIONS(_)				\
	_(calls_next_pop)			\
	_(calls_next_add)			\
	_(calls_next_saved)			\
	_(calls_return_thunk)			\
	_(calls_by_thunk)			\
	_(calls_by_thunk_last)			\
	_(calls_by_inline_thunk)		\
	_(calls_one_way)			\
	_(calls_data)				\
	_(calls_data_in_memory)			\
	_(calls_last)				\
	_(calls_helpers)			\
	_(calls_popping)			\
	_(calls_popping_again)

#define DECLARE(function) unsigned long function(unsigned long base, unsigned long add);
FUNCTIONS(DECLARE)
extern const char calls_by_inline_thunk_end[];

FIXTURE_VARIANT(module)
{
	probed_fn fn;
};

#define VARIANT(function) FIXTURE_VARIANT_ADD(module, function) { .fn = function };
FUNCTIONS(VARIANT)

#define TIMES	10

TEST_F_TIMEOUT(module, every_return, TIMEOUT)
{
	int id = PROBE_BOTH(variant->fn);
	struct uprobes_test_count count;
	unsigned long i;

	for (i = 0; i < TIMES; i++)
		variant->fn(i, 1);
	count = COUNT(id);
	EXPECT_EQ(TIMES, HITS(id));
	EXPECT_EQ(TIMES, count.return_hits);
	EXPECT_EQ(0, count.misses);
	UNPROBE(id);
}

/* A `ret` of a part that the function calls is none of the function. */
TEST(sized)
{
	size_t size = (size_t)(calls_by_inline_thunk_end - (const char *)calls_by_inline_thunk);
	struct uprobes_test_register how = {
		.pid = getpid(), OF(calls_by_inline_thunk), .size = size,
		.flags = UPROBES_TEST_RETURN,
	};
	int dev = dev_open();

	if (dev < 0)
		SKIP(return, "no " UPROBES_TEST_DEVICE);
	EXPECT_EQ(-EOPNOTSUPP, dev_register_how(dev, &how));
	close(dev);
}

TEST_HARNESS_MAIN
