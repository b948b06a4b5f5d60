// SPDX-License-Identifier: GPL-2.0

//! Words of the current thread's stack.

use kernel::{
    insn::Mode,
    prelude::*,
    ptregs::PtRegs,
    uaccess::UserPtr,
    user_thread, //
};

/// Returns the size of a return address.
#[inline]
pub(crate) fn word_size(mode: Mode) -> usize {
    match mode {
        Mode::Bits32 => size_of::<u32>(),
        Mode::Bits64 => size_of::<usize>(),
    }
}

/// Reads a word of the current thread's stack.
///
/// Context: may sleep.
#[inline]
pub(crate) fn read_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::read_u32(ptr)? as usize,
        Mode::Bits64 => user_thread::read_u64(ptr)? as usize,
    })
}

/// Reads a word of the current thread's stack, if its page is present. Does not sleep, because all
/// removals wait for a thread at a hit.
#[inline]
pub(crate) fn peek_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::try_read_u32(ptr)? as usize,
        Mode::Bits64 => user_thread::try_read_u64(ptr)? as usize,
    })
}

/// Returns the word on the top of the current thread's stack, where the thread has just pushed it.
/// Does not sleep, as [`peek_word`].
#[inline(always)]
pub(crate) fn return_address(regs: &PtRegs) -> Result<usize> {
    peek_word(regs.sp(), Mode::of(regs).ok_or(EINVAL)?)
}

/// Returns the mode of the current thread's process.
pub(crate) fn current_mode() -> Mode {
    match kernel::current!().mm() {
        Some(mm) => Mode::of_mm(mm),
        None => Mode::Bits64,
    }
}
