/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where the rest of the kernel tells utrace of events. Not for modules: what
 * they may use is in utrace.h.
 *
 * A hook that branches on utrace_active is a NOP while nothing is attached
 * anywhere, and a load and a branch in the threads that nobody looks at
 * otherwise. The others only look at a word that their caller has at hand.
 */
#ifndef _LINUX_UTRACE_HOOKS_H
#define _LINUX_UTRACE_HOOKS_H

#include <linux/jump_label_ratelimit.h>
#include <linux/sched.h>
#include <linux/signal.h>
#include <linux/thread_info.h>
#include <linux/utrace.h>

/* What get_signal() does next. */
enum utrace_next {
	UTRACE_NEXT_RELOOK,	/* look at everything again */
	UTRACE_NEXT_ANY,	/* take a signal from the queue */
	UTRACE_NEXT_SIGSTOP,	/* take SIGSTOP from the queue */
	UTRACE_NEXT_SIGNAL,	/* there is a signal */
};

/* A signal on its way to current, between get_signal() and engines. */
struct utrace_signal {
	kernel_siginfo_t *info;
	int signr;
	/* The one whose default action is meant, if action's handler is SIG_DFL. */
	int default_of;
	struct k_sigaction action;
	/* Whether action is another one than the process has set. */
	bool replaced;
	/* Forced by the kernel: can be looked at only. */
	bool immutable;
	/* Of UTRACE_SIGNAL_HOLD: put it back into the queue. */
	bool hold;
};

/*
 * The requesters of a thread's next step trap: task_struct::utrace_step.  Only
 * the thread itself changes the field, or a debugger that keeps it in a stop.
 */
#define UTRACE_STEP_ENGINE_INSN		0x01	/* after an instruction */
#define UTRACE_STEP_ENGINE_BLOCK	0x02	/* after a branch */
#define UTRACE_STEP_DEBUGGER_INSN	0x04
#define UTRACE_STEP_DEBUGGER_BLOCK	0x08
#define UTRACE_STEP_PROGRAM		0x10	/* has set TF before the others */
/* The CPU's set-up must stay as it is: the kernel steps the thread for itself. */
#define UTRACE_STEP_HELD		0x20
#define UTRACE_STEP_DUE			0x40	/* requests wait for the end of that */

#define UTRACE_STEP_ENGINE	(UTRACE_STEP_ENGINE_INSN | UTRACE_STEP_ENGINE_BLOCK)
#define UTRACE_STEP_DEBUGGER	(UTRACE_STEP_DEBUGGER_INSN | UTRACE_STEP_DEBUGGER_BLOCK)
#define UTRACE_STEP_INSN	(UTRACE_STEP_ENGINE_INSN | UTRACE_STEP_DEBUGGER_INSN)
#define UTRACE_STEP_BLOCK	(UTRACE_STEP_ENGINE_BLOCK | UTRACE_STEP_DEBUGGER_BLOCK)
#define UTRACE_STEP_HOLD	(UTRACE_STEP_HELD | UTRACE_STEP_DUE)

#ifdef CONFIG_UTRACE

/* On while an engine is attached to, or a gate is raised for, any process. */
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
void __utrace_resume_user_mode(struct pt_regs *regs);
bool __utrace_syscall_entry(struct pt_regs *regs);
void __utrace_syscall_exit(struct pt_regs *regs);
enum utrace_next __utrace_get_signal(struct utrace_signal *signal);
enum utrace_next __utrace_signal(struct utrace_signal *signal);
void __utrace_signal_handler(void);
bool __utrace_step_trap(int code);
void __utrace_jctl(int type, int notify);
void __utrace_getname(const char __user *uptr, const char *name);

/* Whether an engine on @task wants one of the events of @mask. */
static inline bool utrace_wants(const struct task_struct *task,
				unsigned long mask)
{
	return static_branch_unlikely(&utrace_active.key) &&
	       (READ_ONCE(task->utrace_flags) & mask);
}

/* A new task_struct was copied from current's; it has no engines yet. */
static inline void utrace_init_task(struct task_struct *task)
{
	task->utrace = NULL;
	task->utrace_flags = 0;
	task->utrace_step = 0;
	sigemptyset(&task->utrace_held);
	clear_task_syscall_work(task, UTRACE);
	clear_task_syscall_work(task, UTRACE_RESUME);
}

/* The last reference to @task is gone. */
static inline void utrace_free_task(struct task_struct *task)
{
	if (unlikely(task->utrace))
		__utrace_free_task(task);
}

/* current is about to create @child, which nobody can find yet. */
static inline int utrace_prepare_clone(struct task_struct *child,
				       u64 clone_flags)
{
	if (static_branch_unlikely(&utrace_active.key))
		return __utrace_prepare_clone(child, clone_flags);
	return 0;
}

/* The clone has failed, and no other thread has seen @child. */
static inline void utrace_cancel_clone(struct task_struct *child)
{
	if (unlikely(child->utrace))
		__utrace_cancel_clone(child);
}

/* @child becomes visible: tasklist_lock and siglock are held, no sleeping. */
static inline void utrace_clone_locked(struct task_struct *child)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone_locked(child);
}

/*
 * @child is complete and has not run: the parent may sleep. Workers of the
 * kernel, which are created with locks held, do not come here.
 */
static inline void utrace_clone(struct task_struct *child, u64 clone_flags)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone(child, clone_flags);
}

/* The child of a vfork() runs; current waits for it next. */
static inline void utrace_vfork(void)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_vfork();
}

/* current has a new image; nothing can fail any more. */
static inline void utrace_exec(const struct linux_binprm *bprm)
{
	if (utrace_wants(current, UTRACE_EVENT(EXEC)))
		__utrace_exec(bprm);
}

/* current begins to exit, and can still be killed. */
static inline void utrace_exit(long *code)
{
	if (utrace_wants(current, UTRACE_EVENT(EXIT)))
		__utrace_exit(code);
}

/* PF_EXITING is set; current's memory is still there. */
static inline void utrace_last_exit(long code)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_last_exit(code);
}

/* current will never return to where it has oopsed. */
static inline void utrace_oopsed(void)
{
	if (unlikely(current->utrace))
		__utrace_oopsed();
}

/* current is a zombie, which may have been reaped already. */
static inline void utrace_death(struct task_struct *task, bool group_dead,
				int signal)
{
	if (unlikely(task->utrace))
		__utrace_death(task, group_dead, signal);
}

/* @task is dead, and is about to disappear. */
static inline void utrace_release_task(struct task_struct *task)
{
	if (unlikely(task->utrace))
		__utrace_release_task(task);
}

/*
 * TIF_NOTIFY_RESUME was set and is cleared: current goes to user mode next.
 *
 * With @regs == NULL it does not. Either current enters a guest, and holds the
 * lock of a virtual CPU: callbacks and stops must wait until its system call
 * returns. Or current is a worker of io_uring, which never goes to user mode.
 */
static inline void utrace_resume_user_mode(struct pt_regs *regs)
{
	if (!static_branch_unlikely(&utrace_active.key))
		return;
	if (likely(regs))
		__utrace_resume_user_mode(regs);
	else
		set_syscall_work(UTRACE_RESUME);
}

/* SYSCALL_WORK_UTRACE_RESUME was found: what waited for the return is due. */
static inline void utrace_syscall_resume(void)
{
	clear_syscall_work(UTRACE_RESUME);
	set_thread_flag(TIF_NOTIFY_RESUME);
}

/* SYSCALL_WORK_UTRACE was found. False: the call is not to be executed. */
static inline bool utrace_syscall_entry(struct pt_regs *regs)
{
	return __utrace_syscall_entry(regs);
}

static inline void utrace_syscall_exit(struct pt_regs *regs)
{
	__utrace_syscall_exit(regs);
}

/* Whether engines on @task are to see signals that would be ignored. */
static inline bool utrace_wants_ignored(const struct task_struct *task)
{
	return utrace_wants(task, UTRACE_EVENT(SIGNAL_IGN));
}

/* Whether engines on @task are to see a signal before it kills. */
static inline bool utrace_wants_fatal(const struct task_struct *task)
{
	return utrace_wants(task, UTRACE_EVENT(SIGNAL_TERM) |
				  UTRACE_EVENT(SIGNAL_CORE));
}

/* A signal frame was set up. */
static inline void utrace_signal_handler(void)
{
	if (utrace_wants(current, UTRACE_EVENT(QUIESCE)))
		__utrace_signal_handler();
}

/*
 * The CPU has trapped after a step of current, or a system call ends that was
 * stepped over.  Returns whether only engines requested the step, so that the
 * caller must not send a signal.  Process context; interrupts are enabled.
 */
static inline bool utrace_step_trap(int code)
{
	return unlikely(current->utrace_step & UTRACE_STEP_ENGINE) &&
	       __utrace_step_trap(code);
}

/* Replaces the requests in @mask by @step; returns all requests. */
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
 * A signal that an engine holds stays in the queue, and signal_pending() ignores
 * it.  The caller must hold siglock.
 */
static inline void utrace_set_held(struct task_struct *task, int sig)
{
	sigaddset(&task->utrace_held, sig);
}

static inline void utrace_clear_held(struct task_struct *task)
{
	sigemptyset(&task->utrace_held);
}

/* Has @task look at held signals again. Returns whether there were any. */
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

/* A group stop begins for current, or ends; @notify if the parent is told. */
static inline void utrace_jctl(int type, int notify)
{
	if (utrace_wants(current, UTRACE_EVENT(JCTL)))
		__utrace_jctl(type, notify);
}

/* The kernel has a copy, @name, of the file name at @uptr. */
static inline void utrace_getname(const char __user *uptr, const char *name)
{
	if (utrace_wants(current, UTRACE_EVENT(PATH)))
		__utrace_getname(uptr, name);
}

#else /* !CONFIG_UTRACE */

static inline bool utrace_wants(const struct task_struct *task,
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

static inline bool utrace_wants_ignored(const struct task_struct *task)
{
	return false;
}

static inline bool utrace_wants_fatal(const struct task_struct *task)
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
