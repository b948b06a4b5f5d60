/* SPDX-License-Identifier: GPL-2.0 */
/* Lines that uprobe_events must refuse without side effects. */
#ifndef _REFUSED_H
#define _REFUSED_H

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>

#include "kselftest_harness.h"
#include "uprobes_selftest.h"

/* Visible state of the probes and of the process. */
struct snapshot {
	char *list;
	char *dynamic;
	unsigned int events;
	char *maps;
	bool text;
};

static unsigned int events_below(const char *group)
{
	char path[256];
	unsigned int n = 0;
	DIR *dir;

	snprintf(path, sizeof(path), "/sys/kernel/tracing/events/%s", group);
	dir = opendir(path);
	while (dir && readdir(dir))
		n++;
	if (dir)
		closedir(dir);
	return n;
}

static char *maps_of(pid_t pid)
{
	char path[64], *maps = calloc(1, 1 << 16);
	size_t len = 0;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/maps", pid);
	fd = open(path, O_RDONLY);
	while (fd >= 0 && maps && (got = read(fd, maps + len, (1 << 16) - 1 - len)) > 0)
		len += got;
	if (fd >= 0)
		close(fd);
	return maps;
}

static void snapshot_take(struct snapshot *s, struct target *target)
{
	s->list = tracefs_read("uprobe_events");
	s->dynamic = tracefs_read("dynamic_events");
	s->events = events_below("") + events_below("uprobes") + events_below("selftest");
	s->maps = maps_of(target->pid);
	s->text = text_is_of_file(target->pid, probed_nop, 4096) &&
		  page_is_of_file(target->pid, probed_nop);
}

static bool snapshot_same(struct snapshot *a, struct snapshot *b)
{
	return !strcmp(a->list, b->list) && !strcmp(a->dynamic, b->dynamic) &&
	       a->events == b->events && !strcmp(a->maps, b->maps) && a->text == b->text;
}

static void snapshot_free(struct snapshot *s)
{
	free(s->list);
	free(s->dynamic);
	free(s->maps);
}

/* Expects that the line is refused with @error at its '^', without side effects. */
static void expect_refused(struct __test_metadata *_metadata, struct target *target,
			   int error, const char *format, ...)
{
	struct snapshot before, after;
	char *line, *log;
	va_list args;
	bool caret;
	int ret;

	va_start(args, format);
	ASSERT_LT(0, vasprintf(&line, format, args));
	va_end(args);

	snapshot_take(&before, target);
	ret = tracefs_refused(line, &caret, &log);
	EXPECT_EQ(-error, ret) TH_LOG("%.200s", line);
	EXPECT_TRUE(caret) TH_LOG("%.200s\n%.600s", line, log);
	snapshot_take(&after, target);
	EXPECT_TRUE(snapshot_same(&before, &after)) TH_LOG("%.200s left something", line);

	snapshot_free(&before);
	snapshot_free(&after);
	free(log);
	free(line);
}

#define REFUSED(error, ...) expect_refused(_metadata, &self->target, error, __VA_ARGS__)

#endif /* _REFUSED_H */
