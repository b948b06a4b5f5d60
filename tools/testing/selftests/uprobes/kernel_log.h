/* SPDX-License-Identifier: GPL-2.0 */
/* What the kernel says to its log during a test. */
#ifndef _KERNEL_LOG_H
#define _KERNEL_LOG_H

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Begins behind what is there. A file descriptor, or -1. */
static inline int log_open(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* The number of lines since the last call, or the opening, with both texts in them. */
static inline unsigned int log_lines(int fd, const char *one, const char *two)
{
	char line[8192];
	unsigned int n = 0;
	ssize_t got;

	/* A record each; what has been overwritten is told by an error, once. */
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
 * Tells those who look through the log for reports of bugs (scripts/splats.py)
 * that one with this text in its first line is what this test wants; or
 * "nothing", any more.
 */
static inline void log_expect(const char *text)
{
	int fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	char line[128];

	if (fd < 0)
		return;
	/* In one write; and there is no position, which dprintf() would ask for. */
	snprintf(line, sizeof(line), "uprobes-test-expect %s\n", text);
	if (write(fd, line, strlen(line)) < 0)
		perror("/dev/kmsg");
	close(fd);
}

#endif /* _KERNEL_LOG_H */
