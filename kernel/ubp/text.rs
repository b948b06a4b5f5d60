// SPDX-License-Identifier: GPL-2.0

//! Changes to the text of one process, in private copies of its pages.
//!
//! A breakpoint is written as one byte into a page that stays mapped, while every thread that could
//! execute the byte is out of user mode ([`ThreadsStopped`]). Many architectures allow a change of
//! the first byte of an instruction while other CPUs execute it, but their emulators are less
//! reliable in this, and on every architecture it is safe to stop the threads for the duration of a
//! store.
//!
//! Before that, an ordinary write fault makes the page private. While the threads are stopped, the
//! kernel neither waits nor allocates.
//!
//! When the last difference from the file is gone, the file's own page is mapped again.
//!
//! The program may store to its text at any time, also while its threads are stopped: by a system
//! call, or from another process that shares the page. Therefore the byte is exchanged atomically,
//! and the rest of the instruction is compared after the threads have been stopped.

use crate::{
    access,
    breakpoint::{
        Breakpoint,
        BreakpointState, //
    },
    insert::InsertError,
    space::Space, //
};

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
    length,
    Mode,
    ProbedInsn,
    Refusal,
    Vaddr,
    BREAKPOINT,
    MAX_INSN_SIZE, //
};
use utrace::{
    quiesce_mm,
    Quiesced, //
};

/// Bytes of text, up to the first byte that is unavailable.
pub(crate) struct Code {
    bytes: [u8; MAX_INSN_SIZE],
    len: usize,
    /// Whether more bytes follow in a page that is not present.
    has_more: bool,
}

impl Code {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Returns the error for an instruction that ends behind these bytes.
    pub(crate) fn cut_off(&self) -> InsertError {
        if self.has_more {
            InsertError::Errno(EAGAIN)
        } else {
            InsertError::Refused(Refusal::CutOff)
        }
    }

    fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or(&mut [])
    }
}

/// Returns the mapping of an address if its text may be probed.
///
/// # Errors
///
/// `EINVAL`: unmapped, not executable, shared, or not ordinary memory.
pub(crate) fn text_vma<'a>(mmap: &'a MmapWrite<'_>, at: Vaddr) -> Result<&'a VmaRef> {
    mmap.vma_lookup(at.as_usize())
        .filter(|vma| vma.is_private_text())
        .ok_or(EINVAL)
}

/// Reads the program's text from an address on, without breakpoints, up to the end of executable
/// memory.
///
/// # Errors
///
/// As for [`text_vma`], and for [`MmapWrite::page`] for the first byte.
pub(crate) fn read(mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Code> {
    let mut code = Code {
        bytes: [0; MAX_INSN_SIZE],
        len: 0,
        has_more: false,
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
            // The instruction may end before the missing page.
            Err(error) => {
                code.has_more = error == EAGAIN;
                break;
            }
        }
    }
    if let Some(space) = Space::from_mm(mmap.mm()) {
        access::hide(space, at.as_usize(), code.as_mut_bytes());
    }
    Ok(code)
}

/// The reason why no thread executes the text that is being changed.
pub(crate) enum ThreadsStopped {
    /// All threads are kept out of user mode.
    Quiesced(#[expect(dead_code, reason = "held, not used")] Quiesced),
    /// The process is a copy that no thread has executed yet.
    NotStarted,
}

impl ThreadsStopped {
    /// Stops the threads that use `mm`, which is the address space of `space`.
    pub(crate) fn threads_of(space: &Space, mm: &ARef<MmWithUser>) -> Result<Self> {
        let quiesced = quiesce_mm(space.users(mm), space.utrace())?;
        Ok(Self::Quiesced(quiesced))
    }
}

/// Reads one byte of text that is present, in a mapping of any kind.
pub(crate) fn read_byte(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<u8> {
    let mut byte = [0];
    let page = mmap.page(at.as_usize()).ok()?;
    (page.read(at.offset_in_page(), &mut byte) == 1).then_some(byte[0])
}

/// The pages of a byte of text that is about to be changed, and of the bytes that follow it.
struct Pages<'a> {
    at: Vaddr,
    /// The bytes that the text is expected to hold.
    expected: &'a [u8],
    first: PrivatePage<'a>,
    second: Option<UserPage>,
}

impl<'a> Pages<'a> {
    /// Returns the pages of the bytes `expected` at `at`, which begin in `first`. A second page
    /// that was swapped out is read back. If the second page belongs to a file and is not in
    /// memory, it is left out, because the filesystem may need `mmap_lock` to read it.
    fn new(mmap: &MmapWrite<'_>, at: Vaddr, expected: &'a [u8], first: PrivatePage<'a>) -> Self {
        let end = at.checked_add(expected.len().saturating_sub(1));
        let second = end.filter(|end| end.page() != at.page()).and_then(|end| {
            let end = end.as_usize();
            mmap.page(end).ok().or_else(|| {
                let page = mmap.own_page(end).ok().flatten();
                page.map(PrivatePage::into_page)
            })
        });
        Self {
            at,
            expected,
            first,
            second,
        }
    }

    fn first_byte(&self) -> Option<u8> {
        let mut byte = [0];
        let offset = self.at.offset_in_page();
        (self.first.read(offset, &mut byte) == 1).then_some(byte[0])
    }

    /// Compares the text with the expected bytes, except for the first byte. Breakpoints count as
    /// the bytes that they displace. Returns the number of bytes that are present, or `None` if a
    /// byte differs.
    fn hold_rest(&self, space: &Space) -> Option<usize> {
        let mut buf = [0; MAX_INSN_SIZE];
        let bytes = buf.get_mut(..self.expected.len())?;
        let mut len = self.first.read(self.at.offset_in_page(), bytes);
        if let (Some(second), Some(rest)) = (&self.second, bytes.get_mut(len..)) {
            len += second.read(0, rest);
        }
        access::compare(space, self.at, self.expected, bytes.get(..len)?)
    }

    /// Changes the first byte from `old` to `new`. Returns whether the byte was `old`.
    fn exchange(&self, old: u8, new: u8, _stopped: &ThreadsStopped) -> bool {
        self.first.exchange_byte(self.at.offset_in_page(), old, new)
    }
}

/// Faults in the text at an address as a private copy. The caller may wait for a filesystem, or for
/// the server of a userfaultfd, and must not hold a lock that these may need.
///
/// # Errors
///
/// As for [`MmWithUser::fault_in`].
pub fn fault_in(mm: &MmWithUser, at: Vaddr) -> Result {
    mm.fault_in(at.as_usize(), true)?;
    fault_in_end(mm, at)
}

/// Faults in the text at an address, as [`fault_in`] does, but not as a private copy.
///
/// # Errors
///
/// `EFAULT`: there is no readable text. `EINTR`: the caller has received a signal.
pub fn fault_in_to_read(mm: &MmWithUser, at: Vaddr) -> Result {
    mm.fault_in(at.as_usize(), false)?;
    fault_in_end(mm, at)
}

/// Faults in the page after that of an address, if the instruction there may end in it.
fn fault_in_end(mm: &MmWithUser, at: Vaddr) -> Result {
    let end = at.checked_add(MAX_INSN_SIZE - 1);
    let Some(end) = end.filter(|end| end.page() != at.page()) else {
        return Ok(());
    };
    let Err(error) = mm.fault_in(end.as_usize(), false) else {
        return Ok(());
    };
    // The page is not needed if the instruction ends before it.
    let mmap = mm.mmap_write_lock_killable()?;
    let code = read(&mmap, at)?;
    if code.has_more && length(code.as_bytes(), Mode::from_mm(mm)).is_none() {
        Err(error)
    } else {
        Ok(())
    }
}

/// Writes the breakpoint to `page`. Calls `publish` before the byte is changed, and `stop` after
/// `publish`. If an error occurs after that, the byte is unchanged.
///
/// # Errors
///
/// `EAGAIN`: the program has changed the instruction, which must be decoded again. Other errors as
/// for `publish` and `stop`.
pub(crate) fn arm(
    space: &Space,
    mmap: &MmapWrite<'_>,
    insn: &ProbedInsn,
    page: PrivatePage<'_>,
    publish: impl FnOnce() -> Result,
    stop: impl FnOnce() -> Result<ThreadsStopped>,
) -> Result {
    let bytes = insn.bytes();
    let original = *bytes.first().ok_or(EINVAL)?;
    let pages = Pages::new(mmap, insn.at(), bytes, page);
    publish()?;
    let stopped = stop()?;
    let is_whole = pages.hold_rest(space) == Some(bytes.len());
    if is_whole && pages.exchange(original, BREAKPOINT, &stopped) {
        Ok(())
    } else {
        Err(EAGAIN)
    }
}

/// The original bytes of the text at a breakpoint.
pub(crate) struct Displaced {
    at: Vaddr,
    /// [`Breakpoint::evidence`], in the first `len` bytes.
    bytes: [u8; MAX_INSN_SIZE],
    len: u8,
    /// Whether the pages were discarded since, so that the byte in the place of the breakpoint may
    /// belong to any contents.
    is_lost: bool,
}

impl Displaced {
    /// Returns the original bytes at a breakpoint, if the text may hold its `int3`.
    pub(crate) fn new(bp: &Breakpoint) -> Option<Self> {
        let is_lost = match bp.state() {
            BreakpointState::Armed | BreakpointState::Stale => false,
            BreakpointState::Lost => true,
            BreakpointState::Overwritten | BreakpointState::Removed => return None,
        };
        let mut bytes = [0; MAX_INSN_SIZE];
        let mut len = 0;
        for (to, from) in bytes.iter_mut().zip(bp.evidence()) {
            *to = *from;
            len += 1;
        }
        Some(Self {
            at: bp.at(),
            bytes,
            len,
            is_lost,
        })
    }

    pub(crate) fn at(&self) -> Vaddr {
        self.at
    }

    /// Returns the byte that the `int3` displaces.
    pub(crate) fn original(&self) -> Option<u8> {
        self.bytes().first().copied()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&[])
    }
}

/// The result of [`restore`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Restored {
    /// The text held the breakpoint, and the original byte has been restored.
    Written,
    /// The text was changed by the program or a debugger, and is left as it is.
    Foreign,
}

/// Restores the original byte where the text still holds the breakpoint. Calls `stop` when the page
/// is present.
///
/// If a program overwrites text with data, a byte of the data may look like a breakpoint. Therefore
/// the bytes of [`Breakpoint::evidence`] must match. Bytes in a page that is not in memory are not
/// compared. If the text was lost, the mapping must then be executable, because only a few bytes or
/// none are compared.
///
/// # Errors
///
/// If the page is unavailable, or the threads cannot be stopped: the text is unchanged. The
/// function waits neither for a filesystem nor for a userfaultfd, because it restores the contents
/// that the program wrote.
pub(crate) fn restore(
    space: &Space,
    mmap: &MmapWrite<'_>,
    displaced: &Displaced,
    stop: impl FnOnce() -> Result<ThreadsStopped>,
) -> Result<Restored> {
    let at = displaced.at();
    let original = displaced.original().ok_or(EINVAL)?;
    let vma = match text_or_was(mmap, at) {
        Err(_) if displaced.is_lost => return Ok(Restored::Foreign),
        vma => vma?,
    };
    // Breakpoints are only in private pages.
    let Some(page) = mmap.own_page(at.as_usize())? else {
        return Ok(Restored::Foreign);
    };
    let pages = Pages::new(mmap, at, displaced.bytes(), page);
    // Threads are only stopped if the text has to be changed.
    if pages.first_byte() != Some(BREAKPOINT) {
        return Ok(Restored::Foreign);
    }
    let stopped = stop()?;
    let is_ours = pages.hold_rest(space).is_some_and(|len| {
        !displaced.is_lost || len == MAX_INSN_SIZE || vma.flags() & flags::EXEC != 0
    });
    if is_ours && pages.exchange(BREAKPOINT, original, &stopped) {
        Ok(Restored::Written)
    } else {
        Ok(Restored::Foreign)
    }
}

/// Returns the mapping of text that was probed, which may have been made non-executable since, and
/// is still restored.
fn text_or_was<'a>(mmap: &'a MmapWrite<'_>, at: Vaddr) -> Result<&'a VmaRef> {
    const SHARED: vm_flags_t = flags::SHARED | flags::MAYSHARE;
    let vma = mmap.vma_lookup(at.as_usize()).ok_or(EFAULT)?;
    if vma.flags() & SHARED != 0 {
        return Err(EFAULT);
    }
    Ok(vma)
}

/// Maps the page of the file or the vDSO again in place of the private copy at `page`, if the
/// contents are identical. The caller must know of no breakpoint left in the page.
///
/// If faults in the mapping are reported to a userfaultfd, the copy stays, because the change would
/// not be reported. It also stays if the page of the file is not in the page cache, because the
/// lock would have to be held until the file's server answers a read, and the server may be this
/// very process.
pub(crate) fn give_back_page(mmap: &MmapWrite<'_>, page: Vaddr) {
    let addr = page.page().as_usize();
    let Some(vma) = mmap.vma_lookup(addr) else {
        return;
    };
    if !vma.is_userfault() && mmap.drop_copy(addr) && vma.is_locked() {
        // Locked memory stays resident. The page has just been compared, so it is in memory. If it
        // is unavailable now, it is faulted in later.
        let _ = mmap.populate(addr);
    }
}
