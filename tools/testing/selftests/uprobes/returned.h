/* SPDX-License-Identifier: GPL-2.0 */
/* Functions with probed returns. Each NAME has a NAME_end behind it. */
#ifndef _RETURNED_H
#define _RETURNED_H

#include "uprobes_selftest.h"

/* Returns @base + @add. */
unsigned long returned_sum(unsigned long base, unsigned long add);
extern const char returned_sum_ret[], returned_sum_end[];

/* Returns @base + @add, after a jump to the address in a register. */
unsigned long returned_opaque(unsigned long base, unsigned long add);
extern const char returned_opaque_end[];

/* Returns @base + @add if @base is even, else @base. */
unsigned long returned_two_ways(unsigned long base, unsigned long add);
extern const char returned_two_ways_end[];

/* Returns @base + @add, calling itself @base times at returned_deep_call. */
unsigned long returned_deep(unsigned long base, unsigned long add);
extern const char returned_deep_call[], returned_deep_site[], returned_deep_end[];

/* Ends with a jump to returned_sum(@base, @add + 1). */
unsigned long returned_tail(unsigned long base, unsigned long add);
extern const char returned_tail_end[];

/* Has no return instruction. */
unsigned long returned_never(unsigned long base, unsigned long add);
extern const char returned_never_end[];

/* The structure at @base of returned_late(), which returns @add. */
struct late {
	unsigned int inside;
	unsigned int go;
};

unsigned long returned_late(unsigned long base, unsigned long add);
extern const char returned_late_end[];

/*
 * Makes the system call with the number returned_opaque(@base, @add), at an instruction where no
 * return can be detected.
 */
unsigned long returned_before_syscall(unsigned long base, unsigned long add);

#endif /* _RETURNED_H */
