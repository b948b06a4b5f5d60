/* SPDX-License-Identifier: GPL-2.0 */
/* The functions of texts.S, and places in them. */
#ifndef _TEXTS_H
#define _TEXTS_H

#include <stddef.h>
#include <stdint.h>

/* Does nothing. */
void branch_first(void);
extern char branch_jump[], branch_call[];

/* What is at @from; it is written to, but not changed. */
long load_first(long *from);
extern char load_value[], load_swap[], load_ret[];

/* Pushes a return address below @stack, by the direct call or by the other. */
void call_first(void *stack, int direct);
extern char call_indirect[], call_direct[], call_fault[];

/* Zeroes memory, by one instruction. */
void fill(void *to, size_t length);
extern char fill_rep[], fill_next[];

/* The same in a restartable sequence; @rseq_cs is where the thread says so. */
int fill_section(void *to, size_t length, volatile uint64_t *rseq_cs);
extern char fill_section_rep[];

/* Writes to @watched, and does nothing else of interest. */
void walk(void);
extern char walk_executed[], walk_end[];
extern uint64_t watched[];
extern char *const walk_probed[14];

/* A number that each instruction contributes to. */
long storm(long number);
extern char *const storm_staying[8], *const storm_passing[8];

#endif /* _TEXTS_H */
