// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>
#include <asm/syscall.h>

__rust_helper int rust_helper_current_syscall_nr(struct pt_regs *regs)
{
	return syscall_get_nr(current, regs);
}

__rust_helper bool rust_helper_current_syscall_is_ia32(void)
{
	return syscall_get_arch(current) == AUDIT_ARCH_I386;
}

/* @args must have six entries. */
__rust_helper void
rust_helper_current_syscall_arguments(struct pt_regs *regs,
				      unsigned long *args)
{
	syscall_get_arguments(current, regs, args);
}

__rust_helper long rust_helper_current_syscall_result(struct pt_regs *regs)
{
	return syscall_get_return_value(current, regs);
}
