// SPDX-License-Identifier: GPL-2.0
/* Shared code of the selftests of user-space probes: tracefs. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "uprobes_selftest.h"

#define TRACEFS	"/sys/kernel/tracing"

static void tracefs_path(char *path, size_t size, const char *file)
{
	snprintf(path, size, TRACEFS "/%s", file);
}

bool tracefs_exists(const char *file)
{
	char path[512];

	tracefs_path(path, sizeof(path), file);
	return !access(path, F_OK);
}

bool tracefs_ready(void)
{
	if (!tracefs_exists("uprobe_events"))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	return tracefs_exists("uprobe_events");
}

bool tracefs_takes_pids(void)
{
	char *readme = tracefs_read("README");
	bool takes = strstr(readme, "<pid>:<address>");

	free(readme);
	return takes;
}

int tracefs_open(const char *file, int flags)
{
	char path[512];
	int fd;

	tracefs_path(path, sizeof(path), file);
	fd = open(path, flags | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

static int tracefs_write(const char *file, int flags, const char *format, va_list args)
{
	char *text;
	ssize_t len;
	int fd, ret = 0;

	fd = tracefs_open(file, flags);
	if (fd < 0)
		return fd;
	len = vasprintf(&text, format, args);
	/* O_TRUNC has its effect even if nothing is written. */
	if (len > 0 && write(fd, text, len) != len)
		ret = -errno;
	free(text);
	close(fd);
	return ret;
}

int tracefs_append(const char *file, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = tracefs_write(file, O_WRONLY | O_APPEND, format, args);
	va_end(args);
	return ret;
}

int tracefs_replace(const char *file, const char *format, ...)
{
	va_list args;
	int ret;

	va_start(args, format);
	ret = tracefs_write(file, O_WRONLY | O_TRUNC, format, args);
	va_end(args);
	return ret;
}

int tracefs_mkdir(const char *dir)
{
	char path[512];

	tracefs_path(path, sizeof(path), dir);
	return mkdir(path, 0700) ? -errno : 0;
}

int tracefs_rmdir(const char *dir)
{
	char path[512];

	tracefs_path(path, sizeof(path), dir);
	return rmdir(path) ? -errno : 0;
}

char *tracefs_read(const char *file)
{
	size_t len = 0, size = 1 << 16;
	char *text = calloc(1, size);
	ssize_t got;
	int fd;

	fd = tracefs_open(file, O_RDONLY);
	if (fd < 0)
		return text;
	while (text && (got = read(fd, text + len, size - len - 1)) > 0) {
		len += got;
		text[len] = '\0';
		if (size - len < 4096) {
			size *= 2;
			text = realloc(text, size);
		}
	}
	close(fd);
	return text;
}

struct profile {
	long long hits;
	long long misses;
};

static struct profile profile_read(const char *event)
{
	char *text = tracefs_read("uprobe_profile"), *rest, *line;
	struct profile sum = { -1, -1 };

	for (rest = text; (line = strsep(&rest, "\n"));) {
		char name[128];
		long long hits, misses;

		if (sscanf(line, "%*s %127s %lld %lld", name, &hits, &misses) != 3 ||
		    strcmp(name, event))
			continue;
		/* Several probes may share a name. */
		if (sum.hits < 0)
			sum = (struct profile){ 0, 0 };
		sum.hits += hits;
		sum.misses += misses;
	}
	free(text);
	return sum;
}

long long profile_hits(const char *event)
{
	return profile_read(event).hits;
}

long long profile_misses(const char *event)
{
	return profile_read(event).misses;
}

unsigned int count_lines(const char *text, const char *containing)
{
	unsigned int n = 0;

	while ((text = strstr(text, containing))) {
		n++;
		text = strchr(text, '\n');
		if (!text)
			break;
	}
	return n;
}

int tracefs_refused(const char *marked, bool *caret, char **log)
{
	size_t place = strcspn(marked, "^");
	char *line, *expected;
	int ret;

	if (asprintf(&line, "%.*s%s", (int)place, marked,
		     marked[place] ? marked + place + 1 : "") < 0)
		return -ENOMEM;
	if (asprintf(&expected, "\n  Command: %s\n%*s^\n", line, (int)place + 11, "") < 0)
		return -ENOMEM;

	tracefs_replace("error_log", "\n");
	ret = tracefs_append("uprobe_events", "%s", line);
	*log = tracefs_read("error_log");
	*caret = count_lines(*log, ": error: ") == 1 && strstr(*log, expected);
	free(line);
	free(expected);
	return ret;
}
