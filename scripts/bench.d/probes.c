// SPDX-License-Identifier: GPL-2.0
/* See probes.h. */
#define _GNU_SOURCE
#include <elf.h>
#include <err.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probes.h"

#define TRACEFS "/sys/kernel/tracing/"
#define EVENT TRACEFS "events/bench/it/"

/* Where a static program without PIE is linked to; the file begins there. */
extern const char __executable_start[];

static int module;
/* Of a module that has been renamed, which file @module has no more. */
static void *image;
static size_t image_size;
static char module_name[60];
static bool ours;
static char program[200];

void probes_open(const char *file)
{
	ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);

	module = open(file, O_RDONLY | O_CLOEXEC);
	if (module < 0 || len < 0)
		err(1, "%s", file);
	ours = strstr(file, "uprobes_overhead");
	strcpy(module_name, ours ? "uprobes_overhead" : "bench_mainline");
}

void probes_open_copy(unsigned int digit)
{
	size_t size = strlen(module_name) + 1;
	struct stat stat;
	char *name;

	if (fstat(module, &stat))
		err(1, "fstat");
	image_size = stat.st_size;
	image = malloc(image_size);
	if (!image || pread(module, image, image_size, 0) != (ssize_t)image_size)
		err(1, "module");
	while ((name = memmem(image, image_size, module_name, size)))
		name[size - 2] = '0' + digit;
	module_name[size - 2] = '0' + digit;
}

bool probes_ours(void)
{
	return ours;
}

static unsigned long offset_of(const void *at)
{
	return (const char *)at - __executable_start;
}

bool probes_set(const void *at, unsigned int count, unsigned long stride, const char *what)
{
	char line[400];

	if (ours)
		snprintf(line, sizeof(line), "pid=%d vaddr=%#lx count=%u stride=%lu %s", getpid(),
			 (unsigned long)at, count, stride, what);
	else
		snprintf(line, sizeof(line), "file=%s offset=%lu count=%u stride=%lu %s", program,
			 offset_of(at), count, stride, what);
	if (image)
		return !syscall(SYS_init_module, image, image_size, line);
	return !syscall(SYS_finit_module, module, line, 0);
}

void probes_remove(void)
{
	if (syscall(SYS_delete_module, module_name, 0))
		err(1, "delete_module");
}

static bool write_to(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_APPEND);
	bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return done;
}

bool event_set(const void *at, const char *arguments)
{
	char line[400];

	if (ours)
		snprintf(line, sizeof(line), "p:bench/it %d:%#lx %s\n", getpid(),
			 (unsigned long)at, arguments);
	else
		snprintf(line, sizeof(line), "p:bench/it %s:%#lx %s\n", program, offset_of(at),
			 arguments);
	return write_to(TRACEFS "uprobe_events", line);
}

bool event_enable(bool on)
{
	return write_to(EVENT "enable", on ? "1" : "0");
}

void event_remove(void)
{
	if (!write_to(TRACEFS "uprobe_events", "-:bench/it\n"))
		err(1, TRACEFS "uprobe_events");
}

int event_perf(void)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	FILE *file = fopen(EVENT "id", "r");
	long id = 0;

	if (!file || fscanf(file, "%ld", &id) != 1)
		err(1, EVENT "id");
	fclose(file);
	attr.config = id;
	return syscall(SYS_perf_event_open, &attr, 0, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

int event_bpf(void)
{
	const struct bpf_insn nothing[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr;
	int event = event_perf(), prog;

	memset(&attr, 0, sizeof(attr));
	attr.prog_type = BPF_PROG_TYPE_KPROBE;
	attr.insns = (unsigned long)nothing;
	attr.insn_cnt = 2;
	attr.license = (unsigned long)"GPL";
	prog = syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
	if (prog < 0)
		err(1, "BPF_PROG_LOAD");
	if (event >= 0 && ioctl(event, PERF_EVENT_IOC_SET_BPF, prog)) {
		close(event);
		event = -1;
	}
	close(prog);
	return event;
}
