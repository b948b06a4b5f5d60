// SPDX-License-Identifier: GPL-2.0
/* Common functions of the UBP selftests. */
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ubp_selftest.h"

int ubp_open(void)
{
	int dev = open(UBP_TEST_DEVICE, O_RDWR | O_CLOEXEC);

	if (dev < 0 && errno == ENOENT && !system("modprobe -q ubp_test 2>/dev/null"))
		dev = open(UBP_TEST_DEVICE, O_RDWR | O_CLOEXEC);
	return dev < 0 ? -errno : dev;
}

static int ubp_ioctl(int dev, unsigned long cmd, unsigned long arg)
{
	int ret = ioctl(dev, cmd, arg);

	return ret < 0 ? -errno : ret;
}

int ubp_analyze(int dev, struct ubp_test_insn *insns, size_t count)
{
	struct ubp_test_analyze request = {
		.insns = (unsigned long)insns,
		.count = count,
	};

	return ubp_ioctl(dev, UBP_TEST_ANALYZE, (unsigned long)&request);
}

int ubp_insert(int dev, pid_t pid, const void *at, unsigned int flags, unsigned int *plan)
{
	struct ubp_test_insert request = {
		.pid = pid,
		.flags = flags,
		.vaddr = (unsigned long)at,
	};
	int id = ubp_ioctl(dev, UBP_TEST_INSERT, (unsigned long)&request);

	if (plan)
		*plan = request.plan;
	return id;
}

int ubp_validate(int dev, pid_t pid, const void *at)
{
	struct ubp_test_insert request = {
		.pid = pid,
		.vaddr = (unsigned long)at,
	};

	return ubp_ioctl(dev, UBP_TEST_VALIDATE, (unsigned long)&request);
}

int ubp_remove(int dev, int id)
{
	return ubp_ioctl(dev, UBP_TEST_REMOVE, id);
}

int ubp_count(int dev, int id, struct ubp_test_count *count)
{
	memset(count, 0, sizeof(*count));
	count->id = id;
	return ubp_ioctl(dev, UBP_TEST_COUNT, (unsigned long)count);
}

char *ubp_unserved_page(int *uffd)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *page = mmap(NULL, UBP_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);

	*uffd = syscall(SYS_userfaultfd, O_CLOEXEC);
	if (*uffd < 0 || page == MAP_FAILED || ioctl(*uffd, UFFDIO_API, &api))
		return NULL;
	reg.range.start = (uintptr_t)page;
	reg.range.len = UBP_PAGE;
	return ioctl(*uffd, UFFDIO_REGISTER, &reg) ? NULL : page;
}
