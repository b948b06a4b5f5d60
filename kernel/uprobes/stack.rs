// SPDX-License-Identifier: GPL-2.0

//! Words of the current thread's stack.

use kernel::{
    insn::Mode,
    prelude::*,
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

/// Reads a word of the current thread's stack, if its page is present. Does not sleep, because
/// unregistration waits for threads at a hit.
// As a function of its own, it takes 20 instructions more.
#[inline(always)]
pub(crate) fn peek_word(at: usize, mode: Mode) -> Result<usize> {
    let ptr = UserPtr::from_addr(at);
    Ok(match mode {
        Mode::Bits32 => user_thread::try_read_u32(ptr)? as usize,
        Mode::Bits64 => user_thread::try_read_u64(ptr)? as usize,
    })
}

/// Returns whether an address of the current thread's process may be mapped. Returns `true` if
/// `mmap_lock` is held by a writer, because this must not wait.
#[cold]
pub(crate) fn is_mapped(at: usize) -> bool {
    let task = kernel::current!();
    let Some(mm) = task.mm() else {
        return false;
    };
    let mmap = mm.mmap_read_trylock();
    mmap.is_none_or(|mmap| mmap.vma_lookup(at).is_some())
}

/// Returns the mode of the current thread's process.
pub(crate) fn current_mode() -> Mode {
    match kernel::current!().mm() {
        Some(mm) => Mode::from_mm(mm),
        None => Mode::Bits64,
    }
}
