// SPDX-License-Identifier: GPL-2.0

//! The addresses where functions are noticed to return.
//!
//! At each of them a breakpoint is wanted, with a [`Place`] on its list of clients. It stays for as
//! long as the process has return probes. See [`crate::returns`].
//!
//! # Locks
//!
//! `Places::probe`, a mutex, is held while a breakpoint is added, so that none is added after the
//! last return probe has gone. The state of probepoints nests inside. It is not held while text is
//! faulted in: a thread at a hit waits for it, and every unregistration waits for hits.

use crate::{
    entry::{
        Entry,
        Role, //
    },
    probe::Probe,
    probepoint::{
        self,
        Probepoint,
        Text, //
    },
    returns::{
        Function,
        Returns, //
    },
    BUILT_IN, //
};

use kernel::{
    mm::MmWithUser,
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            self,
            Guard,
            Map,
            Published, //
        },
        Arc,
        Mutex, //
    },
    threads::ThreadGroup, //
};
use ubp::Vaddr;

/// An address where functions may be noticed to return.
pub(crate) struct Place {
    returns: Arc<Returns>,
    /// Whether functions return from here.
    is_exit: Atomic<bool>,
    /// Whether functions return to here. Set before the first such call is noted.
    is_site: Atomic<bool>,
    /// The last of the functions that are known to return from here: mostly there is one, which
    /// need not be looked up then. Changed under `Returns::adding`.
    function: Published<Arc<Function>>,
}

/// What a place is to a function.
#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Exit,
    Site,
}

impl Place {
    fn new(returns: &Arc<Returns>) -> Result<Arc<Self>> {
        let this = Self {
            returns: returns.clone(),
            is_exit: Atomic::new(false),
            is_site: Atomic::new(false),
            function: Published::empty(BUILT_IN),
        };
        Ok(Arc::new(this, GFP_KERNEL)?)
    }

    fn flag(&self, kind: Kind) -> &Atomic<bool> {
        match kind {
            Kind::Exit => &self.is_exit,
            Kind::Site => &self.is_site,
        }
    }

    /// The function that returns from here, if it is the one at `entry`.
    #[inline(always)]
    pub(crate) fn function_at<'a>(
        &'a self,
        entry: usize,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        let function = self.function.read(guard)?;
        function.is_at(entry).then_some(&**function)
    }

    /// A thread of the process has come here, to `at`.
    #[inline(never)]
    pub(crate) fn came_to(&self, at: usize, regs: &mut PtRegs, guard: &Guard) {
        // What has returned to here comes before what is going to return from here.
        if self.is_site.load(Relaxed) {
            self.returns.returned_to(at, regs, guard);
        }
        if self.is_exit.load(Relaxed) {
            self.returns
                .returning_from(self, regs.sp(), at, regs, guard);
        }
    }

    /// As [`Place::came_to`], faster where a function returns from here in the usual way.
    #[inline(always)]
    pub(crate) fn came_to_inline(&self, at: usize, regs: &mut PtRegs, guard: &Guard) {
        if self.is_site.load(Relaxed) || !self.returns.returning_from_seat(self, at, regs, guard) {
            self.came_to(at, regs, guard);
        }
    }
}

/// What has come of the wish for a breakpoint at a place.
#[derive(Clone)]
struct Placed {
    place: Arc<Place>,
    /// Nothing if there can be no breakpoint.
    probepoint: Option<Arc<Probepoint>>,
}

impl Placed {
    /// Takes the probe with this number out.
    fn take_out(&self, id: u64) {
        if let Some(probepoint) = &self.probepoint {
            probepoint.retain(Text::Restored, |entry| entry.probe.id != id);
        }
    }
}

/// The places of a process.
#[pin_data]
pub(crate) struct Places {
    group: ThreadGroup,
    #[pin]
    placed: Map<Placed>,
    /// What they are registered as; nothing when the last return probe has gone.
    #[pin]
    probe: Mutex<Option<Arc<Probe>>>,
}

impl Places {
    pub(crate) fn new(group: ThreadGroup) -> Result<impl PinInit<Self, Error>> {
        let probe = Probe::internal()?;
        probe.go_live();
        Ok(try_pin_init!(Self {
            group,
            placed <- Map::new(BUILT_IN),
            probe <- new_mutex!(Some(probe)),
        }))
    }

    /// Takes all breakpoints out: no return is noticed any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        let Some(probe) = self.probe.lock().take() else {
            return;
        };
        let guard = tasks_trace::read_lock();
        for (at, placed) in self.placed.range(0..=usize::MAX, &guard) {
            placed.take_out(probe.id);
            // It refers back to the owner of this.
            self.placed.remove(at);
        }
    }

    /// Whether there is a breakpoint at an address, for returns to there; an error if there can be
    /// none.
    pub(crate) fn is_site(&self, at: usize, guard: &Guard) -> Result<bool> {
        let Some(Placed { place, probepoint }) = self.placed.get(at, guard) else {
            return Ok(false);
        };
        let probepoint = probepoint.as_ref().ok_or(EPERM)?;
        Ok(!probepoint.is_gone() && place.is_site.load(Relaxed))
    }

    fn known(&self, at: Vaddr) -> Option<Placed> {
        let guard = tasks_trace::read_lock();
        self.placed.get(at.as_usize(), &guard).cloned()
    }

    /// Notes that a function returns from an address, if there is a place. `Returns::adding` is
    /// held.
    pub(crate) fn set_function(&self, exit: Vaddr, function: &Arc<Function>) -> Result {
        if let Some(Placed { place, .. }) = self.known(exit) {
            place.function.publish(function.clone(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Sees to it that there is a breakpoint at an address, for `returns`, whose places these are.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text is absent; see [`probepoint::place`]. `ESRCH`: the last return probe has
    /// gone. Else as of [`register`](crate::register).
    #[cold]
    pub(crate) fn add(
        &self,
        returns: &Arc<Returns>,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        kind: Kind,
    ) -> Result {
        let probe = self.probe.lock();
        let probe = probe.as_ref().ok_or(ESRCH)?;
        let known = self.known(at);
        let place = match &known {
            Some(placed) => placed.place.clone(),
            None => Place::new(returns)?,
        };
        place.flag(kind).store(true, Relaxed);
        if let Some(Placed { probepoint, .. }) = known {
            if !probepoint.ok_or(EPERM)?.is_gone() {
                return Ok(());
            }
        }
        // One that is there has gone with its text, and there is another text by now.
        self.placed.remove(at.as_usize());
        let entry = Entry::new(probe.clone(), self.group, Role::Place(place.clone()));
        let (probepoint, result) = match probepoint::place(mm, at, &entry) {
            Ok(probepoint) => (Some(probepoint), Ok(())),
            // These may not be so the next time.
            Err(error) if matches!(error, ENOMEM | EINTR | EAGAIN) => return Err(error),
            Err(error) => (None, Err(error)),
        };
        let placed = Placed { place, probepoint };
        let id = probe.id;
        self.placed
            .insert(at.as_usize(), placed.clone(), GFP_KERNEL)
            .inspect_err(|_| placed.take_out(id))?;
        result
    }
}
