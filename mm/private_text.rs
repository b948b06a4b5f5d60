// SPDX-License-Identifier: GPL-2.0

//! Changing the text of one process: the byte in a private copy of its page, and the file's own
//! page back in place when nothing is different any more.
//!
//! The byte is written into a page that stays mapped, while every thread that could execute it is
//! out of user mode ([`Stopped`]). Many architectures allow to change the first byte of an
//! instruction while others execute it; emulators of these are less sure of it, and no architecture
//! minds the threads being stopped for the length of a store.
//!
//! That the page becomes a private one is done by an ordinary write fault before that, and nothing
//! is waited for, or allocated, while the threads are stopped.

use crate::space::Space;

use kernel::{
    mm::{
        virt::{
            flags,
            vm_flags_t,
            VmaRef, //
        },
        write::{
            MmapWrite,
            PrivatePage,
            UserPage, //
        },
        MmWithUser, //
    },
    prelude::*,
    sync::aref::ARef, //
};
use ubp_arch::{
    Vaddr,
    BREAKPOINT,
    MAX_INSN_SIZE, //
};
use utrace::{
    quiesce_mm,
    Quiesced, //
};

/// Bytes of text, as many as could be had.
pub(crate) struct Code {
    bytes: [u8; MAX_INSN_SIZE],
    len: usize,
}

impl Code {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Replaces the byte at an offset, if there is one.
    pub(crate) fn patch(&mut self, offset: usize, byte: u8) {
        if let Some(at) = self
            .bytes
            .get_mut(..self.len)
            .and_then(|b| b.get_mut(offset))
        {
            *at = byte;
        }
    }
}

/// Returns the mapping of an address where text may be probed.
///
/// # Errors
///
/// `EINVAL`: unmapped, not executable, shared, or not ordinary memory.
pub(crate) fn text_vma<'a>(mmap: &'a MmapWrite<'_>, at: Vaddr) -> Result<&'a VmaRef> {
    mmap.vma_lookup(at.as_usize())
        .filter(|vma| vma.is_private_text())
        .ok_or(EINVAL)
}

/// Reads what the text holds from an address on, to the end of executable memory at most.
///
/// # Errors
///
/// As of [`text_vma`] and of the page fault for the first byte.
pub(crate) fn read(mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Code> {
    let mut code = Code {
        bytes: [0; MAX_INSN_SIZE],
        len: 0,
    };
    while let Some(rest) = code
        .bytes
        .get_mut(code.len..)
        .filter(|rest| !rest.is_empty())
    {
        let Some(addr) = at.checked_add(code.len) else {
            break;
        };
        let page = text_vma(mmap, addr).and_then(|_| mmap.page(addr.as_usize()));
        match page {
            Ok(page) => code.len += page.read(addr.offset_in_page(), rest),
            Err(error) if code.len == 0 => return Err(error),
            // The instruction may end before.
            Err(_) => break,
        }
    }
    Ok(code)
}

/// Why nobody executes the text that is being changed.
pub(crate) enum Stopped {
    /// All threads are kept out of user mode.
    Quiesced(#[expect(dead_code, reason = "held, not used")] Quiesced),
    /// The process is a copy that no thread has executed yet.
    NotStarted,
}

impl Stopped {
    /// Stops the threads that use `mm`, the address space of `space`.
    pub(crate) fn threads_of(space: &Space, mm: &ARef<MmWithUser>) -> Result<Self> {
        let quiesced = quiesce_mm(space.users(mm), space.utrace())?;
        Ok(Self::Quiesced(quiesced))
    }
}

/// Changes one byte of text.
fn write(page: &PrivatePage<'_>, at: Vaddr, byte: u8, _stopped: &Stopped) {
    page.write_byte(at.offset_in_page(), byte);
}

/// Reads one byte of text, whatever the mapping is like.
pub(crate) fn read_byte(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<u8> {
    mmap.vma_lookup(at.as_usize())?;
    byte_of(&mmap.page(at.as_usize()).ok()?, at)
}

fn byte_of(page: &UserPage, at: Vaddr) -> Option<u8> {
    let mut byte = [0];
    (page.read(at.offset_in_page(), &mut byte) == 1).then_some(byte[0])
}

/// Makes the text at an address present, in a private copy, which may mean to wait for who serves a
/// userfaultfd. No lock is to be held that anybody needs for that.
///
/// # Errors
///
/// As of [`MmWithUser::fault_in`].
pub fn fault_in(mm: &MmWithUser, at: Vaddr) -> Result {
    mm.fault_in(at.as_usize(), true)?;
    if let Some(last) = at.checked_add(MAX_INSN_SIZE - 1) {
        if last.page() != at.page() {
            // The instruction may end before: who reads it will tell.
            let _ = mm.fault_in(last.as_usize(), false);
        }
    }
    Ok(())
}

/// Writes the breakpoint. `publish` is called before the byte is changed; there may be an error
/// after that, and then it is not changed. `stop` is called last.
pub(crate) fn arm(
    mmap: &MmapWrite<'_>,
    at: Vaddr,
    publish: impl FnOnce() -> Result,
    stop: impl FnOnce() -> Result<Stopped>,
) -> Result {
    let page = mmap.private_page(at.as_usize())?;
    publish()?;
    let stopped = stop()?;
    write(&page, at, BREAKPOINT, &stopped);
    Ok(())
}

/// What [`restore`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restored {
    /// The breakpoint was there, and is not any more.
    Written,
    /// Somebody else has changed the text, which is left alone.
    Foreign,
}

/// Writes the original byte back, where the text still holds the breakpoint. `stop` is called when
/// the page is there.
///
/// # Errors
///
/// If the page cannot be had, or the threads not be stopped: the text is as it was. A page that is
/// there, and is the process's alone, can be had whatever happens: without memory, by a caller that
/// has been killed, and under the write protection of a userfaultfd, as what comes back is what the
/// program wrote.
pub(crate) fn restore(
    mmap: &MmapWrite<'_>,
    at: Vaddr,
    original: u8,
    stop: impl FnOnce() -> Result<Stopped>,
) -> Result<Restored> {
    text_or_was(mmap, at)?;
    let page = match mmap.own_page(at.as_usize()) {
        Some(page) => page,
        None if byte_of(&mmap.page(at.as_usize())?, at) == Some(BREAKPOINT) => {
            mmap.private_page(at.as_usize())?
        }
        None => return Ok(Restored::Foreign),
    };
    if byte_of(&page, at) != Some(BREAKPOINT) {
        return Ok(Restored::Foreign);
    }
    let stopped = stop()?;
    write(&page, at, original, &stopped);
    Ok(Restored::Written)
}

/// Text that was probed may have been made non-executable since; it is still restored.
fn text_or_was(mmap: &MmapWrite<'_>, at: Vaddr) -> Result {
    const SHARED: vm_flags_t = flags::SHARED | flags::MAYSHARE;
    let vma = mmap.vma_lookup(at.as_usize()).ok_or(EFAULT)?;
    if vma.flags() & SHARED != 0 {
        return Err(EFAULT);
    }
    Ok(())
}

/// Puts the file's own page, or the vDSO's, back in place of the private copy at `page`, if their
/// contents are the same. The caller knows of no breakpoint left in the page.
///
/// A mapping whose faults somebody is told of keeps its copy: he has not been told of that. So does
/// one whose file's page is not in the page cache: to read it, the lock would have to be held for
/// as long as the file's server takes to answer, which may be this very process.
pub(crate) fn give_back_page(mmap: &MmapWrite<'_>, page: Vaddr) {
    let addr = page.page().as_usize();
    let Some(vma) = mmap.vma_lookup(addr) else {
        return;
    };
    if !vma.is_userfault() && mmap.drop_copy(addr) && vma.is_locked() {
        // Locked memory stays resident. If the page cannot be had now, it is faulted in later.
        let _ = mmap.page(addr);
    }
}
