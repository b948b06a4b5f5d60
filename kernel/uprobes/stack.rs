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

/// Reads a word of the current thread's stack, if its page is mapped. Does not sleep.
pub(crate) fn peek_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::peek::<u32>(ptr)? as usize,
        Mode::Bits64 => user_thread::peek::<u64>(ptr)? as usize,
    })
}

/// Returns the word on the top of the current thread's stack.
///
/// Context: may sleep.
#[inline(always)]
pub(crate) fn return_address(regs: &PtRegs) -> Result<usize> {
    read_word(regs.sp(), Mode::of(regs).ok_or(EINVAL)?)
}

/// Returns the mode of the current thread's process.
pub(crate) fn current_mode() -> Mode {
    match kernel::current!().mm() {
        Some(mm) => Mode::of_mm(mm),
        None => Mode::Bits64,
    }
}
