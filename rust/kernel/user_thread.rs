// SPDX-License-Identifier: GPL-2.0

//! User state of the current thread besides its saved registers: single words of memory, the shadow
//! stack and the debug state.
//!
//! All functions act on the current thread and its address space.
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

/// Converts the return value of `get_user()` or `put_user()`. The only error is `EFAULT`, so this
/// avoids the call that `to_result()` takes.
#[inline(always)]
fn accessed(ret: c_int) -> Result {
    if ret == 0 {
        Ok(())
    } else {
        Err(EFAULT)
    }
}

/// Converts the return value of an access without faults.
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
        /// May sleep. Fails with `EFAULT` if user mode could not read the memory.
        #[inline]
        pub fn $read(ptr: UserPtr) -> Result<$ty> {
            let mut value = 0;
            // SAFETY: `value` is valid for writes, and `get_user()` checks the user pointer.
            accessed(unsafe { bindings::$get(&mut value, ptr.as_const_ptr().cast()) })?;
            Ok(value)
        }

        #[doc = concat!("Writes a `", stringify!($ty), "` to user memory in one access.")]
        ///
        /// May sleep. Fails with `EFAULT` if user mode could not write the memory.
        #[inline]
        pub fn $write(ptr: UserPtr, value: $ty) -> Result {
            // SAFETY: `put_user()` checks the user pointer.
            accessed(unsafe { bindings::$put(value, ptr.as_mut_ptr().cast()) })
        }

        #[doc = concat!("As [`", stringify!($read), "`], but does not sleep.")]
        ///
        /// Fails with `EFAULT` also if the read would fault.
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
        /// Fails with `EFAULT` also if the write would fault.
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
    // SAFETY: `value` is valid for a write of its size. `copy_from_user_nofault()` checks the user
    // pointer, and returns an error on a fault.
    let ret = unsafe { bindings::copy_from_user_nofault(to, ptr.as_const_ptr(), size_of::<T>()) };
    to_result(ret as c_int)?;
    // SAFETY: `copy_from_user_nofault()` has written all of `value`, and any bytes are a valid `T`.
    Ok(unsafe { value.assume_init() })
}

/// Returns whether calls and returns of this thread also use a shadow stack.
#[inline]
pub fn has_shadow_stack() -> bool {
    // SAFETY: `current_has_shadow_stack()` only reads a field of the current task.
    unsafe { bindings::current_has_shadow_stack() }
}

/// Replaces the return address on top of the shadow stack. Does nothing if there is none.
#[inline]
pub fn update_shadow_stack(addr: usize) -> Result {
    // SAFETY: `shstk_update_last_frame()` only accesses the current task's shadow stack, and checks
    // the access.
    to_result(unsafe { bindings::shstk_update_last_frame(addr) })
}

/// Takes a return address off the shadow stack, as a return does.
///
/// # Errors
///
/// `ENOTSUPP`: there is no shadow stack.
pub fn pop_shadow_stack() -> Result {
    // SAFETY: Changes a register of the current task only, and accesses no memory.
    to_result(unsafe { bindings::shstk_drop_frame() })
}

/// Returns whether hardware breakpoints or watchpoints are armed while this thread runs.
#[inline]
pub fn has_hw_breakpoints() -> bool {
    // SAFETY: `current_hw_breakpoint_active()` only reads a per-CPU variable.
    unsafe { bindings::current_hw_breakpoint_active() }
}

/// Returns whether the trap flag traps only after taken branches (`PTRACE_SINGLEBLOCK`).
#[inline]
pub fn block_step() -> bool {
    // SAFETY: `current_block_step()` only reads a flag of the current task.
    unsafe { bindings::current_block_step() }
}

/// Makes the trap flag trap only after taken branches if `on`, else after every instruction.
///
/// Must be called with interrupts enabled.
#[inline]
pub fn set_block_step(on: bool) {
    // SAFETY: `set_task_blockstep()` may be called for the current task at any time.
    unsafe { bindings::current_set_block_step(on) }
}
