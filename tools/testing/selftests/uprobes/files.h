/* SPDX-License-Identifier: GPL-2.0 */
/* Helpers of the tests of probes by file. */
#ifndef _FILES_H
#define _FILES_H

#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "tracefs_fixture.h"

#define CALLS	200

/* The file that is mapped at an address of this program, and the offset in it. */
struct place_in_file {
	char path[PATH_MAX];
	unsigned long offset;
};

static inline struct place_in_file file_at(const void *at)
{
	struct place_in_file place = {};
	unsigned long start, end, offset;
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[PATH_MAX + 128];

	while (maps && fgets(line, sizeof(line), maps)) {
		if (sscanf(line, "%lx-%lx %*s %lx %*s %*s %s", &start, &end, &offset,
			   place.path) < 4)
			continue;
		if (start <= (unsigned long)at && (unsigned long)at < end) {
			place.offset = (unsigned long)at - start + offset;
			break;
		}
	}
	if (maps)
		fclose(maps);
	return place;
}

/* Creates @event from "@kind:selftest/@event PATH:OFFSET@more". */
static inline int file_event(const char *kind, const char *event, const void *at, const char *more)
{
	struct place_in_file place = file_at(at);

	return tracefs_append("uprobe_events", "%s:selftest/%s %s:0x%lx%s", kind, event, place.path,
			      place.offset, more);
}

static inline int enable(const char *event, bool on)
{
	char file[128];

	snprintf(file, sizeof(file), "events/selftest/%s/enable", event);
	return tracefs_replace(file, on ? "1" : "0");
}

static inline int place_file(const char *kind, const char *event, const void *at, const char *more)
{
	int ret = file_event(kind, event, at, more);

	return ret ?: enable(event, true);
}

/* Hits of an event of a file, whose line in uprobe_profile begins with a path. */
static inline long long file_hits(const char *event)
{
	char *profile = tracefs_read("uprobe_profile"), *line, *rest = profile, name[128];
	long long hits = -1, number;

	while ((line = strsep(&rest, "\n")))
		if (sscanf(line, " %*s %127s %lld", name, &number) == 2 && !strcmp(name, event))
			hits = number;
	free(profile);
	return hits;
}

#endif /* _FILES_H */
