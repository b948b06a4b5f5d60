/* SPDX-License-Identifier: GPL-2.0 */
/* Messages in the kernel log during a test. */
#ifndef _KERNEL_LOG_H
#define _KERNEL_LOG_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Opens the log behind the existing messages. Returns a file descriptor, or -1. */
static inline int log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* Returns the number of lines since the last call, or the opening, that contain both texts. */
static inline unsigned int log_lines(int fd, const char *one, const char *two)
{
	char line[8192];
	unsigned int n = 0;
	ssize_t got;

	/* Each read returns one record. One error reports all overwritten records. */
	while ((got = read(fd, line, sizeof(line) - 1)) > 0 || (got < 0 && errno == EPIPE)) {
		if (got < 0)
			continue;
		line[got] = 0;
		if (strstr(line, one) && strstr(line, two))
			n++;
	}
	return n;
}

/*
 * Announces to scripts/splats.py, which searches the log for reports of bugs, that this test
 * provokes a report with @text in its first line. The text "nothing" revokes this.
 */
static inline void log_expect(const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[128];

	if (fd < 0)
		return;
	/* The line must be one write. /dev/kmsg has no position, which dprintf() would ask for. */
	snprintf(line, sizeof(line), "uprobes-test-expect %s\n", text);
	if (write(fd, line, strlen(line)) < 0)
		perror("/dev/kmsg");
	close(fd);
}

#endif /* _KERNEL_LOG_H */
