/* SPDX-License-Identifier: GPL-2.0 */
/* Functions to probe that use the shadow stack (shadow_stack_text.S). */
#ifndef _SHADOW_STACK_H
#define _SHADOW_STACK_H

#include "kselftest.h"

/* Each returns @base + @add. The instruction NAME_at is executed once. */
unsigned long entry(unsigned long base, unsigned long add);
unsigned long call_near(unsigned long base, unsigned long add);
unsigned long call_register(unsigned long base, unsigned long add);
unsigned long call_memory(unsigned long base, unsigned long add);
unsigned long call_stack(unsigned long base, unsigned long add);
unsigned long call_next(unsigned long base, unsigned long add);
unsigned long call_next_register(unsigned long base, unsigned long add);
unsigned long ret_near(unsigned long base, unsigned long add);
unsigned long ret_repeated(unsigned long base, unsigned long add);
unsigned long ret_popping(unsigned long base, unsigned long add);
unsigned long jump_tail(unsigned long base, unsigned long add);
unsigned long read_ssp(unsigned long base, unsigned long add);
unsigned long increase_ssp(unsigned long base, unsigned long add);
/* Needs a signal handler that skips the instruction. */
unsigned long faulting(unsigned long base, unsigned long add);
#define FAULTING_SIZE		7	/* of the instruction faulting_at */
/* Does not return, because its return address differs from the one on the shadow stack. */
unsigned long return_elsewhere(unsigned long base, unsigned long add);
/* Returns 100 more than probed_nop(@base, @add). */
unsigned long call_and_add(unsigned long base, unsigned long add);
/* Returns @token + @add by a call on the shadow stack that @token is for. */
unsigned long switch_shadow_stack(unsigned long token, unsigned long add);

extern const char entry_at[], call_near_at[], call_register_at[], call_memory_at[];
extern const char call_stack_at[], call_next_at[], call_next_register_at[];
extern const char ret_near_at[], ret_repeated_at[], ret_popping_at[], jump_tail_at[];
extern const char read_ssp_at[], increase_ssp_at[], faulting_at[];
extern const char return_elsewhere_at[], switch_restore_at[], switch_save_at[];

/* Registers that jump_set() saves for jump(). */
struct jump {
	unsigned long registers[6];
	unsigned long sp, ip, ssp;
};

/* Like setjmp() and longjmp() of a C library that supports shadow stacks. */
int jump_set(struct jump *jump) __attribute__((returns_twice));
__noreturn void jump(const struct jump *jump);

#endif /* _SHADOW_STACK_H */
