// SPDX-License-Identifier: GPL-2.0

#include <linux/mmu_context.h>
#include <asm/ptrace.h>

__rust_helper bool rust_helper_user_64bit_mode(struct pt_regs *regs)
{
	return user_64bit_mode(regs);
}

/*
 * Clears the FRED flag in the slot of the stack segment which says that the
 * event came from an instruction (INT n, INT3, SYSCALL). ERETU traps at once if
 * both this flag and TF are set.
 */
__rust_helper void rust_helper_ptregs_forget_software_event(struct pt_regs *regs)
{
#ifdef CONFIG_X86_FRED
	regs->fred_ss.swevent = 0;
#endif
}

__rust_helper struct pt_regs *rust_helper_current_user_regs(void)
{
	return current_pt_regs();
}

__rust_helper bool rust_helper_is_64bit_mm(struct mm_struct *mm)
{
	return is_64bit_mm(mm);
}
