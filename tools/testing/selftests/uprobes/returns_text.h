/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that return in all sorts of ways. What NAME_end says is where they end. */
#ifndef _RETURNS_TEXT_H
#define _RETURNS_TEXT_H

#include <string.h>
#include <sys/mman.h>

#include "uprobes_selftest.h"

#define RETURNS_PAGE	4096UL

/* Nothing but a RET: returns what is in AX. */
unsigned long returns_at_once(unsigned long base, unsigned long add);
/* Calls itself @depth times, 128 bytes of stack each, and returns @depth. */
unsigned long returns_deep(unsigned long depth, unsigned long unused);
/* Return @base + @add; the second one adds 1, and goes on to the first one. */
unsigned long returns_leaf(unsigned long base, unsigned long add);
unsigned long returns_by_tail(unsigned long base, unsigned long add);
/* Returns 1 if @base is 0, else 2, by two instructions. */
unsigned long returns_twice(unsigned long base, unsigned long add);
/* Returns @base + @add, and one more if its RET is not executed. */
unsigned long returns_or_not(unsigned long base, unsigned long add);
/* Has no RET up to its end. */
unsigned long returns_never(unsigned long base, unsigned long add);
/* Jumps to where, read from its beginning on, no instruction begins. */
unsigned long returns_into_middle(unsigned long base, unsigned long add);
/* Returns its return address, as it finds it on the stack. */
unsigned long returns_own_address(unsigned long base, unsigned long add);
/* Takes its arguments off the stack, where call_and_pop() has put them. */
unsigned long returns_and_pops(unsigned long base, unsigned long add);

/* The same as the above, after a jump to where a register says. */
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
extern const char returns_by_tail_end[], returns_twice_end[], returns_or_not_end[];
extern const char returns_never_end[], returns_into_middle_end[], returns_own_address_end[];
extern const char returns_and_pops_end[];

#define SIZE_OF(function)	((unsigned long)(function##_end) - (unsigned long)(function))
/* Where the RET of one byte is that ends it. */
#define RET_OF(function)	((unsigned long)(function##_end) - 1)

unsigned long call_and_pop(unsigned long base, unsigned long add);
extern const char call_and_pop_return[];
/* Returns what @fn does, and 100 more. */
unsigned long call_and_add(probed_fn fn, unsigned long base, unsigned long add);
/* Returns what @fn does with a stack that begins at @top. */
unsigned long call_on_stack(probed_fn fn, unsigned long base, unsigned long add, void *top);
/* Has no stack at without_stack_here. */
unsigned long without_stack(unsigned long base, unsigned long add);
extern const char without_stack_here[];
/* Does as call_probed() does, and may be copied to anywhere. */
typedef unsigned long (*caller_fn)(probed_fn fn, unsigned long base, unsigned long add);
extern const char call_from_copy[], call_from_copy_end[];

/* A copy of call_from_copy(), in a mapping of its own; NULL if there is none. */
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
