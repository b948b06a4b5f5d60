/* SPDX-License-Identifier: GPL-2.0 */
/*
 * utrace - engines on threads: events, stops, and every thread of a process
 * kept out of user mode
 *
 * The logic is Rust, in kernel/utrace/. This header holds what modules written
 * in C use; utrace_hooks.h has the call sites' side. The interface is the one
 * of Roland McGrath's utrace of 2009. See Documentation/trace/utrace.rst.
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

/* What an engine can be told of: bit numbers, for UTRACE_EVENT(). */
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
	_UTRACE_EVENT_SIGNAL_CORE,	/* the same, with a core dump */
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
 * What is to become of a thread. If several engines, or a callback and
 * utrace_control(), ask for different things, the smallest number wins.
 * UTRACE_STOP lasts until the engine that asked for it asks for something
 * else; all others are for once.
 */
enum utrace_resume_action {
	UTRACE_STOP,		/* stay in the kernel */
	UTRACE_INTERRUPT,	/* report at once; system calls are interrupted */
	UTRACE_REPORT,		/* report before the return to user mode */
	UTRACE_SINGLESTEP,	/* report after one instruction */
	UTRACE_BLOCKSTEP,	/* report after the next branch */
	UTRACE_RESUME,		/* go on */
	UTRACE_DETACH,		/* go on, without this engine */
};

#define UTRACE_RESUME_MASK	0x07

/*
 * What report_signal() finds in, and returns with, its action: what is to
 * become of the signal.
 */
enum utrace_signal_action {
	UTRACE_SIGNAL_DELIVER	= 0x00,	/* as *return_ka says */
	UTRACE_SIGNAL_IGN	= 0x10,	/* nothing */
	UTRACE_SIGNAL_TERM	= 0x20,	/* end of the process */
	UTRACE_SIGNAL_CORE	= 0x30,	/* the same, with a core dump */
	UTRACE_SIGNAL_STOP	= 0x40,	/* a stop, as by SIGSTOP */
	UTRACE_SIGNAL_TSTP	= 0x50,	/* the same, but not in an orphaned group */
	UTRACE_SIGNAL_REPORT	= 0x60,	/* only found: there is no signal */
	UTRACE_SIGNAL_HANDLER	= 0x70,	/* only found: a handler was set up */
	UTRACE_SIGNAL_STEP	= 0x80,	/* only found: a step is over */
};

#define UTRACE_SIGNAL_MASK	0xf0
#define UTRACE_SIGNAL_HOLD	0x100	/* leave the signal in the queue */

/* What report_syscall_entry() returns with its action. */
enum utrace_syscall_action {
	UTRACE_SYSCALL_RUN	= 0x00,
	UTRACE_SYSCALL_ABORT	= 0x10,	/* the call is not executed */
};

#define UTRACE_SYSCALL_MASK	0xf0
#define UTRACE_SYSCALL_RESUMED	0x100	/* found: repeated after a stop */

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
 * Each is optional. Except where it says otherwise, it is called in the thread
 * that the event is of (current), with no lock held. It may sleep, for a short
 * time: the thread waits for it, and so does SIGKILL. It may attach, control
 * and detach engines; an engine that it attaches misses the event. utrace does
 * not report events that a callback causes itself.
 *
 * @action holds the smallest &enum utrace_resume_action that the engines called
 * before have returned for this event, and with signals and system calls what
 * is to become of these. The value returned is made of the same parts.
 *
 * Engines are called in the order in which they were attached;
 * @report_syscall_entry in the reverse.
 *
 * @report_quiesce: Before the callback of every event but reap, and before the
 *	return to user mode after utrace_control(); @event is UTRACE_EVENT() of
 *	the event, or 0. An engine with @report_signal is not told so of signals,
 *	and has that called, with UTRACE_SIGNAL_REPORT, instead of this with 0 if
 *	the report is made where signals are handled.
 * @report_signal: A signal was taken from the queue. @info is what is
 *	delivered; @orig_ka what the program has set for it; *@return_ka, which
 *	can be changed, what will be done by UTRACE_SIGNAL_DELIVER. With
 *	UTRACE_SIGNAL_REPORT and _HANDLER there is no signal and @orig_ka is
 *	NULL; an engine can fill *@info and *@return_ka, and return
 *	UTRACE_SIGNAL_DELIVER, to have a signal. With UTRACE_SIGNAL_STEP
 *	the step that this engine asked for is over: there is no signal either,
 *	but *@info describes the trap as a SIGTRAP would, and is left alone by
 *	an engine that wants no signal. UTRACE_INTERRUPT and _REPORT count as
 *	UTRACE_RESUME. Not called for SIGKILL.
 * @report_clone: @child was created and has not run. An engine can be attached
 *	to it. Not called for workers that the kernel creates, such as those of
 *	io_uring.
 * @report_jctl: @type is CLD_STOPPED or CLD_CONTINUED; @notify is the same if
 *	the parent will be told when this thread has stopped, or else 0. If
 *	several threads stop at the same time it can be 0 for all of them.
 * @report_exec: There is a new image; nothing of the old one is left.
 * @report_syscall_entry: The number and arguments are in @regs, and can be
 *	changed. UTRACE_STOP takes effect at once; afterwards the engines are
 *	called again, with UTRACE_SYSCALL_RESUMED. If the call is not to be
 *	executed the result is -ENOSYS, or what the callback put into @regs.
 * @report_syscall_exit: The result is in @regs, and can be changed.
 * @report_exit: The thread begins to exit; its memory and files are there.
 *	@orig_code is the status for wait() as it was, *@code as it is now; it
 *	can be changed. UTRACE_STOP takes effect at once, unless the thread was
 *	killed.
 * @report_last_exit: The last thread of the process exits. Its memory and files
 *	are there, but cannot be reached by its number any more.
 *	Cannot stop it.
 * @report_death: The thread is dead. @signal is the one that the parent was
 *	sent, or -1 if nobody waits for it, or -2 if it is the leader and
 *	threads are left. Of @action only UTRACE_DETACH matters: it says that no
 *	@report_reap is wanted.
 * @report_reap: The zombie of @task is gone. Comes last, after @report_death
 *	and without any action; may be called in another thread; must not sleep.
 * @report_path: In a system call the kernel has copied the file name @name from
 *	@uptr. Must not sleep for long; cannot stop it. Not called for requests
 *	of io_uring.
 * @release: The last reference to an engine with this @data is gone: of a
 *	process's engines, those on all threads. Must not sleep.
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
 * @ops: its callbacks
 * @data: for its owner
 * @flags: the events it is told of; changed by utrace_set_events() only
 */
struct utrace_engine {
	const struct utrace_engine_ops *ops;
	void *data;
	unsigned long flags;
};

/**
 * struct utrace_examiner - between utrace_prepare_examine() and
 *			    utrace_finish_examine()
 * @stops: private
 */
struct utrace_examiner {
	unsigned long stops;
};

/* For utrace_attach_task() and utrace_attach_pid(). */
#define UTRACE_ATTACH_MATCH_OPS		0x0001	/* look for one with these ops */
#define UTRACE_ATTACH_MATCH_DATA	0x0002	/* look for one with this data */
#define UTRACE_ATTACH_MATCH_MASK	0x000f
#define UTRACE_ATTACH_CREATE		0x0010	/* attach a new one */
#define UTRACE_ATTACH_EXCLUSIVE		0x0020	/* unless one matches */

/**
 * utrace_attach_task() - attach an engine to a thread, or look for one
 * @target: the thread
 * @flags: UTRACE_ATTACH_CREATE for a new engine; with UTRACE_ATTACH_EXCLUSIVE
 *	only if none matches; without UTRACE_ATTACH_CREATE the first one that
 *	matches. What has to match is said by UTRACE_ATTACH_MATCH_OPS and
 *	UTRACE_ATTACH_MATCH_DATA.
 * @ops: the callbacks; they stay valid as long as the engine
 * @data: for the callbacks
 *
 * A new engine is not told of anything before utrace_set_events().
 *
 * Context: May sleep.
 * Return: The engine, with a reference for the caller, or an ERR_PTR():
 * -%ENOENT there is none that matches; -%EEXIST there is one, and it was to be
 * the only one; -%EINVAL @ops are needed, or unknown flags; -%EPERM the
 * thread never is in user mode; -%ESRCH it exits; -%ENOMEM. Without an engine
 * @data stays the caller's.
 */
struct utrace_engine *
utrace_attach_task(struct task_struct *target, int flags,
		   const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_attach_pid() - the same for the thread of a struct pid
 * @pid: of the thread
 * @flags: as of utrace_attach_task()
 * @ops: as of utrace_attach_task()
 * @data: as of utrace_attach_task()
 *
 * Context: May sleep.
 * Return: As of utrace_attach_task(); -%ESRCH also if there is no such thread.
 */
struct utrace_engine *
utrace_attach_pid(struct pid *pid, int flags,
		  const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_engine_get() - take another reference
 * @engine: the caller has one
 *
 * An attached engine has one besides. A reference keeps the structure, not the
 * engine attached.
 *
 * Context: Any.
 */
void utrace_engine_get(struct utrace_engine *engine);

/**
 * utrace_engine_put() - give a reference back
 * @engine: not to be used any more
 *
 * Context: Any that @ops->release may be called in.
 */
void utrace_engine_put(struct utrace_engine *engine);

/**
 * utrace_control() - say what is to become of a thread
 * @target: the thread
 * @engine: on that thread
 * @action: see &enum utrace_resume_action
 *
 * UTRACE_STOP: The thread stops before it is in user mode again. One that
 * sleeps in a system call is not woken. UTRACE_INTERRUPT does wake it, as
 * SIGSTOP would. Any action but UTRACE_STOP takes this engine's stop back.
 *
 * Context: Process context, not with @target's siglock held. Does not sleep.
 * Return: 0, or
 * -%EINPROGRESS with UTRACE_STOP: it has not stopped yet; with UTRACE_DETACH:
 * done, but a callback is executing, see utrace_barrier();
 * -%EALREADY with UTRACE_DETACH: the thread is dead, report_death() has been or
 * is being called, and the engine stays until report_reap();
 * -%ESRCH the engine is detached, or the thread is dead;
 * -%EINVAL unknown @action, or UTRACE_REPORT, _SINGLESTEP or _BLOCKSTEP without
 * UTRACE_EVENT(QUIESCE); -%EOPNOTSUPP the CPU cannot step.
 */
int utrace_control(struct task_struct *target, struct utrace_engine *engine,
		   enum utrace_resume_action action);

/**
 * utrace_set_events() - say what an engine is to be told of
 * @target: the thread
 * @engine: on that thread
 * @events: UTRACE_EVENT()s
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or
 * -%EINPROGRESS done, but a callback of what was given up may be executing;
 * -%EALREADY too late: the thread is dead, and DEATH was to be given up or
 * taken up, or QUIESCE to be taken up;
 * -%ESRCH the engine is detached, or the thread reaped; -%EINVAL unknown @events.
 */
int utrace_set_events(struct task_struct *target, struct utrace_engine *engine,
		      unsigned long events);

/**
 * utrace_barrier() - wait for a callback
 * @target: the thread, or what was it: it is compared only
 * @engine: on that thread, or detached from it
 *
 * Afterwards no callback is executing that began before.
 *
 * Context: May sleep.
 * Return: 0, at once if @target is current; -%ESRCH the engine is detached and
 * no callback of it is executing; -%ERESTARTSYS a signal came.
 */
int utrace_barrier(struct task_struct *target, struct utrace_engine *engine);

/**
 * utrace_detach() - detach an engine for certain
 * @target: the thread; may be dead, but a reference to it is held
 * @engine: on that thread, or detached from it
 *
 * UTRACE_DETACH and utrace_barrier() in one: afterwards no callback of @engine
 * is executing or will be, unless this is called by one.
 *
 * Context: May sleep.
 */
void utrace_detach(struct task_struct *target, struct utrace_engine *engine);

/**
 * utrace_prepare_examine() - wait until a stopped thread can be looked at
 * @target: the thread
 * @engine: has stopped it with UTRACE_STOP
 * @exam: for utrace_finish_examine()
 *
 * Afterwards the thread is off its CPU: what of its state is saved then, such
 * as that of the FPU, can be read. SIGKILL may wake it at any time.
 *
 * Context: May sleep.
 * Return: 0; -%EINVAL @engine has not asked for a stop; -%EAGAIN the thread has
 * not stopped yet, or was woken; -%ESRCH the engine is detached, or the thread
 * is dead.
 */
int utrace_prepare_examine(struct task_struct *target,
			   struct utrace_engine *engine,
			   struct utrace_examiner *exam);

/**
 * utrace_finish_examine() - ask whether what was read was true
 * @target: the thread
 * @engine: as of utrace_prepare_examine()
 * @exam: as of utrace_prepare_examine()
 *
 * Context: Process context. Does not sleep.
 * Return: 0 if the thread has been in the same stop all the time; if not, an
 * error as of utrace_prepare_examine().
 */
int utrace_finish_examine(struct task_struct *target,
			  struct utrace_engine *engine,
			  struct utrace_examiner *exam);

/**
 * utrace_get_regs() - copy the registers of a stopped thread
 * @target: the thread
 * @engine: has stopped it with UTRACE_STOP
 * @regs: where to
 *
 * Needs no utrace_prepare_examine(): it cannot go on during the call.
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or an error as of utrace_prepare_examine().
 */
int utrace_get_regs(struct task_struct *target, struct utrace_engine *engine,
		    struct pt_regs *regs);

/**
 * utrace_set_regs() - change the registers of a stopped thread
 * @target: the thread
 * @engine: has stopped it with UTRACE_STOP
 * @regs: what utrace_get_regs() gave, with changes
 *
 * As with ptrace, an interrupted system call that is to be restarted has its
 * number and its result in @regs, and is not restarted if the number is -1.
 * The flags that a debugger cannot change either stay as they are.
 *
 * Context: Process context. Does not sleep.
 * Return: 0, or an error as of utrace_prepare_examine(); -%EINVAL also for other
 * segments of code or stack.
 */
int utrace_set_regs(struct task_struct *target, struct utrace_engine *engine,
		    const struct pt_regs *regs);

/* The same for the thread of a struct pid; -ESRCH if there is none any more. */
int utrace_control_pid(struct pid *pid, struct utrace_engine *engine,
		       enum utrace_resume_action action);
int utrace_set_events_pid(struct pid *pid, struct utrace_engine *engine,
			  unsigned long events);
int utrace_barrier_pid(struct pid *pid, struct utrace_engine *engine);

/**
 * utrace_attach_process() - attach an engine to each thread of a process
 * @target: any thread of it
 * @events: what the engines are told of
 * @ops: their callbacks
 * @data: for the callbacks
 *
 * Threads that are created later get one before they run; children do not.
 *
 * Context: May sleep.
 * Return: What utrace_detach_process() takes, or an ERR_PTR(): -%ESRCH the
 * process exits; -%EPERM a kernel thread; -%EINVAL no @ops, or unknown @events;
 * -%EINTR the caller has been killed; -%ENOMEM.
 */
struct utrace_process *
utrace_attach_process(struct task_struct *target, unsigned long events,
		      const struct utrace_engine_ops *ops, void *data);

/**
 * utrace_detach_process() - detach the engines of a process
 * @process: of utrace_attach_process(), and not to be used any more
 *
 * To be called also if the process is gone. Afterwards no callback of theirs is
 * executing or will be, unless this is called by one.
 *
 * Context: May sleep.
 */
void utrace_detach_process(struct utrace_process *process);

/**
 * utrace_quiesce() - keep the threads of a process out of user mode
 * @pid: of any of its threads, in the caller's pid namespace
 *
 * When it returns, every thread that shares the process's memory is in the
 * kernel. One that sleeps in a system call is left asleep.
 *
 * Context: May sleep.
 * Return: What utrace_resume() takes, or an ERR_PTR(): -%ESRCH there is no such
 * process; -%EINVAL it is the kernel's; -%ENOMEM.
 */
struct utrace_quiesced *utrace_quiesce(pid_t pid);

/**
 * utrace_resume() - let a process go on
 * @quiesced: of utrace_quiesce(), and not to be used any more
 *
 * Context: Any.
 */
void utrace_resume(struct utrace_quiesced *quiesced);

#endif /* _LINUX_UTRACE_H */
