// SPDX-License-Identifier: GPL-2.0

//! What user mode on this CPU has besides its saved registers: single words of its memory, its
//! shadow stack and its debug state.
//!
//! Everything here is about the current thread and its address space.
//!
//! C headers: [`include/linux/uaccess.h`](srctree/include/linux/uaccess.h),
//! [`arch/x86/include/asm/shstk.h`](srctree/arch/x86/include/asm/shstk.h),
//! [`arch/x86/include/asm/debugreg.h`](srctree/arch/x86/include/asm/debugreg.h)

use crate::{
    bindings,
    error::to_result,
    prelude::*,
    transmute::FromBytes,
    uaccess::UserPtr, //
};
use core::mem::MaybeUninit;

/// What `get_user()` or `put_user()` has returned: there is but one error, which `to_result()`
/// would take a call to find out.
#[inline(always)]
fn accessed(ret: c_int) -> Result {
    if ret == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Makes a result of what an access without faults has returned.
#[inline(always)]
fn done(done: bool) -> Result {
    done.then_some(()).ok_or(EFAULT)
}

macro_rules! word {
    (
        $ty:ty, $read:ident, $get:ident, $write:ident, $put:ident,
        $try_read:ident, $get_nofault:ident, $try_write:ident, $put_nofault:ident
    ) => {
        #[doc = concat!("Reads a `", stringify!($ty), "` from user memory in one access.")]
        ///
        /// May sleep. Fails with `EFAULT` where user mode could not read.
        #[inline]
        pub fn $read(ptr: UserPtr) -> Result<$ty> {
            let mut value = 0;
            // SAFETY: `value` is valid for writes, and `get_user()` checks the user pointer.
            accessed(unsafe { bindings::$get(&mut value, ptr.as_const_ptr().cast()) })?;
            Ok(value)
        }

        #[doc = concat!("Writes a `", stringify!($ty), "` to user memory in one access.")]
        ///
        /// May sleep. Fails with `EFAULT` where user mode could not write.
        #[inline]
        pub fn $write(ptr: UserPtr, value: $ty) -> Result {
            // SAFETY: `put_user()` checks the user pointer.
            accessed(unsafe { bindings::$put(value, ptr.as_mut_ptr().cast()) })
        }

        #[doc = concat!("As [`", stringify!($read), "`], but does not sleep.")]
        ///
        /// Fails with `EFAULT` also where the read would fault.
        #[inline]
        pub fn $try_read(ptr: UserPtr) -> Result<$ty> {
            let mut value = 0;
            let from = ptr.as_const_ptr().cast();
            // SAFETY: `value` is valid for writes, and the helper checks the user pointer.
            done(unsafe { bindings::$get_nofault(&mut value, from) })?;
            Ok(value)
        }

        #[doc = concat!("As [`", stringify!($write), "`], but does not sleep.")]
        ///
        /// Fails with `EFAULT` also where the write would fault.
        #[inline]
        pub fn $try_write(ptr: UserPtr, value: $ty) -> Result {
            // SAFETY: The helper checks the user pointer.
            done(unsafe { bindings::$put_nofault(value, ptr.as_mut_ptr().cast()) })
        }
    };
}

word! {
    u8, read_u8, get_user_u8, write_u8, put_user_u8,
    try_read_u8, get_user_nofault_u8, try_write_u8, put_user_nofault_u8
}
word! {
    u16, read_u16, get_user_u16, write_u16, put_user_u16,
    try_read_u16, get_user_nofault_u16, try_write_u16, put_user_nofault_u16
}
word! {
    u32, read_u32, get_user_u32, write_u32, put_user_u32,
    try_read_u32, get_user_nofault_u32, try_write_u32, put_user_nofault_u32
}
word! {
    u64, read_u64, get_user_u64, write_u64, put_user_u64,
    try_read_u64, get_user_nofault_u64, try_write_u64, put_user_nofault_u64
}

/// Reads a value from user memory, if its page is mapped. Does not sleep.
///
/// Fails with `EFAULT` otherwise.
pub fn peek<T: FromBytes>(ptr: UserPtr) -> Result<T> {
    let mut value = MaybeUninit::<T>::uninit();
    let to = value.as_mut_ptr().cast();
    // SAFETY: `value` is valid for a write of its size; the user pointer is checked, and a fault
    // is an error.
    let ret = unsafe { bindings::copy_from_user_nofault(to, ptr.as_const_ptr(), size_of::<T>()) };
    to_result(ret as c_int)?;
    // SAFETY: All of it has been written, and any bytes are a `T`.
    Ok(unsafe { value.assume_init() })
}

/// Whether calls and returns of this thread also push to and pop from a shadow stack.
#[inline]
pub fn has_shadow_stack() -> bool {
    // SAFETY: Only looks at the current task.
    unsafe { bindings::current_has_shadow_stack() }
}

/// Replaces the return address on the top of the shadow stack; nothing if there is none.
#[inline]
pub fn amend_shadow_stack(addr: usize) -> Result {
    // SAFETY: Only touches the current task's shadow stack, in a checked way.
    to_result(unsafe { bindings::shstk_update_last_frame(addr) })
}

/// Whether hardware breakpoints or watchpoints are armed while this thread runs.
#[inline]
pub fn has_hw_breakpoints() -> bool {
    // SAFETY: Only reads a per-CPU variable.
    unsafe { bindings::current_hw_breakpoint_active() }
}

/// Whether the trap flag traps after taken branches only (`PTRACE_SINGLEBLOCK`).
#[inline]
pub fn block_step() -> bool {
    // SAFETY: Only looks at the current task.
    unsafe { bindings::current_block_step() }
}

/// Makes the trap flag trap after taken branches only, or after every instruction.
///
/// Must be called with interrupts enabled.
#[inline]
pub fn set_block_step(on: bool) {
    // SAFETY: `set_task_blockstep()` may always be called for the current task.
    unsafe { bindings::current_set_block_step(on) }
}
