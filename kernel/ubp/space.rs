// SPDX-License-Identifier: GPL-2.0

//! The breakpoints of one address space.

use crate::{
    active::activate,
    area::Area,
    breakpoint::{
        Breakpoint,
        State, //
    },
    private_text::Displaced,
    BUILT_IN, //
};

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    page::PAGE_MASK,
    prelude::*,
    static_key::Enabled,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Full, //
        },
        tasks_trace::{
            self,
            Guard,
            Handle,
            Map, //
        },
        Arc,
        ArcBorrow,
        Mutex,
        SetOnce, //
    },
    threads::Group,
    workqueue::{
        new_delayed_work,
        DelayedWork, //
    },
};
use ubp_arch::Vaddr;
use utrace::{
    Active,
    Users, //
};

/// Everything that UBP has for an address space.
#[pin_data]
pub(crate) struct Space {
    pub(crate) mm: ARef<Mm>,
    /// Address to breakpoint. Changed under `changes`.
    #[pin]
    pub(crate) map: Map<Arc<Breakpoint>>,
    #[pin]
    pub(crate) changes: Mutex<()>,
    /// First address to area. Changed under `changes`.
    #[pin]
    pub(crate) areas: Map<Arc<Area>>,
    /// See [`crate::reclaim`].
    #[pin]
    pub(crate) reclaim: DelayedWork<Self>,
    /// Of an address space that `fork()` has copied: what its text holds in place of which bytes,
    /// by address.
    pub(crate) inherited: KVVec<Displaced>,
    /// The process that uses the address space. Others may share it, by `CLONE_VM`.
    group: SetOnce<Group>,
    active: Switches,
}

/// What has to be switched on while there is a space: this crate's call sites, and utrace's, which
/// [`utrace::quiesce_mm`] needs.
struct Switches {
    ubp: Enabled,
    utrace: Active,
}

impl Switches {
    /// Context: as of [`Active::new`].
    fn on() -> Self {
        Self {
            ubp: activate(),
            utrace: Active::new(),
        }
    }

    /// Keeps them on for another space. `mmap_lock` may be held.
    fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            ubp: self.ubp.try_clone()?,
            utrace: self.utrace.try_clone()?,
        })
    }
}

/// `mm_struct::uprobes_state`.
///
/// # Invariants
///
/// The pointer that it holds is null, or [`LOST`], or of a `Handle<Arc<Space>>` that it owns. It is
/// changed by [`Space::get_or_create`] and [`Space::set`] from null, while `mm_users` is not zero,
/// and taken back by [`clear`], when it is, or by `fork()` before any thread uses the copy.
fn pointer(mm: &Mm) -> &Atomic<*mut c_void> {
    // SAFETY: The field is written by atomic operations only, once the address space can be found;
    // it lives as long as that.
    unsafe {
        let mm = mm.as_raw();
        Atomic::from_ptr(&raw mut (*mm).__bindgen_anon_1.uprobes_state.ubp)
    }
}

/// In place of a space: there was no memory for what a copied address space inherited.
pub(crate) const LOST: *mut c_void = core::ptr::without_provenance_mut(1);

impl Space {
    fn init(mm: &Mm, inherited: KVVec<Displaced>, active: Switches) -> Result<Arc<Self>> {
        Arc::pin_init(
            try_pin_init!(Self {
                mm: ARef::from(mm),
                map <- Map::new(BUILT_IN),
                changes <- new_mutex!(()),
                areas <- Map::new(BUILT_IN),
                reclaim <- new_delayed_work!("ubp::reclaim"),
                inherited,
                group: SetOnce::new(),
                active,
            }),
            GFP_KERNEL,
        )
    }

    /// Returns the space of an address space, if it has one.
    #[inline]
    pub(crate) fn of(mm: &MmWithUser) -> Option<&Self> {
        let space = pointer(mm).load(Acquire);
        // This is in the way of every hit: one comparison for both.
        if space.addr() <= LOST.addr() {
            return None;
        }
        // SAFETY: By the invariants of `pointer` it is of a handle of this type, which is
        // not taken back while `mm_users` is not zero, as the type of `mm` says.
        unsafe { Handle::<Arc<Self>>::borrow(space) }.map(|space| &**space)
    }

    /// Returns the space of an address space that may be about to go.
    #[inline]
    pub(crate) fn of_any<'a>(mm: &'a Mm, guard: &'a Guard) -> Option<&'a Self> {
        Self::arc_of_any(mm, guard).map(|space| &**space)
    }

    /// As [`Space::of_any`], for who wants to keep it.
    #[inline]
    pub(crate) fn arc_of_any<'a>(mm: &'a Mm, _guard: &'a Guard) -> Option<&'a Arc<Self>> {
        let space = pointer(mm).load(Acquire);
        if space == LOST {
            return None;
        }
        // SAFETY: As above; if it is taken back, then while `_guard` is held.
        unsafe { Handle::<Arc<Self>>::borrow(space) }
    }

    /// Returns the space of an address space, which gets one if it has none.
    ///
    /// Context: as of [`Active::new`].
    pub(crate) fn get_or_create(mm: &MmWithUser) -> Result<&Self> {
        if Self::of(mm).is_none() {
            Self::set(mm, Self::init(mm, KVVec::new(), Switches::on())?)?;
        }
        let space = Self::of(mm).ok_or(ENOMEM)?;
        if space.group.as_ref().is_none() {
            if let Some(group) = Group::using(mm) {
                // Another thread may have been faster.
                space.group.populate(group);
            }
        }
        Ok(space)
    }

    /// Gives an address space, the copy of that of `self`, a space that says what it inherited.
    ///
    /// Context: may sleep. `mmap_lock` may be held.
    pub(crate) fn create_inherited(&self, to: &MmWithUser, list: KVVec<Displaced>) -> Result {
        Self::set(to, Self::init(to, list, self.active.try_clone()?)?)
    }

    /// Returns the threads that use `mm`, the address space.
    pub(crate) fn users<'a>(&'a self, mm: &'a ARef<MmWithUser>) -> Users<'a> {
        Users::new(mm, self.group.as_ref())
    }

    /// Returns the evidence that the threads may be quiesced with `mmap_lock` held.
    pub(crate) fn utrace(&self) -> &Active {
        &self.active.utrace
    }

    fn set(mm: &MmWithUser, space: Arc<Self>) -> Result {
        let raw = Handle::new(BUILT_IN, space, GFP_KERNEL)?.into_raw();
        // INVARIANT: The pointer owns the handle.
        let stored = pointer(mm).cmpxchg(core::ptr::null_mut(), raw, Full);
        if stored.is_err() {
            // SAFETY: Of `into_raw` above, and it was not stored.
            drop(unsafe { Handle::<Arc<Self>>::from_raw(raw) });
        }
        Ok(())
    }

    /// Says that there was no memory for what `mm` inherited.
    pub(crate) fn set_lost(mm: &MmWithUser) {
        // Whatever the exchange finds, there is no space; the copy has just been created.
        let _ = pointer(mm).cmpxchg(core::ptr::null_mut(), LOST, Full);
    }

    pub(crate) fn is_lost(mm: &MmWithUser) -> bool {
        pointer(mm).load(Acquire) == LOST
    }

    /// Returns the breakpoint at an address, if its `int3` is in the text.
    #[inline]
    pub(crate) fn armed<'a>(
        &'a self,
        at: Vaddr,
        guard: &'a Guard,
    ) -> Option<ArcBorrow<'a, Breakpoint>> {
        self.map
            .get(at.as_usize(), guard)
            .map(Arc::as_arc_borrow)
            .filter(|bp| bp.state() == State::Armed)
    }

    /// Returns the breakpoint at an address, unless it is lost or gone.
    pub(crate) fn present<'a>(
        &'a self,
        at: Vaddr,
        guard: &'a Guard,
    ) -> Option<&'a Arc<Breakpoint>> {
        self.known(at, guard).filter(|bp| bp.state() != State::Lost)
    }

    /// Returns the breakpoint at an address, unless it is gone.
    pub(crate) fn known<'a>(&'a self, at: Vaddr, guard: &'a Guard) -> Option<&'a Arc<Breakpoint>> {
        self.map
            .get(at.as_usize(), guard)
            .filter(|bp| bp.state() != State::Gone)
    }

    /// Returns the byte that the breakpoint at an address displaces, if its `int3` may be there. In
    /// a copied address space, it is that of a breakpoint of the address space that was copied.
    pub(crate) fn displaced_byte(&self, at: Vaddr) -> Option<u8> {
        let guard = tasks_trace::read_lock();
        if let Some(bp) = self.known(at, &guard) {
            let may_be_there = bp.state() != State::Covered;
            return bp.insn().bytes().first().filter(|_| may_be_there).copied();
        }
        let found = self.inherited.binary_search_by_key(&at, Displaced::at);
        self.inherited.get(found.ok()?)?.original()
    }

    /// Returns the breakpoints within `start..end` that are neither lost nor gone.
    pub(crate) fn present_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.known_in(start, end, guard)
            .filter(|bp| bp.state() != State::Lost)
    }

    /// Returns the breakpoints within `start..end` that are not gone.
    pub(crate) fn known_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.map
            .range(start..=end.saturating_sub(1), guard)
            .map(|(_, bp)| bp)
            .filter(|bp| bp.state() != State::Gone)
    }

    /// Returns the breakpoints within `start..end` whose `int3` is in the text.
    pub(crate) fn armed_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.present_in(start, end, guard)
            .filter(|bp| matches!(bp.state(), State::Armed | State::Outdated))
    }

    /// Returns the area that an address is in.
    #[inline]
    pub(crate) fn area<'a>(&'a self, addr: usize, guard: &'a Guard) -> Option<&'a Arc<Area>> {
        self.areas.get(addr & PAGE_MASK, guard)
    }

    /// Returns the areas that begin within `first..=last`.
    pub(crate) fn areas_in<'a>(
        &'a self,
        first: usize,
        last: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Area>> + 'a {
        self.areas.range(first..=last, guard).map(|(_, area)| area)
    }
}

/// Returns whether there may be breakpoints in an address space.
pub fn is_probed(mm: &MmWithUser) -> bool {
    Space::of(mm).is_some()
}

/// Frees the breakpoints of an address space that has no user left, or that `fork()` has copied and
/// no thread uses yet.
///
/// # Safety
///
/// `mm_users` of `mm` is zero, or the caller is the only user and has no reference to its space.
pub unsafe fn clear(mm: &Mm) {
    // INVARIANT: See `pointer`.
    let space = pointer(mm).xchg(core::ptr::null_mut(), Full);
    if !space.is_null() && space != LOST {
        // SAFETY: By the invariants of `pointer` it is of a handle, which was owned there.
        drop(unsafe { Handle::<Arc<Space>>::from_raw(space) });
    }
}
