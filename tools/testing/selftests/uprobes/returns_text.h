/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that return in various ways. NAME_end is the end of NAME. */
#ifndef _RETURNS_TEXT_H
#define _RETURNS_TEXT_H

#include <string.h>
#include <sys/mman.h>

#include "uprobes_selftest.h"

#define RETURNS_PAGE	4096UL

/* Only a RET: returns the value in AX. */
unsigned long returns_at_once(unsigned long base, unsigned long add);
/* Calls itself @depth times, 128 bytes of stack each, and returns @depth. */
unsigned long returns_deep(unsigned long depth, unsigned long unused);
/* Return @base + @add. The second one adds 1, and continues with the first one. */
unsigned long returns_leaf(unsigned long base, unsigned long add);
unsigned long returns_by_tail(unsigned long base, unsigned long add);
/* Returns 1 if @base is 0, else 2, by two instructions. */
unsigned long returns_twice(unsigned long base, unsigned long add);
/* Returns to @address. */
void returns_elsewhere(unsigned long address);
/* Has no RET up to its end. */
unsigned long returns_never(unsigned long base, unsigned long add);
/* Jumps into an instruction, as decoded from the function's beginning. */
unsigned long returns_into_middle(unsigned long base, unsigned long add);
/* Returns its return address, as it finds it on the stack. */
unsigned long returns_own_address(unsigned long base, unsigned long add);
/* Pops its arguments off the stack, where call_and_pop() has put them. */
unsigned long returns_and_pops(unsigned long base, unsigned long add);

/* As the functions above, but with a jump to the address in a register. */
unsigned long opaque_leaf(unsigned long base, unsigned long add);
unsigned long opaque_deep(unsigned long depth, unsigned long unused);
unsigned long opaque_and_pops(unsigned long base, unsigned long add);
unsigned long call_and_pop_opaque(unsigned long base, unsigned long add);
extern const char call_and_pop_opaque_return[], opaque_leaf_end[];
/* Calls opaque_callee(@base, @add). */
unsigned long opaque_call(unsigned long base, unsigned long add);
extern probed_fn opaque_callee;
/* Calls @fn(@base, @add), if it is not NULL; returns @base if it is. */
unsigned long call_or_jump(probed_fn fn, unsigned long base, unsigned long add);

extern const char returns_at_once_end[], returns_deep_end[], returns_leaf_end[];
extern const char returns_by_tail_end[], returns_twice_end[];
extern const char returns_elsewhere_end[], returns_never_end[], returns_into_middle_end[];
extern const char returns_own_address_end[];
extern const char returns_and_pops_end[];

#define SIZE_OF(function)	((unsigned long)(function##_end) - (unsigned long)(function))
/* The RET of one byte that ends the function. */
#define RET_OF(function)	((unsigned long)(function##_end) - 1)

unsigned long call_and_pop(unsigned long base, unsigned long add);
extern const char call_and_pop_return[];
/* Returns 100 more than @fn. */
unsigned long call_and_add(probed_fn fn, unsigned long base, unsigned long add);
/* Calls @fn with a stack that begins at @top, and returns its result. */
unsigned long call_on_stack(probed_fn fn, unsigned long base, unsigned long add, void *top);
/* Has no stack at without_stack_here. */
unsigned long without_stack(unsigned long base, unsigned long add);
extern const char without_stack_here[];
/* Like call_probed(), and may be copied to any address. */
typedef unsigned long (*caller_fn)(probed_fn fn, unsigned long base, unsigned long add);
extern const char call_from_copy[], call_from_copy_end[];

/* Returns a copy of call_from_copy() in a mapping of its own, or NULL. */
static inline caller_fn copied_caller(int flags)
{
	void *copy = mmap(NULL, RETURNS_PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
			  MAP_ANONYMOUS | flags, -1, 0);

	if (copy == MAP_FAILED)
		return NULL;
	memcpy(copy, call_from_copy, SIZE_OF(call_from_copy));
	return copy;
}

#endif /* _RETURNS_TEXT_H */
