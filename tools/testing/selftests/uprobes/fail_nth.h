/* SPDX-License-Identifier: GPL-2.0 */
/* Injection of allocation failures, one at a time, on kernels with fault injection. */
#ifndef _FAIL_NTH_H
#define _FAIL_NTH_H

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>

#define FAIL_DEBUGFS	"/sys/kernel/debug/"

static inline bool fail_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done = fd >= 0 && write(fd, value, strlen(value)) == (ssize_t)strlen(value);

	if (fd >= 0)
		close(fd);
	return done;
}

/*
 * Makes allocations that may sleep fail as well, and quietly. Returns false if the kernel cannot.
 */
static inline bool fail_set_up(void)
{
	static const char * const kinds[] = { "failslab", "fail_page_alloc" };
	char path[96];
	unsigned int i;

	if (access("/proc/thread-self/fail-nth", W_OK))
		return false;
	if (access(FAIL_DEBUGFS "failslab", F_OK))
		mount("debugfs", FAIL_DEBUGFS, "debugfs", 0, NULL);
	for (i = 0; i < 2; i++) {
		snprintf(path, sizeof(path), FAIL_DEBUGFS "%s/ignore-gfp-wait", kinds[i]);
		if (!fail_write(path, "N"))
			return false;
		snprintf(path, sizeof(path), FAIL_DEBUGFS "%s/verbose", kinds[i]);
		fail_write(path, "0");
	}
	return fail_write(FAIL_DEBUGFS "fail_page_alloc/min-order", "0");
}

/* Makes the @nth allocation of this thread fail, counted from here. */
static inline void fail(unsigned int nth)
{
	char number[16];

	snprintf(number, sizeof(number), "%u", nth);
	fail_write("/proc/thread-self/fail-nth", number);
}

/* Returns whether the thread has made that many allocations. */
static inline bool failed(void)
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

#endif /* _FAIL_NTH_H */
