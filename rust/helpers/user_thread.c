// SPDX-License-Identifier: GPL-2.0

#include <linux/sched.h>
#include <linux/thread_info.h>
#include <linux/uaccess.h>
#include <asm/debugreg.h>
#include <linux/processor.h>
#include <asm/prctl.h>
#include <asm/shstk.h>

__rust_helper int rust_helper_get_user_u8(u8 *val, const u8 __user *ptr)
{
	return get_user(*val, ptr);
}

__rust_helper int rust_helper_get_user_u16(u16 *val, const u16 __user *ptr)
{
	return get_user(*val, ptr);
}

__rust_helper int rust_helper_get_user_u32(u32 *val, const u32 __user *ptr)
{
	return get_user(*val, ptr);
}

__rust_helper int rust_helper_get_user_u64(u64 *val, const u64 __user *ptr)
{
	return get_user(*val, ptr);
}

__rust_helper int rust_helper_put_user_u8(u8 val, u8 __user *ptr)
{
	return put_user(val, ptr);
}

__rust_helper int rust_helper_put_user_u16(u16 val, u16 __user *ptr)
{
	return put_user(val, ptr);
}

__rust_helper int rust_helper_put_user_u32(u32 val, u32 __user *ptr)
{
	return put_user(val, ptr);
}

__rust_helper int rust_helper_put_user_u64(u64 val, u64 __user *ptr)
{
	return put_user(val, ptr);
}

/*
 * As get_user() and put_user(), but these return false for a page that is
 * absent or not writable, and do not wait for it.
 */
#define DEFINE_USER_NOFAULT(type)						\
__rust_helper bool								\
rust_helper_get_user_nofault_##type(typeof(type) *val, const type __user *ptr)	\
{										\
	pagefault_disable();							\
	scoped_user_read_access(ptr, failed)					\
		unsafe_get_user(*val, ptr, failed);				\
	pagefault_enable();							\
	return true;								\
failed:										\
	pagefault_enable();							\
	return false;								\
}										\
										\
__rust_helper bool								\
rust_helper_put_user_nofault_##type(type val, type __user *ptr)			\
{										\
	pagefault_disable();							\
	scoped_user_write_access(ptr, failed)					\
		unsafe_put_user(val, ptr, failed);				\
	pagefault_enable();							\
	return true;								\
failed:										\
	pagefault_enable();							\
	return false;								\
}

DEFINE_USER_NOFAULT(u8)
DEFINE_USER_NOFAULT(u16)
DEFINE_USER_NOFAULT(u32)
DEFINE_USER_NOFAULT(u64)

/* As shstk_is_enabled(), without a call, because each hit of a call uses it. */
__rust_helper bool rust_helper_current_has_shadow_stack(void)
{
#ifdef CONFIG_X86_USER_SHADOW_STACK
	return current->thread.features & ARCH_SHSTK_SHSTK;
#else
	return false;
#endif
}

__rust_helper int rust_helper_shstk_update_last_frame(unsigned long val)
{
	return shstk_update_last_frame(val);
}

__rust_helper int rust_helper_shstk_drop_frame(void)
{
	return shstk_pop(NULL);
}

/* Debug registers follow the task, so the result does not depend on the CPU. */
__rust_helper bool rust_helper_current_hw_breakpoint_active(void)
{
	return this_cpu_read(cpu_dr7) & DR_GLOBAL_ENABLE_MASK;
}

__rust_helper bool rust_helper_current_block_step(void)
{
	return test_thread_flag(TIF_BLOCKSTEP);
}

__rust_helper void rust_helper_current_set_block_step(bool on)
{
	set_task_blockstep(current, on);
}
