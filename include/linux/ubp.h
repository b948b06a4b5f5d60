/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UBP - breakpoints in a process's text, and execution of displaced
 * instructions
 *
 * The implementation is in Rust, in kernel/ubp/. This header holds the
 * interface for C modules and for the call sites. See
 * Documentation/trace/ubp.rst.
 */
#ifndef _LINUX_UBP_H
#define _LINUX_UBP_H

#include <linux/jump_label_ratelimit.h>
#include <linux/mm_types.h>
#include <linux/ptrace.h>
#include <linux/sched.h>

struct mm_struct;
struct pt_regs;
struct task_struct;

#ifdef CONFIG_UBP

/**
 * enum ubp_plan - how an instruction that a breakpoint displaces is executed
 * @UBP_REFUSED: not at all: the instruction cannot have a breakpoint
 * @UBP_EMULATE: by the kernel, or in a slot that ends with a jump back,
 *	whichever is faster; if this is impossible at a hit, for example
 *	because memory is not accessible, by a single-step in a slot
 * @UBP_BOOST: in a slot that ends with a jump back to the program
 * @UBP_STEP: in a slot, by a single-step, which costs a second trap
 *
 * A slot (XOL slot) holds a copy of the instruction, and is mapped into the
 * process.
 */
enum ubp_plan {
	UBP_REFUSED,
	UBP_EMULATE,
	UBP_BOOST,
	UBP_STEP,
};

/**
 * struct ubp_bkpt - a breakpoint in the text of a process
 * @vaddr: address of the first byte of an instruction
 * @handler_in_interrupt: called first, with interrupts disabled; must neither
 *	sleep nor access memory that may fault. Returns whether @handler must
 *	be called for this hit. May be %NULL, which is equivalent to
 *	returning true.
 * @handler: called in the context of the thread that hit the breakpoint, with
 *	interrupts enabled, as in a system call; may sleep and access user
 *	memory. May be %NULL.
 * @plan: set by ubp_insert_bkpt(): how the instruction is executed
 * @core: private to UBP; %NULL while the breakpoint is not inserted
 *
 * When a handler is called, the instruction pointer is @vaddr. The handler may
 * change the registers. If it changes the instruction pointer, the thread
 * resumes there, and the displaced instruction is not executed.
 *
 * Every thread that executes the instruction in the address space calls the
 * handlers, and several threads may call them at a time. Two processes share an
 * address space after vfork() until the child's exec, and after
 * clone(CLONE_VM).
 */
struct ubp_bkpt {
	unsigned long vaddr;
	bool (*handler_in_interrupt)(struct ubp_bkpt *ubp, struct pt_regs *regs);
	void (*handler)(struct ubp_bkpt *ubp, struct pt_regs *regs);
	enum ubp_plan plan;
	void *core;
};

/**
 * struct ubp_insn - the analysis of an instruction
 * @plan: how the instruction would be executed
 * @len: its length in bytes; 0 if the length is unknown
 * @refusal: with %UBP_REFUSED, the reason in words; %NULL otherwise
 */
struct ubp_insn {
	enum ubp_plan plan;
	unsigned int len;
	const char *refusal;
};

/**
 * ubp_insert_bkpt() - insert a breakpoint
 * @tsk: any thread of the process; the caller holds a reference
 * @ubp: zeroed except for the address and the handlers; must stay valid, and
 *	must not move, until ubp_remove_bkpt() has returned
 *
 * UBP changes the text in a private copy of its page, so that only this process
 * sees the breakpoint. The handlers may be called before this function returns.
 * A copy of the process made by fork() has no breakpoints.
 *
 * The caller must check the permission to probe the process.
 *
 * Context: May sleep; takes the mmap lock of the process.
 * Return: 0; -%EINVAL the address is not in executable memory of this process
 * alone, or @ubp is %NULL; -%ESRCH the process exits, or has no user space;
 * -%EBUSY @ubp is inserted already; -%EEXIST there is another breakpoint, of
 * UBP or foreign; -%EPERM the instruction cannot have a breakpoint, see
 * ubp_analyze_insn(); -%EFAULT the text cannot be read, or ends within the
 * instruction; -%EDEADLK the caller is within a handler, and could not wait for
 * other handlers; -%EINTR the caller has been killed; -%ENOMEM.
 */
int ubp_insert_bkpt(struct task_struct *tsk, struct ubp_bkpt *ubp);

/**
 * ubp_remove_bkpt() - remove a breakpoint
 * @ubp: the argument of ubp_insert_bkpt(); if the insertion has failed, or was
 *	not attempted, this function does nothing
 *
 * Restores the text. When this function returns, no handler of @ubp is
 * executing or will be called, and the caller may free @ubp or insert it again.
 * If the process has exited, has a new image, or has unmapped the text, there
 * is nothing to restore.
 *
 * If there is no memory for the page of the text, which is possible only if the
 * page was swapped out or is shared with a child, the text keeps the breakpoint
 * until the process ends or the page goes. Threads that hit the breakpoint then
 * execute the instruction without calling a handler.
 *
 * Context: May sleep; takes the mmap lock of the process. Must not be called by
 * a handler of any breakpoint, see ubp_in_handler().
 */
void ubp_remove_bkpt(struct ubp_bkpt *ubp);

/**
 * ubp_validate_insn_addr() - check whether a breakpoint could be inserted
 * @tsk: any thread of the process; the caller holds a reference
 * @vaddr: the address
 *
 * The caller must ensure that an instruction begins at @vaddr.
 *
 * Context: May sleep; takes the mmap lock of the process.
 * Return: 0, also if UBP has a breakpoint at @vaddr; or an error as for
 * ubp_insert_bkpt().
 */
int ubp_validate_insn_addr(struct task_struct *tsk, unsigned long vaddr);

/**
 * ubp_analyze_insn() - analyse an instruction
 * @bytes: the instruction, without breakpoints
 * @avail: the number of bytes; more than %MAX_INSN_SIZE are not needed
 * @vaddr: the address of the bytes in the process, on which branches depend
 * @is_64bit: whether the bytes are 64-bit code; otherwise they are 32-bit code
 * @insn: the result, which is also set on an error
 *
 * Context: Any.
 * Return: 0 if the instruction can have a breakpoint; -%EPERM if not; -%EEXIST
 * if the bytes begin with a breakpoint; -%EFAULT if they end within the
 * instruction.
 */
int ubp_analyze_insn(const u8 *bytes, size_t avail, unsigned long vaddr,
		     bool is_64bit, struct ubp_insn *insn);

/**
 * ubp_in_handler() - check whether the current thread is within a handler
 *
 * Context: Any.
 * Return: Whether the caller has been called by a handler of a breakpoint, or
 * is one.
 */
static inline bool ubp_in_handler(void)
{
	return current->ubp.in_hit;
}

/* Enabled while any address space has, or had, a breakpoint. */
extern struct static_key_false_deferred ubp_active;

bool __ubp_int3(struct pt_regs *regs);
bool __ubp_debug(struct pt_regs *regs, bool step, bool others);
unsigned long __ubp_original_ip(unsigned long ip);
unsigned long __ubp_task_ip(struct task_struct *task, unsigned long ip);
void __ubp_fixup_ip(struct pt_regs *regs);
void __ubp_fault_interrupted(void);
void __ubp_abort_xol(struct pt_regs *regs);
void __ubp_unmap(struct mm_struct *mm, unsigned long start, unsigned long end);
int __ubp_move(struct mm_struct *mm, unsigned long start, unsigned long end);
bool __ubp_probed(struct mm_struct *mm, unsigned long start, unsigned long end);
void __ubp_hide(struct mm_struct *mm, unsigned long addr, void *buf, size_t len);
void __ubp_write(struct vm_area_struct *vma, struct page *page, unsigned long addr,
		 void *dst, const void *src, size_t len);
void __ubp_coredump(struct mm_struct *mm);
int __ubp_dup_mm(struct mm_struct *mm);

/*
 * Returns whether an exception of current has left a signal in its queue. Takes
 * siglock.
 */
bool synchronous_signal_pending(void);

/* Returns whether @mm has, or had, breakpoints. */
static __always_inline bool ubp_has_space(struct mm_struct *mm)
{
	return static_branch_unlikely(&ubp_active.key) &&
	       READ_ONCE(mm->uprobes_state.ubp);
}

/*
 * Handles an int3 from user mode. Returns true if it was a breakpoint of UBP,
 * and the thread can resume. Called and returns with interrupts disabled; may
 * enable them in between and sleep.
 */
static __always_inline bool ubp_int3(struct pt_regs *regs)
{
	return static_branch_unlikely(&ubp_active.key) && __ubp_int3(regs);
}

/*
 * Handles a debug trap from user mode. @step: the trap flag has caused the
 * trap; @others: the trap has other causes. Returns true if the trap flag was
 * set for a step of UBP only. Called and returns with interrupts disabled; may
 * enable them in between.
 */
static __always_inline bool ubp_debug(struct pt_regs *regs, bool step, bool others)
{
	return static_branch_unlikely(&ubp_active.key) && current->mm &&
	       ubp_has_space(current->mm) && __ubp_debug(regs, step, others);
}

/*
 * Returns the original ip of current in user mode: the instruction pointer in
 * @regs may be in a slot, where a displaced instruction is executed. Must be
 * used wherever the instruction pointer is compared, or shown to a reader that
 * does not change it. Any context, NMI included.
 */
static __always_inline unsigned long ubp_user_ip(const struct pt_regs *regs)
{
	unsigned long ip = instruction_pointer((struct pt_regs *)regs);

	if (static_branch_unlikely(&ubp_active.key) && current->mm &&
	    ubp_has_space(current->mm))
		ip = __ubp_original_ip(ip);
	return ip;
}

/*
 * Returns the original ip for the instruction pointer @ip of @task, which may
 * be another thread.
 */
static inline unsigned long ubp_task_ip(struct task_struct *task, unsigned long ip)
{
	return static_branch_unlikely(&ubp_active.key) ? __ubp_task_ip(task, ip) : ip;
}

/*
 * Returns the registers to show to BPF programs: @copy, with the original ip,
 * if the instruction pointer in @regs is in a slot; otherwise @regs. Any
 * context, NMI included.
 */
static __always_inline struct pt_regs *ubp_shown_regs(struct pt_regs *regs,
						      struct pt_regs *copy)
{
	unsigned long ip;

	if (!static_branch_unlikely(&ubp_active.key) || !user_mode(regs))
		return regs;
	ip = ubp_user_ip(regs);
	if (ip == instruction_pointer(regs))
		return regs;
	*copy = *regs;
	instruction_pointer_set(copy, ip);
	return copy;
}

/*
 * Called before a page fault of current in user mode waits for other threads,
 * until current has a signal. Signals that wait for the end of a step end the
 * wait as well.
 */
static inline void ubp_fault_waits(void)
{
	if (static_branch_unlikely(&ubp_active.key) && unlikely(current->ubp.signal_denied))
		set_thread_flag(TIF_SIGPENDING);
}

/*
 * Called after the page fault of ubp_fault_waits() has waited. If a signal has
 * ended the wait, the signal must not wait for the instruction: get_signal()
 * comes next.
 */
static inline void ubp_fault_waited(void)
{
	if (ubp_has_space(current->mm) && test_thread_flag(TIF_SIGPENDING))
		__ubp_fault_interrupted();
}

/*
 * Initialises the state of @task, which is a copy of @orig. The step and the
 * reference to the breakpoint belong to @orig. saved_trap_nr goes with
 * thread.trap_nr, which is copied as well.
 */
static inline void ubp_init_task(struct task_struct *task, const struct task_struct *orig)
{
	task->ubp = (struct ubp_task) {
		.saved_trap_nr = orig->ubp.saved_trap_nr,
	};
}

/*
 * Called on the way to user mode. If a displaced instruction has been executed,
 * sets the instruction pointer in @regs to the next instruction in the program.
 */
static __always_inline void ubp_fixup_ip(struct pt_regs *regs)
{
	if (static_branch_unlikely(&ubp_active.key) && current->mm &&
	    ubp_has_space(current->mm))
		__ubp_fixup_ip(regs);
}

/*
 * Called on the way to user mode after the instruction pointer in @regs has
 * been set to another place in the program.
 */
static __always_inline void ubp_abort_xol(struct pt_regs *regs)
{
	if (static_branch_unlikely(&ubp_active.key) &&
	    unlikely(current->ubp.breakpoint))
		__ubp_abort_xol(regs);
}

/*
 * Called when the pages of [start, end) lose their private contents. Must not
 * sleep.
 */
static inline void ubp_unmap(struct mm_struct *mm, unsigned long start,
			     unsigned long end)
{
	if (ubp_has_space(mm))
		__ubp_unmap(mm, start, end);
}

/*
 * Called before the pages of [start, end) move. mmap_lock is held for writing.
 * Returns 0, or an error if the pages must not move.
 */
static inline int ubp_move(struct mm_struct *mm, unsigned long start,
			   unsigned long end)
{
	return ubp_has_space(mm) ? __ubp_move(mm, start, end) : 0;
}

/*
 * Returns whether there are breakpoints in [start, end), which then must not be
 * moved. The caller holds mmap_lock, or the locks of the mappings there.
 */
static inline bool ubp_probed(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	return ubp_has_space(mm) && __ubp_probed(mm, start, end);
}

/*
 * Replaces the breakpoints in @buf, which was read at @addr, by the displaced
 * bytes.
 */
static inline void ubp_hide(struct mm_struct *mm, unsigned long addr, void *buf,
			    size_t len)
{
	if (ubp_has_space(mm))
		__ubp_hide(mm, addr, buf, len);
}

/*
 * Copies the bytes that a debugger writes to a page below the breakpoints
 * there. Returns whether it did; if not, the caller must copy them. mmap_lock
 * is held.
 */
static inline bool ubp_write(struct vm_area_struct *vma, struct page *page,
			     unsigned long addr, void *dst, const void *src,
			     size_t len)
{
	if (!ubp_has_space(vma->vm_mm))
		return false;
	__ubp_write(vma, page, addr, dst, src, len);
	return true;
}

/*
 * Called before the memory of current is dumped. current exits after the dump.
 */
static inline void ubp_coredump(struct mm_struct *mm)
{
	if (ubp_has_space(mm))
		__ubp_coredump(mm);
}

/*
 * Restores the text of a probed process that fork() has copied to @mm. No
 * thread uses @mm yet. Returns 0, or an error for fork() to return.
 */
static inline int ubp_dup_mm(struct mm_struct *mm)
{
	return ubp_has_space(mm) ? __ubp_dup_mm(mm) : 0;
}

#else /* !CONFIG_UBP */

static __always_inline bool ubp_has_space(struct mm_struct *mm)
{
	return false;
}

static __always_inline bool ubp_int3(struct pt_regs *regs)
{
	return false;
}

static __always_inline bool ubp_debug(struct pt_regs *regs, bool step, bool others)
{
	return false;
}

static __always_inline unsigned long ubp_user_ip(const struct pt_regs *regs)
{
	return instruction_pointer((struct pt_regs *)regs);
}

static inline unsigned long ubp_task_ip(struct task_struct *task, unsigned long ip)
{
	return ip;
}

static __always_inline struct pt_regs *ubp_shown_regs(struct pt_regs *regs,
						      struct pt_regs *copy)
{
	return regs;
}

static inline void ubp_fault_waits(void)
{
}

static inline void ubp_fault_waited(void)
{
}

static inline void ubp_init_task(struct task_struct *task, const struct task_struct *orig)
{
}

static __always_inline void ubp_fixup_ip(struct pt_regs *regs)
{
}

static __always_inline void ubp_abort_xol(struct pt_regs *regs)
{
}

static inline void ubp_unmap(struct mm_struct *mm, unsigned long start,
			     unsigned long end)
{
}

static inline int ubp_move(struct mm_struct *mm, unsigned long start,
			   unsigned long end)
{
	return 0;
}

static inline bool ubp_probed(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	return false;
}

static inline void ubp_hide(struct mm_struct *mm, unsigned long addr, void *buf,
			    size_t len)
{
}

static inline bool ubp_write(struct vm_area_struct *vma, struct page *page,
			     unsigned long addr, void *dst, const void *src,
			     size_t len)
{
	return false;
}

static inline void ubp_coredump(struct mm_struct *mm)
{
}

static inline int ubp_dup_mm(struct mm_struct *mm)
{
	return 0;
}

#endif /* !CONFIG_UBP */
#endif /* _LINUX_UBP_H */
