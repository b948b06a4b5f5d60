/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Hooks of utrace that the rest of the kernel calls. Not for modules, which
 * must use utrace.h.
 *
 * A hook that branches on utrace_active is a NOP while nothing is attached in
 * the whole system. Otherwise it costs a thread without engines a load and a
 * branch. The other hooks only test a word that their caller has at hand.
 */
#ifndef _LINUX_UTRACE_HOOKS_H
#define _LINUX_UTRACE_HOOKS_H

#include <linux/jump_label_ratelimit.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/thread_info.h>
#include <linux/utrace.h>

/* The next step of get_signal(). */
enum utrace_next {
	UTRACE_NEXT_RELOOK,	/* check everything again */
	UTRACE_NEXT_ANY,	/* take a signal from the queue */
	UTRACE_NEXT_SIGSTOP,	/* take SIGSTOP from the queue */
	UTRACE_NEXT_SIGNAL,	/* there is a signal */
};

/* The signal that current has taken, as passed from get_signal() to engines. */
struct utrace_signal {
	kernel_siginfo_t *info;
	int signr;
	/* Use this signal's default action, if action's handler is SIG_DFL. */
	int default_of;
	struct k_sigaction action;
	/* action is not the one that the process has set. */
	bool replaced;
	/* Forced by the kernel: engines can only read it. */
	bool immutable;
	/* UTRACE_SIGNAL_HOLD: put the signal back into the queue. */
	bool hold;
};

/*
 * The parties that want a trap at the thread's next step:
 * task_struct::utrace_step. Only the thread itself changes the field, or a
 * debugger that keeps it in a stop.
 */
#define UTRACE_STEP_ENGINE_INSN		0x01	/* after an instruction */
#define UTRACE_STEP_ENGINE_BLOCK	0x02	/* after a branch */
#define UTRACE_STEP_DEBUGGER_INSN	0x04
#define UTRACE_STEP_DEBUGGER_BLOCK	0x08
#define UTRACE_STEP_PROGRAM		0x10	/* had set TF before the others */
/* The CPU's set-up must stay: the kernel steps the thread for itself. */
#define UTRACE_STEP_HELD		0x20
#define UTRACE_STEP_DUE			0x40	/* requests wait for the end of HELD */

#define UTRACE_STEP_ENGINE	(UTRACE_STEP_ENGINE_INSN | UTRACE_STEP_ENGINE_BLOCK)
#define UTRACE_STEP_DEBUGGER	(UTRACE_STEP_DEBUGGER_INSN | UTRACE_STEP_DEBUGGER_BLOCK)
#define UTRACE_STEP_INSN	(UTRACE_STEP_ENGINE_INSN | UTRACE_STEP_DEBUGGER_INSN)
#define UTRACE_STEP_BLOCK	(UTRACE_STEP_ENGINE_BLOCK | UTRACE_STEP_DEBUGGER_BLOCK)
#define UTRACE_STEP_HOLD	(UTRACE_STEP_HELD | UTRACE_STEP_DUE)

#ifdef CONFIG_UTRACE

/* Enabled while an engine is attached, or a process is quiesced. */
extern struct static_key_false_deferred utrace_active;

void utrace_init(void);
void __utrace_free_task(struct task_struct *task);
void __utrace_clone_locked(struct task_struct *child);
int __utrace_prepare_clone(struct task_struct *child, u64 clone_flags);
void __utrace_cancel_clone(struct task_struct *child);
void __utrace_clone(struct task_struct *child, u64 clone_flags);
void __utrace_vfork(void);
void __utrace_exec(const struct linux_binprm *bprm);
void __utrace_exit(long *code);
void __utrace_oopsed(void);
void __utrace_last_exit(long code);
void __utrace_death(struct task_struct *task, bool group_dead, int signal);
void __utrace_release_task(struct task_struct *task);
void __utrace_resume_user_mode(void);
/*
 * Called if SYSCALL_WORK_UTRACE is set. Returns false if the call must not be
 * executed.
 */
bool utrace_syscall_entry(struct pt_regs *regs);
void utrace_syscall_exit(struct pt_regs *regs);
enum utrace_next __utrace_get_signal(struct utrace_signal *signal);
enum utrace_next __utrace_signal(struct utrace_signal *signal);
void __utrace_signal_handler(void);
bool __utrace_step_trap(int code);
void __utrace_jctl(int type, int notify);
void __utrace_getname(const char __user *uptr, const char *name);

/* Returns whether an event of @mask is enabled for an engine on @task. */
static inline bool utrace_has_event(const struct task_struct *task,
				    unsigned long mask)
{
	return static_branch_unlikely(&utrace_active.key) &&
	       (READ_ONCE(task->utrace_flags) & mask);
}

/* Initialises the copy of current's task_struct, which has no engines yet. */
static inline void utrace_init_task(struct task_struct *task)
{
	task->utrace = NULL;
	task->utrace_flags = 0;
	task->utrace_step = 0;
	sigemptyset(&task->utrace_held);
	clear_task_syscall_work(task, UTRACE);
	clear_task_syscall_work(task, UTRACE_RESUME);
}

/* Frees the state of @task. The last reference to it must be gone. */
static inline void utrace_free_task(struct task_struct *task)
{
	if (unlikely(task->utrace))
		__utrace_free_task(task);
}

/* Called before current creates @child, which no other thread can find yet. */
static inline int utrace_prepare_clone(struct task_struct *child,
				       u64 clone_flags)
{
	if (static_branch_unlikely(&utrace_active.key))
		return __utrace_prepare_clone(child, clone_flags);
	return 0;
}

/* Called if the clone has failed, and no other thread has seen @child. */
static inline void utrace_cancel_clone(struct task_struct *child)
{
	if (unlikely(child->utrace))
		__utrace_cancel_clone(child);
}

/*
 * Called when @child becomes visible, with tasklist_lock and siglock held. Must
 * not sleep.
 */
static inline void utrace_clone_locked(struct task_struct *child)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone_locked(child);
}

/*
 * Called when @child is complete and has not run. The parent may sleep. Not
 * called for workers of the kernel, which are created with locks held.
 */
static inline void utrace_clone(struct task_struct *child, u64 clone_flags)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone(child, clone_flags);
}

/* Called when the child of a vfork() runs, before current waits for it. */
static inline void utrace_vfork(void)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_vfork();
}

/* Called when current has a new image, and the exec cannot fail any more. */
static inline void utrace_exec(const struct linux_binprm *bprm)
{
	if (utrace_has_event(current, UTRACE_EVENT(EXEC)))
		__utrace_exec(bprm);
}

/* Called when current begins to exit, while it can still be killed. */
static inline void utrace_exit(long *code)
{
	if (utrace_has_event(current, UTRACE_EVENT(EXIT)))
		__utrace_exit(code);
}

/* Called when PF_EXITING is set and current still has its memory. */
static inline void utrace_last_exit(long code)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_last_exit(code);
}

/*
 * Called when current has oopsed, and will never return to the code that
 * oopsed.
 */
static inline void utrace_oopsed(void)
{
	if (unlikely(current->utrace))
		__utrace_oopsed();
}

/* Called when current is a zombie, which may have been reaped already. */
static inline void utrace_death(struct task_struct *task, bool group_dead,
				int signal)
{
	if (unlikely(task->utrace))
		__utrace_death(task, group_dead, signal);
}

/* Called when @task is dead, and is about to disappear. */
static inline void utrace_release_task(struct task_struct *task)
{
	if (unlikely(task->utrace))
		__utrace_release_task(task);
}

/*
 * Called when TIF_NOTIFY_RESUME was set and is cleared. current returns to user
 * mode next, except if @regs is NULL.
 *
 * With @regs == NULL, either current enters a guest, and holds the lock of a
 * virtual CPU: callbacks and stops must wait until its system call returns. Or
 * current is a worker of io_uring, which never goes to user mode.
 */
static inline void utrace_resume_user_mode(struct pt_regs *regs)
{
	if (!static_branch_unlikely(&utrace_active.key))
		return;
	if (likely(regs))
		__utrace_resume_user_mode();
	else
		set_syscall_work(UTRACE_RESUME);
}

/*
 * Called if SYSCALL_WORK_UTRACE_RESUME is set: does the work that waited for
 * the return from the system call.
 */
static inline void utrace_syscall_resume(void)
{
	clear_syscall_work(UTRACE_RESUME);
	set_thread_flag(TIF_NOTIFY_RESUME);
}

/* Returns whether engines on @task must get signals that would be ignored. */
static inline bool utrace_has_ignored_event(const struct task_struct *task)
{
	return utrace_has_event(task, UTRACE_EVENT(SIGNAL_IGN));
}

/* Returns whether engines on @task must get a signal before it kills. */
static inline bool utrace_has_fatal_event(const struct task_struct *task)
{
	return utrace_has_event(task, UTRACE_EVENT(SIGNAL_TERM) |
				      UTRACE_EVENT(SIGNAL_CORE));
}

/* Called when a signal frame was set up. */
static inline void utrace_signal_handler(void)
{
	if (utrace_has_event(current, UTRACE_EVENT(QUIESCE)))
		__utrace_signal_handler();
}

/*
 * Called when the CPU has trapped after a step of current, or when a system
 * call ends that was stepped over. Returns whether only engines requested the
 * step, so that the caller must not send a signal. Process context; interrupts
 * are enabled.
 */
static inline bool utrace_step_trap(int code)
{
	return unlikely(current->utrace_step & UTRACE_STEP_ENGINE) &&
	       __utrace_step_trap(code);
}

/* Replaces the requests in @mask by @step. Returns all requests. */
static inline unsigned int utrace_set_step(struct task_struct *task,
					   unsigned int mask, unsigned int step)
{
	step |= task->utrace_step & ~mask;
	if (!(step & (UTRACE_STEP_ENGINE | UTRACE_STEP_DEBUGGER)))
		step &= UTRACE_STEP_HOLD;
	task->utrace_step = step;
	return step;
}

static inline bool utrace_debugger_steps(const struct task_struct *task)
{
	return task->utrace_step & UTRACE_STEP_DEBUGGER;
}

/*
 * Marks a signal that an engine holds. It stays in the queue, and
 * signal_pending() ignores it. The caller must hold siglock.
 */
static inline void utrace_set_held(struct task_struct *task, int sig)
{
	sigaddset(&task->utrace_held, sig);
}

static inline void utrace_clear_held(struct task_struct *task)
{
	sigemptyset(&task->utrace_held);
}

/* Makes @task check held signals again. Returns whether there were any. */
static inline bool utrace_release_held(struct task_struct *task)
{
	if (sigisemptyset(&task->utrace_held))
		return false;
	utrace_clear_held(task);
	return true;
}

static inline bool utrace_holds(struct task_struct *task, int sig)
{
	return sigismember(&task->utrace_held, sig);
}

/*
 * Called when a group stop begins for current, or ends. @notify is set if the
 * parent is notified.
 */
static inline void utrace_jctl(int type, int notify)
{
	if (utrace_has_event(current, UTRACE_EVENT(JCTL)))
		__utrace_jctl(type, notify);
}

/* Called when the kernel has made a copy, @name, of the file name at @uptr. */
static inline void utrace_getname(const char __user *uptr, const char *name)
{
	if (utrace_has_event(current, UTRACE_EVENT(PATH)))
		__utrace_getname(uptr, name);
}

#else /* !CONFIG_UTRACE */

static inline bool utrace_has_event(const struct task_struct *task,
				    unsigned long mask)
{
	return false;
}

static inline void utrace_init_task(struct task_struct *task)
{
}

static inline void utrace_free_task(struct task_struct *task)
{
}

static inline int utrace_prepare_clone(struct task_struct *child,
				       u64 clone_flags)
{
	return 0;
}

static inline void utrace_cancel_clone(struct task_struct *child)
{
}

static inline void utrace_clone_locked(struct task_struct *child)
{
}

static inline void utrace_clone(struct task_struct *child, u64 clone_flags)
{
}

static inline void utrace_vfork(void)
{
}

static inline void utrace_exec(const struct linux_binprm *bprm)
{
}

static inline void utrace_exit(long *code)
{
}

static inline void utrace_last_exit(long code)
{
}

static inline void utrace_oopsed(void)
{
}

static inline void utrace_death(struct task_struct *task, bool group_dead,
				int signal)
{
}

static inline void utrace_release_task(struct task_struct *task)
{
}

static inline void utrace_resume_user_mode(struct pt_regs *regs)
{
}

static inline void utrace_syscall_resume(void)
{
}

static inline bool utrace_syscall_entry(struct pt_regs *regs)
{
	return true;
}

static inline void utrace_syscall_exit(struct pt_regs *regs)
{
}

static inline enum utrace_next __utrace_get_signal(struct utrace_signal *signal)
{
	return UTRACE_NEXT_ANY;
}

static inline enum utrace_next __utrace_signal(struct utrace_signal *signal)
{
	return UTRACE_NEXT_SIGNAL;
}

static inline bool utrace_has_ignored_event(const struct task_struct *task)
{
	return false;
}

static inline bool utrace_has_fatal_event(const struct task_struct *task)
{
	return false;
}

static inline void utrace_signal_handler(void)
{
}

static inline bool utrace_step_trap(int code)
{
	return false;
}

static inline unsigned int utrace_set_step(struct task_struct *task,
					   unsigned int mask, unsigned int step)
{
	return step;
}

static inline bool utrace_debugger_steps(const struct task_struct *task)
{
	return true;
}

static inline void utrace_set_held(struct task_struct *task, int sig)
{
}

static inline void utrace_clear_held(struct task_struct *task)
{
}

static inline bool utrace_release_held(struct task_struct *task)
{
	return false;
}

static inline bool utrace_holds(struct task_struct *task, int sig)
{
	return false;
}

static inline void utrace_jctl(int type, int notify)
{
}

static inline void utrace_getname(const char __user *uptr, const char *name)
{
}

#endif /* !CONFIG_UTRACE */
#endif /* _LINUX_UTRACE_HOOKS_H */
