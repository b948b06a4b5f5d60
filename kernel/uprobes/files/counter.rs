// SPDX-License-Identifier: GPL-2.0

//! Reference counters: 16-bit numbers in a program's data, which say how many probes are in it.
//!
//! A program with static probes (USDT) skips the preparation of a probe's arguments while the
//! counter is zero. The counter is given by its offset in the file, and is in a private, writable
//! mapping of it.

use super::probe::FileProbe;

use kernel::{
    mm::{
        file::InodeId,
        virt::VmaRef,
        MmWithUser, //
    },
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    }, //
};
use ubp::Vaddr;

/// Number of the last increment. Changed with an mmap lock held for writing.
static SEQUENCE: Atomic<i64> = Atomic::new(0);

/// Returns the number of the last increment in any address space. If the mmap lock of an address
/// space is held for writing, its memory has the increments up to this number, and no later ones.
pub(super) fn sequence() -> u64 {
    SEQUENCE.load(Relaxed) as u64
}

/// An increment of a counter for a place.
#[derive(Clone, Copy)]
pub(super) struct Counted {
    pub(super) at: Vaddr,
    /// See [`sequence`].
    pub(super) number: u64,
}

impl FileProbe {
    fn is_counter_at(&self, vma: &VmaRef, at: Vaddr) -> bool {
        vma.is_file_data()
            && vma.inode() == Some(self.inode())
            && vma.address_of(self.counter_offset) == Some(at.as_usize())
    }

    /// Increments the reference counter in an address space, once for each place that has not done
    /// so. If the counter is not mapped, the next call does so.
    ///
    /// Context: may sleep, and wait for page faults. The caller must not hold a lock.
    pub(super) fn count(&self, mm: &MmWithUser) {
        if self.counter_offset == 0 {
            return;
        }
        loop {
            let at = find(mm, self.inode(), self.counter_offset);
            let Some(at) = at else { return };
            match self.count_at(mm, at) {
                Err(EAGAIN) if mm.fault_in(at.as_usize(), true).is_ok() => (),
                _ => return,
            }
        }
    }

    fn count_at(&self, mm: &MmWithUser, at: Vaddr) -> Result {
        let mut places = self.places.lock();
        places.for_each_in(mm, |placed| {
            if placed.counted.is_none() && !placed.probepoint.is_gone() {
                placed.counted = Some(self.increment(mm, at)?);
            }
            Ok(())
        })
    }

    /// # Errors
    ///
    /// `EAGAIN`: the page must be faulted in for writing. `ENOENT`: the counter is not mapped
    /// there. `ERANGE`: the counter is at its maximum. `EINTR`: the caller has been killed.
    fn increment(&self, mm: &MmWithUser, at: Vaddr) -> Result<Counted> {
        let mmap = mm.mmap_write_lock_killable()?;
        let is_counter = |vma: &VmaRef| self.is_counter_at(vma, at);
        if !mmap.vma_lookup(at.as_usize()).is_some_and(is_counter) {
            return Err(ENOENT);
        }
        let page = mmap.private_page(at.as_usize())?;
        page.add_to_i16(at.offset_in_page(), 1)?;
        let number = SEQUENCE.fetch_add(1, Relaxed) as u64 + 1;
        Ok(Counted { at, number })
    }

    /// Decrements the reference counter, if it is still mapped where it has been incremented.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    pub(super) fn uncount(&self, mm: &MmWithUser, counted: Counted) {
        let at = counted.at.as_usize();
        let mmap = mm.mmap_write_lock();
        let is_counter = |vma: &VmaRef| self.is_counter_at(vma, counted.at);
        if !mmap.vma_lookup(at).is_some_and(is_counter) {
            return;
        }
        // A page that the process has discarded has no count to undo. One that was swapped out is
        // read back.
        if let Ok(Some(page)) = mmap.own_page(at) {
            let _ = page.add_to_i16(counted.at.offset_in_page(), -1);
        }
    }
}

/// Returns the address at which the counter at `offset` in a file is mapped.
///
/// Context: may sleep; takes `mmap_lock`.
fn find(mm: &MmWithUser, inode: InodeId, offset: u64) -> Option<Vaddr> {
    let mmap = mm.mmap_read_lock();
    let found = mmap
        .vmas()
        .filter(|vma| vma.is_file_data() && vma.inode() == Some(inode))
        .find_map(|vma| vma.address_of(offset));
    found.map(Vaddr::new)
}
