/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that use calls or return addresses other than for returns. */
#ifndef _RETURNS_CALLS_TEXT_H
#define _RETURNS_CALLS_TEXT_H

/* Read the instruction pointer by a call of the next instruction. */
unsigned long calls_next_pop(unsigned long base, unsigned long add);
unsigned long calls_next_add(unsigned long base, unsigned long add);
unsigned long calls_next_saved(unsigned long base, unsigned long add);
/* Thunks against Spectre. */
unsigned long calls_return_thunk(unsigned long base, unsigned long add);
unsigned long calls_by_thunk(unsigned long base, unsigned long add);
unsigned long calls_by_thunk_last(unsigned long base, unsigned long add);
unsigned long calls_by_inline_thunk(unsigned long base, unsigned long add);
extern const char calls_by_inline_thunk_end[];
/* Returns 1, 11, 21 or 31, by a table. */
unsigned long calls_by_table(unsigned long base, unsigned long add);
/* Returns @base + @add + 2, by a tail call. */
unsigned long calls_tail_by_register(unsigned long base, unsigned long add);
/* Returns 1, or @base + @add if @base is odd, by parts that are elsewhere. */
unsigned long calls_split(unsigned long base, unsigned long add);
/* Returns 0x909090c3. */
unsigned long calls_around_data(unsigned long base, unsigned long add);
/* Calls itself @base times. */
unsigned long calls_before_return(unsigned long base, unsigned long add);
extern const char calls_by_table_end[], calls_tail_by_register_end[], calls_split_end[];
extern const char calls_around_data_end[], calls_before_return_end[];
/* Returns by a thunk if @base is even. */
unsigned long calls_one_way(unsigned long base, unsigned long add);
/* The callee continues behind data that follows the call. */
unsigned long calls_data(unsigned long base, unsigned long add);
unsigned long calls_data_in_memory(unsigned long base, unsigned long add);
/* The callee returns for its caller. */
unsigned long calls_last(unsigned long base, unsigned long add);
/* Helpers save and restore registers. */
unsigned long calls_helpers(unsigned long base, unsigned long add);
/*
 * The callee pops its arguments. In the second function, the caller makes up
 * for that.
 */
unsigned long calls_popping(unsigned long base, unsigned long add);
unsigned long calls_popping_again(unsigned long base, unsigned long add);
/* Make tail calls to each other, @base times. */
unsigned long calls_circle(unsigned long base, unsigned long add);
unsigned long calls_circle_other(unsigned long base, unsigned long add);
unsigned long calls_direct_circle(unsigned long base, unsigned long add);
unsigned long calls_direct_circle_other(unsigned long base, unsigned long add);

#endif /* _RETURNS_CALLS_TEXT_H */
