// SPDX-License-Identifier: GPL-2.0
/* Helpers of the tests of text. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "text.h"
#include "uprobes_selftest.h"

const unsigned char add_code[5] = { 0x48, 0x8d, 0x04, 0x37, 0xc3 };
const unsigned char sub_code[7] = { 0x48, 0x89, 0xf8, 0x48, 0x29, 0xf0, 0xc3 };

unsigned long call(const void *text, unsigned long base, unsigned long add)
{
	return ((probed_fn)text)(base, add);
}

unsigned char *anonymous_text(int prot)
{
	unsigned char *text = mmap(NULL, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (text == MAP_FAILED)
		return text;
	memcpy(text, add_code, sizeof(add_code));
	return mprotect(text, PAGE, prot) ? MAP_FAILED : text;
}

int text_file(const char *path)
{
	unsigned char page[PAGE] = { 0 };
	int fd = path ? open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0700) :
			memfd_create("text", MFD_CLOEXEC);

	memcpy(page, add_code, sizeof(add_code));
	if (fd >= 0 && pwrite(fd, page, PAGE, 0) != PAGE) {
		close(fd);
		return -1;
	}
	return fd;
}

long smaps_kb(pid_t pid, const void *at, const char *field)
{
	unsigned long start, end, addr = (unsigned long)at;
	size_t len = strlen(field);
	char line[4096], path[32];
	bool here = false;
	long kb = -1;
	FILE *smaps;

	snprintf(path, sizeof(path), "/proc/%d/smaps", pid);
	smaps = fopen(path, "r");
	if (!smaps)
		return -1;
	while (kb < 0 && fgets(line, sizeof(line), smaps)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			here = start <= addr && addr < end;
		else if (here && !strncmp(line, field, len) && line[len] == ':')
			kb = atol(line + len + 1);
	}
	fclose(smaps);
	return kb;
}

long status_kb(pid_t pid, const char *field)
{
	size_t len = strlen(field);
	char line[256], path[32];
	long kb = -1;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	status = fopen(path, "r");
	if (!status)
		return -1;
	while (kb < 0 && fgets(line, sizeof(line), status))
		if (!strncmp(line, field, len) && line[len] == ':')
			kb = atol(line + len + 1);
	fclose(status);
	return kb;
}

uint64_t pagemap_entry(pid_t pid, const void *at)
{
	uint64_t entry = 0;
	char path[32];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), (unsigned long)at / PAGE * 8) != 8)
		entry = 0;
	close(fd);
	return entry;
}

bool set_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool done;

	if (fd < 0)
		return false;
	done = write(fd, value, strlen(value)) == (ssize_t)strlen(value);
	close(fd);
	return done;
}

#define KSM	"/sys/kernel/mm/ksm/"

bool merges(pid_t pid, const void *at, pid_t other, const void *other_at)
{
	uint64_t end = now_ms() + 20000, one, two;
	bool merged = false;

	set_file(KSM "sleep_millisecs", "1");
	set_file(KSM "pages_to_scan", "1000");
	set_file(KSM "run", "1");
	while (!merged && now_ms() < end) {
		sleep_ms(10);
		one = pagemap_entry(pid, at);
		two = pagemap_entry(other, other_at);
		merged = (one & two & PM_PRESENT) && PM_PFN(one) == PM_PFN(two);
	}
	set_file(KSM "run", "0");
	return merged;
}
