/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of the tests of perf and BPF on events. */
#ifndef _PERF_FIXTURE_H
#define _PERF_FIXTURE_H

#include <errno.h>
#include <linux/perf_event.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "tracefs_fixture.h"

#define EVENT	"events/selftest/hit"

/* Creates the event selftest/hit. */
static inline int create(pid_t pid, probed_fn fn, const char *args)
{
	return tracefs_append("uprobe_events", "p:selftest/hit %d:%p %s", pid, fn, args);
}

static inline int event_id(const char *event)
{
	char file[128], *number;
	int id;

	snprintf(file, sizeof(file), "events/selftest/%s/id", event);
	number = tracefs_read(file);
	id = atoi(number);
	free(number);
	return id;
}

/* Opens a perf event on the event @attr->config. Returns a negative errno on failure. */
static inline int perf_open(struct perf_event_attr *attr, pid_t pid, int cpu)
{
	int fd;

	attr->type = PERF_TYPE_TRACEPOINT;
	attr->size = sizeof(*attr);
	fd = syscall(SYS_perf_event_open, attr, pid, cpu, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Opens a perf event that counts the hits of selftest/hit in a thread. */
static inline int perf_count(pid_t pid)
{
	struct perf_event_attr attr = { .config = event_id("hit") };

	return perf_open(&attr, pid, -1);
}

/* Returns the count, or -1 if it cannot be read. */
static inline long long perf_read(int fd)
{
	long long count;

	return read(fd, &count, sizeof(count)) == sizeof(count) ? count : -1;
}

#endif /* _PERF_FIXTURE_H */
