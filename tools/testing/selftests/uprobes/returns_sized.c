// SPDX-License-Identifier: GPL-2.0
/* Return probes of functions of known size. */
#include "module_fixture.h"
#include "returns_calls_text.h"
#include "returns_text.h"

#define TIMES	100

/* Registers a return probe of @function, calls it, and expects each return to be detected. */
#define EXPECT_RETURNS(function, result) do {						\
	int __id = PROBE_HOW(OF(function), .size = SIZE_OF(function),			\
			     .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);		\
	struct uprobes_test_count __count;						\
	unsigned long i;								\
											\
	for (i = 0; i < TIMES; i++) {							\
		ASSERT_EQ(result, call_probed(function, i, 1));				\
		__count = COUNT(__id);							\
		ASSERT_EQ(i + 1, __count.return_hits);					\
		ASSERT_EQ(result, __count.return_ax);					\
	}										\
	EXPECT_EQ(TIMES, __count.task_hits);						\
	EXPECT_EQ(0, __count.misses);							\
	EXPECT_EQ(0, __count.counts_error);						\
	followed = page_is_of_file(getpid(), call_probed);				\
	UNPROBE(__id);									\
} while (0)

/* A `ret` of a part that the function calls is none of the function. */
TEST_F_TIMEOUT(module, called_part, TIMEOUT)
{
	bool followed;

	EXPECT_RETURNS(calls_by_inline_thunk, i + 1);
	EXPECT_TRUE(followed);
}

/* Jumps by a table stay within the function, so that no return address has a breakpoint. */
TEST_F_TIMEOUT(module, table, TIMEOUT)
{
	bool followed;

	EXPECT_RETURNS(calls_by_table, 10 * (i % 4) + 1);
	EXPECT_TRUE(followed);
}

/* Tail calls by an address in the instruction, and by one in a register. */
TEST_F_TIMEOUT(module, tail_calls, TIMEOUT)
{
	bool followed;

	EXPECT_RETURNS(returns_by_tail, i + 2);
	EXPECT_TRUE(followed);
	EXPECT_RETURNS(calls_tail_by_register, i + 3);
	EXPECT_FALSE(followed);
}

TEST_F_TIMEOUT(module, split, TIMEOUT)
{
	bool followed;

	EXPECT_RETURNS(calls_split, i % 2 ? i % 2 + 1 : 1);
	EXPECT_FALSE(followed);
}

/* A byte of data that looks like a return instruction stays as it is. */
TEST_F_TIMEOUT(module, inline_data, TIMEOUT)
{
	bool followed;

	EXPECT_RETURNS(calls_around_data, 0x909090c3);
	EXPECT_FALSE(followed);
}

TEST_F_TIMEOUT(module, return_to_return, TIMEOUT)
{
	size_t sizes[] = { 0, SIZE_OF(calls_before_return) };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		int id = PROBE_HOW(OF(calls_before_return), .size = sizes[i],
				   .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);

		calls_before_return(9, 0);
		EXPECT_EQ(10, HITS(id));
		EXPECT_EQ(10, COUNT(id).return_hits);
		EXPECT_EQ(0, COUNT(id).misses);
		UNPROBE(id);
	}
}

/* Two functions that overlap: each return instruction belongs to the first one. */
TEST_F_TIMEOUT(module, overlapping, TIMEOUT)
{
	const char *second = (const char *)returns_twice + 3;
	int one = PROBE_HOW(OF(returns_twice), .size = SIZE_OF(returns_twice),
			    .flags = UPROBES_TEST_RETURN);
	int two = PROBE_HOW(OF(second), .size = SIZE_OF(returns_twice) - 3,
			    .flags = UPROBES_TEST_RETURN);
	unsigned int i;

	for (i = 0; i < TIMES; i++)
		ASSERT_EQ(i ? 2 : 1, returns_twice(i, 0));
	EXPECT_EQ(TIMES, COUNT(one).return_hits);
	/* As a call of the second function, each of these returns from it. */
	EXPECT_EQ(TIMES, COUNT(two).return_hits);
	UNPROBE(one);
	UNPROBE(two);
}

/* One probe of the function has its size, the other one has not. */
TEST_F_TIMEOUT(module, both_forms, TIMEOUT)
{
	unsigned int first, i;

	for (first = 0; first < 4; first++) {
		size_t size = SIZE_OF(returns_leaf);
		int one = PROBE_HOW(OF(returns_leaf), .size = first % 2 ? size : 0,
				    .flags = UPROBES_TEST_RETURN);
		int two = PROBE_HOW(OF(returns_leaf), .size = first % 2 ? 0 : size,
				    .flags = UPROBES_TEST_RETURN);

		for (i = 0; i < TIMES; i++)
			ASSERT_EQ(i + 1, call_probed(returns_leaf, i, 1));
		EXPECT_EQ(TIMES, COUNT(one).return_hits);
		EXPECT_EQ(TIMES, COUNT(two).return_hits);
		/* Either one can go first. */
		UNPROBE(first % 4 < 2 ? one : two);
		EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
		EXPECT_EQ(TIMES + 1, COUNT(first % 4 < 2 ? two : one).return_hits);
		UNPROBE(first % 4 < 2 ? two : one);
	}
}

/* As enum uprobe_detection */
enum detection { NO_RETURNS, OWN_RETURN_INSNS, RETURN_INSNS, RETURN_ADDRESS };

TEST_F_TIMEOUT(module, detection, TIMEOUT)
{
	const struct {
		const void *function;
		unsigned int flags;
		size_t size;
		enum detection detection;
	} probed[] = {
		{ returns_leaf, UPROBES_TEST_TASK, 0, NO_RETURNS },
		{ returns_leaf, UPROBES_TEST_RETURN, 0, RETURN_INSNS },
		{ returns_leaf, UPROBES_TEST_RETURN, SIZE_OF(returns_leaf), OWN_RETURN_INSNS },
		{ returns_by_tail, UPROBES_TEST_RETURN, SIZE_OF(returns_by_tail), RETURN_INSNS },
		{ calls_by_table, UPROBES_TEST_RETURN, 0, RETURN_ADDRESS },
		{ calls_by_table, UPROBES_TEST_RETURN, SIZE_OF(calls_by_table), OWN_RETURN_INSNS },
		{ calls_tail_by_register, UPROBES_TEST_RETURN, 0, RETURN_ADDRESS },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(probed); i++) {
		int id = PROBE_HOW(OF(probed[i].function), .flags = probed[i].flags,
				   .size = probed[i].size);
		struct uprobes_test_count count = COUNT(id);

		EXPECT_EQ(probed[i].detection, count.detection);
		EXPECT_EQ(probed[i].detection == RETURN_ADDRESS, !!count.walk_end);
		if (probed[i].function == calls_tail_by_register)
			/* The jump has two bytes. */
			EXPECT_EQ((unsigned long)calls_tail_by_register_end - 2, count.walk_end);
		UNPROBE(id);
	}
}

TEST_HARNESS_MAIN
