/* SPDX-License-Identifier: GPL-2.0 */
/* Functions of texts.S, and labels in them. */
#ifndef _TEXTS_H
#define _TEXTS_H

#include <stddef.h>
#include <stdint.h>

/* Does nothing. */
void branch_first(void);
extern char branch_jump[], branch_call[];

/* Returns the value at @from, which it writes to, but does not change. */
long load_first(long *from);
extern char load_value[], load_swap[], load_ret[];

/* Pushes a return address below @stack, by a direct or an indirect call. */
void call_first(void *stack, int direct);
extern char call_indirect[], call_direct[], call_fault[];

/* Zeroes memory with one instruction. */
void fill(void *to, size_t length);
extern char fill_rep[], fill_next[];

/*
 * fill() as a restartable sequence; @rseq_cs is the thread's pointer to the
 * descriptor.
 */
int fill_section(void *to, size_t length, volatile uint64_t *rseq_cs);
extern char fill_section_rep[];

/* Writes to @watched, and has no other side effects. */
void walk(void);
extern char walk_executed[], walk_end[];
extern uint64_t watched[];
extern char *const walk_probed[14];

/* Returns a number that each instruction contributes to. */
long storm(long number);
extern char *const storm_staying[8], *const storm_passing[8];

#endif /* _TEXTS_H */
