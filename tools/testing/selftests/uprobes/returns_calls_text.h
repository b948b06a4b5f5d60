/* SPDX-License-Identifier: GPL-2.0 */
/* Functions that use a call, or their return address, other than to have it come back. */
#ifndef _RETURNS_CALLS_TEXT_H
#define _RETURNS_CALLS_TEXT_H

/* The instruction pointer is read by a call of the next instruction. */
unsigned long calls_next_pop(unsigned long base, unsigned long add);
unsigned long calls_next_add(unsigned long base, unsigned long add);
unsigned long calls_next_saved(unsigned long base, unsigned long add);
/* Thunks against Spectre. */
unsigned long calls_return_thunk(unsigned long base, unsigned long add);
unsigned long calls_by_thunk(unsigned long base, unsigned long add);
unsigned long calls_by_thunk_last(unsigned long base, unsigned long add);
unsigned long calls_by_inline_thunk(unsigned long base, unsigned long add);
extern const char calls_by_inline_thunk_end[];
/* Returns by a thunk if @base is even. */
unsigned long calls_one_way(unsigned long base, unsigned long add);
/* The callee goes on behind data that follows the call. */
unsigned long calls_data(unsigned long base, unsigned long add);
unsigned long calls_data_in_memory(unsigned long base, unsigned long add);
/* The callee returns for it. */
unsigned long calls_last(unsigned long base, unsigned long add);
/* Helpers save and restore registers. */
unsigned long calls_helpers(unsigned long base, unsigned long add);
/* The callee takes its arguments off the stack; in the second, the caller makes up for it. */
unsigned long calls_popping(unsigned long base, unsigned long add);
unsigned long calls_popping_again(unsigned long base, unsigned long add);
/* Go on to each other by tail calls, @base times. */
unsigned long calls_circle(unsigned long base, unsigned long add);
unsigned long calls_circle_other(unsigned long base, unsigned long add);

#endif /* _RETURNS_CALLS_TEXT_H */
