// SPDX-License-Identifier: GPL-2.0

//! A thread that has hit a breakpoint, from the call of the owner until the thread resumes.
//!
//! # States
//!
//! ```text
//!                                        resume()
//!   Called, interrupts disabled (Hit) -------------------------------> Resumed
//!               |                                                         ^
//!               | in_task(): interrupts enabled, the owner is called again |
//!               +---------------------------------------------------------+
//!               | remove(): the breakpoint has no user                     |
//!               +---------------------------------------------------------+
//!               | restart_after(): the thread hits the breakpoint again     |
//!               +---------------------------------------------------------+
//! ```
//!
//! Unless the owner has changed the instruction pointer, the kernel then emulates the displaced
//! instruction, or sends the thread to the copy in a slot (see [`crate::slot`]). If the thread does
//! not have to wait, and the owner is not called in task context, interrupts stay disabled
//! throughout.

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
            RcuReadToken, //
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
    CurrentThread,
    Emulated,
    EmulatedFast,
    ProbedInsn,
    ThreadAccess, //
};

/// A breakpoint that a lookup has returned.
type FoundBreakpoint<'a> = ArcBorrow<'a, Breakpoint>;

/// A thread that has hit a breakpoint, with interrupts disabled. The owner of the breakpoint is
/// being called.
///
/// # Invariants
///
/// `bp` has been read under `guard`, and `guard` is held for as long as anything of lifetime `'h`
/// is accessed.
#[must_use = "the thread has to be resumed"]
pub struct Hit<'h> {
    bp: FoundBreakpoint<'h>,
    guard: Guard,
    trap: Trap,
}

/// Evidence that the thread of a [`Hit`] can resume.
#[must_use = "must be returned to the caller that passed the hit"]
pub struct Resumed(bool);

impl Resumed {
    const YES: Self = Self(true);

    /// Returns whether nothing is left to do, which is always the case.
    // The trap handler returns this value without a computation.
    #[inline]
    pub(crate) fn done(self) -> bool {
        self.0
    }
}

impl<'h> Hit<'h> {
    /// Creates a hit of the breakpoint that `find` returns. If `find` returns `None`, gives the
    /// trap back.
    #[inline]
    pub(crate) fn new(
        trap: Trap,
        find: impl for<'a> FnOnce(&'a Trap, &'a Guard) -> Option<FoundBreakpoint<'a>>,
    ) -> Result<Self, Trap> {
        let guard = tasks_trace::read_lock();
        let Some(bp) = find(&trap, &guard) else {
            return Err(trap);
        };
        // SAFETY: `guard` keeps the breakpoint alive, and by the type invariants nothing of
        // lifetime `'h` is accessed after `guard` has been dropped.
        let bp = unsafe { core::mem::transmute::<FoundBreakpoint<'_>, FoundBreakpoint<'h>>(bp) };
        // INVARIANT: `find` has read `bp` under `guard`. Only `notify_owner()` passes anything of
        // lifetime `'h` on, and the owner does not access it after it has consumed the hit, because
        // `BreakpointOwner` requires this.
        Ok(Self { bp, guard, trap })
    }

    #[inline]
    pub(crate) fn insn(&self) -> &ProbedInsn {
        self.bp.insn()
    }

    /// Calls the owner. The thread resumes afterwards, whatever the owner does.
    #[inline]
    pub(crate) fn notify_owner(self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(true);
        // The hit, which is passed to the owner, keeps the breakpoint. `BreakpointOwner` requires
        // that the owner does not use the breakpoint after it has consumed the hit.
        let bp = self.bp;
        bp.owner().hit(self, regs)
    }

    /// Calls the owner if the thread executes code of the mode that its process started with. In
    /// another mode, which emulators of other systems use, the breakpoint displaces a different
    /// instruction than the one that was analysed, and the hit cannot be handled: removes the
    /// breakpoint, so that the thread executes the text as it is.
    #[cold]
    #[inline(never)]
    pub(crate) fn in_other_segment(self, regs: &mut PtRegs) -> Resumed {
        if self.insn().is_of_mode(regs) {
            return self.notify_owner(regs);
        }
        let (bp, mut trap) = self.give_up();
        trap.with_interrupts(|| remove(&bp));
        Resumed::YES
    }

    /// Returns a token under which the owner may read until it consumes the hit.
    #[inline]
    pub fn read_token(&self) -> RcuReadToken<'h> {
        // SAFETY: By the type invariants, `guard` is held for as long as anything of lifetime `'h`
        // is accessed.
        unsafe { self.guard.read_token() }
    }

    /// Resumes the thread.
    #[inline(always)]
    pub fn resume(self, regs: &mut PtRegs) -> Resumed {
        Self::resume_in_place(MaybeUninit::uninit(), self, regs)
    }

    /// Resumes the thread. Takes an unused first argument.
    // The unused argument keeps `hit` and `regs` in the registers in which `BreakpointOwner::hit()`
    // receives them, because most owners end with this call.
    #[inline(never)]
    fn resume_in_place(_owner: MaybeUninit<usize>, hit: Self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(false);
        if is_at(&hit.bp, regs) && !resume_fast(&hit.bp, regs) {
            return hit.resume_slow(regs);
        }
        Resumed::YES
    }

    /// Executes a displaced instruction that needs more than registers.
    // A separate function, so that the fast path does not save registers for it.
    #[inline(never)]
    fn resume_slow(self, regs: &mut PtRegs) -> Resumed {
        let Self {
            bp,
            guard,
            mut trap,
        } = self;
        trap.with_interrupts(|| resume(bp, guard, regs))
    }

    /// Calls `f` in task context, as a system call is executed: `f` may sleep and access user
    /// memory. Then resumes the thread.
    #[inline]
    pub fn in_task(self, regs: &mut PtRegs, f: impl FnOnce(&mut PtRegs, &Guard)) -> Resumed {
        let Self {
            bp,
            guard,
            mut trap,
        } = self;
        trap.with_interrupts(move || {
            // `f` gets the address of the guard. A variable of its own keeps the other captures in
            // registers: 8 instructions less at the entry of a function, and 4 at its return.
            let guard = guard;
            f(regs, &guard);
            set_in_hit(false);
            if is_at(&bp, regs) && !resume_fast(&bp, regs) {
                return resume(bp, guard, regs);
            }
            Resumed::YES
        })
    }

    /// Removes a breakpoint that has no user any more but could not be removed before, and resumes
    /// the thread.
    #[cold]
    pub fn remove(self, regs: &mut PtRegs) -> Resumed {
        set_in_hit(false);
        let (bp, mut trap) = self.give_up();
        trap.with_interrupts(|| {
            remove(&bp);
            resume_unguarded(bp, regs)
        })
    }

    /// Calls `f` in task context, outside of the hit: `f` may wait for a page fault, and for locks.
    /// Then the thread executes the breakpoint again, unless it has been removed.
    #[cold]
    pub fn restart_after(self, f: impl FnOnce()) -> Resumed {
        set_in_hit(false);
        let (bp, mut trap) = self.give_up();
        trap.with_interrupts(f);
        drop(bp);
        Resumed::YES
    }

    /// Ends the read-side critical section, because the caller may then sleep for an unbounded
    /// time, in a page fault or for the mmap lock, and removals in the whole system wait for
    /// readers.
    fn give_up(self) -> (Arc<Breakpoint>, Trap) {
        (self.bp.into(), self.trap)
    }
}

/// Returns whether the instruction pointer is still at the breakpoint.
#[inline]
fn is_at(bp: &Breakpoint, regs: &PtRegs) -> bool {
    regs.ip() == bp.at().as_usize()
}

/// Executes the displaced instruction if this needs only registers. Returns whether it did.
///
/// Context: any.
#[inline(always)]
fn resume_fast(bp: &Breakpoint, regs: &mut PtRegs) -> bool {
    match bp.insn().emulate_fast(regs, &CurrentThread::new()) {
        EmulatedFast::Done => true,
        EmulatedFast::Boost => bp.slot_addr().map(|slot| slot::enter(slot, regs)).is_some(),
        EmulatedFast::Other => false,
    }
}

/// Executes the displaced instruction. Does not sleep while `guard` is held.
// The function returns a `Resumed` so that the compiler cannot know the result of an owner, and can
// turn the owner's last call into a tail call.
#[inline(never)]
fn resume(bp: FoundBreakpoint<'_>, guard: Guard, regs: &mut PtRegs) -> Resumed {
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
        // The CPU meets the obstacle to the emulation itself, and faults in user mode.
        Emulated::Step(_) if bp.slot().is_some() => step::begin(bp.into(), regs),
        Emulated::Step(_) => {
            let bp = bp.into();
            drop(guard);
            return resume_unguarded(bp, regs);
        }
    }
    Resumed::YES
}

/// Executes the displaced instruction as [`resume`] does, but may sleep because no guard is held.
/// The reference keeps the breakpoint and its slot. The breakpoint may have been removed since the
/// hit, but the displaced instruction is the same.
///
/// The thread faults in user mode, in a slot, because no signal ends a wait for a userfault in the
/// kernel.
#[cold]
#[inline(never)]
fn resume_unguarded(bp: Arc<Breakpoint>, regs: &mut PtRegs) -> Resumed {
    if emulate(&bp, regs, &mut CurrentThread::without_faults()) {
        return Resumed::YES;
    }
    // A thread that is not stepped must enter the slot before a grace period ends, because nothing
    // else keeps the slot: see `reclaim`.
    match slot_for_step(&bp) {
        Ok(()) => step::begin(bp, regs),
        // The thread executes the current text.
        Err(ENOENT) => (),
        // There is no room for a slot.
        Err(_) => {
            if !emulate(&bp, regs, &mut CurrentThread::new()) {
                // The thread must not suffer from this. If the removal fails as well, the next hit
                // tries again.
                remove(&bp);
            }
        }
    }
    Resumed::YES
}

/// Emulates the displaced instruction. Returns whether it could be emulated.
fn emulate(bp: &Breakpoint, regs: &mut PtRegs, thread: &mut impl ThreadAccess) -> bool {
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

/// Allocates a slot for the breakpoint if it has none.
fn slot_for_step(bp: &Breakpoint) -> Result {
    if bp.slot().is_some() {
        return Ok(());
    }
    let task = current!();
    let mm = task.mm().ok_or(ENOENT)?;
    make_slot_late(Space::from_mm(mm).ok_or(ENOENT)?, mm, bp)
}

/// Removes a breakpoint of the current thread's address space. On failure the next hit tries again,
/// unless the thread has been killed.
#[cold]
fn remove(bp: &Arc<Breakpoint>) {
    let task = current!();
    if let Some(mm) = task.mm() {
        if let Some(space) = Space::from_mm(mm) {
            let _ = disarm(space, mm, bp);
        }
    }
}

#[inline]
fn set_in_hit(in_hit: bool) {
    // SAFETY: The current task is valid, and only the current thread accesses its `ubp` state.
    unsafe { (*Task::current_raw()).ubp.in_hit = in_hit };
}

/// Returns whether the caller has been called from a [`crate::BreakpointOwner`], and must not wait
/// for hits to end.
pub fn is_in_hit() -> bool {
    // SAFETY: The current task is valid, and only the current thread accesses its `ubp` state.
    unsafe { (*Task::current_raw()).ubp.in_hit }
}

/// Waits until the owners of removed breakpoints are no longer called. Returns immediately if the
/// caller has been called from an owner, because it would wait for itself.
///
/// Callers wait for this after patching text and static keys, which already sends IPIs, so an
/// expedited grace period adds no new kind of disturbance.
///
/// Context: may sleep.
pub fn wait_for_hits() {
    if !is_in_hit() {
        tasks_trace::synchronize_expedited();
    }
}
