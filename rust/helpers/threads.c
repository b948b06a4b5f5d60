// SPDX-License-Identifier: GPL-2.0

#include <linux/pid.h>
#include <linux/ptrace.h>
#include <linux/resume_user_mode.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>
#include <linux/sched/task_stack.h>
#include <linux/smp.h>
#include <trace/events/ipi.h>

__rust_helper void rust_helper_tasklist_read_lock(void)
{
	read_lock(&tasklist_lock);
}

__rust_helper void rust_helper_tasklist_read_unlock(void)
{
	read_unlock(&tasklist_lock);
}

__rust_helper void rust_helper_task_lock(struct task_struct *task)
{
	task_lock(task);
}

__rust_helper void rust_helper_task_unlock(struct task_struct *task)
{
	task_unlock(task);
}

__rust_helper struct task_struct *
rust_helper_next_thread(struct task_struct *task)
{
	return __next_thread(task);
}

__rust_helper struct task_struct *
rust_helper_next_task(struct task_struct *task)
{
	return next_task(task);
}

__rust_helper bool rust_helper_cpu_possible(int cpu)
{
	return cpu_possible(cpu);
}

__rust_helper void rust_helper_set_notify_resume(struct task_struct *task)
{
	set_notify_resume(task);
}

/*
 * As set_notify_resume(), but does not interrupt the CPU that executes @task.
 */
__rust_helper void rust_helper_set_tsk_notify_resume(struct task_struct *task)
{
	set_tsk_thread_flag(task, TIF_NOTIFY_RESUME);
}

/*
 * Returns %NULL if the owner is not known. The result is valid under RCU only,
 * and its mm may have changed.
 */
__rust_helper struct task_struct *rust_helper_mm_owner(struct mm_struct *mm)
{
#ifdef CONFIG_MEMCG
	return rcu_dereference(mm->owner);
#else
	return NULL;
#endif
}

__rust_helper int rust_helper_fatal_signal_pending(struct task_struct *task)
{
	return fatal_signal_pending(task);
}

__rust_helper void rust_helper_set_tsk_sigpending(struct task_struct *task)
{
	set_tsk_thread_flag(task, TIF_SIGPENDING);
}

__rust_helper void rust_helper_clear_tsk_sigpending(struct task_struct *task)
{
	clear_tsk_thread_flag(task, TIF_SIGPENDING);
}

__rust_helper int rust_helper_task_sigpending(struct task_struct *task)
{
	return task_sigpending(task);
}

__rust_helper bool rust_helper_ptrace_may_attach(struct task_struct *task)
{
	return ptrace_may_access(task, PTRACE_MODE_ATTACH_REALCREDS);
}

__rust_helper struct mm_struct *
rust_helper_mm_access_attach(struct task_struct *task)
{
	return mm_access(task, PTRACE_MODE_ATTACH_REALCREDS);
}

__rust_helper int rust_helper_mm_users_acquire(struct mm_struct *mm)
{
	return atomic_read_acquire(&mm->mm_users);
}

__rust_helper void rust_helper_interrupt_this_cpu(void)
{
#ifdef CONFIG_SMP
	smp_send_reschedule(raw_smp_processor_id());
#endif
}

#ifdef CONFIG_X86_64
/* A thread that has exited may have lost its stack. */
__rust_helper bool rust_helper_task_user_ip(struct task_struct *task,
					    unsigned long *ip)
{
	if (!try_get_task_stack(task))
		return false;
	*ip = READ_ONCE(task_pt_regs(task)->ip);
	put_task_stack(task);
	return true;
}

__rust_helper bool
rust_helper_task_exchange_user_ip(struct task_struct *task, unsigned long from,
				  unsigned long to)
{
	bool exchanged;

	if (!try_get_task_stack(task))
		return false;
	exchanged = try_cmpxchg(&task_pt_regs(task)->ip, &from, to);
	put_task_stack(task);
	return exchanged;
}
#endif
