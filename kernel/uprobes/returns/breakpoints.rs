// SPDX-License-Identifier: GPL-2.0

//! Return breakpoints: at return instructions, and at return addresses.
//!
//! A return breakpoint stays for as long as the process has return probes. See
//! [`crate::returns`].
//!
//! # Locks
//!
//! `Breakpoints::open`, a mutex, is held while a breakpoint is added, so that none is added after
//! the last return probe has gone. The state of probepoints nests inside. It is not held while text
//! is faulted in: a thread at a hit waits for it, and every unregistration waits for hits.

use crate::{
    entry::ReturnPoint,
    probepoint::{
        self,
        Probepoint, //
    },
    returns::{
        limits::{
            Charge,
            Memory,
            Rate, //
        },
        process::{
            Function,
            Returns, //
        },
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

/// A return breakpoint: a return instruction, a return address, or both.
pub(crate) struct ReturnBreakpoint {
    at: Vaddr,
    returns: Arc<Returns>,
    is_return_instruction: Atomic<bool>,
    /// Set before the first instance of a call from there is kept.
    is_return_address: Atomic<bool>,
    /// The last of the functions that are known to return by the instruction: mostly there is one,
    /// which need not be looked up then. Changed under `Returns::adding`.
    function: Published<Arc<Function>>,
}

/// The role of an address for a function.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// The function returns by the instruction there.
    Instruction,
    /// The function returns to there. The breakpoint is charged to the process.
    Address(&'a Memory),
}

impl ReturnBreakpoint {
    fn new(at: Vaddr, returns: &Arc<Returns>) -> Result<Arc<Self>> {
        let this = Self {
            at,
            returns: returns.clone(),
            is_return_instruction: Atomic::new(false),
            is_return_address: Atomic::new(false),
            function: Published::empty(BUILT_IN),
        };
        Ok(Arc::new(this, GFP_KERNEL_ACCOUNT)?)
    }

    fn flag(&self, kind: Kind<'_>) -> &Atomic<bool> {
        match kind {
            Kind::Instruction => &self.is_return_instruction,
            Kind::Address(_) => &self.is_return_address,
        }
    }

    #[inline(always)]
    pub(crate) fn at(&self) -> Vaddr {
        self.at
    }

    /// Returns the function that returns by the instruction here, if it is the one at `entry`.
    #[inline(always)]
    pub(crate) fn function_at<'a>(
        &'a self,
        entry: usize,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        let function = self.function.read(guard)?;
        function.is_at(entry).then_some(&**function)
    }

    #[inline(never)]
    fn reached_slowly(&self, regs: &mut PtRegs, guard: &Guard) {
        // A function that has returned to here comes before one that is going to return from here.
        if self.is_return_address.load(Relaxed) {
            self.returns.returned_to(self.at.as_usize(), regs, guard);
        }
        if self.is_return_instruction.load(Relaxed) {
            self.returns.returning_from(self, regs, guard);
        }
    }
}

impl ReturnPoint for ReturnBreakpoint {
    #[inline]
    fn reached(&self, _generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result {
        if self.is_return_address.load(Relaxed)
            || !self.returns.returning_from_lockless(self, regs, guard)
        {
            self.reached_slowly(regs, guard);
        }
        Ok(())
    }
}

/// Bytes that a return breakpoint takes, with its probepoint, its breakpoint in UBP, and the
/// entries of all of these in maps.
const BREAKPOINT_BYTES: usize = 1280;

/// How often there is no room before those that are gone are dropped.
const REFUSALS: usize = 32;

/// A return breakpoint, and where it is.
#[derive(Clone)]
struct Inserted {
    breakpoint: Arc<ReturnBreakpoint>,
    /// Nothing if there can be no breakpoint.
    probepoint: Option<Arc<Probepoint>>,
    /// Whether it is charged to the process.
    is_charged: bool,
}

impl Inserted {
    /// Returns whether no thread can hit the breakpoint any more, or there can be none.
    fn is_gone(&self) -> bool {
        (self.probepoint.as_ref()).is_none_or(|probepoint| probepoint.is_gone())
    }

    fn remove(&self) {
        if let Some(probepoint) = &self.probepoint {
            probepoint.remove_return_point(&*self.breakpoint);
        }
    }
}

/// State of the adding of breakpoints at return addresses.
struct Adding {
    rate: Rate,
    /// How often there was no room since those that are gone were dropped last.
    refused: usize,
}

/// The return breakpoints of a process.
#[pin_data]
pub(crate) struct Breakpoints {
    group: ThreadGroup,
    #[pin]
    inserted: Map<Inserted>,
    /// `None` once the process has no return probes.
    #[pin]
    open: Mutex<Option<Adding>>,
}

impl Breakpoints {
    pub(crate) fn new(group: ThreadGroup) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            group,
            inserted <- Map::new(BUILT_IN),
            open <- new_mutex!(Some(Adding {
                rate: Rate::new(),
                refused: 0,
            })),
        })
    }

    /// Removes all of them: no return is detected any more.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        *self.open.lock() = None;
        let guard = tasks_trace::read_lock();
        for (at, inserted) in self.inserted.range(0..=usize::MAX, &guard) {
            inserted.remove();
            // It refers back to the owner of this.
            self.inserted.remove(at);
        }
    }

    /// Returns whether there is a breakpoint at an address for returns to there.
    ///
    /// # Errors
    ///
    /// `EPERM`: there can be none.
    pub(crate) fn is_return_address(&self, at: usize, guard: &Guard) -> Result<bool> {
        let Some(inserted) = self.inserted.get(at, guard) else {
            return Ok(false);
        };
        let probepoint = inserted.probepoint.as_ref().ok_or(EPERM)?;
        Ok(!probepoint.is_gone() && inserted.breakpoint.is_return_address.load(Relaxed))
    }

    fn known(&self, at: Vaddr) -> Option<Inserted> {
        let guard = tasks_trace::read_lock();
        self.inserted.get(at.as_usize(), &guard).cloned()
    }

    /// Says that a function returns by the instruction at an address, if there is a breakpoint.
    /// The caller must hold `Returns::adding`.
    pub(crate) fn set_function(&self, exit: Vaddr, function: &Arc<Function>) -> Result {
        if let Some(Inserted { breakpoint, .. }) = self.known(exit) {
            breakpoint.function.publish(function.clone(), GFP_KERNEL)?;
        }
        Ok(())
    }

    /// Charges a breakpoint at a return address.
    ///
    /// Where there is no room, it drops those whose text has been unmapped, as a JIT compiler does.
    /// This takes a look at all, so it is done once for some refusals.
    fn charge<'a>(&self, memory: &'a Memory, adding: &mut Adding) -> Result<Charge<'a>> {
        if !adding.rate.take() {
            return Err(EAGAIN);
        }
        memory.try_charge(BREAKPOINT_BYTES).or_else(|error| {
            adding.refused += 1;
            if adding.refused < REFUSALS {
                return Err(error);
            }
            adding.refused = 0;
            let guard = tasks_trace::read_lock();
            for (at, inserted) in self.inserted.range(0..=usize::MAX, &guard) {
                if inserted.is_charged && inserted.is_gone() {
                    inserted.remove();
                    self.inserted.remove(at);
                    memory.uncharge(BREAKPOINT_BYTES);
                }
            }
            memory.try_charge(BREAKPOINT_BYTES)
        })
    }

    /// Inserts a breakpoint at an address for `returns`, which these belong to, unless there is
    /// one.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text is absent (see [`probepoint::place`]), or the process adds return
    /// addresses too fast. `ENOMEM`: this includes that the process has no room. `ESRCH`: the last
    /// return probe has gone. Else as of [`register`](crate::register).
    #[cold]
    pub(crate) fn add(
        &self,
        returns: &Arc<Returns>,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        kind: Kind<'_>,
    ) -> Result {
        let mut open = self.open.lock();
        let adding = (*open).as_mut().ok_or(ESRCH)?;
        let known = self.known(at);
        if let Some(known) = &known {
            known.breakpoint.flag(kind).store(true, Relaxed);
            if !known.probepoint.as_ref().ok_or(EPERM)?.is_gone() {
                return Ok(());
            }
        }
        let charge = match kind {
            // A known one is charged already.
            Kind::Address(memory) if !known.as_ref().is_some_and(|known| known.is_charged) => {
                Some(self.charge(memory, adding)?)
            }
            Kind::Address(_) | Kind::Instruction => None,
        };
        let is_charged = charge.is_some() || known.as_ref().is_some_and(|known| known.is_charged);
        let breakpoint = match known {
            Some(known) => known.breakpoint,
            None => ReturnBreakpoint::new(at, returns)?,
        };
        breakpoint.flag(kind).store(true, Relaxed);
        let point: Arc<dyn ReturnPoint> = breakpoint.clone();
        let place = || probepoint::place_return_point(mm, at, self.group, &point);
        let placed = match (place(), kind) {
            // The first breakpoint in a page of text needs a copy of the page.
            (Err(EAGAIN), Kind::Address(_)) => {
                mm.mmap_write_lock_killable()?
                    .populate_nowait(at.as_usize())?;
                place()
            }
            (placed, _) => placed,
        };
        let (probepoint, result) = match placed {
            Ok(probepoint) => (Some(probepoint), Ok(())),
            // These may not be so the next time.
            Err(error) if matches!(error, ENOMEM | EINTR | EAGAIN) => return Err(error),
            Err(error) => (None, Err(error)),
        };
        // The text of a known one has gone, and there is another text by now.
        self.inserted.remove(at.as_usize());
        let inserted = Inserted {
            breakpoint,
            probepoint,
            is_charged,
        };
        self.inserted
            .insert(at.as_usize(), inserted.clone(), GFP_KERNEL_ACCOUNT)
            .inspect_err(|_| inserted.remove())?;
        // Breakpoints stay until the last return probe, or the process, goes.
        if let Some(charge) = charge {
            charge.keep();
        }
        result
    }
}
