// SPDX-License-Identifier: GPL-2.0
/* Returns of functions with calls that do not come back, or that change the stack. */
#include "module_fixture.h"
#include "returns_calls_text.h"

FIXTURE_VARIANT(module)
{
	probed_fn fn;
};

FIXTURE_VARIANT_ADD(module, next_pop) {
	.fn = calls_next_pop,
};

FIXTURE_VARIANT_ADD(module, next_add) {
	.fn = calls_next_add,
};

FIXTURE_VARIANT_ADD(module, next_saved) {
	.fn = calls_next_saved,
};

FIXTURE_VARIANT_ADD(module, return_thunk) {
	.fn = calls_return_thunk,
};

FIXTURE_VARIANT_ADD(module, by_thunk) {
	.fn = calls_by_thunk,
};

FIXTURE_VARIANT_ADD(module, by_thunk_last) {
	.fn = calls_by_thunk_last,
};

FIXTURE_VARIANT_ADD(module, by_inline_thunk) {
	.fn = calls_by_inline_thunk,
};

FIXTURE_VARIANT_ADD(module, one_way) {
	.fn = calls_one_way,
};

FIXTURE_VARIANT_ADD(module, data_behind) {
	.fn = calls_data,
};

FIXTURE_VARIANT_ADD(module, data_behind_in_memory) {
	.fn = calls_data_in_memory,
};

FIXTURE_VARIANT_ADD(module, last) {
	.fn = calls_last,
};

FIXTURE_VARIANT_ADD(module, helpers) {
	.fn = calls_helpers,
};

FIXTURE_VARIANT_ADD(module, popping) {
	.fn = calls_popping,
};

FIXTURE_VARIANT_ADD(module, popping_again) {
	.fn = calls_popping_again,
};

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

TEST_HARNESS_MAIN
