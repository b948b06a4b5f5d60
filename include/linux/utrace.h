/* SPDX-License-Identifier: GPL-2.0 */
/*
 * utrace - engines on threads, and quiesced processes
 *
 * The logic is Rust, in kernel/utrace/. This header is the API for modules
 * written in C; utrace_hooks.h is for the call sites. The API is the one of
 * Roland McGrath's utrace of 2009. See Documentation/trace/utrace.rst.
 */
#ifndef _LINUX_UTRACE_H
#define _LINUX_UTRACE_H

#include <linux/bits.h>
#include <linux/err.h>
#include <linux/types.h>

struct k_sigaction;
struct kernel_siginfo;
struct linux_binfmt;
struct linux_binprm;
struct pt_regs;
struct task_struct;
struct utrace_engine;
struct utrace_process;
struct utrace_quiesced;

/* Events, as bit numbers for UTRACE_EVENT(). */
enum utrace_events {
	_UTRACE_EVENT_QUIESCE,		/* on the way to user mode, or to an event */
	_UTRACE_EVENT_REAP,		/* the zombie is gone */
	_UTRACE_EVENT_CLONE,		/* has created a thread or a process */
	_UTRACE_EVENT_EXEC,		/* has a new image */
	_UTRACE_EVENT_EXIT,		/* begins to exit */
	_UTRACE_EVENT_DEATH,		/* is a zombie now */
	_UTRACE_EVENT_SYSCALL_ENTRY,	/* is about to execute a system call */
	_UTRACE_EVENT_SYSCALL_EXIT,	/* returns from a system call */
	_UTRACE_EVENT_SIGNAL,		/* a handler is about to be run */
	_UTRACE_EVENT_SIGNAL_IGN,	/* a signal is about to be ignored */
	_UTRACE_EVENT_SIGNAL_STOP,	/* a signal is about to stop the process */
	_UTRACE_EVENT_SIGNAL_TERM,	/* a signal is about to kill the process */
	_UTRACE_EVENT_SIGNAL_CORE,	/* the same, and dump core */
	_UTRACE_EVENT_JCTL,		/* job control: stopped, or continued */
	_UTRACE_EVENT_PATH,		/* the kernel has copied a file name */
	_UTRACE_EVENT_LAST_EXIT,	/* the last thread of the process exits */
	_UTRACE_NEVENTS
};

#define UTRACE_EVENT(type)	BIT(_UTRACE_EVENT_##type)

#define UTRACE_EVENT_SIGNAL_ALL				\
	(UTRACE_EVENT(SIGNAL) | UTRACE_EVENT(SIGNAL_IGN) |	\
	 UTRACE_EVENT(SIGNAL_STOP) | UTRACE_EVENT(SIGNAL_TERM) | \
	 UTRACE_EVENT(SIGNAL_CORE))
#define UTRACE_EVENT_SYSCALL \
	(UTRACE_EVENT(SYSCALL_ENTRY) | UTRACE_EVENT(SYSCALL_EXIT))

/*
 * Actions on a thread. If several engines, or a callback and utrace_control(),
 * request different actions, the smallest number wins. UTRACE_STOP lasts until
 * the engine that requested it requests another action; all other actions are
 * for once.
 */
enum utrace_resume_action {
	UTRACE_STOP,		/* stay in the kernel */
	UTRACE_INTERRUPT,	/* report at once; system calls are interrupted */
	UTRACE_REPORT,		/* report before the return to user mode */
	UTRACE_SINGLESTEP,	/* report after one instruction */
	UTRACE_BLOCKSTEP,	/* report after the next branch */
	UTRACE_RESUME,		/* continue */
	UTRACE_DETACH,		/* continue, without this engine */
};

#define UTRACE_RESUME_MASK	0x07

/*
 * The disposition of a signal. report_signal() gets it in its action argument,
 * and returns it with its action.
 */
enum utrace_signal_action {
	UTRACE_SIGNAL_DELIVER	= 0x00,	/* do what *return_ka says */
	UTRACE_SIGNAL_IGN	= 0x10,	/* ignore it */
	UTRACE_SIGNAL_TERM	= 0x20,	/* kill the process */
	UTRACE_SIGNAL_CORE	= 0x30,	/* the same, and dump core */
	UTRACE_SIGNAL_STOP	= 0x40,	/* stop the process, as SIGSTOP does */
	UTRACE_SIGNAL_TSTP	= 0x50,	/* the same, unless its group is orphaned */
	UTRACE_SIGNAL_REPORT	= 0x60,	/* argument only: there is no signal */
	UTRACE_SIGNAL_HANDLER	= 0x70,	/* argument only: a handler was set up */
	UTRACE_SIGNAL_STEP	= 0x80,	/* argument only: a step is over */
};

#define UTRACE_SIGNAL_MASK	0xf0
#define UTRACE_SIGNAL_HOLD	0x100	/* leave the signal in the queue */

/* The part of report_syscall_entry()'s result besides its action. */
enum utrace_syscall_action {
	UTRACE_SYSCALL_RUN	= 0x00,
	UTRACE_SYSCALL_ABORT	= 0x10,	/* the call is not executed */
};

#define UTRACE_SYSCALL_MASK	0xf0
#define UTRACE_SYSCALL_RESUMED	0x100	/* argument: repeated after a stop */

static inline enum utrace_resume_action utrace_resume_action(u32 action)
{
	return action & UTRACE_RESUME_MASK;
}

static inline enum utrace_signal_action utrace_signal_action(u32 action)
{
	return action & UTRACE_SIGNAL_MASK;
}

static inline enum utrace_syscall_action utrace_syscall_action(u32 action)
{
	return action & UTRACE_SYSCALL_MASK;
}

/**
 * struct utrace_engine_ops - the callbacks of an engine
 *
 * All callbacks are optional. Unless stated otherwise, the thread of the event
 * (current) calls them, with no lock held. A callback may sleep, but only for a
 * short time, because the thread waits for it, and so does SIGKILL. It may
 * attach, control and detach engines; an engine that it attaches misses the
 * event. utrace does not report events that a callback causes itself.
 *
 * @action contains the smallest &enum utrace_resume_action that the engines
 * called before have returned for this event. For signals and system calls it
 * also contains their disposition. The return value consists of the same parts.
 *
 * Engines are called in the order in which they were attached;
 * @report_syscall_entry in the reverse order.
 *
 * @report_quiesce: Called before the callback of every event but reap, and
 *	before the return to user mode after utrace_control(). @event is
 *	UTRACE_EVENT() of the event, or 0. If an engine has @report_signal, this
 *	is not called before signals; and if the thread reports from the signal
 *	code, @report_signal is called with UTRACE_SIGNAL_REPORT instead of this
 *	with 0.
 * @report_signal: The thread has taken a signal from the queue. @info is
 *	delivered; @orig_ka is the action that the program has set; *@return_ka
 *	is the action that UTRACE_SIGNAL_DELIVER applies, and can be changed.
 *	With UTRACE_SIGNAL_REPORT and _HANDLER there is no signal and @orig_ka
 *	is NULL; an engine can create a signal by filling *@info and *@return_ka
 *	and returning UTRACE_SIGNAL_DELIVER. With UTRACE_SIGNAL_STEP the step
 *	that this engine requested is over. There is no signal either, but
 *	*@info describes the trap as a SIGTRAP would; an engine that wants no
 *	signal must leave it unchanged. UTRACE_INTERRUPT and _REPORT count as
 *	UTRACE_RESUME. Not called for SIGKILL.
 * @report_clone: @child was created and has not run. An engine can be attached
 *	to it. Not called for workers that the kernel creates, such as those of
 *	io_uring.
 * @report_jctl: @type is CLD_STOPPED or CLD_CONTINUED. @notify is the same if
 *	the parent will be notified when this thread has stopped, or else 0. If
 *	several threads stop at the same time it can be 0 for all of them.
 * @report_exec: The process has a new image; the old one is gone.
 * @report_syscall_entry: The number and arguments are in @regs, and can be
 *	changed. UTRACE_STOP takes effect at once; afterwards the engines are
 *	called again, with UTRACE_SYSCALL_RESUMED. If the call is aborted the
 *	result is -ENOSYS, or the one that the callback put into @regs.
 * @report_syscall_exit: The result is in @regs, and can be changed.
 * @report_exit: The thread begins to exit; it still has its memory and files.
 *	@orig_code is the original status for wait(), *@code the current one,
 *	which can be changed. UTRACE_STOP takes effect at once, unless the
 *	thread was killed.
 * @report_last_exit: The last thread of the process exits. It still has its
 *	memory and files, but they cannot be reached through its PID any more.
 *	Cannot stop the thread.
 * @report_death: The thread is dead. @signal is the one that the parent was
 *	sent, or -1 if no process waits for it, or -2 if it is the leader and
 *	other threads are left. Only UTRACE_DETACH has an effect: the engine
 *	then gets no @report_reap.
 * @report_reap: The zombie of @task is gone. This comes last, after
 *	@report_death, and without any action. Any thread may call it; it must
 *	not sleep.
 * @report_path: The kernel has copied the file name @name from @uptr in a
 *	system call. Must not sleep for long; cannot stop the thread. Not called
 *	for requests of io_uring.
 * @release: The last reference to an engine with this @data is gone; for the
 *	engines of a process, to those on all threads. Must not sleep.
 */
struct utrace_engine_ops {
	u32 (*report_quiesce)(u32 action, struct utrace_engine *engine,
			      unsigned long event);
	u32 (*report_signal)(u32 action, struct utrace_engine *engine,
			     struct pt_regs *regs, struct kernel_siginfo *info,
			     const struct k_sigaction *orig_ka,
			     struct k_sigaction *return_ka);
	u32 (*report_clone)(u32 action, struct utrace_engine *engine,
			    unsigned long clone_flags,
			    struct task_struct *child);
	u32 (*report_jctl)(u32 action, struct utrace_engine *engine,
			   int type, int notify);
	u32 (*report_exec)(u32 action, struct utrace_engine *engine,
			   const struct linux_binfmt *fmt,
			   const struct linux_binprm *bprm,
			   struct pt_regs *regs);
	u32 (*report_syscall_entry)(u32 action, struct utrace_engine *engine,
				    struct pt_regs *regs);
	u32 (*report_syscall_exit)(u32 action, struct utrace_engine *engine,
				   struct pt_regs *regs);
	u32 (*report_exit)(u32 action, struct utrace_engine *engine,
			   long orig_code, long *code);
	void (*report_last_exit)(struct utrace_engine *engine, long code);
	u32 (*report_death)(struct utrace_engine *engine, bool group_dead,
			    int signal);
	void (*report_reap)(struct utrace_engine *engine,
			    struct task_struct *task);
	void (*report_path)(struct utrace_engine *engine,
			    const char __user *uptr, const char *name);
	void (*release)(void *data);
};

/**
 * struct utrace_engine - an engine on a thread
 * @ops: the callbacks
 * @data: private data of the owner
 * @flags: the enabled events; only utrace_set_events() changes them
 */
struct utrace_engine {
	const struct utrace_engine_ops *ops;
	void *data;
	unsigned long flags;
};

/**
 * struct utrace_examiner - state between utrace_prepare_examine() and
 *			    utrace_finish_examine()
 * @stops: private
 */
struct utrace_examiner {
	unsigned long stops;
};

/* Flags for utrace_attach_task() and utrace_attach_pid(). */
#define UTRACE_ATTACH_MATCH_OPS		0x0001	/* look for one with these ops */
#define UTRACE_ATTACH_MATCH_DATA	0x0002	/* look for one with this data */
#define UTRACE_ATTACH_MATCH_MASK	0x000f
#define UTRACE_ATTACH_CREATE		0x0010	/* attach a new one */
#define UTRACE_ATTACH_EXCLUSIVE		0x0020	/* unless one matches */

/**
 * utrace_attach_task() - attach an engine to a thread, or look for one
 * @target: the thread
 * @flags: UTRACE_ATTACH_CREATE attaches a new engine; with
 *	UTRACE_ATTACH_EXCLUSIVE only if no engine matches. Without
 *	UTRACE_ATTACH_CREATE the first engine that matches is returned.
 *	UTRACE_ATTACH_MATCH_OPS and UTRACE_ATTACH_MATCH_DATA select the fields
 *	that must match.
 * @ops: the callbacks; must stay valid as long as the engine
 * @data: passed to the callbacks
 *
 * No events are enabled for a new engine before utrace_set_events().
 *
 * Context: May sleep.
 * Return: The engine, with a reference for the caller, or an ERR_PTR():
 * -%ENOENT if no engine matches; -%EEXIST if one matches and the new one was to
 * be exclusive; -%EINVAL if @ops are missing, or @flags are unknown; -%EPERM if
 * the thread never is in user mode; -%ESRCH if it exits; -%ENOMEM. Without an
 * engine @data stays with the caller.
 */
struct utrace_engine *
utrace_attach_task(struct task_struct *target, int flags,
		   const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_attach_pid() - attach an engine to the thread of a struct pid
 * @pid: the pid of the thread
 * @flags: see utrace_attach_task()
 * @ops: see utrace_attach_task()
 * @data: see utrace_attach_task()
 *
 * Context: May sleep.
 * Return: As for utrace_attach_task(); also -%ESRCH if there is no such thread.
 */
struct utrace_engine *
utrace_attach_pid(struct pid *pid, int flags,
		  const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_engine_get() - take another reference to an engine
 * @engine: an engine to which the caller holds a reference
 *
 * utrace holds a reference to an attached engine as well. A reference keeps the
 * structure valid, but does not keep the engine attached.
 *
 * Context: Any.
 */
void utrace_engine_get(struct utrace_engine *engine);

/**
 * utrace_engine_put() - drop a reference to an engine
 * @engine: the engine, which the caller must not use any more
 *
 * Context: Any that @ops->release may be called in.
 */
void utrace_engine_put(struct utrace_engine *engine);

/**
 * utrace_control() - request an action for a thread
 * @target: the thread
 * @engine: an engine on that thread
 * @action: see &enum utrace_resume_action
 *
 * UTRACE_STOP makes the thread stop before it is in user mode again. It does
 * not wake a thread that sleeps in a system call. UTRACE_INTERRUPT does, as
 * SIGSTOP would. Any action but UTRACE_STOP withdraws this engine's stop.
 *
 * Context: Process context, not with @target's siglock held. Does not sleep.
 * Return: 0, or
 * -%EINPROGRESS with UTRACE_STOP: the thread has not stopped yet; with
 * UTRACE_DETACH: done, but a callback is executing, see utrace_barrier();
 * -%EALREADY with UTRACE_DETACH: the thread is dead, report_death() has been or
 * is being called, and the engine stays until report_reap();
 * -%ESRCH the engine is detached, or the thread is dead;
 * -%EINVAL unknown @action, or UTRACE_REPORT, _SINGLESTEP or _BLOCKSTEP without
 * UTRACE_EVENT(QUIESCE); -%EOPNOTSUPP the CPU cannot step.
 */
int utrace_control(struct task_struct *target, struct utrace_engine *engine,
		   enum utrace_resume_action action);

/**
 * utrace_set_events() - set the events that are enabled for an engine
 * @target: the thread
 * @engine: an engine on that thread
 * @events: a set of UTRACE_EVENT()s
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or
 * -%EINPROGRESS done, but a callback of a disabled event may be executing;
 * -%EALREADY too late: the thread is dead, and DEATH was to be disabled or
 * enabled, or QUIESCE to be enabled;
 * -%ESRCH the engine is detached, or the thread reaped; -%EINVAL unknown @events.
 */
int utrace_set_events(struct task_struct *target, struct utrace_engine *engine,
		      unsigned long events);

/**
 * utrace_barrier() - wait for the callbacks of an engine
 * @target: the thread, possibly stale: the pointer is only compared
 * @engine: an engine on that thread, or detached from it
 *
 * When this returns, all callbacks that were executing when it was called have
 * returned.
 *
 * Context: May sleep.
 * Return: 0, at once if @target is current; -%ESRCH if the engine is detached
 * and no callback of it is executing; -%ERESTARTSYS if a signal is pending.
 */
int utrace_barrier(struct task_struct *target, struct utrace_engine *engine);

/**
 * utrace_detach() - detach an engine for certain
 * @target: the thread, to which the caller must hold a reference; it may be
 *	dead
 * @engine: an engine on that thread, or detached from it
 *
 * This combines UTRACE_DETACH and utrace_barrier(). When it returns, no
 * callback of @engine is executing or will be, except one that the caller is
 * in.
 *
 * Context: May sleep.
 */
void utrace_detach(struct task_struct *target, struct utrace_engine *engine);

/**
 * utrace_prepare_examine() - wait until a stopped thread can be examined
 * @target: the thread
 * @engine: an engine that has stopped it with UTRACE_STOP
 * @exam: state for utrace_finish_examine()
 *
 * When this returns, the thread is off its CPU, and state that is saved then,
 * such as that of the FPU, can be read. SIGKILL may wake the thread at any
 * time.
 *
 * Context: May sleep.
 * Return: 0; -%EINVAL if @engine has not requested a stop; -%EAGAIN if the
 * thread has not stopped yet, or was woken; -%ESRCH if the engine is detached,
 * or the thread is dead.
 */
int utrace_prepare_examine(struct task_struct *target,
			   struct utrace_engine *engine,
			   struct utrace_examiner *exam);

/**
 * utrace_finish_examine() - check that an examination was valid
 * @target: the thread
 * @engine: see utrace_prepare_examine()
 * @exam: see utrace_prepare_examine()
 *
 * Context: Process context. Does not sleep.
 * Return: 0 if the thread has been in the same stop since
 * utrace_prepare_examine(); otherwise an error as for that function.
 */
int utrace_finish_examine(struct task_struct *target,
			  struct utrace_engine *engine,
			  struct utrace_examiner *exam);

/**
 * utrace_get_regs() - copy the registers of a stopped thread
 * @target: the thread
 * @engine: an engine that has stopped it with UTRACE_STOP
 * @regs: the destination
 *
 * Needs no utrace_prepare_examine(), because the thread cannot continue during
 * the call.
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or an error as for utrace_prepare_examine().
 */
int utrace_get_regs(struct task_struct *target, struct utrace_engine *engine,
		    struct pt_regs *regs);

/**
 * utrace_set_regs() - change the registers of a stopped thread
 * @target: the thread
 * @engine: an engine that has stopped it with UTRACE_STOP
 * @regs: the result of utrace_get_regs(), with changes
 *
 * As with ptrace, an interrupted system call that is to be restarted has its
 * number and its result in @regs, and is not restarted if the number is -1.
 * Flags that a debugger cannot change stay unchanged here, too.
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or an error as for utrace_prepare_examine(); also -%EINVAL for
 * different code or stack segments.
 */
int utrace_set_regs(struct task_struct *target, struct utrace_engine *engine,
		    const struct pt_regs *regs);

/* Variants that take a struct pid; -ESRCH if it has no thread any more. */
int utrace_control_pid(struct pid *pid, struct utrace_engine *engine,
		       enum utrace_resume_action action);
int utrace_set_events_pid(struct pid *pid, struct utrace_engine *engine,
			  unsigned long events);
int utrace_barrier_pid(struct pid *pid, struct utrace_engine *engine);

/**
 * utrace_attach_process() - attach an engine to each thread of a process
 * @target: any thread of the process
 * @events: the events that are enabled for the engines
 * @ops: their callbacks
 * @data: passed to the callbacks
 *
 * Threads that are created later get an engine before they run; child processes
 * do not.
 *
 * Context: May sleep.
 * Return: The argument for utrace_detach_process(), or an ERR_PTR(): -%ESRCH if
 * the process exits; -%EPERM for a kernel thread; -%EINVAL if @ops are missing,
 * or @events are unknown; -%EINTR if the caller has been killed; -%ENOMEM.
 */
struct utrace_process *
utrace_attach_process(struct task_struct *target, unsigned long events,
		      const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_detach_process() - detach the engines of a process
 * @process: the result of utrace_attach_process(), which the caller must not
 *	use any more
 *
 * The caller must call this also if the process is gone. When it returns, no
 * callback of these engines is executing or will be, except one that the caller
 * is in.
 *
 * Context: May sleep.
 */
void utrace_detach_process(struct utrace_process *process);

/**
 * utrace_quiesce() - keep the threads of a process out of user mode
 * @pid: any of its threads, in the caller's pid namespace
 *
 * When this returns, every thread that shares the process's memory is in the
 * kernel. A thread that sleeps in a system call is not woken.
 *
 * Context: May sleep.
 * Return: The argument for utrace_resume(), or an ERR_PTR(): -%ESRCH if there
 * is no such process; -%EINVAL for a kernel thread; -%ENOMEM.
 */
struct utrace_quiesced *utrace_quiesce(pid_t pid);

/**
 * utrace_resume() - resume a quiesced process
 * @quiesced: the result of utrace_quiesce(), which the caller must not use any
 *	more
 *
 * Context: Any.
 */
void utrace_resume(struct utrace_quiesced *quiesced);

#endif /* _LINUX_UTRACE_H */
