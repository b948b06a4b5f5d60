// SPDX-License-Identifier: GPL-2.0
/* Comparison of outcomes: see compare.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "kselftest.h"
#include "vector.h"

#ifdef __x86_64__
static const char *const greg_names[NGREG] = {
	"r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx",
	"rdx", "rax", "rcx", "rsp", "rip", "flags", "cs,ss", "error code", "exception",
	"signal mask", "cr2",
};
#else
static const char *const greg_names[NGREG] = {
	"gs", "fs", "es", "ds", "edi", "esi", "ebp", "esp", "ebx", "edx", "ecx", "eax",
	"exception", "error code", "eip", "cs", "flags", "esp", "ss",
};
#endif

/* A buffer to which differences are appended. */
struct text {
	char *at;
	size_t left;
	bool any;
};

static void __printf(2, 3) say(struct text *text, const char *format, ...)
{
	va_list args;
	int n;

	text->any = true;
	va_start(args, format);
	n = vsnprintf(text->at, text->left, format, args);
	va_end(args);
	if (n > 0 && (size_t)n < text->left) {
		text->at += n;
		text->left -= n;
	}
}

static void differ(struct text *text, const char *what, uint64_t native, uint64_t probed)
{
	if (native != probed)
		say(text, " %s: %#llx, probed %#llx;", what, (unsigned long long)native,
		    (unsigned long long)probed);
}

/*
 * Returns the offset of the first word that differs; the other words do not
 * matter.
 */
static unsigned int first_difference(const uint8_t *native, const uint8_t *probed,
				     unsigned int size)
{
	unsigned int at = 0;

	while (at < size && native[at] == probed[at])
		at++;
	return at & ~7U;
}

static void differ_in(struct text *text, const char *what, const uint8_t *native,
		      const uint8_t *probed, unsigned int at)
{
	uint64_t words[2];

	memcpy(&words[0], native + at, sizeof(words[0]));
	memcpy(&words[1], probed + at, sizeof(words[1]));
	differ(text, what, words[0], words[1]);
}

static void compare_memory(struct text *text, const char *what, const uint8_t *native,
			   const uint8_t *probed, unsigned int size, uintptr_t address)
{
	unsigned int at = first_difference(native, probed, size);
	char where[64];

	if (at >= size)
		return;
	snprintf(where, sizeof(where), "%s at %#lx", what, (unsigned long)address + at);
	differ_in(text, where, native, probed, at);
}

static void compare_segments(struct text *text, const struct segments *native,
			     const struct segments *probed)
{
	differ(text, "ds", native->ds, probed->ds);
	differ(text, "es", native->es, probed->es);
	differ(text, "fs", native->fs, probed->fs);
	differ(text, "gs", native->gs, probed->gs);
	differ(text, "base of fs", native->fs_base, probed->fs_base);
	differ(text, "base of gs", native->gs_base, probed->gs_base);
}

bool outcomes_differ(const struct outcome *native, const struct outcome *probed,
		     char *buffer, size_t size)
{
	struct text text = { .at = buffer, .left = size };
	unsigned int i;

	differ(&text, "signal", native->signal, probed->signal);
	differ(&text, "si_code", native->code, probed->code);
	differ(&text, "si_addr", native->address, probed->address);
	for (i = 0; i < NGREG; i++)
		differ(&text, greg_names[i], (unsigned long)native->gregs[i],
		       (unsigned long)probed->gregs[i]);
	differ(&text, "cr2", native->cr2, probed->cr2);
	compare_segments(&text, &native->segments, &probed->segments);
	if (memcmp(native->frame, probed->frame, frame_size)) {
		i = first_difference(native->frame, probed->frame, frame_size);
		differ_in(&text, vector_name(i), native->frame, probed->frame, i);
	}
	if (memcmp(&native->memory, &probed->memory, sizeof(native->memory))) {
		compare_memory(&text, "data", native->memory.data, probed->memory.data,
			       DATA_SIZE, DATA);
		compare_memory(&text, "stack", native->memory.stack, probed->memory.stack,
			       STACK_SIZE, STACK);
	}
	return text.any;
}

bool outcome_is_abort(const struct outcome *outcome, const struct start *start)
{
	unsigned int i;

	/*
	 * The exception must be the stopper's: if the instruction faults, the
	 * sequence also ends at ABORT_IP.
	 */
	if ((uintptr_t)outcome->gregs[REG_IP] != ABORT_IP || outcome->signal != SIGSEGV ||
	    outcome->gregs[REG_TRAPNO] != 13 || outcome->gregs[REG_ERR])
		return false;
	for (i = 0; i < GPRS; i++)
		if ((unsigned long)outcome->gregs[greg_of[i]] != (unsigned long)start->gpr[i])
			return false;
	return true;
}

/* Fields of an outcome. The self-check flips a bit of each in a copy. */
static const struct {
	const char *name;
	size_t offset;
} falsified[] = {
	{ "signal", offsetof(struct outcome, signal) },
	{ "si_code", offsetof(struct outcome, code) },
	{ "si_addr", offsetof(struct outcome, address) },
	{ "instruction pointer", offsetof(struct outcome, gregs[REG_IP]) },
	{ "flags", offsetof(struct outcome, gregs[REG_EFL]) },
	{ "exception", offsetof(struct outcome, gregs[REG_TRAPNO]) },
	{ "segment", offsetof(struct outcome, segments.es) },
	{ "x87 control word", offsetof(struct outcome, frame[FSAVE_SIZE + XSAVE_FCW]) },
	{ "x87 register", offsetof(struct outcome, frame[FSAVE_SIZE + XSAVE_ST + 9]) },
	{ "mxcsr", offsetof(struct outcome, frame[FSAVE_SIZE + XSAVE_MXCSR]) },
	{ "xmm register", offsetof(struct outcome, frame[FSAVE_SIZE + XSAVE_XMM + 127]) },
	{ "first byte of the data", offsetof(struct outcome, memory.data[0]) },
	{ "last byte of the stack", offsetof(struct outcome, memory.stack[STACK_SIZE - 1]) },
};

static bool notices(const struct outcome *native, size_t offset, char *text, size_t size)
{
	struct outcome *copy = malloc(sizeof(*copy));
	bool noticed;

	if (!copy)
		return false;
	*copy = *native;
	((uint8_t *)copy)[offset] ^= 1;
	noticed = outcomes_differ(native, copy, text, size);
	free(copy);
	return noticed;
}

bool compare_selfcheck(const struct outcome *native, char *text, size_t size)
{
	unsigned int i;

	if (outcomes_differ(native, native, text, size))
		return false;
	for (i = 0; i < ARRAY_SIZE(falsified); i++) {
		if (!notices(native, falsified[i].offset, text, size)) {
			snprintf(text, size, "%s: not detected", falsified[i].name);
			return false;
		}
	}
	for (i = 0; i < GPRS; i++) {
		if (!notices(native, offsetof(struct outcome, gregs) +
			     greg_of[i] * sizeof(greg_t), text, size)) {
			snprintf(text, size, "register %u: not detected", i);
			return false;
		}
	}
	return true;
}
