// SPDX-License-Identifier: GPL-2.0

#include <linux/cgroup.h>
#include <linux/kernel.h>
#include <linux/ptrace.h>
#include <linux/sched/jobctl.h>
#include <linux/sched/signal.h>
#include <linux/task_work.h>
#include <linux/thread_info.h>

__rust_helper void rust_helper_unlock_task_sighand(struct task_struct *task,
						   unsigned long *flags)
{
	unlock_task_sighand(task, flags);
}

__rust_helper void rust_helper_signal_wake_up(struct task_struct *task)
{
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

/* What was queued by task_work_add() with TWA_SIGNAL. */
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

/* As an init process is by all signals but those that cannot be caught. */
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
