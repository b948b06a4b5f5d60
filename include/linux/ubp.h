/* SPDX-License-Identifier: GPL-2.0 */
/*
 * UBP - breakpoints in a process's text, and the instructions they displace
 *
 * The logic is Rust, in kernel/ubp/. This header holds what modules written in
 * C use, and the call sites' side. See Documentation/trace/ubp.rst.
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
 * @UBP_REFUSED: not at all: it cannot have a breakpoint
 * @UBP_EMULATE: by the kernel, or in a slot, from where the thread goes on by
 *	itself, whichever is faster; if that is not possible at a hit, as when
 *	memory is not accessible, by a single-step in a slot
 * @UBP_BOOST: in a slot, from where the thread goes on by itself
 * @UBP_STEP: in a slot, by a single-step, which costs a second trap
 *
 * A slot is a place, mapped into the process, for a copy of the instruction.
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
 *	sleep nor access memory that may fault. Returns whether @handler is to
 *	be called for this hit. May be %NULL, as if it returned true.
 * @handler: called in the context of the thread that hit the breakpoint, with
 *	interrupts enabled, as a system call is; may sleep and access user memory.
 *	May be %NULL.
 * @plan: set by ubp_insert_bkpt(): how the instruction is executed
 * @core: UBP's own; %NULL while the breakpoint is not inserted
 *
 * A handler finds the instruction pointer at @vaddr, and may change the
 * registers. If it moves the instruction pointer the thread goes on there, and
 * the displaced instruction is not executed.
 *
 * Handlers are called for every thread that executes the instruction in the
 * address space, several at a time. Two processes share one after vfork(), until
 * the child's exec, and after clone(CLONE_VM).
 */
struct ubp_bkpt {
	unsigned long vaddr;
	bool (*handler_in_interrupt)(struct ubp_bkpt *ubp, struct pt_regs *regs);
	void (*handler)(struct ubp_bkpt *ubp, struct pt_regs *regs);
	enum ubp_plan plan;
	void *core;
};

/**
 * struct ubp_insn - what UBP makes of an instruction
 * @plan: how it would be executed
 * @len: its length in bytes; 0 if that is not known
 * @refusal: with %UBP_REFUSED the reason, for people; %NULL otherwise
 */
struct ubp_insn {
	enum ubp_plan plan;
	unsigned int len;
	const char *refusal;
};

/**
 * ubp_insert_bkpt() - insert a breakpoint
 * @tsk: any thread of the process; the caller holds a reference
 * @ubp: zeroed, but for the address and the handlers; stays valid, and in its
 *	place, until ubp_remove_bkpt() has returned
 *
 * The text is changed in a private copy of its page, so that only this process
 * sees it. The handlers may be called before this returns. A copy of the process
 * made by fork() has no breakpoints.
 *
 * Whether the caller may do that to the process is for the caller to know.
 *
 * Context: May sleep; takes the mmap lock of the process.
 * Return: 0; -%EINVAL the address is not in executable memory of this process
 * alone, or @ubp is %NULL; -%ESRCH the process exits, or has no user space;
 * -%EBUSY @ubp is inserted already; -%EEXIST there is another breakpoint, UBP's
 * or not; -%EPERM the instruction cannot have one, see ubp_analyze_insn();
 * -%EFAULT the text cannot be read, or ends within the instruction; -%EDEADLK the
 * caller is within a handler, so that it could not wait for others; -%EINTR it has
 * been killed; -%ENOMEM.
 */
int ubp_insert_bkpt(struct task_struct *tsk, struct ubp_bkpt *ubp);

/**
 * ubp_remove_bkpt() - take a breakpoint out
 * @ubp: of ubp_insert_bkpt(); does nothing if that has failed, or was not called
 *
 * Restores the text. When it returns no handler of @ubp is executing or will be,
 * and @ubp may be freed, or inserted again. If the process has exited, has a new
 * image, or has unmapped the text, there is nothing to restore.
 *
 * Should there be no memory for the text's page, which is possible only if it
 * was swapped out or is shared with a child, the text stays as it is, until the
 * process ends or the page goes. Threads that hit the breakpoint then execute
 * the instruction, without a handler.
 *
 * Context: May sleep; takes the mmap lock of the process. Must not be called by a
 * handler of whatever breakpoint, as ubp_in_handler() tells.
 */
void ubp_remove_bkpt(struct ubp_bkpt *ubp);

/**
 * ubp_validate_insn_addr() - ask whether there could be a breakpoint
 * @tsk: any thread of the process; the caller holds a reference
 * @vaddr: the address
 *
 * It is for the caller to know that an instruction begins there.
 *
 * Context: May sleep; takes the mmap lock of the process.
 * Return: 0, also if UBP has a breakpoint there; or an error as of
 * ubp_insert_bkpt().
 */
int ubp_validate_insn_addr(struct task_struct *tsk, unsigned long vaddr);

/**
 * ubp_analyze_insn() - ask what is made of an instruction
 * @bytes: the instruction, without breakpoints
 * @avail: how many bytes there are; more than %MAX_INSN_SIZE are not needed
 * @vaddr: where the process has them, which branches depend on
 * @is_64bit: whether they are 64-bit code, or else 32-bit
 * @insn: the result, also if it is an error
 *
 * Context: Any.
 * Return: 0 if there can be a breakpoint; -%EPERM if not; -%EEXIST if the bytes
 * begin with one; -%EFAULT if they end within the instruction.
 */
int ubp_analyze_insn(const u8 *bytes, size_t avail, unsigned long vaddr,
		     bool is_64bit, struct ubp_insn *insn);

/**
 * ubp_in_handler() - ask whether a handler of a breakpoint is executing
 *
 * Context: Any, of which current is asked about.
 * Return: Whether the caller has been called by one, or is one.
 */
static inline bool ubp_in_handler(void)
{
	return current->ubp.in_hit;
}

/* On while any address space has, or had, a breakpoint. */
extern struct static_key_false_deferred ubp_active;

bool __ubp_int3(struct pt_regs *regs);
bool __ubp_debug(struct pt_regs *regs, bool step, bool others);
unsigned long __ubp_stream_ip(unsigned long ip);
unsigned long __ubp_task_ip(struct task_struct *task, unsigned long ip);
void __ubp_settle(struct pt_regs *regs);
void __ubp_fault_interrupted(void);
void __ubp_moved_away(struct pt_regs *regs);
void __ubp_unmap(struct mm_struct *mm, unsigned long start, unsigned long end);
int __ubp_move(struct mm_struct *mm, unsigned long start, unsigned long end);
bool __ubp_probed(struct mm_struct *mm, unsigned long start, unsigned long end);
void __ubp_hide(struct mm_struct *mm, unsigned long addr, void *buf, size_t len);
void __ubp_write(struct vm_area_struct *vma, struct page *page, unsigned long addr,
		 void *dst, const void *src, size_t len);
void __ubp_coredump(struct mm_struct *mm);
int __ubp_dup_mm(struct mm_struct *mm);

/* Whether an exception of current has left a signal in its queue. Takes siglock. */
bool synchronous_signal_pending(void);

/* Whether @mm has, or had, breakpoints. */
static __always_inline bool ubp_has_space(struct mm_struct *mm)
{
	return static_branch_unlikely(&ubp_active.key) &&
	       READ_ONCE(mm->uprobes_state.ubp);
}

/*
 * int3 from user mode: true if it was a breakpoint of ours, and the thread is
 * ready to go on. Called and returns with interrupts disabled; may enable them in
 * between and sleep.
 */
static __always_inline bool ubp_int3(struct pt_regs *regs)
{
	return static_branch_unlikely(&ubp_active.key) && __ubp_int3(regs);
}

/*
 * Debug trap from user mode; @step: by the trap flag; @others: for other reasons.
 * True if it was by the trap flag for a step of ours only. Called and returns
 * with interrupts disabled, may enable them in between.
 */
static __always_inline bool ubp_debug(struct pt_regs *regs, bool step, bool others)
{
	return static_branch_unlikely(&ubp_active.key) && current->mm &&
	       ubp_has_space(current->mm) && __ubp_debug(regs, step, others);
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

/* The same of a thread that may be another one, for an @ip that it goes on with. */
static inline unsigned long ubp_task_ip(struct task_struct *task, unsigned long ip)
{
	return static_branch_unlikely(&ubp_active.key) ? __ubp_task_ip(task, ip) : ip;
}

/*
 * @regs as BPF programs may see them: @copy, with the instruction pointer as the
 * program knows it, if the one in @regs is in a slot. Any context, NMI included.
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
 * A page fault that current has taken in user mode is about to wait for other
 * threads, until current has a signal. Signals that wait for the end of a step
 * are signals as well.
 */
static inline void ubp_fault_waits(void)
{
	if (static_branch_unlikely(&ubp_active.key) && unlikely(current->ubp.signal_denied))
		set_thread_flag(TIF_SIGPENDING);
}

/*
 * The page fault of ubp_fault_waits() has waited. If that was ended by a signal, the
 * signal must not wait for the instruction: get_signal() comes next.
 */
static inline void ubp_fault_waited(void)
{
	if (ubp_has_space(current->mm) && test_thread_flag(TIF_SIGPENDING))
		__ubp_fault_interrupted();
}

/*
 * @task is a copy of @orig, to which the step belongs, and the reference to the
 * breakpoint.  saved_trap_nr goes with thread.trap_nr, which is copied as well.
 */
static inline void ubp_init_task(struct task_struct *task, const struct task_struct *orig)
{
	task->ubp = (struct ubp_task) {
		.saved_trap_nr = orig->ubp.saved_trap_nr,
	};
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

/*
 * The pages of [start, end) are about to move; mmap_lock is held for writing.
 * Returns 0, or an error if they must stay.
 */
static inline int ubp_move(struct mm_struct *mm, unsigned long start,
			   unsigned long end)
{
	return ubp_has_space(mm) ? __ubp_move(mm, start, end) : 0;
}

/*
 * Whether there are breakpoints in [start, end), which then must not be moved.
 * mmap_lock, or those of the mappings there, are held.
 */
static inline bool ubp_probed(struct mm_struct *mm, unsigned long start,
			      unsigned long end)
{
	return ubp_has_space(mm) && __ubp_probed(mm, start, end);
}

/* Puts into @buf, which was read at @addr, what breakpoints displace there. */
static inline void ubp_hide(struct mm_struct *mm, unsigned long addr, void *buf,
			    size_t len)
{
	if (ubp_has_space(mm))
		__ubp_hide(mm, addr, buf, len);
}

/*
 * A debugger writes to a page: copies below the breakpoints there. Returns
 * whether it did; if not, that is left to the caller. mmap_lock is held.
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

/* The memory of current is going to be dumped, after which it exits. */
static inline void ubp_coredump(struct mm_struct *mm)
{
	if (ubp_has_space(mm))
		__ubp_coredump(mm);
}

/*
 * fork() has copied the text of a probed process to @mm, which no thread uses
 * yet: restores that. Returns 0 or an error, which is fork()'s.
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
