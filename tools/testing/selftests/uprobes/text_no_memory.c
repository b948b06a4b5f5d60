// SPDX-License-Identifier: GPL-2.0
/* Each allocation of what changes text fails once: kernels with fault injection only. */
#include "fail_nth.h"
#include "text_fixture.h"

#define EACH(nth, more)	for (nth = 1, more = true; more && nth < 1000; nth++)

/* Nothing is left of a probe that could not be set. */
TEST_F_TIMEOUT(module, set, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth;
	bool more;
	int id;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		fail(nth);
		id = dev_register(self->dev, getpid(), text, UPROBES_TEST_TASK);
		more = failed();
		EXPECT_TRUE(id > 0 || id == -ENOMEM);
		if (id > 0)
			UNPROBE(id);
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		use(_metadata, self->dev, text);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(3, nth);
}

/* A probe that is removed is removed, and there can be another one. */
TEST_F_TIMEOUT(module, removed, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth;
	bool more;
	int id, status;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		id = PROBE(text);
		/* The child has the page as well, so that the removal needs a copy. */
		pid = fork();
		if (!pid) {
			pause();
			_exit(0);
		}
		fail(nth);
		UNPROBE(id);
		more = failed();
		EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
		kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
		use(_metadata, self->dev, text);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(2, nth);
}

/* An int3 never moves along. */
TEST_F_TIMEOUT(module, moved, TIMEOUT)
{
	unsigned char *text, *place, *moved;
	unsigned int nth;
	bool more;
	int id;

	if (!fail_set_up())
		SKIP(return, "no fault injection");
	EACH(nth, more) {
		text = anonymous_text(RX);
		ASSERT_NE(MAP_FAILED, text);
		place = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		ASSERT_NE(MAP_FAILED, place);
		id = PROBE(text);
		fail(nth);
		moved = mremap(text, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, place);
		more = failed();
		if (moved == MAP_FAILED)
			moved = text;
		/* If it could not be moved, the probe may be there or not. */
		EXPECT_TRUE(moved == text || byte_at(moved) == add_code[0]);
		EXPECT_EQ(3, call(moved, 1, 2));
		UNPROBE(id);
		EXPECT_EQ(0, memcmp(moved, add_code, sizeof(add_code)));
		munmap(moved, PAGE);
	}
	TH_LOG("%u allocations", nth - 2);
	EXPECT_LT(3, nth);
}

/* A child that fork() reports has the program's text; if it cannot be had, fork() fails. */
TEST_F_TIMEOUT(module, forked, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth, refused = 0;
	int id, status;
	bool more;
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	if (!fail_set_up())
		SKIP(return, "no fault injection");
	id = PROBE(text);
	EACH(nth, more) {
		fail(nth);
		pid = fork();
		if (!pid)
			_exit(memcmp(text, add_code, sizeof(add_code)) || call(text, 1, 2) != 3);
		more = failed();
		if (pid < 0) {
			EXPECT_EQ(ENOMEM, errno);
			refused++;
			continue;
		}
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(0, status);
		EXPECT_EQ(3, call(text, 1, 2));
	}
	TH_LOG("%u allocations, %u of which are fork()'s error", nth - 2, refused);
	EXPECT_LT(3, nth);
	EXPECT_LT(0, refused);
	UNPROBE(id);
	EXPECT_EQ(0, memcmp(text, add_code, sizeof(add_code)));
}

TEST_HARNESS_MAIN
