/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Snippets of code that run with chosen registers, flags and memory, natively
 * or probed, so that their whole effect can be compared.
 *
 * A snippet is copied to the beginning of a page. The page of its data and that
 * of its stack follow. When it ends, or faults, all registers are saved.
 */
#ifndef _SNIPPET_H
#define _SNIPPET_H

#include <stdbool.h>
#include <stdint.h>

/* Register numbers as in instructions. */
enum { AX, CX, DX, BX, SP, BP, SI, DI };

struct snippet {
	const char *name;
	const unsigned char *start;
	const unsigned char *end;
	/* The instruction to probe. */
	const unsigned char *probe;
	/* The number of times that it runs. */
	uint64_t hits;
	/* Whether single-stepping over it makes the same traps if probed. */
	uint64_t steps;
};

struct outcome {
	uint64_t gpr[16];
	uint64_t flags;
	uint64_t vector[4][2];
	/* The fault that ended the snippet, if any. */
	int signal;
	int code;
	uint64_t address;
	uint64_t ip;
	/* With TF set: the instruction pointers after each step. */
	unsigned int steps;
	uint64_t step_ip[64];
	uint64_t step_flags[64];
	unsigned char memory[2 * 4096];
};

/*
 * The page of the snippet. snippet_place() returns the address of the probed
 * instruction.
 */
extern unsigned char *snippet_page;

bool snippet_setup(void);
void *snippet_place(const struct snippet *snippet);
void snippet_run(uint64_t flags, struct outcome *outcome);
/* Excludes the traps of each step from the comparison. */
void snippet_forget_steps(struct outcome *native, struct outcome *probed);
/* Reports each difference, and returns their number. */
unsigned int snippet_compare(const char *name, const struct outcome *native,
			     const struct outcome *probed);

#define FLAGS_CLEAR	0x202UL
#define FLAGS_SET	(0x202UL | 0x8d5)	/* CF, PF, AF, ZF, SF, OF */
#define FLAG_TF		0x100UL

/* In snippet_run.S. */
void cpu_run(void);
extern const char cpu_done[];

/* The table, in snippets.S. */
extern const struct snippet __start_snippets[], __stop_snippets[];

#endif /* _SNIPPET_H */
