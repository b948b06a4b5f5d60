// SPDX-License-Identifier: GPL-2.0

//! Changing the text of one process: the byte in a private copy of its page, and the file's own
//! page back in place when nothing is different any more.
//!
//! The byte is written into a page that stays mapped, while every thread that could execute it is
//! out of user mode ([`Stopped`]). Many architectures allow to change the first byte of an
//! instruction while others execute it; emulators of these are less sure of it, and no architecture
//! minds the threads being stopped for the length of a store.
//!
//! The page becomes a private one by an ordinary write fault before that, and nothing is waited
//! for, or allocated, while the threads are stopped.
//!
//! The program may store to its text at any time, also while its threads are stopped: by a system
//! call, or from another process that shares the page. So the byte is exchanged for another one,
//! and the rest of the instruction is compared after the threads have been stopped.

use crate::{
    access,
    breakpoint::{
        Breakpoint,
        State, //
    },
    insert::Refused,
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
    Insn,
    Mode,
    Refusal,
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
    /// Whether there are more bytes in a page that is not present.
    has_more: bool,
}

impl Code {
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or(&[])
    }

    /// Returns the error for an instruction that the bytes do not hold as a whole.
    pub(crate) fn cut_off(&self) -> Refused {
        if self.has_more {
            Refused::Errno(EAGAIN)
        } else {
            Refused::Insn(Refusal::CutOff)
        }
    }

    pub(crate) fn as_mut_bytes(&mut self) -> &mut [u8] {
        self.bytes.get_mut(..self.len).unwrap_or(&mut [])
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
/// As of [`text_vma`], and of [`MmapWrite::page`] for the first byte.
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
            // The instruction may end before.
            Err(error) => {
                code.has_more = error == EAGAIN;
                break;
            }
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

/// Reads one byte of text that is present, whatever the mapping is like.
pub(crate) fn read_byte(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<u8> {
    let mut byte = [0];
    let page = mmap.page(at.as_usize()).ok()?;
    (page.read(at.offset_in_page(), &mut byte) == 1).then_some(byte[0])
}

/// The pages of a byte of text that is about to be changed, and of those that follow it.
struct Pages<'a> {
    at: Vaddr,
    /// The bytes that the program has there.
    expected: &'a [u8],
    first: PrivatePage<'a>,
    second: Option<UserPage>,
}

impl<'a> Pages<'a> {
    /// Returns the pages of the bytes `expected` at `at`, which begin in `first`. A second page
    /// that was swapped out is read back. A page of a file that is not in memory is missing,
    /// because the filesystem may need `mmap_lock` to read it.
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

    /// Compares the text with the bytes that are expected, but for the first. Breakpoints within
    /// them do not count. Returns how many bytes are there, or `None` if one is different.
    fn hold_rest(&self, space: &Space) -> Option<usize> {
        let mut buf = [0; MAX_INSN_SIZE];
        let bytes = buf.get_mut(..self.expected.len())?;
        let mut len = self.first.read(self.at.offset_in_page(), bytes);
        if let (Some(second), Some(rest)) = (&self.second, bytes.get_mut(len..)) {
            len += second.read(0, rest);
        }
        access::compare(space, self.at, self.expected, bytes.get(..len)?)
    }

    /// Changes the first byte, if it is `old`. Returns whether it was.
    fn exchange(&self, old: u8, new: u8, _stopped: &Stopped) -> bool {
        self.first.exchange_byte(self.at.offset_in_page(), old, new)
    }
}

/// Makes the text at an address present in a private copy. The caller may wait for a filesystem, or
/// for whoever serves a userfaultfd, and must not hold a lock that these may need.
///
/// # Errors
///
/// As of [`MmWithUser::fault_in`].
pub fn fault_in(mm: &MmWithUser, at: Vaddr) -> Result {
    mm.fault_in(at.as_usize(), true)?;
    fault_in_end(mm, at)
}

/// Makes the text at an address present, as [`fault_in`], but not in a private copy.
pub(crate) fn fault_in_to_read(mm: &MmWithUser, at: Vaddr) -> Result {
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
    // It does no harm if the instruction ends before.
    let mmap = mm.mmap_write_lock_killable()?;
    let code = read(&mmap, at)?;
    if code.has_more && length(code.as_bytes(), Mode::of_mm(mm)).is_none() {
        Err(error)
    } else {
        Ok(())
    }
}

/// Writes the breakpoint to `page`. `publish` is called before the byte is changed, and `stop`
/// last; there may be an error after that, and then the byte is not changed.
///
/// # Errors
///
/// `EAGAIN`: the program has changed the instruction, which must be decoded again. Others as of
/// `publish` and `stop`.
pub(crate) fn arm(
    space: &Space,
    mmap: &MmapWrite<'_>,
    insn: &Insn,
    page: PrivatePage<'_>,
    publish: impl FnOnce() -> Result,
    stop: impl FnOnce() -> Result<Stopped>,
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

/// What a breakpoint displaces.
pub(crate) struct Displaced {
    at: Vaddr,
    /// [`Breakpoint::evidence`], in the first `len` bytes.
    bytes: [u8; MAX_INSN_SIZE],
    len: u8,
    /// Whether the pages were discarded since, so that the byte in the place of the breakpoint may
    /// be of anything.
    is_lost: bool,
}

impl Displaced {
    /// Returns what a breakpoint displaces, unless its `int3` is not in the text.
    pub(crate) fn new(bp: &Breakpoint) -> Option<Self> {
        let is_lost = match bp.state() {
            State::Armed | State::Outdated => false,
            State::Lost => true,
            State::Covered | State::Gone => return None,
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

    /// Returns the byte in the place of which the `int3` is.
    pub(crate) fn original(&self) -> Option<u8> {
        self.bytes().first().copied()
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len.into()).unwrap_or(&[])
    }
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
/// A program that overwrites text by data may have a byte of data there that looks like a
/// breakpoint. So the bytes of [`Breakpoint::evidence`] must be there, too. If the page of some of
/// them is not in memory, the others decide. The mapping must be executable then if the text was
/// lost, because few bytes, or none, are compared.
///
/// # Errors
///
/// If the page cannot be had, or the threads not be stopped: the text is as it was. Neither a
/// filesystem nor a userfaultfd is asked, because what comes back is what the program wrote.
pub(crate) fn restore(
    space: &Space,
    mmap: &MmapWrite<'_>,
    displaced: &Displaced,
    stop: impl FnOnce() -> Result<Stopped>,
) -> Result<Restored> {
    let at = displaced.at();
    let original = displaced.original().ok_or(EINVAL)?;
    let vma = match text_or_was(mmap, at) {
        Err(_) if displaced.is_lost => return Ok(Restored::Foreign),
        vma => vma?,
    };
    // A breakpoint is in a private page, and nowhere else.
    let Some(page) = mmap.own_page(at.as_usize())? else {
        return Ok(Restored::Foreign);
    };
    let pages = Pages::new(mmap, at, displaced.bytes(), page);
    // Threads are stopped for a reason only.
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

/// Text that was probed may have been made non-executable since; it is still restored.
fn text_or_was<'a>(mmap: &'a MmapWrite<'_>, at: Vaddr) -> Result<&'a VmaRef> {
    const SHARED: vm_flags_t = flags::SHARED | flags::MAYSHARE;
    let vma = mmap.vma_lookup(at.as_usize()).ok_or(EFAULT)?;
    if vma.flags() & SHARED != 0 {
        return Err(EFAULT);
    }
    Ok(vma)
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
        // Locked memory stays resident. The page is in memory, as it has just been compared. If it
        // cannot be had now, it is faulted in later.
        let _ = mmap.populate(addr);
    }
}
