// SPDX-License-Identifier: GPL-2.0
/*
 * Return probes of functions that jump to the address in a register. The kernel does not know how
 * they return, so it detects their returns at the return address.
 */
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

#define PAGE	4096UL

TEST_F_TIMEOUT(module, each_return_once, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_leaf);
	struct uprobes_test_count count;
	unsigned long i, sum = 0;

	for (i = 0; i < 1000; i++) {
		unsigned long got = call_probed(opaque_leaf, i, 5);

		ASSERT_EQ(i + 5, got);
		sum += got;
		count = COUNT(id);
		ASSERT_EQ(i + 1, count.return_hits);
		ASSERT_EQ(got, count.return_ax);
	}
	EXPECT_EQ(1000, count.task_hits);
	EXPECT_EQ(sum, count.ax_sum);
	EXPECT_EQ((unsigned long)call_probed_return, count.return_ip);
	EXPECT_EQ(1000, count.returns);
	EXPECT_EQ(0, count.misses);
	UNPROBE(id);
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
	EXPECT_TRUE(page_is_of_file(getpid(), call_probed));
}

TEST_F_TIMEOUT(module, recursion, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_deep);
	unsigned long depth;

	for (depth = 0; depth < 200; depth += 13)
		ASSERT_EQ(depth, call_probed(opaque_deep, depth, 0));
	EXPECT_EQ(COUNT(id).task_hits, COUNT(id).return_hits);
	EXPECT_LT(1000, COUNT(id).return_hits);
	UNPROBE(id);
}

/* The function pops its arguments off the stack. */
TEST_F_TIMEOUT(module, callee_pops, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_and_pops);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 7, call_and_pop_opaque(i, 7));
	EXPECT_EQ(100, COUNT(id).return_hits);
	EXPECT_EQ((unsigned long)call_and_pop_opaque_return, COUNT(id).return_ip);
	UNPROBE(id);
}

/* A handler moves the instruction pointer, so an instruction of the caller is not executed. */
TEST_F_TIMEOUT(module, moved, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_leaf, .add_return_ip = 4);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(3, call_and_add(opaque_leaf, 1, 2));
	EXPECT_EQ(100, COUNT(id).return_hits);
	UNPROBE(id);
	EXPECT_EQ(103, call_and_add(opaque_leaf, 1, 2));
}

/* Jumps reach the return address as well. */
TEST_F_TIMEOUT(module, jumps_are_no_returns, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_leaf);
	unsigned int i;

	for (i = 0; i < 100; i++) {
		ASSERT_EQ(i + 3, call_or_jump(opaque_leaf, i, 3));
		ASSERT_EQ(i, call_or_jump(NULL, i, 3));
		ASSERT_EQ(i, call_or_jump(NULL, i, 3));
	}
	EXPECT_EQ(100, COUNT(id).task_hits);
	EXPECT_EQ(100, COUNT(id).return_hits);
	UNPROBE(id);
}

TEST_F_TIMEOUT(module, site_is_probed, TIMEOUT)
{
	int before = PROBE(call_probed_return);
	int id = PROBE_BOTH(opaque_leaf);
	int after = PROBE(call_probed_return);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 2, call_probed(opaque_leaf, i, 2));
	EXPECT_EQ(100, COUNT(id).return_hits);
	EXPECT_EQ(100, HITS(before));
	EXPECT_EQ(100, HITS(after));
	UNPROBE(before);
	UNPROBE(after);
	EXPECT_EQ(3, call_probed(opaque_leaf, 1, 2));
	EXPECT_EQ(101, COUNT(id).return_hits);
	UNPROBE(id);
}

/* Calls from a shared mapping, where no breakpoints can be. */
TEST_F_TIMEOUT(module, site_cannot_be_probed, TIMEOUT)
{
	caller_fn call;
	int id = PROBE_HOW(OF(opaque_leaf), .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	struct uprobes_test_count count;
	unsigned int i;

	call = copied_caller(MAP_SHARED);
	ASSERT_NE(NULL, call);
	for (i = 0; i < 100; i++) {
		ASSERT_EQ(i + 1, call(opaque_leaf, i, 1));
		ASSERT_EQ(i + 2, call_probed(opaque_leaf, i, 2));
	}
	count = COUNT(id);
	EXPECT_EQ(200, count.task_hits);
	EXPECT_EQ(200, count.hits);
	EXPECT_EQ(100, count.return_hits);
	EXPECT_EQ(100, count.returns);
	EXPECT_EQ(100, count.misses);
	EXPECT_EQ(0, memcmp(call, call_from_copy, SIZE_OF(call_from_copy)));
	UNPROBE(id);
}

/*
 * The text around a call is replaced, with the return address, before the function returns. It
 * returns to the same text, which is not probed.
 */
static void *replaced;

static unsigned long replace_caller(unsigned long code, unsigned long size)
{
	if (mmap(replaced, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) != replaced)
		return 0;
	memcpy(replaced, (void *)code, size);
	return 42;
}

TEST_F_TIMEOUT(module, site_goes_before_return, TIMEOUT)
{
	int id = PROBE_BOTH(opaque_call);
	unsigned int i;

	opaque_callee = replace_caller;
	replaced = copied_caller(MAP_PRIVATE);
	ASSERT_NE(NULL, replaced);
	for (i = 0; i < 20; i++) {
		caller_fn call = replaced;

		ASSERT_EQ(42, call(opaque_call, (unsigned long)call_from_copy,
				   SIZE_OF(call_from_copy)));
		/* The breakpoint has gone with the text, so this return is not detected. */
		EXPECT_EQ(i + 1, COUNT(id).task_hits);
		EXPECT_EQ(0, COUNT(id).return_hits);
	}
	UNPROBE(id);
}

TEST_HARNESS_MAIN
