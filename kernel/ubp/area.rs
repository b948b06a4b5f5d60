// SPDX-License-Identifier: GPL-2.0

//! XOL areas: pages that are mapped into the process and divided into slots, in which threads
//! execute displaced instructions out of line.
//!
//! # The life of a slot
//!
//! ```text
//!         take()          drop of XolSlot                free_retired()
//!   Free --------> Used -------------------> Retired -------------------> Free
//! ```
//!
//! A used slot belongs to a breakpoint, and is written before any thread knows of it. When the
//! breakpoint has been freed, no thread can enter the slot any more, but a thread may still be in
//! it. The slot is then retired until [`crate::reclaim`] has ensured that no thread is in it. Its
//! contents do not change before that.

use crate::{
    reclaim,
    space::{
        Changes,
        Space, //
    },
};

use kernel::{
    mm::{
        special::SpecialMapping,
        virt::VmaRef,
        write::MmapWrite,
        Mm, //
    },
    new_spinlock,
    page::{
        Page,
        PAGE_SIZE, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace,
        Arc,
        SpinLock, //
    },
};
use ubp_arch::{
    is_at_copy,
    ProbedInsn,
    SlotAddr,
    Vaddr,
    XolStep,
    BREAKPOINT,
    SLOT_SIZE, //
};

const SLOTS: usize = PAGE_SIZE / SLOT_SIZE;
const WORDS: usize = SLOTS / 64;

/// A set of slots of a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Bits([u64; WORDS]);

impl Bits {
    pub(crate) const EMPTY: Self = Self([0; WORDS]);

    /// Adds the first slot that is not in the set.
    fn take(&mut self) -> Option<usize> {
        for (i, word) in self.0.iter_mut().enumerate() {
            let bit = word.trailing_ones();
            if bit < u64::BITS {
                *word |= 1 << bit;
                return Some(i * 64 + bit as usize);
            }
        }
        None
    }

    fn add(&mut self, slot: usize) {
        if let Some(word) = self.0.get_mut(slot / 64) {
            *word |= 1 << (slot % 64);
        }
    }

    fn has(&self, slot: usize) -> bool {
        self.0
            .get(slot / 64)
            .is_some_and(|word| word & (1 << (slot % 64)) != 0)
    }

    fn remove(&mut self, others: &Self) {
        for (word, other) in self.0.iter_mut().zip(&others.0) {
            *word &= !other;
        }
    }
}

/// The states of the slots of a page.
#[derive(Clone, Copy)]
struct States {
    /// Used or retired.
    taken: Bits,
    /// Retired.
    retired: Bits,
}

/// The original addresses of a slot: the address of the instruction, and the address where the
/// program continues after the copy.
///
/// Both fields are set before any thread is sent to the slot, and stay until no thread is in it. If
/// the slot gets another instruction while a reader looks at an instruction pointer, the thread has
/// left the slot, and the result would be outdated in any case.
struct Origin {
    at: Atomic<usize>,
    /// 0 until the slot has had an instruction.
    behind: Atomic<usize>,
}

impl Origin {
    const fn none() -> Self {
        Self {
            at: Atomic::new(0),
            behind: Atomic::new(0),
        }
    }

    fn set(&self, at: Vaddr, step: &XolStep) {
        self.at.store(at.as_usize(), Relaxed);
        self.behind.store(step.behind(), Relaxed);
    }

    /// Returns the place of an instruction pointer at `offset` in `slot`.
    fn position(&self, slot: SlotAddr, offset: usize) -> Option<SlotPosition> {
        let at = Vaddr::new(self.at.load(Relaxed));
        match self.behind.load(Relaxed) {
            0 => None,
            _ if is_at_copy(offset) => Some(SlotPosition::AtCopy { at, slot }),
            next => Some(SlotPosition::BehindCopy {
                next: Vaddr::new(next),
            }),
        }
    }
}

/// The place of an instruction pointer in a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlotPosition {
    /// At a copy of the instruction. The original instruction is at `at` in the program.
    AtCopy { at: Vaddr, slot: SlotAddr },
    /// Behind the copy. The next instruction of the program is at `next`.
    BehindCopy { next: Vaddr },
}

impl SlotPosition {
    /// Returns the original ip.
    pub(crate) fn original_ip(self) -> Vaddr {
        match self {
            Self::AtCopy { at, .. } => at,
            Self::BehindCopy { next } => next,
        }
    }
}

/// One page of slots.
///
/// # Invariants
///
/// The page is mapped at `base` in the address space `mm` as a [`Mapping`], or the address space
/// has no users left, or no slot is taken.
#[pin_data]
pub(crate) struct XolArea {
    base: usize,
    mm: ARef<Mm>,
    page: Page,
    origins: [Origin; SLOTS],
    #[pin]
    states: SpinLock<States>,
}

/// The special mapping of an area.
struct Mapping;

impl SpecialMapping for Mapping {
    const NAME: &'static CStr = c"[uprobes]";

    fn with_page(vma: &VmaRef, addr: usize, f: impl FnOnce(&Page)) {
        let guard = tasks_trace::read_lock();
        let area = Space::from_mm(vma.mm()).and_then(|space| space.area(addr, &guard));
        if let Some(area) = area {
            f(&area.page);
        }
    }
}

impl XolArea {
    /// Maps a new area for the instruction of `step`, and adds it to the space.
    fn map(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr, step: &XolStep) -> Result<Arc<Self>> {
        let base = find_room(space, mmap, at, step.slot_range()).ok_or(ENOMEM)?;
        let page = Page::alloc_page(GFP_KERNEL)?;
        let area = Arc::pin_init(
            pin_init!(Self {
                base,
                mm: ARef::from(&**mmap.mm()),
                page,
                origins: [const { Origin::none() }; SLOTS],
                states <- new_spinlock!(States {
                    taken: Bits::EMPTY,
                    retired: Bits::EMPTY,
                }),
            }),
            GFP_KERNEL,
        )?;
        // A thread that jumps here by mistake gets SIGTRAP.
        for slot in 0..SLOTS {
            area.write(slot, &[BREAKPOINT; SLOT_SIZE])?;
        }
        // The fault handler finds the page in this map.
        space.areas.insert(base, area.clone(), GFP_KERNEL)?;
        if let Err(error) = mmap.install_text::<Mapping>(base) {
            space.areas.remove(base);
            return Err(error);
        }
        Ok(area)
    }

    /// Unmaps the area from the address space if no slot is taken. `_changes` prevents that a slot
    /// is taken during the call.
    pub(crate) fn unmap_if_free(
        &self,
        space: &Space,
        mmap: &MmapWrite<'_>,
        _changes: &Changes<'_>,
    ) {
        if self.states.lock().taken != Bits::EMPTY {
            return;
        }
        // If there is no memory to split other mappings, the next call tries again.
        if mmap.remove_text(self.base).is_ok() {
            space.areas.remove(self.base);
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Returns the place of an address within this area.
    pub(crate) fn position(&self, ip: usize) -> Option<SlotPosition> {
        let offset = ip.wrapping_sub(self.base);
        let in_slot = offset % SLOT_SIZE;
        let slot = SlotAddr::new(ip.wrapping_sub(in_slot));
        self.origins
            .get(offset / SLOT_SIZE)?
            .position(slot, in_slot)
    }

    /// Returns the slots that have no breakpoint any more.
    pub(crate) fn retired(&self) -> Bits {
        self.states.lock().retired
    }

    /// Returns whether an address within this area is in one of `slots`.
    pub(crate) fn is_in(&self, slots: &Bits, ip: usize) -> bool {
        slots.has(ip.wrapping_sub(self.base) / SLOT_SIZE)
    }

    /// Frees slots that [`XolArea::retired`] has returned. No thread may be in them.
    pub(crate) fn free_retired(&self, slots: &Bits) {
        let mut states = self.states.lock();
        states.taken.remove(slots);
        states.retired.remove(slots);
    }

    fn take(self: &Arc<Self>) -> Option<XolSlot> {
        let index = self.states.lock().taken.take()?;
        Some(XolSlot {
            area: self.clone(),
            index,
        })
    }

    fn write(&self, slot: usize, image: &[u8; SLOT_SIZE]) -> Result {
        // SAFETY: `image` is valid for reads of `SLOT_SIZE` bytes. No thread executes the slot
        // while it is written, because the area is new, or the slot was just taken and no thread
        // knows of it.
        unsafe {
            self.page
                .write_raw(image.as_ptr(), slot * SLOT_SIZE, SLOT_SIZE)
        }
    }
}

/// Finds room for an area: next to an existing area if possible, otherwise below the text, and
/// never directly below a mapping that may be a growing stack.
fn find_room(
    space: &Space,
    mmap: &MmapWrite<'_>,
    at: Vaddr,
    (low, high): (usize, usize),
) -> Option<usize> {
    /// Room for a stack to grow: the kernel's stack guard gap.
    const GUARD: usize = 256 * PAGE_SIZE;
    /// The lowest address, below which secure systems map nothing.
    const LOWEST: usize = 16 * PAGE_SIZE;

    let low = low.max(LOWEST).next_multiple_of(PAGE_SIZE);
    // The limit also holds for the last slot of the page.
    let high = high.saturating_sub(PAGE_SIZE);
    let guard = tasks_trace::read_lock();
    let below = space
        .areas_in(low.saturating_add(PAGE_SIZE), high, &guard)
        .map(|area| area.base)
        .next()
        .and_then(|base| mmap.find_gap(base - PAGE_SIZE, base, PAGE_SIZE));
    below
        .or_else(|| mmap.find_gap(low, at.as_usize().min(high), PAGE_SIZE + GUARD))
        .or_else(|| mmap.find_gap(low, high, PAGE_SIZE + GUARD))
}

/// A slot that is owned until it is dropped. Threads may still be in the slot after that.
pub(crate) struct XolSlot {
    area: Arc<XolArea>,
    index: usize,
}

impl XolSlot {
    /// Allocates a slot for an instruction, in a new area if necessary, and fills it.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no memory, or no room in the address space.
    pub(crate) fn new(
        space: &Space,
        mmap: &MmapWrite<'_>,
        _changes: &Changes<'_>,
        insn: &ProbedInsn,
        step: &XolStep,
    ) -> Result<Self> {
        let (low, high) = step.slot_range();
        let guard = tasks_trace::read_lock();
        let found = space
            .areas_in(low, high.saturating_sub(PAGE_SIZE), &guard)
            .find_map(XolArea::take);
        drop(guard);
        let slot = match found {
            Some(slot) => slot,
            None => XolArea::map(space, mmap, insn.at(), step)?
                .take()
                .ok_or(ENOMEM)?,
        };
        let image = step.slot_image(slot.addr()).map_err(|_| ENOMEM)?;
        slot.area.write(slot.index, &image)?;
        if let Some(origin) = slot.area.origins.get(slot.index) {
            origin.set(insn.at(), step);
        }
        Ok(slot)
    }

    /// Returns the address of the slot in the process.
    #[inline]
    pub(crate) fn addr(&self) -> SlotAddr {
        SlotAddr::new(
            self.area
                .base
                .wrapping_add(self.index.wrapping_mul(SLOT_SIZE)),
        )
    }
}

impl Drop for XolSlot {
    fn drop(&mut self) {
        self.area.states.lock().retired.add(self.index);
        reclaim::soon(&self.area.mm);
    }
}

#[cfg(CONFIG_UBP_KUNIT_TEST)]
#[kunit_tests(ubp_area)]
mod tests {
    use super::*;

    use ubp_arch::{
        analyze,
        Mode, //
    };

    #[test]
    fn slots_are_taken_in_order() {
        let mut bits = Bits::EMPTY;
        for slot in 0..SLOTS {
            assert!(!bits.has(slot));
            assert_eq!(bits.take(), Some(slot));
            assert!(bits.has(slot));
        }
        assert_eq!(bits.take(), None);
    }

    #[test]
    fn freed_slot_is_reused() {
        let mut bits = Bits::EMPTY;
        for _ in 0..SLOTS {
            let _ = bits.take();
        }
        for slot in [0, 63, 64, SLOTS - 1] {
            let mut given = Bits::EMPTY;
            given.add(slot);
            bits.remove(&given);
            assert_eq!(bits.take(), Some(slot));
            assert_eq!(bits.take(), None);
        }
    }

    /// Returns the places of offsets in the slot of an instruction at 0x1000.
    fn places<const N: usize>(
        bytes: &[u8],
        offsets: [usize; N],
    ) -> Result<[Option<SlotPosition>; N]> {
        let at = Vaddr::new(0x1000);
        let insn = analyze(bytes, at, Mode::Bits64)?;
        let origin = Origin::none();
        origin.set(at, insn.plan().step().ok_or(EINVAL)?);
        Ok(offsets.map(|offset| origin.position(SlotAddr::new(0x2000), offset)))
    }

    #[test]
    fn positions_in_slot() -> Result {
        let insn = Some(SlotPosition::AtCopy {
            at: Vaddr::new(0x1000),
            slot: SlotAddr::new(0x2000),
        });
        let done = |next| {
            let next = Vaddr::new(next);
            Some(SlotPosition::BehindCopy { next })
        };
        // BSWAP: the copy, and the jump behind it.
        assert_eq!(places(b"\x0f\xc8", [0, 2])?, [insn, done(0x1002)]);
        // REP MOVSB: the copies, and the jumps behind them.
        let repeated = [insn, done(0x1002), insn, done(0x1002), done(0x1002)];
        assert_eq!(places(b"\xf3\xa4", [0, 2, 16, 18, 19])?, repeated);
        // JZ: not taken.
        assert_eq!(places(b"\x74\x10", [0, 6])?, [insn, done(0x1002)]);
        // CALL: the push, the jump, and the replacement of the call.
        let call = [insn, done(0x1105), insn, done(0x1105), done(0x1105)];
        assert_eq!(places(b"\xe8\x00\x01\x00\x00", [0, 6, 16, 21, 22])?, call);
        assert_eq!(Origin::none().position(SlotAddr::new(0x2000), 0), None);
        Ok(())
    }

    #[test]
    fn slot_out_of_range() {
        let mut bits = Bits::EMPTY;
        bits.add(SLOTS);
        assert_eq!(bits, Bits::EMPTY);
        assert!(!bits.has(SLOTS));
    }
}
