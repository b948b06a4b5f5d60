// SPDX-License-Identifier: GPL-2.0
/* Each allocation of what changes text fails once: kernels with fault injection only. */
#include <sys/mount.h>

#include "text_fixture.h"

#define DEBUGFS	"/sys/kernel/debug/"

/* Allocations that may sleep fail as well, and quietly. */
static bool set_up(void)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	char path[96];
	unsigned int i;

	if (access("/proc/thread-self/fail-nth", W_OK))
		return false;
	if (access(DEBUGFS "failslab", F_OK))
		mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), DEBUGFS "%s/ignore-gfp-wait", kinds[i]);
		if (!set_file(path, "N"))
			return false;
		snprintf(path, sizeof(path), DEBUGFS "%s/verbose", kinds[i]);
		set_file(path, "0");
	}
	return set_file(DEBUGFS "fail_page_alloc/min-order", "0");
}

/* From here on the @nth allocation of this thread fails. */
static void fail(unsigned int nth)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", nth);
	set_file("/proc/thread-self/fail-nth", number);
}

/* Returns whether there were as many allocations. */
static bool failed(void)
{
	int fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	char left[16] = "";

	if (fd < 0 || pread(fd, left, sizeof(left) - 1, 0) <= 0)
		return false;
	if (pwrite(fd, "0", 1, 0) != 1)
		return false;
	close(fd);
	return !atoi(left);
}

#define EACH(nth, more)	for (nth = 1, more = true; more && nth < 200; nth++)

/* Nothing is left of a probe that could not be set. */
TEST_F_TIMEOUT(module, set, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX);
	unsigned int nth;
	bool more;
	int id;

	ASSERT_NE(MAP_FAILED, text);
	if (!set_up())
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
	if (!set_up())
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

	if (!set_up())
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

TEST_HARNESS_MAIN
