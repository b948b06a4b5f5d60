/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UBP - breakpoints in a process's text, and the instructions they displace
 *
 * The logic is Rust, in kernel/ubp/. This header holds the call sites' side.
 */
#ifndef _LINUX_UBP_H
#define _LINUX_UBP_H

#include <linux/jump_label_ratelimit.h>
#include <linux/mm_types.h>
#include <linux/ptrace.h>
#include <linux/sched.h>

struct mm_struct;
struct pt_regs;

#ifdef CONFIG_UBP

/* On while any address space has, or had, a breakpoint. */
extern struct static_key_false_deferred ubp_active;

bool __ubp_int3(struct pt_regs *regs);
bool __ubp_debug(struct pt_regs *regs, bool step);
unsigned long __ubp_stream_ip(unsigned long ip);
void __ubp_settle(struct pt_regs *regs);
void __ubp_moved_away(struct pt_regs *regs);
void __ubp_unmap(struct mm_struct *mm, unsigned long start, unsigned long end);
void __ubp_move(struct mm_struct *mm, unsigned long start, unsigned long end);

/* Whether @mm has, or had, breakpoints. */
static __always_inline bool ubp_has_space(struct mm_struct *mm)
{
	return static_branch_unlikely(&ubp_active.key) &&
	       READ_ONCE(mm->uprobes_state.ubp);
}

/*
 * int3: true if it was a breakpoint of ours, and the thread is ready to go on.
 * Called and returns with interrupts disabled; if @regs are user mode's it may
 * enable them in between and sleep.
 */
static __always_inline bool ubp_int3(struct pt_regs *regs)
{
	return static_branch_unlikely(&ubp_active.key) && user_mode(regs) &&
	       ubp_has_space(current->mm) && __ubp_int3(regs);
}

/*
 * Debug trap from user mode; @step: by the trap flag. True if that was for a
 * step of ours only. Called and returns with interrupts disabled, may enable
 * them in between.
 */
static __always_inline bool ubp_debug(struct pt_regs *regs, bool step)
{
	return static_branch_unlikely(&ubp_active.key) && current->mm &&
	       ubp_has_space(current->mm) && __ubp_debug(regs, step);
}

/*
 * The instruction pointer of current in user mode, as its program knows it: the
 * one in @regs may be in a slot, where a displaced instruction is executed.
 * To be used wherever the instruction pointer is compared, or shown to anybody
 * who does not change it. Any context, NMI included.
 */
static __always_inline unsigned long ubp_user_ip(const struct pt_regs *regs)
{
	unsigned long ip = instruction_pointer((struct pt_regs *)regs);

	if (static_branch_unlikely(&ubp_active.key) && current->mm &&
	    ubp_has_space(current->mm))
		ip = __ubp_stream_ip(ip);
	return ip;
}

/*
 * On the way to user mode: if a displaced instruction has been executed, @regs
 * get the address of the next one in the program.
 */
static __always_inline void ubp_settle(struct pt_regs *regs)
{
	if (static_branch_unlikely(&ubp_active.key) && current->mm &&
	    ubp_has_space(current->mm))
		__ubp_settle(regs);
}

/*
 * On the way to user mode: the instruction pointer in @regs has been set to
 * another place of the program.
 */
static __always_inline void ubp_moved_away(struct pt_regs *regs)
{
	if (static_branch_unlikely(&ubp_active.key) &&
	    unlikely(current->ubp.breakpoint))
		__ubp_moved_away(regs);
}

/* The pages of [start, end) lose their private contents. Must not sleep. */
static inline void ubp_unmap(struct mm_struct *mm, unsigned long start,
			     unsigned long end)
{
	if (ubp_has_space(mm))
		__ubp_unmap(mm, start, end);
}

/* The pages of [start, end) are about to move; mmap_lock is held for writing. */
static inline void ubp_move(struct mm_struct *mm, unsigned long start,
			    unsigned long end)
{
	if (ubp_has_space(mm))
		__ubp_move(mm, start, end);
}

#else /* !CONFIG_UBP */

static __always_inline bool ubp_int3(struct pt_regs *regs)
{
	return false;
}

static __always_inline bool ubp_debug(struct pt_regs *regs, bool step)
{
	return false;
}

static __always_inline unsigned long ubp_user_ip(const struct pt_regs *regs)
{
	return instruction_pointer(regs);
}

static __always_inline void ubp_settle(struct pt_regs *regs)
{
}

static __always_inline void ubp_moved_away(struct pt_regs *regs)
{
}

static inline void ubp_unmap(struct mm_struct *mm, unsigned long start,
			     unsigned long end)
{
}

static inline void ubp_move(struct mm_struct *mm, unsigned long start,
			    unsigned long end)
{
}

#endif /* !CONFIG_UBP */
#endif /* _LINUX_UBP_H */
