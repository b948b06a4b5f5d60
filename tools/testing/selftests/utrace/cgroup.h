/* SPDX-License-Identifier: GPL-2.0 */
/* A cgroup that can be frozen. */
#ifndef _UTRACE_CGROUP_H
#define _UTRACE_CGROUP_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "selftest_process.h"

#define CGROUP_PATH	64

/* Creates a cgroup. Returns false if the kernel has no cgroup v2. */
static inline bool cgroup_make(char path[CGROUP_PATH])
{
	char root[] = "/tmp/utrace_cgroup.XXXXXX";

	if (!mkdtemp(root) || mount("none", root, "cgroup2", 0, NULL))
		return false;
	snprintf(path, CGROUP_PATH, "%s/utrace_test", root);
	return !mkdir(path, 0700) || errno == EEXIST;
}

static inline bool cgroup_write(const char *cgroup, const char *file, long value)
{
	char path[2 * CGROUP_PATH], text[32];
	int fd, length = snprintf(text, sizeof(text), "%ld", value);
	bool done;

	snprintf(path, sizeof(path), "%s/%s", cgroup, file);
	fd = open(path, O_WRONLY);
	done = fd >= 0 && write(fd, text, length) == length;
	close(fd);
	return done;
}

/* Waits until all processes in the cgroup are frozen, or thawed. */
static inline bool frozen(const char *cgroup, int expected)
{
	uint64_t end = now_ms() + 20000;
	char path[2 * CGROUP_PATH], line[64];
	int value = -1;

	snprintf(path, sizeof(path), "%s/cgroup.events", cgroup);
	do {
		FILE *file = fopen(path, "r");

		while (file && fgets(line, sizeof(line), file))
			sscanf(line, "frozen %d", &value);
		if (file)
			fclose(file);
		if (value == expected)
			return true;
		sleep_ms(2);
	} while (now_ms() < end);
	return false;
}

static inline void cgroup_remove(char *cgroup)
{
	rmdir(cgroup);
	*strrchr(cgroup, '/') = '\0';
	umount(cgroup);
	rmdir(cgroup);
}

#endif /* _UTRACE_CGROUP_H */
