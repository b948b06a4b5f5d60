// SPDX-License-Identifier: GPL-2.0

#include <linux/sched/signal.h>
#include <asm/syscall.h>

__rust_helper void rust_helper_utrace_set_syscall_nr(struct pt_regs *regs,
						     int nr)
{
	syscall_set_nr(current, regs, nr);
}

/* @args must have six entries. */
__rust_helper void
rust_helper_utrace_set_syscall_arguments(struct pt_regs *regs,
					 const unsigned long *args)
{
	syscall_set_arguments(current, regs, args);
}

/* Returns the error, or else 0 and the result in @value. */
__rust_helper long rust_helper_utrace_syscall_result(struct pt_regs *regs,
						     long *value)
{
	*value = syscall_get_return_value(current, regs);
	return syscall_get_error(current, regs);
}

__rust_helper void rust_helper_utrace_set_syscall_result(struct pt_regs *regs,
							 int error, long value)
{
	syscall_set_return_value(current, regs, error, value);
}

/* Returns the action of the current process for signal @sig. */
__rust_helper struct k_sigaction rust_helper_utrace_current_sigaction(int sig)
{
	struct k_sigaction ka;

	spin_lock_irq(&current->sighand->siglock);
	ka = current->sighand->action[sig - 1];
	spin_unlock_irq(&current->sighand->siglock);
	return ka;
}
