// SPDX-License-Identifier: GPL-2.0

//! Return breakpoints: at return instructions, and at return addresses.
//!
//! A return breakpoint stays until the process has no return probes. See [`crate::returns`].
//!
//! # Locks
//!
//! `Breakpoints::open`, a mutex: held while a breakpoint is added, so that none is added after the
//! last return probe has been removed. `Probepoint::state` nests inside. The mutex must not be held
//! while text is faulted in, because a thread at a hit may wait for the mutex, and every
//! unregistration waits for hits.

use crate::{
    entry::ReturnPoint,
    probepoint::{
        self,
        Probepoint, //
    },
    returns::{
        function::{
            Called,
            Function,
            ANY_GENERATION, //
        },
        limits::{
            Memory,
            Rate, //
        },
        process::ReturnProbes,
        view, //
    },
    stack::word_size,
    BUILT_IN, //
};

use kernel::{
    insn::Mode,
    mm::MmWithUser,
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        tasks_trace::{
            self,
            Guard,
            Map,
            RcuPointer, //
        },
        Arc,
        Mutex, //
    },
    threads::ThreadGroup, //
};
use ubp::Vaddr;

mod gone;

/// A return breakpoint: at a return instruction, at a return address, or at an instruction that is
/// both.
pub(crate) struct ReturnBreakpoint {
    at: Vaddr,
    returns: Arc<ReturnProbes>,
    /// Bytes of arguments that the return instruction here pops, or [`NO_RETURN`]. Set before
    /// `way`.
    popped: Atomic<u32>,
    /// Whether the breakpoint is at a return address. Set before the first instance of a call that
    /// returns there is added.
    is_return_address: Atomic<bool>,
    /// See [`HitWay`].
    way: Atomic<u32>,
    /// The function that was added last, of the ones that return by the instruction here and do not
    /// own it. Mostly there is only one, so a hit need not look it up. Changed with
    /// `ReturnProbes::adding` held.
    function: RcuPointer<Arc<Function>>,
    /// The function that owns the return instruction. Changed with `ReturnProbes::adding` held.
    owner: RcuPointer<Arc<Function>>,
}

/// The way in which a hit of a return breakpoint is handled. A breakpoint only changes from an
/// earlier variant to a later one.
#[derive(Clone, Copy)]
#[repr(u32)]
enum HitWay {
    /// No function is known to return by the instruction.
    Unknown,
    /// Only functions that have instances return by the instruction, which is in 64-bit code.
    Instances,
    /// Only the owner of the instruction returns by it, which is in 64-bit code.
    Owner,
    /// All other cases: several of these, returns to the address, and 32-bit code.
    General,
}

const UNKNOWN: u32 = HitWay::Unknown as u32;
const INSTANCES: u32 = HitWay::Instances as u32;
const OWNER: u32 = HitWay::Owner as u32;

/// Value of [`ReturnBreakpoint::popped`] if no function is known to return by the instruction.
const NO_RETURN: u32 = u32::MAX;

/// The role of an address for a function.
#[derive(Clone, Copy)]
pub(crate) enum Kind<'a> {
    /// The function returns by the instruction there.
    Instruction,
    /// The function returns to the address. The breakpoint is charged to the process.
    Address(&'a Memory),
}

impl ReturnBreakpoint {
    fn new(at: Vaddr, returns: &Arc<ReturnProbes>) -> Result<Arc<Self>> {
        let this = Self {
            at,
            returns: returns.clone(),
            popped: Atomic::new(NO_RETURN),
            is_return_address: Atomic::new(false),
            way: Atomic::new(UNKNOWN),
            function: RcuPointer::empty(BUILT_IN),
            owner: RcuPointer::empty(BUILT_IN),
        };
        Ok(Arc::new(this, GFP_KERNEL_ACCOUNT)?)
    }

    fn set_return_address(&self) {
        self.is_return_address.store(true, Relaxed);
        self.way.store(HitWay::General as u32, Relaxed);
    }

    /// Sets the number of bytes of arguments that the instruction at the probepoint pops. It is
    /// taken from the breakpoint, because the text may be another one than the walk has seen.
    ///
    /// # Errors
    ///
    /// `EINVAL`: it is not a return instruction.
    fn set_return_insn(&self, probepoint: &Probepoint) -> Result {
        let popped = probepoint.return_release().ok_or(EINVAL)?;
        self.popped.store(popped as u32, Relaxed);
        let way = match Mode::from_mm(&probepoint.mm) {
            Mode::Bits64 => HitWay::Instances,
            Mode::Bits32 => HitWay::General,
        };
        // It may be a later one already.
        let _ = self.way.cmpxchg(UNKNOWN, way as u32, Full);
        Ok(())
    }

    /// Returns the bytes of arguments that the return instruction here pops. Returns `None` if the
    /// instruction is not a return instruction, or if a handler has moved the thread.
    fn popped(&self, regs: &PtRegs) -> Option<usize> {
        let popped = self.popped.load(Relaxed);
        (popped != NO_RETURN && regs.ip() == self.at.as_usize()).then_some(popped as usize)
    }

    /// Returns the location of the return address, for a thread that has executed the return
    /// instruction here in 64-bit code.
    // Computed, and not kept, because the fast path does not need it.
    #[cold]
    pub(crate) fn location_before(&self, regs: &PtRegs) -> usize {
        let popped = self.popped.load(Relaxed) as usize;
        regs.sp().wrapping_sub(word_size(Mode::Bits64) + popped)
    }

    // Inlined into the fast path of a return, as the next one.
    #[inline(always)]
    pub(crate) fn at(&self) -> Vaddr {
        self.at
    }

    /// Returns the function that the breakpoint knows, if it is the one at `entry`.
    #[inline(always)]
    pub(crate) fn function_at<'a>(
        &'a self,
        entry: usize,
        guard: &'a Guard,
    ) -> Option<&'a Function> {
        let function = self.function.read(guard)?;
        function.is_at(entry).then_some(&**function)
    }

    /// Returns the function that owns the return instruction here.
    pub(crate) fn owner<'a>(&'a self, guard: &'a Guard) -> Option<&'a Function> {
        let owner = self.owner.read(guard)?;
        (!owner.is_gone()).then_some(&**owner)
    }

    /// Executes the return instruction, and calls the return handlers of the only function that
    /// returns, which `find` returns. Returns `false` and does nothing if `find` returns `None`, or
    /// if the kernel cannot execute the instruction.
    // Inlined because it is the fast path of a return.
    #[inline(always)]
    fn reached_fastpath<'a>(
        &'a self,
        location: usize,
        regs: &mut PtRegs,
        guard: &'a Guard,
        find: impl FnOnce() -> Option<Called<'a>>,
    ) -> bool {
        let Some(target) = view::target(self.at.as_usize(), location, regs) else {
            return false;
        };
        let Some(called) = find() else {
            return false;
        };
        let popped = self.popped.load(Relaxed) as usize;
        view::execute(target, location, popped, regs);
        self.returns
            .notify_fastpath(called, self, target, regs, guard);
        true
    }

    // Not inlined, so that it does not add to the fast path of functions with instances.
    #[inline(never)]
    fn reached_owner(&self, location: usize, regs: &mut PtRegs, guard: &Guard) -> bool {
        self.reached_fastpath(location, regs, guard, || {
            // Without an instance, the generation of the call is unknown: all consumers are called.
            Some((self.owner(guard)?, ANY_GENERATION))
        })
    }

    // Not inlined, so that `reached` does not save registers for it.
    #[inline(never)]
    fn reached_slowpath(&self, regs: &mut PtRegs, guard: &Guard) {
        // A thread first returns to the address, and then by the instruction there.
        if self.is_return_address.load(Relaxed) {
            self.returns.returned_to(self.at.as_usize(), regs, guard);
        }
        if let Some(popped) = self.popped(regs) {
            self.returns.returned_by(self, popped, regs, guard);
        }
    }
}

impl ReturnPoint for ReturnBreakpoint {
    #[inline]
    fn reached(&self, _generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result {
        let location = regs.sp();
        let take = || self.returns.take_only(self, location, guard);
        // Pairs with `set_return_insn`, which stores `popped` first.
        match self.way.load(Acquire) {
            INSTANCES if self.reached_fastpath(location, regs, guard, take) => (),
            OWNER if self.reached_owner(location, regs, guard) => (),
            _ => self.reached_slowpath(regs, guard),
        }
        Ok(())
    }
}

/// Memory of a return breakpoint: includes its probepoint, its breakpoint in UBP, and the entries
/// of all of these in maps.
const BREAKPOINT_BYTES: usize = 1280;

/// A return breakpoint, and its probepoint.
#[derive(Clone)]
struct Inserted {
    breakpoint: Arc<ReturnBreakpoint>,
    /// `None` if there can be no breakpoint at the address.
    probepoint: Option<Arc<Probepoint>>,
    /// Whether the breakpoint is charged to the process.
    is_charged: bool,
}

impl Inserted {
    /// Returns whether no thread can hit the breakpoint, because it has been removed or never was.
    fn is_gone(&self) -> bool {
        (self.probepoint.as_ref()).is_none_or(|probepoint| probepoint.is_gone())
    }

    fn remove(&self) {
        if let Some(probepoint) = &self.probepoint {
            probepoint.remove_return_point(&*self.breakpoint);
        }
    }
}

/// State for adding breakpoints at return addresses.
struct Adding {
    rate: Rate,
    /// Number of charges that have failed since removed breakpoints were dropped last.
    refused: usize,
}

/// The return breakpoints of a process.
#[pin_data]
pub(crate) struct Breakpoints {
    group: ThreadGroup,
    #[pin]
    inserted: Map<Inserted>,
    /// `None` once the process has no return probes any more.
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

    /// Removes all breakpoints. No return is detected afterwards.
    ///
    /// Context: may sleep.
    pub(crate) fn close(&self) {
        *self.open.lock() = None;
        let guard = tasks_trace::read_lock();
        for (at, inserted) in self.inserted.range(0..=usize::MAX, &guard) {
            inserted.remove();
            // Drops the breakpoint, because it holds a reference to the `ReturnProbes` that owns
            // the map.
            self.inserted.remove(at);
        }
    }

    /// Returns whether there is a breakpoint for returns to an address.
    ///
    /// # Errors
    ///
    /// `EPERM`: there can be no breakpoint at the address.
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

    /// Stores a function in the breakpoint at an instruction by which it returns, if there is one.
    /// The caller must hold `ReturnProbes::adding`.
    pub(crate) fn set_function(&self, return_insn: Vaddr, function: &Arc<Function>) -> Result {
        if let Some(Inserted { breakpoint, .. }) = self.known(return_insn) {
            breakpoint.function.publish(function.clone(), GFP_KERNEL)?;
            // The owner is no longer the only function that returns by the instruction.
            if breakpoint.way.load(Relaxed) == OWNER {
                breakpoint.way.store(HitWay::General as u32, Relaxed);
            }
        }
        Ok(())
    }

    /// Returns whether a return instruction has an owner, or has no breakpoint.
    pub(crate) fn has_owner(&self, return_insn: Vaddr) -> bool {
        let guard = tasks_trace::read_lock();
        (self.inserted.get(return_insn.as_usize(), &guard))
            .is_none_or(|inserted| inserted.breakpoint.owner(&guard).is_some())
    }

    /// Makes a function the owner of a return instruction. The caller must hold
    /// `ReturnProbes::adding`.
    pub(crate) fn set_owner(&self, return_insn: Vaddr, function: &Arc<Function>) -> Result {
        if let Some(Inserted { breakpoint, .. }) = self.known(return_insn) {
            breakpoint.owner.publish(function.clone(), GFP_KERNEL)?;
            let is_shared = breakpoint
                .function
                .read(&tasks_trace::read_lock())
                .is_some_and(|function| !function.is_gone());
            let way = if is_shared {
                HitWay::General
            } else {
                HitWay::Owner
            };
            // It may be `General` already.
            let _ = breakpoint.way.cmpxchg(INSTANCES, way as u32, Relaxed);
        }
        Ok(())
    }

    /// Inserts a breakpoint at an address, unless there is one. `returns` must be the
    /// [`ReturnProbes`] that owns these breakpoints.
    ///
    /// Context: may sleep; takes `mmap_lock`.
    ///
    /// # Errors
    ///
    /// `EAGAIN`: the text is absent (see [`probepoint::place`]), or the process adds return
    /// addresses too fast. `ENOMEM`: no memory, or the limit of the process is reached. `ESRCH`:
    /// the last return probe has been removed. Others as for [`register`](crate::register).
    #[cold]
    pub(crate) fn add(
        &self,
        returns: &Arc<ReturnProbes>,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        kind: Kind<'_>,
    ) -> Result {
        let mut open = self.open.lock();
        let adding = (*open).as_mut().ok_or(ESRCH)?;
        let known = self.known(at);
        if let Some(known) = &known {
            let probepoint = known.probepoint.as_ref().ok_or(EPERM)?;
            if !probepoint.is_gone() {
                return match kind {
                    Kind::Instruction => known.breakpoint.set_return_insn(probepoint),
                    Kind::Address(_) => {
                        known.breakpoint.set_return_address();
                        Ok(())
                    }
                };
            }
        }
        let charge = match kind {
            // A known breakpoint may be charged already.
            Kind::Address(memory) if !known.as_ref().is_some_and(|known| known.is_charged) => {
                Some(self.charge(memory, adding)?)
            }
            Kind::Address(_) | Kind::Instruction => None,
        };
        let is_charged = charge.is_some() || known.as_ref().is_some_and(|known| known.is_charged);
        // Not a known breakpoint in text that has been unmapped: the instruction that is there by
        // now may be another one, and a thread that hit the breakpoint before may still read it.
        let breakpoint = ReturnBreakpoint::new(at, returns)?;
        let was_return_address =
            known.is_some_and(|known| known.breakpoint.is_return_address.load(Relaxed));
        if was_return_address || matches!(kind, Kind::Address(_)) {
            breakpoint.set_return_address();
        }
        let point: Arc<dyn ReturnPoint> = breakpoint.clone();
        let place = || probepoint::place_return_point(mm, at, self.group, &point);
        let placed = match (place(), kind) {
            // The first breakpoint in a page of text needs a private copy of the page, which is
            // made here if nothing has to be waited for.
            (Err(EAGAIN), Kind::Address(_)) => {
                mm.mmap_write_lock_killable()?
                    .populate_nowait(at.as_usize())?;
                place()
            }
            (placed, _) => placed,
        };
        let (probepoint, result) = match placed {
            Ok(probepoint) => {
                let result = match kind {
                    Kind::Instruction => breakpoint.set_return_insn(&probepoint),
                    Kind::Address(_) => Ok(()),
                };
                (Some(probepoint), result)
            }
            // The next attempt may succeed, so the map must not record that there can be no
            // breakpoint.
            Err(error) if matches!(error, ENOMEM | EINTR | EAGAIN) => return Err(error),
            Err(error) => (None, Err(error)),
        };
        // Replaces a known breakpoint in text that has been unmapped.
        self.inserted.remove(at.as_usize());
        let inserted = Inserted {
            breakpoint,
            probepoint,
            is_charged,
        };
        self.inserted
            .insert(at.as_usize(), inserted.clone(), GFP_KERNEL_ACCOUNT)
            .inspect_err(|_| inserted.remove())?;
        // The breakpoint stays until the last return probe is removed or the process exits.
        if let Some(charge) = charge {
            charge.keep();
        }
        result
    }
}
