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
#include <sys/syscall.h>
#include <unistd.h>

#include "probes.h"

#define TRACEFS "/sys/kernel/tracing/"
#define EVENT TRACEFS "events/bench/it/"

/* Where a static program without PIE is linked to; the file begins there. */
extern const char __executable_start[];

static int module;
static bool ours;
static char program[200];

void probes_open(const char *file)
{
	ssize_t len = readlink("/proc/self/exe", program, sizeof(program) - 1);

	module = open(file, O_RDONLY | O_CLOEXEC);
	if (module < 0 || len < 0)
		err(1, "%s", file);
	ours = strstr(file, "uprobes_overhead");
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
	return !syscall(SYS_finit_module, module, line, 0);
}

void probes_remove(void)
{
	if (syscall(SYS_delete_module, ours ? "uprobes_overhead" : "bench_mainline", 0))
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
