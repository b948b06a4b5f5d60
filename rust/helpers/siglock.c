// SPDX-License-Identifier: GPL-2.0

#include <linux/cgroup.h>
#include <linux/kernel.h>
#include <linux/ptrace.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/signal.h>
#include <linux/task_work.h>
#include <linux/thread_info.h>
#include <linux/utrace_hooks.h>

/*
 * Takes the lock as lock_task_sighand() does. Disabling interrupts is counted,
 * so that the locks of several tasks may be released in any order.
 */
__rust_helper bool rust_helper_lock_task_siglock(struct task_struct *task)
{
	struct sighand_struct *sighand;

	guard(rcu)();
	while ((sighand = rcu_dereference(task->sighand))) {
		spin_lock_irq_disable(&sighand->siglock);
		if (likely(sighand == rcu_access_pointer(task->sighand)))
			return true;
		spin_unlock_irq_enable(&sighand->siglock);
	}
	return false;
}

__rust_helper void rust_helper_unlock_task_siglock(struct task_struct *task)
{
	spin_unlock_irq_enable(&task->sighand->siglock);
}

__rust_helper void rust_helper_signal_wake_up(struct task_struct *task)
{
	signal_wake_up(task, false);
}

/* As in prepare_signal(): the task must not exit, nor be dumped. */
__rust_helper bool rust_helper_takes_signals(struct task_struct *task)
{
	return !(task->flags & PF_EXITING) &&
	       !(task->signal->flags & SIGNAL_GROUP_EXIT);
}

/* Makes the task check again the signals that engines hold back. */
__rust_helper void rust_helper_release_held_signals(struct task_struct *task)
{
	if (utrace_release_held(task))
		signal_wake_up(task, false);
}

__rust_helper bool rust_helper_sigstop_pending(struct task_struct *task)
{
	return sigismember(&task->pending.signal, SIGSTOP) ||
	       sigismember(&task->signal->shared_pending.signal, SIGSTOP);
}

__rust_helper int rust_helper___fatal_signal_pending(struct task_struct *task)
{
	return __fatal_signal_pending(task);
}

__rust_helper void rust_helper_set_special_state(unsigned int state)
{
	set_special_state(state);
}

__rust_helper void rust_helper_set_current_running(void)
{
	__set_current_state(TASK_RUNNING);
}

__rust_helper void rust_helper_cgroup_enter_frozen(void)
{
	cgroup_enter_frozen();
}

__rust_helper void rust_helper_cgroup_leave_frozen(bool always_leave)
{
	cgroup_leave_frozen(always_leave);
}

/* Runs the work that task_work_add() queued with TWA_SIGNAL. */
__rust_helper void rust_helper_run_notify_signal(void)
{
	clear_notify_signal();
	if (unlikely(task_work_pending(current)))
		task_work_run();
}

__rust_helper bool rust_helper_sig_kernel_ignore(int signr)
{
	return sig_kernel_ignore(signr);
}

__rust_helper bool rust_helper_sig_kernel_stop(int signr)
{
	return sig_kernel_stop(signr);
}

__rust_helper bool rust_helper_sig_kernel_coredump(int signr)
{
	return sig_kernel_coredump(signr);
}

/* True for an init process, except for signals that cannot be caught. */
__rust_helper bool rust_helper_current_unkillable_by(int signr)
{
	return (current->signal->flags & SIGNAL_UNKILLABLE) &&
	       !sig_kernel_only(signr);
}

#ifdef CONFIG_GENERIC_ENTRY
__rust_helper void rust_helper_set_task_syscall_work_utrace(struct task_struct *task)
{
	set_task_syscall_work(task, UTRACE);
}

__rust_helper void rust_helper_clear_task_syscall_work_utrace(struct task_struct *task)
{
	clear_task_syscall_work(task, UTRACE);
}
#endif

/* True if a debugger or an engine has set TF, and not the program. */
__rust_helper bool rust_helper_task_forced_tf(struct task_struct *task)
{
	return test_tsk_thread_flag(task, TIF_FORCED_TF);
}

__rust_helper void rust_helper_clear_task_forced_tf(struct task_struct *task)
{
	clear_tsk_thread_flag(task, TIF_FORCED_TF);
}

__rust_helper bool rust_helper_arch_has_single_step(void)
{
	return arch_has_single_step();
}

__rust_helper bool rust_helper_arch_has_block_step(void)
{
	return arch_has_block_step();
}

__rust_helper struct pt_regs *rust_helper_task_user_regs(struct task_struct *task)
{
	return task_pt_regs(task);
}

__rust_helper void rust_helper_non_block_start(void)
{
	non_block_start();
}

__rust_helper void rust_helper_non_block_end(void)
{
	non_block_end();
}
