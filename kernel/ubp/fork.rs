// SPDX-License-Identifier: GPL-2.0

//! `fork()`: the copy has no breakpoints, from its first instruction.
//!
//! The text is copied with the `int3`s in it. The parent's side notes what they displace while the
//! text is copied, under the lock that keeps breakpoints from coming and going. When the copy of
//! the address space is complete, and before any thread uses it, its text is restored. If that
//! fails, so does `fork()`.

use crate::{
    private_text::{
        self,
        Displaced,
        Restored,
        Stopped, //
    },
    space::{
        self,
        Space, //
    }, //
};

use kernel::{
    mm::MmWithUser,
    prelude::*,
    sync::tasks_trace, //
};
use ubp_arch::Vaddr;

/// `from` is about to be copied to `to`.
///
/// # Safety
///
/// The mmap lock of `from` is held for writing.
pub unsafe fn fork_start(from: &MmWithUser, to: &MmWithUser) {
    let Some(space) = Space::of(from) else {
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

/// Returns what the breakpoints of `space` displace, by address. The caller holds the mmap lock for
/// writing, so that their number does not grow.
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

/// Restores the text of a copied address space, and frees the list of what it inherited.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ENOMEM` and others: the text is not restored, so that no thread may execute it.
///
/// # Safety
///
/// No thread but the caller uses `mm`.
pub(crate) unsafe fn fork_finish(mm: &MmWithUser) -> Result {
    let restored = if Space::is_lost(mm) {
        Err(ENOMEM)
    } else {
        Space::of(mm).map_or(Ok(()), |space| restore_all(space, mm))
    };
    // SAFETY: The caller ensures that no other thread uses `mm`, and this one uses the space no
    // longer.
    unsafe { space::clear(mm) };
    restored
}

fn restore_all(space: &Space, mm: &MmWithUser) -> Result {
    let mut page: Option<Vaddr> = None;
    for displaced in &space.inherited {
        let here = displaced.at().page();
        if let Some(done) = page.take_if(|page| *page != here) {
            private_text::give_back_page(&mm.mmap_write_lock(), done);
        }
        let mmap = mm.mmap_write_lock();
        // A mapping that is not copied has no text to restore.
        if mmap.vma_lookup(displaced.at().as_usize()).is_none() {
            continue;
        }
        let restored = private_text::restore(space, &mmap, displaced, || Ok(Stopped::NotStarted))?;
        if restored == Restored::Written {
            page = Some(here);
        }
    }
    if let Some(done) = page {
        private_text::give_back_page(&mm.mmap_write_lock(), done);
    }
    Ok(())
}
