/* SPDX-License-Identifier: GPL-2.0 */
/*
 * utrace - engines on threads: events, and every thread of a process stopped
 *
 * The logic is Rust, in kernel/utrace/. This header holds the call sites'
 * side of it and what modules written in C may use.
 */
#ifndef _LINUX_UTRACE_H
#define _LINUX_UTRACE_H

#include <linux/jump_label_ratelimit.h>
#include <linux/sched.h>
#include <linux/types.h>

struct pt_regs;
struct utrace_quiesced;

#ifdef CONFIG_UTRACE

/* On while an engine is attached to, or a gate is raised for, any process. */
extern struct static_key_false_deferred utrace_active;

void utrace_init(void);
void __utrace_free_task(struct task_struct *task);
void __utrace_clone_locked(struct task_struct *child);
void __utrace_clone(struct task_struct *child, u64 clone_flags);
void __utrace_exec(void);
void __utrace_exit(long code, bool group_dead);
void __utrace_resume_user_mode(struct pt_regs *regs);

/*
 * Each hook below that branches on utrace_active is a NOP while nothing is
 * attached anywhere, and a load and a branch in the processes that nobody
 * looks at otherwise.
 */

/* A new task_struct was copied from current's; it has no engines yet. */
static inline void utrace_init_task(struct task_struct *task)
{
	task->utrace = NULL;
}

/* The last reference to @task is gone. */
static inline void utrace_free_task(struct task_struct *task)
{
	if (unlikely(task->utrace))
		__utrace_free_task(task);
}

/* @child becomes visible: tasklist_lock and siglock are held, no sleeping. */
static inline void utrace_clone_locked(struct task_struct *child)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone_locked(child);
}

/* @child is complete and has not run: the parent may sleep. */
static inline void utrace_clone(struct task_struct *child, u64 clone_flags)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_clone(child, clone_flags);
}

/* current has a new image; nothing can fail any more. */
static inline void utrace_exec(void)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_exec();
}

/* current exits: PF_EXITING is set, its memory is still there. */
static inline void utrace_exit(long code, bool group_dead)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_exit(code, group_dead);
}

/* TIF_NOTIFY_RESUME was set and is cleared: current goes to user mode next. */
static inline void utrace_resume_user_mode(struct pt_regs *regs)
{
	if (static_branch_unlikely(&utrace_active.key))
		__utrace_resume_user_mode(regs);
}

struct utrace_quiesced *utrace_quiesce(pid_t pid);
void utrace_resume(struct utrace_quiesced *quiesced);

#if IS_ENABLED(CONFIG_UPROBES_TEST)
/* How often an engine on a process has been told of an event. */
struct utrace_counts {
	long clone_thread;
	long clone_process;
	long exec;
	long exit;
	long last_exit;
	long quiesce;
};

struct utrace_counter;

struct utrace_counter *utrace_count(pid_t pid);
void utrace_counts(struct utrace_counter *counter,
		   struct utrace_counts *counts);
int utrace_count_report(struct utrace_counter *counter, pid_t tid);
void utrace_count_end(struct utrace_counter *counter);
#endif

#else /* !CONFIG_UTRACE */

static inline void utrace_init_task(struct task_struct *task)
{
}

static inline void utrace_free_task(struct task_struct *task)
{
}

static inline void utrace_clone_locked(struct task_struct *child)
{
}

static inline void utrace_clone(struct task_struct *child, u64 clone_flags)
{
}

static inline void utrace_exec(void)
{
}

static inline void utrace_exit(long code, bool group_dead)
{
}

static inline void utrace_resume_user_mode(struct pt_regs *regs)
{
}

#endif /* !CONFIG_UTRACE */
#endif /* _LINUX_UTRACE_H */
