// SPDX-License-Identifier: GPL-2.0

//! Changing the text of one process: the byte in a private copy of its page, and the file's own
//! page back in place when nothing is different any more.
//!
//! A single byte is written, into a page that stays mapped. Threads may execute the page meanwhile:
//! the architecture guarantees that they see the instruction with the old first byte or with the
//! new one. That the page becomes a private one is done by an ordinary write fault, which the
//! threads of the process notice as little.

use kernel::{
    mm::{
        virt::{
            flags,
            vm_flags_t,
            VmaRef, //
        },
        write::MmapWrite, //
    },
    page::PAGE_SIZE,
    prelude::*,
    sync::barrier::{
        smp_mb,
        Write, //
    },
};
use ubp_arch::{
    Vaddr,
    BREAKPOINT,
    MAX_INSN_SIZE, //
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

/// Writes the breakpoint. `publish` is called when nothing can fail any more, and before the byte
/// is changed.
pub(crate) fn arm(mmap: &MmapWrite<'_>, at: Vaddr, publish: impl FnOnce() -> Result) -> Result {
    let page = mmap.private_page(at.as_usize())?;
    publish()?;
    // Whoever reads the breakpoint from the text finds it published.
    smp_mb(Write);
    page.write_byte(at.offset_in_page(), BREAKPOINT);
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

/// Writes the original byte back, where the text still holds the breakpoint.
///
/// # Errors
///
/// If the page cannot be had: the text is as it was.
pub(crate) fn restore(mmap: &MmapWrite<'_>, at: Vaddr, original: u8) -> Result<Restored> {
    text_or_was(mmap, at)?;
    let mut byte = [0];
    mmap.page(at.as_usize())?
        .read(at.offset_in_page(), &mut byte);
    if byte != [BREAKPOINT] {
        return Ok(Restored::Foreign);
    }
    mmap.private_page(at.as_usize())?
        .write_byte(at.offset_in_page(), original);
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

/// Puts the file's own page back in place of the private copy at `page`, if their contents are the
/// same. The caller knows of no breakpoint left in the page.
///
/// A mapping that the process may write to keeps its copy: a thread could write to it between the
/// comparison and the exchange. So does one whose faults somebody is told of.
pub(crate) fn give_back_page(mmap: &MmapWrite<'_>, page: Vaddr) {
    let addr = page.page().as_usize();
    let Some(vma) = mmap.vma_lookup(addr) else {
        return;
    };
    if vma.flags() & flags::WRITE != 0 || vma.is_userfault() {
        return;
    }
    let (Ok(private), Some(original)) = (mmap.page(addr), vma.file_page(addr)) else {
        return;
    };
    // Nobody can write to the copy: the process may not, and debuggers need the mmap lock.
    if !private.is_anonymous() || private.is_pinned() || !private.equals(&original) {
        return;
    }
    drop(private);
    vma.zap_vma_range(addr, PAGE_SIZE);
    if vma.is_locked() {
        // Locked memory stays resident. If the page cannot be had now, it is faulted in later.
        let _ = mmap.page(addr);
    }
}
