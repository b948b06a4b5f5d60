// SPDX-License-Identifier: GPL-2.0
/*
 * In the guest, with `-icount shift=0` and one processor: the time-stamp
 * counter counts instructions. Prints how many a probe costs, in user mode and
 * in the kernel together: lines CASE FUNCTION INSTRUCTIONS.
 *
 *	overhead MODULE		the file of uprobes_overhead.ko
 *
 * A figure is that of a call with the probe minus that of one without. Of
 * several rounds the lowest counts: then no timer interrupt came in between.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <x86intrin.h>

#include "functions.h"

enum { CALLS = 500, ROUNDS = 40 };

#define TRACEFS "/sys/kernel/tracing/"

struct function {
	const char *name;
	void (*call)(void);
	unsigned int size;
};

static const struct function functions[] = {
	{ "nop", first_nop, 2 },
	{ "mov", first_mov, 4 },
	{ "lea", first_lea, 5 },
	{ "movaps", first_movaps, 4 },
};

static const struct {
	const char *name;
	const char *parameters;
} cases[] = {
	{ "empty-interrupt", "interrupt=1" },
	{ "empty-task", "task=1" },
	{ "entry-return", "task=1 returned=1" },
	{ "entry-return-sized", "task=1 returned=1 size=" },
};

static double instructions(void (*call)(void))
{
	uint64_t least = UINT64_MAX;
	unsigned int round, i;

	for (round = 0; round < ROUNDS; round++) {
		uint64_t start = __rdtsc();

		for (i = 0; i < CALLS; i++)
			call();
		start = __rdtsc() - start;
		if (start < least)
			least = start;
	}
	return (double)least / CALLS;
}

static void with_module(int module, const char *parameters, const struct function *function,
			double *found)
{
	char line[200], size[16] = "";

	if (parameters[strlen(parameters) - 1] == '=')
		snprintf(size, sizeof(size), "%u", function->size);
	snprintf(line, sizeof(line), "pid=%d vaddr=%#lx %s%s", getpid(),
		 (unsigned long)function->call, parameters, size);
	if (syscall(SYS_finit_module, module, line, 0))
		err(1, "module with %s", line);
	*found = instructions(function->call);
	if (syscall(SYS_delete_module, "uprobes_overhead", 0))
		err(1, "delete_module");
}

static void write_to(const char *file, const char *text)
{
	int fd = open(file, O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		err(1, "%s", file);
	close(fd);
}

static void with_event(const char *arguments, const struct function *function, double *found)
{
	char line[200];

	snprintf(line, sizeof(line), "p:overhead/it %d:%#lx %s\n", getpid(),
		 (unsigned long)function->call, arguments);
	write_to(TRACEFS "uprobe_events", line);
	write_to(TRACEFS "events/overhead/it/enable", "1");
	*found = instructions(function->call);
	write_to(TRACEFS "events/overhead/it/enable", "0");
	write_to(TRACEFS "uprobe_events", "-:overhead/it\n");
}

int main(int argc, char **argv)
{
	int module = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -1;
	unsigned int i, j;

	if (module < 0)
		err(1, "overhead MODULE");
	for (j = 0; j < sizeof(functions) / sizeof(*functions); j++) {
		const struct function *function = &functions[j];
		double without = instructions(function->call), with;

		for (i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
			with_module(module, cases[i].parameters, function, &with);
			printf("%s %s %.0f\n", cases[i].name, function->name, with - without);
		}
		with_event("", function, &with);
		printf("tracefs-noarg %s %.0f\n", function->name, with - without);
		with_event("di=%di", function, &with);
		printf("tracefs-reg %s %.0f\n", function->name, with - without);
	}
	return 0;
}
