// SPDX-License-Identifier: GPL-2.0
/*
 * Probed instructions of all kinds. Each snippet has the same effect when one of its instructions
 * is probed as when none is, and each run of that instruction is one hit.
 */
#include "module_fixture.h"
#include "snippet.h"

static void try_all(struct __test_metadata *_metadata, int dev, uint64_t flags,
		    unsigned int handlers)
{
	static struct outcome native, probed;
	static unsigned char text[4096];
	const struct snippet *snippet;
	unsigned int tried = 0;

	ASSERT_TRUE(snippet_setup());
	for (snippet = __start_snippets; snippet < __stop_snippets; snippet++) {
		struct uprobes_test_count count;
		void *at = snippet_place(snippet);
		unsigned long long hits;
		int id;

		snippet_run(flags, &native);
		memcpy(text, snippet_page, sizeof(text));
		id = dev_register(dev, getpid(), at, handlers);
		EXPECT_LT(0, id) TH_LOG("%s: %d", snippet->name, id);
		if (id <= 0)
			continue;
		snippet_run(flags, &probed);
		if (!snippet->steps)
			snippet_forget_steps(&native, &probed);
		EXPECT_EQ(0, dev_count(dev, id, &count));
		hits = handlers & UPROBES_TEST_TASK ? count.task_hits : count.interrupt_hits;
		EXPECT_EQ(snippet->hits, hits) TH_LOG("%s", snippet->name);
		EXPECT_EQ((unsigned long)at, count.last_ip) TH_LOG("%s", snippet->name);
		EXPECT_EQ(0, snippet_compare(snippet->name, &native, &probed));
		ASSERT_EQ(0, dev_unregister(dev, id));
		EXPECT_EQ(0, memcmp(snippet_page, text, sizeof(text)))
			TH_LOG("%s: text is not what it was", snippet->name);
		tried++;
	}
	TH_LOG("%u snippets", tried);
}

TEST_F_TIMEOUT(module, flags_clear, TIMEOUT)
{
	try_all(_metadata, self->dev, FLAGS_CLEAR, UPROBES_TEST_TASK);
}

TEST_F_TIMEOUT(module, flags_set, TIMEOUT)
{
	try_all(_metadata, self->dev, FLAGS_SET, UPROBES_TEST_TASK);
}

TEST_F_TIMEOUT(module, in_interrupt, TIMEOUT)
{
	try_all(_metadata, self->dev, FLAGS_SET, UPROBES_TEST_INTERRUPT);
}

/* A program that single-steps itself gets the same traps, at the same addresses. */
TEST_F_TIMEOUT(module, stepping_itself, TIMEOUT)
{
	try_all(_metadata, self->dev, FLAGS_CLEAR | FLAG_TF, UPROBES_TEST_TASK);
}

/* All instructions of a snippet are probed at once. */
TEST_F_TIMEOUT(module, every_instruction_of_a_function, TIMEOUT)
{
	/* push %rbp; mov %rsp,%rbp; lea (%rdi,%rsi),%rax; pop %rbp; ret */
	static const unsigned int offsets[] = { 0, 1, 4, 8, 9 };
	unsigned int i, j;

	for (i = 0; i < 32; i++) {
		int id[5];

		for (j = 0; j < 5; j++)
			if (i & 1 << j)
				id[j] = PROBE((char *)probed_push + offsets[j]);
		EXPECT_EQ(12, call_probed(probed_push, 5, 7));
		for (j = 0; j < 5; j++) {
			if (i & 1 << j) {
				EXPECT_EQ(1, HITS(id[j]));
				UNPROBE(id[j]);
			}
		}
	}
}

TEST_HARNESS_MAIN
