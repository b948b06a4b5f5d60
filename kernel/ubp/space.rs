// SPDX-License-Identifier: GPL-2.0

//! The breakpoints of one address space.

use crate::{
    area::XolArea,
    breakpoint::{
        Breakpoint,
        BreakpointState, //
    },
    hooks::UbpCallSites,
    text::Displaced,
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
            ForeignRcuBox,
            Guard,
            Map, //
        },
        Arc,
        ArcBorrow,
        Mutex,
        MutexGuard,
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

/// Evidence that [`Space::changes`] is locked.
pub(crate) type Changes<'a> = MutexGuard<'a, ()>;

/// All state of UBP for an address space.
#[pin_data]
pub(crate) struct Space {
    pub(crate) mm: ARef<Mm>,
    /// Breakpoints by address. Changed under `changes`.
    #[pin]
    pub(crate) map: Map<Arc<Breakpoint>>,
    #[pin]
    pub(crate) changes: Mutex<()>,
    /// Areas by first address. Changed under `changes`.
    #[pin]
    pub(crate) areas: Map<Arc<XolArea>>,
    /// See [`crate::reclaim`].
    #[pin]
    pub(crate) reclaim: DelayedWork<Self>,
    /// In an address space that `fork()` has copied: the `int3`s that its text has inherited and
    /// the bytes that they displace, by address.
    pub(crate) inherited: KVVec<Displaced>,
    /// The process that uses the address space. Other processes may share it by `CLONE_VM`.
    group: SetOnce<Group>,
    active: Switches,
}

/// Call sites that are enabled while the space exists: those of this crate, and those of utrace,
/// which [`utrace::quiesce_mm`] needs.
struct Switches {
    ubp: Enabled<UbpCallSites>,
    utrace: Active,
}

impl Switches {
    /// Context: as for [`Active::new`].
    fn on() -> Self {
        Self {
            ubp: Enabled::new(),
            utrace: Active::new(),
        }
    }

    /// Keeps the call sites enabled for another space. `mmap_lock` may be held.
    fn try_clone(&self) -> Result<Self> {
        Ok(Self {
            ubp: self.ubp.try_clone()?,
            utrace: self.utrace.try_clone()?,
        })
    }
}

/// Returns `mm_struct::uprobes_state`.
///
/// # Invariants
///
/// The pointer is null, or [`LOST`], or owns a `ForeignRcuBox<Arc<Space>>`.
/// [`Space::get_or_create`] and [`Space::set`] change it from null while `mm_users` is not zero.
/// [`clear`] takes it back when `mm_users` is zero, or in `fork()` before any thread uses the copy.
fn pointer(mm: &Mm) -> &Atomic<*mut c_void> {
    // SAFETY: The field lives as long as `mm`, and is only accessed by atomic operations once the
    // address space can be found.
    unsafe {
        let mm = mm.as_raw();
        Atomic::from_ptr(&raw mut (*mm).__bindgen_anon_1.uprobes_state.ubp)
    }
}

/// Value in place of a space, if there was no memory for the list of inherited breakpoints.
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
    pub(crate) fn from_mm(mm: &MmWithUser) -> Option<&Self> {
        let space = pointer(mm).load(Acquire);
        // Every hit executes this comparison, which covers null and `LOST` at once.
        if space.addr() <= LOST.addr() {
            return None;
        }
        // SAFETY: By the invariants of `pointer`, `space` owns a handle of this type, and is not
        // taken back while `mm_users` is not zero, which `MmWithUser` guarantees.
        unsafe { ForeignRcuBox::<Arc<Self>>::borrow(space) }.map(|space| &**space)
    }

    /// Returns the space of an address space that may have no users any more.
    #[inline]
    pub(crate) fn from_any_mm<'a>(mm: &'a Mm, guard: &'a Guard) -> Option<&'a Self> {
        Self::arc_from_any_mm(mm, guard).map(|space| &**space)
    }

    /// Returns the space as [`Space::from_any_mm`] does, for callers that need a reference of their
    /// own.
    #[inline]
    pub(crate) fn arc_from_any_mm<'a>(mm: &'a Mm, _guard: &'a Guard) -> Option<&'a Arc<Self>> {
        let space = pointer(mm).load(Acquire);
        if space == LOST {
            return None;
        }
        // SAFETY: By the invariants of `pointer`, `space` is null or owns a handle of this type. If
        // `clear()` takes the handle back, `_guard` is held since before that.
        unsafe { ForeignRcuBox::<Arc<Self>>::borrow(space) }
    }

    /// Returns the space of an address space, and creates it if necessary.
    ///
    /// Context: as for [`Active::new`].
    pub(crate) fn get_or_create(mm: &MmWithUser) -> Result<&Self> {
        if Self::from_mm(mm).is_none() {
            Self::set(mm, Self::init(mm, KVVec::new(), Switches::on())?)?;
        }
        let space = Self::from_mm(mm).ok_or(ENOMEM)?;
        if space.group.as_ref().is_none() {
            if let Some(group) = Group::from_mm(mm) {
                // Another thread may have set the group first.
                space.group.populate(group);
            }
        }
        Ok(space)
    }

    /// Creates a space with the list of inherited breakpoints for `to`, which is a copy of the
    /// address space of `self`.
    ///
    /// Context: may sleep. `mmap_lock` may be held.
    pub(crate) fn create_inherited(&self, to: &MmWithUser, list: KVVec<Displaced>) -> Result {
        Self::set(to, Self::init(to, list, self.active.try_clone()?)?)
    }

    /// Returns the threads that use `mm`, which is the address space of `self`.
    pub(crate) fn users<'a>(&'a self, mm: &'a ARef<MmWithUser>) -> Users<'a> {
        Users::new(mm, self.group.as_ref())
    }

    /// Returns evidence that the threads may be quiesced with `mmap_lock` held.
    pub(crate) fn utrace(&self) -> &Active {
        &self.active.utrace
    }

    fn set(mm: &MmWithUser, space: Arc<Self>) -> Result {
        let raw = ForeignRcuBox::new(BUILT_IN, space, GFP_KERNEL)?.into_raw();
        // INVARIANT: On success, the pointer owns the handle.
        let stored = pointer(mm).cmpxchg(core::ptr::null_mut(), raw, Full);
        if stored.is_err() {
            // SAFETY: `raw` is the result of `ForeignRcuBox::into_raw()` above, and was not stored.
            drop(unsafe { ForeignRcuBox::<Arc<Self>>::from_raw(raw) });
        }
        Ok(())
    }

    /// Returns whether `fork()` is making the address space. Its text has the breakpoints of the
    /// original until [`fork::fork_finish`](crate::fork) has restored it.
    pub(crate) fn is_copy(mm: &Mm) -> bool {
        let guard = tasks_trace::read_lock();
        Self::from_any_mm(mm, &guard).is_some_and(|space| !space.inherited.is_empty())
    }

    /// Records that there was no memory for the list of breakpoints that `mm` inherited.
    pub(crate) fn set_lost(mm: &MmWithUser) {
        // The copy has just been created and has no space, so the result of the exchange does not
        // matter.
        let _ = pointer(mm).cmpxchg(core::ptr::null_mut(), LOST, Full);
    }

    pub(crate) fn is_lost(mm: &MmWithUser) -> bool {
        pointer(mm).load(Acquire) == LOST
    }

    /// Returns the breakpoint at an address if its `int3` is in the text.
    #[inline]
    pub(crate) fn armed<'a>(
        &'a self,
        at: Vaddr,
        guard: &'a Guard,
    ) -> Option<ArcBorrow<'a, Breakpoint>> {
        self.map
            .get(at.as_usize(), guard)
            .map(Arc::as_arc_borrow)
            .filter(|bp| bp.state() == BreakpointState::Armed)
    }

    /// Returns the breakpoint at an address, unless it is lost or removed.
    pub(crate) fn present<'a>(
        &'a self,
        at: Vaddr,
        guard: &'a Guard,
    ) -> Option<&'a Arc<Breakpoint>> {
        self.known(at, guard)
            .filter(|bp| bp.state() != BreakpointState::Lost)
    }

    /// Returns the breakpoint at an address, unless it is removed.
    pub(crate) fn known<'a>(&'a self, at: Vaddr, guard: &'a Guard) -> Option<&'a Arc<Breakpoint>> {
        self.map
            .get(at.as_usize(), guard)
            .filter(|bp| bp.state() != BreakpointState::Removed)
    }

    /// Returns the byte that the breakpoint at an address displaces, if its `int3` may be in the
    /// text. In a copied address space, this is a breakpoint of the original address space.
    pub(crate) fn displaced_byte(&self, at: Vaddr) -> Option<u8> {
        let guard = tasks_trace::read_lock();
        if let Some(bp) = self.known(at, &guard) {
            let may_be_there = bp.state() != BreakpointState::Overwritten;
            return bp.insn().bytes().first().filter(|_| may_be_there).copied();
        }
        let found = self.inherited.binary_search_by_key(&at, Displaced::at);
        self.inherited.get(found.ok()?)?.original()
    }

    /// Returns the breakpoints within `start..end` that are neither lost nor removed.
    pub(crate) fn present_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.known_in(start, end, guard)
            .filter(|bp| bp.state() != BreakpointState::Lost)
    }

    /// Returns the breakpoints within `start..end` that are not removed.
    pub(crate) fn known_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.map
            .range(start..=end.saturating_sub(1), guard)
            .map(|(_, bp)| bp)
            .filter(|bp| bp.state() != BreakpointState::Removed)
    }

    /// Returns the breakpoints within `start..end` whose `int3` is in the text.
    pub(crate) fn armed_in<'a>(
        &'a self,
        start: usize,
        end: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<Breakpoint>> + 'a {
        self.present_in(start, end, guard)
            .filter(|bp| matches!(bp.state(), BreakpointState::Armed | BreakpointState::Stale))
    }

    /// Returns the area that contains an address.
    #[inline]
    pub(crate) fn area<'a>(&'a self, addr: usize, guard: &'a Guard) -> Option<&'a Arc<XolArea>> {
        self.areas.get(addr & PAGE_MASK, guard)
    }

    /// Returns the areas that begin within `first..=last`.
    pub(crate) fn areas_in<'a>(
        &'a self,
        first: usize,
        last: usize,
        guard: &'a Guard,
    ) -> impl Iterator<Item = &'a Arc<XolArea>> + 'a {
        self.areas.range(first..=last, guard).map(|(_, area)| area)
    }
}

/// Returns whether there may be breakpoints in an address space, or have been until its last user
/// has gone.
pub fn is_probed(mm: &Mm) -> bool {
    let space = pointer(mm).load(Acquire);
    !space.is_null() && space != LOST
}

/// Frees the breakpoints of an address space that has no users left, or that `fork()` has copied
/// and no thread uses yet.
///
/// # Safety
///
/// `mm_users` of `mm` must be zero, or the caller must be the only user and have no reference to
/// the space.
pub unsafe fn clear(mm: &Mm) {
    // INVARIANT: The pointer is null afterwards, and `space` owns the handle.
    let space = pointer(mm).xchg(core::ptr::null_mut(), Full);
    if !space.is_null() && space != LOST {
        // SAFETY: By the invariants of `pointer`, the value owned a handle of this type, and the
        // exchange above has taken it back once.
        drop(unsafe { ForeignRcuBox::<Arc<Space>>::from_raw(space) });
    }
}
