// SPDX-License-Identifier: GPL-2.0
/* Text of a process with accesses tracked by a userfaultfd (UFFDIO_RWPROTECT). */
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "text_fixture.h"

#ifndef UFFDIO_RWPROTECT
#define UFFD_FEATURE_RWP		0x20000
#define UFFD_FEATURE_RWP_ASYNC		0x40000
#define UFFDIO_REGISTER_MODE_RWP	0x8
#define UFFDIO_RWPROTECT_MODE_RWP	0x1

struct uffdio_rwprotect {
	struct uffdio_range range;
	__u64 mode;
};

#define UFFDIO_RWPROTECT	_IOWR(UFFDIO, 0x09, struct uffdio_rwprotect)
#endif

/* Opens a userfaultfd. The kernel notes accesses to the page, and no thread has to serve them. */
static int tracker_of(unsigned char *text)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_RWP | UFFD_FEATURE_RWP_ASYNC,
	};
	struct uffdio_register range = {
		.range = { (unsigned long)text, PAGE },
		.mode = UFFDIO_REGISTER_MODE_RWP,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC);

	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &range))
		return -1;
	return uffd;
}

static bool was_accessed(const unsigned char *text)
{
	return !(pagemap_entry(getpid(), text) & PM_UFFD_WP);
}

/*
 * The page was shared with a child and is in a pipe, so it must be copied before the breakpoint can
 * be removed. A removal is not an access of the program, so it leaves the breakpoint to the next
 * hit, which is one.
 */
TEST_F_TIMEOUT(module, removal_is_no_access, TIMEOUT)
{
	unsigned char *text = anonymous_text(RX), before[PAGE];
	struct uffdio_rwprotect track = {
		.range = { (unsigned long)text, PAGE },
		.mode = UFFDIO_RWPROTECT_MODE_RWP,
	};
	struct iovec vec = { text, PAGE };
	int id, status, uffd, ends[2];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, text);
	uffd = tracker_of(text);
	if (uffd < 0)
		SKIP(return, "no userfaultfd that tracks accesses");
	memcpy(before, text, PAGE);
	id = PROBE(text);
	ASSERT_EQ(0, pipe(ends));
	ASSERT_EQ(PAGE, vmsplice(ends[1], &vec, 1, 0));
	pid = fork();
	if (!pid)
		_exit(0);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_RWPROTECT, &track));
	ASSERT_FALSE(was_accessed(text));

	UNPROBE(id);
	EXPECT_FALSE(was_accessed(text));
	EXPECT_EQ(3, call(text, 1, 2));
	EXPECT_TRUE(was_accessed(text));
	EXPECT_EQ(0, memcmp(before, text, PAGE));
	use(_metadata, self->dev, text);
	close(ends[0]);
	close(ends[1]);
	close(uffd);
}

TEST_HARNESS_MAIN
