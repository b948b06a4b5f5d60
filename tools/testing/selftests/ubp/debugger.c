// SPDX-License-Identifier: GPL-2.0
/*
 * Tests that kernel breakpoints are invisible to a debugger: single-steps,
 * block steps, watchpoints and instruction breakpoints must stop at the same
 * addresses, and report the same, with and without them.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "texts.h"
#include "ubp_selftest.h"
#include "kselftest_harness.h"

#define STEPS	60
/* The bits of DR6 that are set when it reports nothing. */
#define DR6_RESERVED	0xffff0ff0

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct stop {
	uintptr_t ip, flags, sp, cx, dr6;
	int signal, code;
	uintptr_t addr;
};

enum how {
	SINGLE,		/* by instructions */
	BLOCK,		/* by branches, or instructions if the CPU cannot */
	WATCH,		/* for writes to a variable */
	EXECUTE,	/* for the execution of an instruction */
};

FIXTURE(debugger)
{
	int dev;
};

FIXTURE_SETUP(debugger)
{
	self->dev = ubp_open();
	if (self->dev < 0)
		SKIP(return, "no %s", UBP_TEST_DEVICE);
}

FIXTURE_TEARDOWN(debugger)
{
	close(self->dev);
}

static int set_debug_register(pid_t child, int number, uintptr_t value)
{
	return ptrace(PTRACE_POKEUSER, child,
		      offsetof(struct user, u_debugreg) + number * sizeof(long), value);
}

static int prepare(pid_t child, enum how how)
{
	switch (how) {
	case WATCH:
		/* Eight bytes, for writes. */
		return set_debug_register(child, 0, (uintptr_t)watched) |
		       set_debug_register(child, 7, 0x1 | (0x9 << 16));
	case EXECUTE:
		return set_debug_register(child, 0, (uintptr_t)walk_executed) |
		       set_debug_register(child, 7, 0x1);
	default:
		return 0;
	}
}

static int look(pid_t child, int status, struct stop *stop)
{
	struct user_regs_struct regs;
	siginfo_t info = {};

	if (ptrace(PTRACE_GETREGS, child, NULL, &regs) ||
	    ptrace(PTRACE_GETSIGINFO, child, NULL, &info))
		return -1;
	*stop = (struct stop) {
		.ip = regs.rip, .flags = regs.eflags, .sp = regs.rsp, .cx = regs.rcx,
		.dr6 = ptrace(PTRACE_PEEKUSER, child,
			      offsetof(struct user, u_debugreg) + 6 * sizeof(long), NULL),
		.signal = WSTOPSIG(status), .code = info.si_code,
		.addr = (uintptr_t)info.si_addr,
	};
	return 0;
}

/* Returns the number of stops on the way through walk(), or -1. */
static int follow(int dev, enum how how, bool with_probes, struct stop *stops, int max)
{
	static const int requests[] = {
		[SINGLE] = PTRACE_SINGLESTEP, [BLOCK] = PTRACE_SINGLEBLOCK,
		[WATCH] = PTRACE_CONT, [EXECUTE] = PTRACE_CONT,
	};
	int status, count = 0, request = requests[how];
	pid_t child = fork();
	size_t i;

	if (!child) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		walk();
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return -1;
	for (i = 0; with_probes && i < COUNT(walk_probed); i++) {
		if (ubp_insert(dev, child, walk_probed[i], UBP_TEST_TASK, NULL) <= 0)
			goto fail;
	}
	if (prepare(child, how))
		goto fail;
	for (;;) {
		/* Clear the report of the previous stop. */
		if (how == SINGLE && set_debug_register(child, 6, DR6_RESERVED))
			goto fail;
		if (ptrace(request, child, NULL, NULL) || waitpid(child, &status, 0) != child)
			goto fail;
		if (!WIFSTOPPED(status))
			return status ? -1 : count;
		if (count == max || look(child, status, &stops[count]))
			goto fail;
		/* Skip stops in the C library. */
		if (stops[count].ip >= (uintptr_t)walk &&
		    stops[count].ip < (uintptr_t)walk_end)
			count++;
	}
fail:
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	return -1;
}

/* Lists the offsets of the stops in walk(), for messages. */
static const char *places(const struct stop *stops, int count)
{
	static char text[STEPS * 8];
	int i, length = 0;

	for (i = 0; i < count; i++)
		length += snprintf(text + length, sizeof(text) - length, " %#lx",
				   stops[i].ip - (uintptr_t)walk);
	return text;
}

static void compare(struct __test_metadata *_metadata, int dev, enum how how, int at_least)
{
	static struct stop native[STEPS + 1], with[STEPS + 1];
	int count, count_with, i;

	count = follow(dev, how, false, native, STEPS);
	ASSERT_GE(count, at_least);
	TH_LOG("native:%s", places(native, count));
	count_with = follow(dev, how, true, with, STEPS);
	TH_LOG("with breakpoints:%s", places(with, count_with));
	ASSERT_EQ(count, count_with);
	for (i = 0; i < count; i++) {
		EXPECT_EQ(native[i].ip, with[i].ip);
		EXPECT_EQ(native[i].flags, with[i].flags);
		EXPECT_EQ(native[i].sp, with[i].sp);
		EXPECT_EQ(native[i].cx, with[i].cx);
		EXPECT_EQ(native[i].dr6, with[i].dr6);
		EXPECT_EQ(native[i].signal, with[i].signal);
		EXPECT_EQ(native[i].code, with[i].code);
		EXPECT_EQ(native[i].addr, with[i].addr);
	}
}

TEST_F(debugger, steps_by_instructions)
{
	compare(_metadata, self->dev, SINGLE, 15);
}

TEST_F(debugger, steps_by_blocks)
{
	static struct stop stops[STEPS + 1];

	/*
	 * QEMU traps after each instruction, but UBP only implements the CPU's
	 * rule.
	 */
	if (follow(self->dev, BLOCK, false, stops, STEPS) ==
	    follow(self->dev, SINGLE, false, stops, STEPS))
		SKIP(return, "the CPU does not step by blocks");
	compare(_metadata, self->dev, BLOCK, 2);
}

TEST_F(debugger, watches_a_variable)
{
	/* One stop for xadd, and one for rep stosb. */
	compare(_metadata, self->dev, WATCH, 2);
}

TEST_F(debugger, stops_at_an_instruction)
{
	compare(_metadata, self->dev, EXECUTE, 1);
}

TEST_HARNESS_MAIN
