// SPDX-License-Identifier: GPL-2.0
/* Return probes that are refused, and returns that cannot be detected. */
#include <sys/mman.h>

#include "module_fixture.h"
#include "returns_text.h"

#define PAGE	4096UL

#define TRY(function, bytes)	REGISTER(OF(function), .flags = UPROBES_TEST_RETURN, .size = bytes)

TEST_F_TIMEOUT(module, sizes, TIMEOUT)
{
	int id;

	/* Not the end of an instruction. */
	EXPECT_EQ(-EINVAL, TRY(returns_leaf, 3));
	EXPECT_EQ(-EINVAL, TRY(returns_leaf, SIZE_OF(returns_leaf) - 2));
	EXPECT_EQ(-EINVAL, TRY(returns_twice, SIZE_OF(returns_twice) - 1));
	/* No RET. */
	EXPECT_EQ(-EINVAL, TRY(returns_leaf, SIZE_OF(returns_leaf) - 1));
	EXPECT_EQ(-EINVAL, TRY(returns_never, SIZE_OF(returns_never)));
	/* A jump that ends between two instructions. */
	EXPECT_EQ(-EINVAL, TRY(returns_into_middle, SIZE_OF(returns_into_middle)));
	/* Too much. */
	EXPECT_EQ(-E2BIG, TRY(returns_leaf, (1 << 20) + 1));
	EXPECT_EQ(-E2BIG, TRY(returns_leaf, ~0UL));
	/* Text that ends before the function does. */
	EXPECT_GT(0, TRY(returns_leaf, 1 << 20));

	/* Refused probes leave nothing behind, and the whole function can be probed. */
	EXPECT_TRUE(text_is_of_file(getpid(), returns_at_once, 4096));
	id = TRY(returns_leaf, SIZE_OF(returns_leaf));
	ASSERT_LT(0, id);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(1, COUNT(id).return_hits);
	UNPROBE(id);
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

/* The size has no meaning without a return handler. */
TEST_F_TIMEOUT(module, size_without_return, TIMEOUT)
{
	int id = PROBE_HOW(OF(returns_by_tail), .flags = UPROBES_TEST_TASK, .size = 2);

	EXPECT_EQ(4, returns_by_tail(1, 2));
	EXPECT_EQ(1, HITS(id));
	UNPROBE(id);
}

/* The return address cannot be read. */
TEST_F_TIMEOUT(module, no_stack, TIMEOUT)
{
	int id = PROBE_HOW(OF(without_stack_here),
			   .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	unsigned int i;

	for (i = 0; i < 100; i++)
		ASSERT_EQ(i + 1, without_stack(i, 1));
	EXPECT_EQ(100, HITS(id));
	EXPECT_EQ(0, COUNT(id).return_hits);
	EXPECT_EQ(100, COUNT(id).misses);
	UNPROBE(id);
}

/*
 * The text at a return address is unmapped or moved, and other text, with another alignment, takes
 * its place. Then the function is called from there, too.
 */
TEST_F_TIMEOUT(module, site_goes, TIMEOUT)
{
	int id = PROBE_HOW(OF(returns_leaf), .flags = UPROBES_TEST_TASK | UPROBES_TEST_RETURN);
	unsigned int i, n = 0;
	void *at;

	at = copied_caller(MAP_PRIVATE);
	ASSERT_NE(NULL, at);
	for (i = 0; i < 20; i++) {
		caller_fn call;
		unsigned char nops = i % 3;
		unsigned int j;

		for (j = 0; j < 10; j++, n++) {
			call = at;
			ASSERT_EQ(i + j, call(returns_leaf, i, j));
		}
		ASSERT_EQ(n, COUNT(id).return_hits);
		if (i % 2) {
			ASSERT_EQ(0, munmap(at, PAGE));
		} else {
			void *moved = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS,
					   -1, 0);

			ASSERT_NE(MAP_FAILED, moved);
			ASSERT_EQ(moved, mremap(at, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
						moved));
			call = moved;
			ASSERT_EQ(7, call(returns_leaf, 3, 4));
			n++;
			ASSERT_EQ(n, COUNT(id).return_hits);
			ASSERT_EQ(0, munmap(moved, PAGE));
		}
		ASSERT_EQ(at, mmap(at, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
		memset(at, 0x90, nops);
		memcpy((char *)at + nops, call_from_copy, SIZE_OF(call_from_copy));
		ASSERT_EQ(0, mprotect(at, PAGE, PROT_READ | PROT_EXEC));
	}
	EXPECT_EQ(n, COUNT(id).task_hits);
	EXPECT_EQ(0, COUNT(id).misses);
	UNPROBE(id);
	EXPECT_TRUE(page_is_of_file(getpid(), returns_at_once));
}

/* The process exits before the return probe is unregistered. */
TEST_F_TIMEOUT(module, process_ends, TIMEOUT)
{
	struct target target;
	int id;

	ASSERT_TRUE(target_start(&target));
	id = PROBE_HOW(.pid = target.pid, OF(returns_leaf), .flags = UPROBES_TEST_RETURN);
	EXPECT_EQ(300, target_call(&target, returns_leaf, 1, 2, 100));
	EXPECT_EQ(100, COUNT(id).return_hits);
	EXPECT_EQ(target.pid, COUNT(id).last_tgid);
	EXPECT_EQ(3, call_probed(returns_leaf, 1, 2));
	EXPECT_EQ(0, target_stop(&target));
	EXPECT_EQ(100, COUNT(id).return_hits);
	UNPROBE(id);
}

TEST_HARNESS_MAIN
