// SPDX-License-Identifier: GPL-2.0

//! `fork()`: the copy has no breakpoints, from its first instruction.
//!
//! The text is copied with the `int3`s in it. What they displace is noted while the text is copied,
//! under the lock that keeps breakpoints from coming and going, and restored in the copy when that
//! is complete, before it is executed.

use crate::{
    private_text::{
        self,
        Stopped, //
    },
    space::Space, //
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
    let inherit = || {
        let mut list = KVec::new();
        let guard = tasks_trace::read_lock();
        for bp in space.armed_in(0, usize::MAX, &guard) {
            list.push((bp.at(), bp.original()), GFP_KERNEL)?;
        }
        if list.is_empty() {
            return Ok(());
        }
        space.create_inherited(to, list)
    };
    if inherit().is_err() {
        Space::set_lost(to);
    }
}

/// Restores the text of a copy, which nobody has executed yet.
///
/// Context: may sleep.
///
/// # Errors
///
/// If the text could not be restored: the copy must not be executed.
pub fn fork_finish(mm: &MmWithUser) -> Result {
    if Space::is_lost(mm) {
        return Err(ENOMEM);
    }
    let Some(space) = Space::of(mm) else {
        return Ok(());
    };
    let mut page: Option<Vaddr> = None;
    for &(at, original) in &space.inherited {
        if let Some(done) = page.filter(|page| *page != at.page()) {
            private_text::give_back_page(&mm.mmap_write_lock(), done);
        }
        page = restore(mm, at, original)?.then(|| at.page());
    }
    if let Some(done) = page {
        private_text::give_back_page(&mm.mmap_write_lock(), done);
    }
    Ok(())
}

/// Restores one byte. Returns whether there was something to restore.
fn restore(mm: &MmWithUser, at: Vaddr, original: u8) -> Result<bool> {
    loop {
        {
            let mmap = mm.mmap_write_lock();
            // A mapping that is not copied has no text to restore.
            if mmap.vma_lookup(at.as_usize()).is_none() {
                return Ok(false);
            }
            match private_text::restore(&mmap, at, original, || Ok(Stopped::NotStarted)) {
                Err(EAGAIN) => (),
                restored => return restored.map(|_| true),
            }
        }
        // Whoever is told of the writes of the parent is told of those of the child as well.
        private_text::fault_in(mm, at)?;
    }
}
