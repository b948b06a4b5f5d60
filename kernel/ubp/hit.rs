// SPDX-License-Identifier: GPL-2.0

//! A thread that has hit a breakpoint, from when the owner is told until the thread goes on.
//!
//! # States
//!
//! ```text
//!                                        resume()
//!   Told, interrupts disabled (Hit) ---------------------------------> Resumed
//!               |                                                         ^
//!               | in_task(): interrupts enabled, the owner is called again |
//!               +---------------------------------------------------------+
//!               | remove(): nobody wants the breakpoint                    |
//!               +---------------------------------------------------------+
//! ```
//!
//! Unless the owner has moved the instruction pointer, the displaced instruction is emulated then,
//! or the thread is sent to its copy in a slot (see [`crate::slot`]). If nothing has to be waited
//! for, and the owner is not called in task context, interrupts stay disabled throughout.

use crate::{
    breakpoint::Breakpoint,
    insert::{
        disarm,
        make_slot_late, //
    },
    slot,
    space::Space,
    step, //
};

use core::mem::MaybeUninit;
use kernel::{
    current,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace::{
            self,
            Guard,
            Section, //
        },
        Arc,
        ArcBorrow, //
    },
    task::Task,
    trap::{
        force_step_trap,
        Trap, //
    }, //
};
use ubp_arch::{
    AtOnce,
    CurrentThread,
    Emulated,
    Insn,
    Thread, //
};

/// A breakpoint that has been looked up.
type Found<'a> = ArcBorrow<'a, Breakpoint>;

/// A thread that has hit a breakpoint, whose owner is being told, with interrupts disabled.
///
/// # Invariants
///
/// `bp` has been read under `guard`, which is held for as long as anything of lifetime `'h` is
/// accessed.
#[must_use = "the thread has to be resumed"]
pub struct Hit<'h> {
    bp: Found<'h>,
    guard: Guard,
    trap: Trap,
}

/// Evidence that the thread of a [`Hit`] can go on.
#[must_use = "to be given back to who told of the hit"]
pub struct Resumed(bool);

impl Resumed {
    const YES: Self = Self(true);

    /// Whether there is nothing left to do, which always is so.
    // What the trap handler wants to know, without a calculation.
    #[inline]
    pub(crate) fn done(self) -> bool {
        self.0
    }
}

impl<'h> Hit<'h> {
    /// Makes one of the breakpoint that `find` finds. If it finds none, gives the trap back.
    #[inline]
    pub(crate) fn new(
        trap: Trap,
        find: impl for<'a> FnOnce(&'a Trap, &'a Guard) -> Option<Found<'a>>,
    ) -> Result<Self, Trap> {
        let guard = tasks_trace::read_lock();
        let Some(bp) = find(&trap, &guard) else {
            return Err(trap);
        };
        // SAFETY: The guard keeps it. By the type invariants it is not accessed after that.
        let bp = unsafe { core::mem::transmute::<Found<'_>, Found<'h>>(bp) };
        // INVARIANT: It has been read under the guard. What has the lifetime gets to others in
        // `tell_owner()` only, and an owner does not access it after it has given the guard up, by
        // the requirements on `OnHit`.
        Ok(Self { bp, guard, trap })
    }

    #[inline]
    pub(crate) fn insn(&self) -> &Insn {
        self.bp.insn()
    }

    /// Tells the owner. Whatever that does, the thread goes on afterwards.
    #[inline]
    pub(crate) fn tell_owner(self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(true);
        // The argument keeps it; see the requirements on the owner for when that is given up.
        let bp = self.bp;
        bp.owner().hit(self, regs)
    }

    /// Tells the owner, if the thread executes code of the kind that its process began with. If it
    /// does not, as emulators of other systems do, the breakpoint displaces another instruction
    /// than was analysed. There is no probing that: it is taken out, and the thread executes what
    /// is there.
    #[cold]
    #[inline(never)]
    pub(crate) fn in_other_segment(self, regs: &mut PtRegs) -> Resumed {
        if self.insn().is_of_mode(regs) {
            return self.tell_owner(regs);
        }
        let (bp, mut trap) = self.give_up();
        trap.with_interrupts(|| remove(&bp));
        Resumed::YES
    }

    /// What is read under this is there until the hit is given up.
    #[inline]
    pub fn section(&self) -> Section<'h> {
        // SAFETY: By the type invariants.
        unsafe { self.guard.section() }
    }

    /// Has the thread go on.
    #[inline(always)]
    pub fn resume(self, regs: &mut PtRegs) -> Resumed {
        Self::resume_in_place(MaybeUninit::uninit(), self, regs)
    }

    /// The same.
    // With a first argument that nobody looks at, so that the others stay in the registers in which
    // OnHit::hit() has got them: that is the last thing that most owners call.
    #[inline(never)]
    fn resume_in_place(_owner: MaybeUninit<usize>, hit: Self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(false);
        if is_at(&hit.bp, regs) && !resume_at_once(&hit.bp, regs) {
            return hit.resume_otherwise(regs);
        }
        Resumed::YES
    }

    /// Makes up for an instruction for which that takes more than registers.
    // Apart, so that others do not save registers for it.
    #[inline(never)]
    fn resume_otherwise(self, regs: &mut PtRegs) -> Resumed {
        let Self {
            bp,
            guard,
            mut trap,
        } = self;
        trap.with_interrupts(|| resume(bp, guard, regs))
    }

    /// Calls `f` in task context, as a system call is: it may sleep, and access user memory. Then
    /// has the thread go on.
    #[inline]
    pub fn in_task(self, regs: &mut PtRegs, f: impl FnOnce(&mut PtRegs, &Guard)) -> Resumed {
        let Self {
            bp,
            guard,
            mut trap,
        } = self;
        trap.with_interrupts(|| {
            f(regs, &guard);
            set_in_hit(false);
            if is_at(&bp, regs) && !resume_at_once(&bp, regs) {
                return resume(bp, guard, regs);
            }
            Resumed::YES
        })
    }

    /// Nobody wants the breakpoint any more, which is still there because it could not be removed:
    /// tries again, and has the thread go on.
    #[cold]
    pub fn remove(self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(false);
        let (bp, mut trap) = self.give_up();
        trap.with_interrupts(|| {
            remove(&bp);
            resume_unguarded(bp, regs)
        })
    }

    /// Ends the read-side critical section, because what follows may sleep for as long as user mode
    /// likes: in a page fault, or for the mmap lock. Removals in the whole system wait for readers.
    fn give_up(self) -> (Arc<Breakpoint>, Trap) {
        (self.bp.into(), self.trap)
    }
}

/// Whether the thread is still where the breakpoint is.
#[inline]
fn is_at(bp: &Breakpoint, regs: &PtRegs) -> bool {
    regs.ip() == bp.at().as_usize()
}

/// Makes up for the instruction that the breakpoint displaces, if that takes nothing but the
/// registers. Returns whether it has.
///
/// Context: any.
#[inline(always)]
fn resume_at_once(bp: &Breakpoint, regs: &mut PtRegs) -> bool {
    match bp.insn().emulate_at_once(regs, &CurrentThread::new()) {
        AtOnce::Done => true,
        AtOnce::Boost => bp.slot_addr().map(|slot| slot::enter(slot, regs)).is_some(),
        AtOnce::Other => false,
    }
}

/// Makes up for the instruction that the breakpoint displaces. Does not sleep while `guard` is
/// held.
// With a result, for the sake of owners: what they return is then not known to the compiler, so it
// can have what they call last return in their place.
#[inline(never)]
fn resume(bp: Found<'_>, guard: Guard, regs: &mut PtRegs) -> Resumed {
    match bp
        .insn()
        .emulate(regs, &mut CurrentThread::without_faults())
    {
        Emulated::Done { deliver_trap: true } if utrace::step_trap() => (),
        Emulated::Done { deliver_trap: true } => force_step_trap(regs),
        Emulated::Done {
            deliver_trap: false,
        } => (),
        Emulated::Boost(_) => {
            if let Some(slot) = bp.slot_addr() {
                slot::enter(slot, regs);
            }
        }
        // The CPU finds out what is in the way of the emulation, and faults in user mode.
        Emulated::Step(_) if bp.slot().is_some() => step::begin(bp.into(), regs),
        Emulated::Step(_) => {
            let bp = bp.into();
            drop(guard);
            return resume_unguarded(bp, regs);
        }
    }
    Resumed::YES
}

/// As [`resume`], but may sleep, because no guard is held. The reference keeps the breakpoint and
/// its slot. The breakpoint may have been removed in the meantime, which makes no difference to the
/// instruction that has been hit.
///
/// The thread faults in user mode, in a slot, because in the kernel no signal ends the wait for a
/// userfault.
#[cold]
#[inline(never)]
fn resume_unguarded(bp: Arc<Breakpoint>, regs: &mut PtRegs) -> Resumed {
    if emulate(&bp, regs, &mut CurrentThread::without_faults()) {
        return Resumed::YES;
    }
    // A thread that is not stepped must be in the slot before a grace period ends, because
    // nothing else keeps the slot: see `reclaim`.
    match slot_for_step(&bp) {
        Ok(()) => step::begin(bp, regs),
        // The thread executes what is there now.
        Err(ENOENT) => (),
        // There is no room for a slot.
        Err(_) => {
            if !emulate(&bp, regs, &mut CurrentThread::new()) {
                // The thread must not pay for that. If the removal fails as well, the next hit
                // tries again.
                remove(&bp);
            }
        }
    }
    Resumed::YES
}

/// Emulates the displaced instruction. Returns whether that could be done.
fn emulate(bp: &Breakpoint, regs: &mut PtRegs, thread: &mut impl Thread) -> bool {
    match bp.insn().emulate(regs, thread) {
        Emulated::Done { deliver_trap } => {
            if deliver_trap && !utrace::step_trap() {
                force_step_trap(regs);
            }
            true
        }
        Emulated::Boost(_) | Emulated::Step(_) => false,
    }
}

/// Sees to it that the breakpoint has a slot.
fn slot_for_step(bp: &Breakpoint) -> Result {
    if bp.slot().is_some() {
        return Ok(());
    }
    let task = current!();
    let mm = task.mm().ok_or(ENOENT)?;
    make_slot_late(Space::of(mm).ok_or(ENOENT)?, mm, bp)
}

/// Takes out a breakpoint of the current thread's address space. On failure the next hit tries
/// again, unless the thread has been killed.
#[cold]
fn remove(bp: &Arc<Breakpoint>) {
    let task = current!();
    if let Some(mm) = task.mm() {
        if let Some(space) = Space::of(mm) {
            let _ = disarm(space, mm, bp);
        }
    }
}

#[inline]
fn set_in_hit(in_hit: bool) {
    // SAFETY: Only the current thread accesses its own state.
    unsafe { (*Task::current_raw()).ubp.in_hit = in_hit };
}

/// Returns whether the caller has been called by [`crate::OnHit`], so that it must not wait for
/// hits to end.
pub fn is_in_hit() -> bool {
    // SAFETY: Only the current thread accesses its own state.
    unsafe { (*Task::current_raw()).ubp.in_hit }
}

/// Waits until the owners of breakpoints that have been taken out are called no more. A caller that
/// has been called by one does not wait: it would be for itself.
///
/// Somebody waits for this, who has had text and static keys changed, which interrupts the CPUs as
/// much as an expedited grace period does.
///
/// Context: may sleep.
pub fn wait_for_hits() {
    if !is_in_hit() {
        tasks_trace::synchronize_expedited();
    }
}
