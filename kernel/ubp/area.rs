// SPDX-License-Identifier: GPL-2.0

//! Where instructions are executed out of line: pages that are mapped into the process, divided
//! into slots.

use crate::space::Space;

use kernel::{
    mm::{
        special::SpecialMapping,
        virt::VmaRef,
        write::MmapWrite, //
    },
    new_spinlock,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        Arc,
        SpinLock, //
    },
};
use ubp_arch::{
    SlotAddr,
    Vaddr,
    BREAKPOINT,
    SLOT_SIZE, //
};

const SLOTS: usize = PAGE_SIZE / SLOT_SIZE;
const WORDS: usize = SLOTS / 64;

/// How far a slot may be from the instruction that it is for. It is less than 2 GiB, by as much as
/// operands relative to the instruction pointer commonly are away from it.
const REACH: usize = (1 << 31) - (1 << 28);

/// Which slots of a page are in use.
#[derive(Clone, Copy)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Takes the first free slot.
    pub(crate) fn take(&mut self) -> Option<usize> {
        for (i, word) in self.0.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < u64::BITS {
                *word |= 1 << bit;
                return Some(i * 64 + bit as usize);
            }
        }
        None
    }

    /// Gives a slot back.
    pub(crate) fn give(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word &= !(1 << (slot % 64));
        }
    }
}

/// One page of slots.
///
/// # Invariants
///
/// The page is mapped at `base` in the address space that the area is of, as a [`Mapping`], or the
/// address space has no user left.
#[pin_data]
pub(crate) struct Area {
    base: usize,
    page: Page,
    #[pin]
    used: SpinLock<Bits>,
}

/// The kind of mapping that areas are. It stays until the address space goes.
struct Mapping;

impl SpecialMapping for Mapping {
    const NAME: &'static CStr = c"[uprobes]";

    fn with_page(vma: &VmaRef, addr: usize, f: impl FnOnce(&Page)) {
        let Some(space) = Space::of(vma.mm()) else {
            return;
        };
        let areas = space.areas.lock();
        let area = areas
            .iter()
            .find(|area| addr.wrapping_sub(area.base) < PAGE_SIZE);
        if let Some(area) = area {
            f(&area.page);
        }
    }
}

impl Area {
    /// Maps a new area within reach of `at`, and adds it to the space.
    fn map(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Arc<Self>> {
        let base = find_room(mmap, at).ok_or(ENOMEM)?;

        let page = Page::alloc_page(GFP_KERNEL)?;
        let area = Arc::pin_init(
            pin_init!(Self {
                base,
                page,
                used <- new_spinlock!(Bits::EMPTY),
            }),
            GFP_KERNEL,
        )?;
        // A thread that gets here by mistake is to be told so.
        for slot in 0..SLOTS {
            area.write(slot, &[BREAKPOINT; SLOT_SIZE])?;
        }
        // Whoever faults the page in finds it in the list.
        space.add_area(area.clone())?;
        if let Err(error) = mmap.install_text::<Mapping>(base) {
            space.drop_area(&area);
            return Err(error);
        }
        Ok(area)
    }

    /// Returns whether a slot of the area may be for the instruction at `at`.
    fn reaches(&self, at: Vaddr) -> bool {
        self.base.abs_diff(at.as_usize()) <= REACH
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = self.used.lock().take()?;
        Some(Slot {
            area: self.clone(),
            index,
        })
    }

    fn write(&self, slot: usize, image: &[u8; SLOT_SIZE]) -> Result {
        // SAFETY: `image` is valid for reads. The slot is not executed while it is written: it is
        // of a new area, or was just taken, and is not known to any thread yet.
        unsafe {
            self.page
                .write_raw(image.as_ptr(), slot * SLOT_SIZE, SLOT_SIZE)
        }
    }
}

/// Finds room for an area: next below the text if possible, and never next below a mapping that may
/// be a stack and want to grow.
fn find_room(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<usize> {
    /// Room for a stack to grow: the kernel's own guard gap.
    const GUARD: usize = 256 * PAGE_SIZE;
    /// Nothing is mapped below, on any system that cares for security.
    const LOWEST: usize = 16 * PAGE_SIZE;

    let low = at.as_usize().saturating_sub(REACH).max(LOWEST);
    let high = at.as_usize().saturating_add(REACH);
    mmap.find_gap(low, at.as_usize(), PAGE_SIZE + GUARD)
        .or_else(|| mmap.find_gap(low, high, PAGE_SIZE + GUARD))
}

/// A slot. It is the owner's alone until it is dropped, which is when no thread is in it.
pub(crate) struct Slot {
    area: Arc<Area>,
    index: usize,
}

impl Slot {
    /// Finds a slot within reach of `at`, in a new area if need be.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no memory, or no room in the address space.
    pub(crate) fn new(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> Result<Self> {
        let found = space
            .areas
            .lock()
            .iter()
            .filter(|area| area.reaches(at))
            .find_map(Area::take);
        if let Some(slot) = found {
            return Ok(slot);
        }
        Area::map(space, mmap, at)?.take().ok_or(ENOMEM)
    }

    /// Where the process has it.
    #[inline]
    pub(crate) fn addr(&self) -> SlotAddr {
        SlotAddr::new(
            self.area
                .base
                .wrapping_add(self.index.wrapping_mul(SLOT_SIZE)),
        )
    }

    /// Fills it. Before the slot is known to any thread.
    pub(crate) fn fill(&self, image: &[u8; SLOT_SIZE]) -> Result {
        self.area.write(self.index, image)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.area.used.lock().give(self.index);
    }
}

#[cfg(CONFIG_UBP_KUNIT_TEST)]
#[kunit_tests(ubp_area)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_taken_in_order_and_run_out() {
        let mut bits = Bits::EMPTY;
        for slot in 0..SLOTS {
            assert_eq!(bits.take(), Some(slot));
        }
        assert_eq!(bits.take(), None);
    }

    #[test]
    fn a_slot_given_back_is_the_next_taken() {
        let mut bits = Bits::EMPTY;
        for _ in 0..SLOTS {
            let _ = bits.take();
        }
        for slot in [0, 63, 64, SLOTS - 1] {
            bits.give(slot);
            assert_eq!(bits.take(), Some(slot));
            assert_eq!(bits.take(), None);
        }
    }

    #[test]
    fn giving_back_what_does_not_exist_changes_nothing() {
        let mut bits = Bits::EMPTY;
        bits.give(SLOTS);
        assert_eq!(bits.take(), Some(0));
    }

    #[test]
    fn reach_leaves_room_for_operands() {
        // An operand that is as far from the text as a slot may be is not within 2 GiB of both.
        assert!(REACH + (1 << 28) <= 1 << 31);
    }
}
