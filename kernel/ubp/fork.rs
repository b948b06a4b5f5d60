// SPDX-License-Identifier: GPL-2.0

//! Removal of breakpoints from the copy that `fork()` makes.
//!
//! The child has no breakpoints from its first instruction. `fork()` copies the text with its
//! `int3`s. While it copies, the parent records the displaced bytes under the lock that excludes
//! insertion and removal. When the copy of the address space is complete, and before any thread
//! uses it, its text is restored. If the restoration fails, `fork()` fails.

use crate::{
    space::{
        self,
        Space, //
    },
    text::{
        self,
        Displaced,
        Restored,
        ThreadsStopped, //
    },
};

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::tasks_trace, //
};
use ubp_arch::Vaddr;

/// Records in `to` the bytes that breakpoints displace in `from`, before `from` is copied to `to`.
///
/// # Safety
///
/// The mmap lock of `from` must be held for writing.
pub unsafe fn fork_start(from: &MmWithUser, to: &MmWithUser) {
    let Some(space) = Space::from_mm(from) else {
        return;
    };
    let inherited = displaced(space).and_then(|list| {
        if list.is_empty() {
            return Ok(());
        }
        space.create_inherited(to, list)
    });
    if inherited.is_err() {
        Space::set_lost(to);
    }
}

/// Returns the bytes that the breakpoints of `space` displace, by address. The caller holds the
/// mmap lock for writing, so that the number of breakpoints does not grow.
///
/// Memory is allocated outside of the read-side critical section, because removals in the whole
/// system wait for readers.
fn displaced(space: &Space) -> Result<KVVec<Displaced>> {
    let count = space
        .known_in(0, usize::MAX, &tasks_trace::read_lock())
        .count();
    let mut list = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT)?;
    let guard = tasks_trace::read_lock();
    for displaced in space
        .known_in(0, usize::MAX, &guard)
        .filter_map(|bp| Displaced::new(bp))
    {
        list.push_within_capacity(displaced).map_err(|_| ENOMEM)?;
    }
    Ok(list)
}

/// Restores the text of a copied address space, and frees its list of inherited breakpoints.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ENOMEM` and others: the text is not restored, and no thread may execute it.
///
/// # Safety
///
/// No thread may execute in `mm`, and no breakpoint be inserted while [`Space::is_copy`] holds.
pub(crate) unsafe fn fork_finish(mm: &MmWithUser) -> Result {
    let restored = if Space::is_lost(mm) {
        Err(ENOMEM)
    } else if Space::is_copy(mm) {
        Space::from_mm(mm).map_or(Ok(()), |space| restore_all(space, mm))
    } else {
        // The original had no breakpoints. Another thread may have found the copy by a file that it
        // maps, and have inserted breakpoints in it.
        return Ok(());
    };
    // SAFETY: Nothing uses the space of a copy but this thread, because `insert()` refuses to, and
    // this thread does not use it after the call.
    unsafe { space::clear(mm) };
    restored
}

fn restore_all(space: &Space, mm: &MmWithUser) -> Result {
    let mut page: Option<Vaddr> = None;
    for displaced in &space.inherited {
        let here = displaced.at().page();
        if let Some(done) = page.take_if(|page| *page != here) {
            text::give_back_page(&mm.mmap_write_lock(), done);
        }
        let mmap = mm.mmap_write_lock();
        // A mapping that `fork()` did not copy has no text to restore.
        if mmap.vma_lookup(displaced.at().as_usize()).is_none() {
            continue;
        }
        let restored = text::restore(space, &mmap, displaced, || Ok(ThreadsStopped::NotStarted))?;
        if restored == Restored::Written {
            page = Some(here);
        }
    }
    if let Some(done) = page {
        text::give_back_page(&mm.mmap_write_lock(), done);
    }
    Ok(())
}
