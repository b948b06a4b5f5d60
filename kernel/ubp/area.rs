// SPDX-License-Identifier: GPL-2.0

//! Where instructions are executed out of line: pages that are mapped into the process, divided
//! into slots.
//!
//! # The life of a slot
//!
//! ```text
//!         take()          drop of the Slot              free_retired()
//!   Free --------> Used -------------------> Retired -------------------> Free
//! ```
//!
//! A used slot belongs to a breakpoint, and is written before any thread knows of it. When the
//! breakpoint has been freed, no thread can be sent to the slot any more, but one may still be in
//! it: the slot is retired, until [`crate::reclaim`] has made sure that none is. What it holds
//! stays the same up to then.

use crate::{
    reclaim,
    space::Space, //
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
    Insn,
    SlotAddr,
    Step,
    Vaddr,
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

/// What the program has in place of a slot: where the instruction is, and where the program goes on
/// behind the copy.
///
/// Both are set before any thread is sent to the slot, and stay until none is in it: what is read
/// of a slot that gets another instruction meanwhile is of a thread that has left it, and nothing
/// that is said of that stays true.
struct Origin {
    at: Atomic<usize>,
    /// 0 as long as the slot has had no instruction.
    behind: Atomic<usize>,
}

impl Origin {
    const fn none() -> Self {
        Self {
            at: Atomic::new(0),
            behind: Atomic::new(0),
        }
    }

    fn set(&self, at: Vaddr, step: &Step) {
        self.at.store(at.as_usize(), Relaxed);
        self.behind.store(step.behind(), Relaxed);
    }

    /// What an instruction pointer stands for that is so far in `slot`.
    fn place(&self, slot: SlotAddr, offset: usize) -> Option<Place> {
        let at = Vaddr::new(self.at.load(Relaxed));
        match self.behind.load(Relaxed) {
            0 => None,
            _ if is_at_copy(offset) => Some(Place::Insn { at, slot }),
            next => Some(Place::Done {
                next: Vaddr::new(next),
            }),
        }
    }
}

/// Where in a slot an instruction pointer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// At what stands for the instruction, which is at `at` in the program.
    Insn { at: Vaddr, slot: SlotAddr },
    /// Behind it: the next instruction is that of the program at `next`.
    Done { next: Vaddr },
}

impl Place {
    /// The instruction pointer as the program knows it.
    pub(crate) fn stream(self) -> Vaddr {
        match self {
            Self::Insn { at, .. } => at,
            Self::Done { next } => next,
        }
    }
}

/// One page of slots.
///
/// # Invariants
///
/// The page is mapped at `base` in the address space `mm`, as a [`Mapping`], or the address space
/// has no user left, or no slot is taken.
#[pin_data]
pub(crate) struct Area {
    base: usize,
    mm: ARef<Mm>,
    page: Page,
    origins: [Origin; SLOTS],
    #[pin]
    states: SpinLock<States>,
}

/// The kind of mapping that areas are.
struct Mapping;

impl SpecialMapping for Mapping {
    const NAME: &'static CStr = c"[uprobes]";

    fn with_page(vma: &VmaRef, addr: usize, f: impl FnOnce(&Page)) {
        let guard = tasks_trace::read_lock();
        let area = Space::of(vma.mm()).and_then(|space| space.area(addr, &guard));
        if let Some(area) = area {
            f(&area.page);
        }
    }
}

impl Area {
    /// Maps a new area for the instruction of `step`, and adds it to the space.
    fn map(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr, step: &Step) -> Result<Arc<Self>> {
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
        // A thread that gets here by mistake is to be told so.
        for slot in 0..SLOTS {
            area.write(slot, &[BREAKPOINT; SLOT_SIZE])?;
        }
        // Whoever faults the page in finds it in the map.
        space.areas.insert(base, area.clone(), GFP_KERNEL)?;
        if let Err(error) = mmap.install_text::<Mapping>(base) {
            space.areas.remove(base);
            return Err(error);
        }
        Ok(area)
    }

    /// Takes the area out of the address space, if no slot is taken. No slot can be taken
    /// meanwhile: `Space::changes` is held.
    pub(crate) fn unmap_if_free(&self, space: &Space, mmap: &MmapWrite<'_>) {
        if self.states.lock().taken != Bits::EMPTY {
            return;
        }
        // If there is no memory for the splitting of other mappings, it stays for the next one.
        if mmap.remove_text(self.base).is_ok() {
            space.areas.remove(self.base);
        }
    }

    pub(crate) fn base(&self) -> usize {
        self.base
    }

    /// Returns where in its slot an address within this area is.
    pub(crate) fn place(&self, ip: usize) -> Option<Place> {
        let offset = ip.wrapping_sub(self.base);
        let in_slot = offset % SLOT_SIZE;
        let slot = SlotAddr::new(ip.wrapping_sub(in_slot));
        self.origins.get(offset / SLOT_SIZE)?.place(slot, in_slot)
    }

    /// Returns which slots have no breakpoint any more.
    pub(crate) fn retired(&self) -> Bits {
        self.states.lock().retired
    }

    /// Returns whether an address within this area is of one of `slots`.
    pub(crate) fn is_in(&self, slots: &Bits, ip: usize) -> bool {
        slots.has(ip.wrapping_sub(self.base) / SLOT_SIZE)
    }

    /// Frees slots that [`Area::retired`] has returned, and that no thread is in.
    pub(crate) fn free_retired(&self, slots: &Bits) {
        let mut states = self.states.lock();
        states.taken.remove(slots);
        states.retired.remove(slots);
    }

    fn take(self: &Arc<Self>) -> Option<Slot> {
        let index = self.states.lock().taken.take()?;
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

/// Finds room for an area: next to one that is there if possible, else below the text, and never
/// next below a mapping that may be a stack and want to grow.
fn find_room(
    space: &Space,
    mmap: &MmapWrite<'_>,
    at: Vaddr,
    (low, high): (usize, usize),
) -> Option<usize> {
    /// Room for a stack to grow: the kernel's own guard gap.
    const GUARD: usize = 256 * PAGE_SIZE;
    /// Nothing is mapped below, on any system that cares for security.
    const LOWEST: usize = 16 * PAGE_SIZE;

    let low = low.max(LOWEST).next_multiple_of(PAGE_SIZE);
    // Of the last slot too, whatever its place in the page.
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

/// A slot. It is the owner's alone until it is dropped; threads may be in it even then.
pub(crate) struct Slot {
    area: Arc<Area>,
    index: usize,
}

impl Slot {
    /// Finds a slot for an instruction, in a new area if need be, and fills it. `Space::changes` is
    /// held.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: no memory, or no room in the address space.
    pub(crate) fn new(
        space: &Space,
        mmap: &MmapWrite<'_>,
        insn: &Insn,
        step: &Step,
    ) -> Result<Self> {
        let (low, high) = step.slot_range();
        let guard = tasks_trace::read_lock();
        let found = space
            .areas_in(low, high.saturating_sub(PAGE_SIZE), &guard)
            .find_map(Area::take);
        drop(guard);
        let slot = match found {
            Some(slot) => slot,
            None => Area::map(space, mmap, insn.at(), step)?
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

    /// Where the process has it.
    #[inline]
    pub(crate) fn addr(&self) -> SlotAddr {
        SlotAddr::new(
            self.area
                .base
                .wrapping_add(self.index.wrapping_mul(SLOT_SIZE)),
        )
    }
}

impl Drop for Slot {
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
    fn slots_are_taken_in_order_and_run_out() {
        let mut bits = Bits::EMPTY;
        for slot in 0..SLOTS {
            assert!(!bits.has(slot));
            assert_eq!(bits.take(), Some(slot));
            assert!(bits.has(slot));
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
            let mut given = Bits::EMPTY;
            given.add(slot);
            bits.remove(&given);
            assert_eq!(bits.take(), Some(slot));
            assert_eq!(bits.take(), None);
        }
    }

    /// Where in the program offsets in the slot of an instruction at 0x1000 are.
    fn places<const N: usize>(bytes: &[u8], offsets: [usize; N]) -> Result<[Option<Place>; N]> {
        let at = Vaddr::new(0x1000);
        let insn = analyze(bytes, at, Mode::Bits64)?;
        let origin = Origin::none();
        origin.set(at, insn.plan().step().ok_or(EINVAL)?);
        Ok(offsets.map(|offset| origin.place(SlotAddr::new(0x2000), offset)))
    }

    #[test]
    fn what_is_at_or_behind_a_copy_is_told() -> Result {
        let insn = Some(Place::Insn {
            at: Vaddr::new(0x1000),
            slot: SlotAddr::new(0x2000),
        });
        let done = |next| {
            let next = Vaddr::new(next);
            Some(Place::Done { next })
        };
        // BSWAP: the copy, and the jump behind it.
        assert_eq!(places(b"\x0f\xc8", [0, 2])?, [insn, done(0x1002)]);
        // REP MOVSB: the copies, and what is behind each.
        let repeated = [insn, done(0x1002), insn, done(0x1002), done(0x1002)];
        assert_eq!(places(b"\xf3\xa4", [0, 2, 16, 18, 19])?, repeated);
        // JZ: not taken.
        assert_eq!(places(b"\x74\x10", [0, 6])?, [insn, done(0x1002)]);
        // CALL: the push, the jump, and what stands in for the call.
        let call = [insn, done(0x1105), insn, done(0x1105), done(0x1105)];
        assert_eq!(places(b"\xe8\x00\x01\x00\x00", [0, 6, 16, 21, 22])?, call);
        assert_eq!(Origin::none().place(SlotAddr::new(0x2000), 0), None);
        Ok(())
    }

    #[test]
    fn what_does_not_exist_is_in_no_set() {
        let mut bits = Bits::EMPTY;
        bits.add(SLOTS);
        assert_eq!(bits, Bits::EMPTY);
        assert!(!bits.has(SLOTS));
    }
}
