// SPDX-License-Identifier: GPL-2.0

//! A thread that is stepped through a displaced instruction in a slot.
//!
//! # States of a thread
//!
//! ```text
//!           begin()                  step_trap(): executed
//!  Running ---------> Stepping ---------------------------------> Running, at the next instruction
//!                      |    ^ |
//!                      +----+ +---> moved_away(): Running, where an aborted sequence goes on
//!     step_trap(): one        |       (executed also: finish_second_copy())
//!     iteration of several    | deny_signal(): a signal that must not wait; abandon(): the thread
//!                             | exits
//!                             v
//!                           Running, at the instruction
//! ```
//!
//! A thread that executes a slot without being stepped gets here if a signal is to wait for it, see
//! [`crate::slot`].
//!
//! While a thread is stepping, signals wait until the step is over, because their handlers must
//! not see an instruction pointer in a slot, and the instruction must not be executed twice. These
//! signals must not wait:
//!
//! - SIGKILL;
//! - a signal that the instruction itself has raised. Most exceptions set the trap number, which
//!   [`TrapNumber`] has replaced before. The others (the first use of a register that the program
//!   has no permission for, a machine check, #VC) leave a synchronous signal of the kernel in the
//!   queue: the instruction would raise it again and again;
//! - a signal for which a page fault of the instruction was given up, because the memory may depend
//!   on the signal's handler. Nothing of the instruction has been executed but iterations. The trap
//!   number is that of a page fault then.

use crate::{
    breakpoint::Breakpoint,
    slot, //
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::PtRegs,
    smp,
    sync::Arc,
    task::Task,
    trap::{
        force_fault,
        set_trap_nr,
        trap_nr,
        Trap,
        PAGE_FAULT, //
    },
};
use ubp_arch::{
    CurrentThread,
    Finished,
    Step,
    StepState,
    Thread, //
};

/// The number of the current thread's last trap, which tells whether an instruction in a slot has
/// raised an exception: it is replaced before the thread gets there, and put back afterwards.
pub(crate) struct TrapNumber(*mut bindings::ubp_task);

impl TrapNumber {
    /// The number of no trap.
    const NONE: usize = usize::MAX;

    #[inline]
    pub(crate) fn current() -> Self {
        // SAFETY: The field is valid as long as the task, which is current.
        Self(unsafe { &raw mut (*Task::current_raw()).ubp })
    }

    /// Replaces the number, so that a later trap can be told.
    #[inline]
    pub(crate) fn forget(&self) {
        let nr = trap_nr();
        if nr != Self::NONE {
            // SAFETY: Only the current thread accesses its own state.
            unsafe { (*self.0).saved_trap_nr = nr };
            set_trap_nr(Self::NONE);
        }
    }

    /// Sets the number of a page fault, as if the fault had raised the signal that ended it.
    pub(crate) fn set_page_fault(&self) {
        set_trap_nr(PAGE_FAULT);
    }

    /// Returns whether there has been a trap since.
    #[inline]
    fn is_trapped(&self) -> bool {
        trap_nr() != Self::NONE
    }

    /// Returns whether there has been a trap since. If not, the number is put back.
    #[inline]
    pub(crate) fn recall(&self) -> bool {
        let trapped = self.is_trapped();
        if !trapped {
            // SAFETY: As in `forget`.
            set_trap_nr(unsafe { (*self.0).saved_trap_nr });
        }
        trapped
    }
}

/// The current thread's `struct ubp_task`.
///
/// # Invariants
///
/// `breakpoint` is null, or of an `Arc<Breakpoint>` that is owned here and whose plan has a step;
/// then `saved` holds a [`StepState`].
struct Stepping(*mut bindings::ubp_task);

impl Stepping {
    #[inline]
    fn current() -> Self {
        // SAFETY: The field is valid as long as the task, which is current.
        Self(unsafe { &raw mut (*Task::current_raw()).ubp })
    }

    /// Starts: `Running` to `Stepping`.
    ///
    /// Must be called with interrupts enabled.
    #[inline]
    fn start(&self, bp: Arc<Breakpoint>, state: StepState) {
        const { assert!(size_of::<StepState>() <= size_of::<[c_ulong; 2]>()) };
        const { assert!(align_of::<StepState>() <= align_of::<c_ulong>()) };

        end_forgotten();
        TrapNumber(self.0).forget();
        // Engines must not change the trap flag before `end()`, because `state` holds its value.
        utrace::hold_steps();
        // SAFETY: Only the current thread accesses its own state. `saved` has the room.
        //
        // INVARIANT: The reference and the state are stored.
        unsafe {
            (&raw mut (*self.0).saved).cast::<StepState>().write(state);
            (*self.0).signal_denied = false;
            (*self.0).breakpoint = Arc::into_raw(bp).cast_mut().cast();
        }
    }

    /// Leaves the end to [`end_forgotten`].
    fn set_forgotten(&self, state: StepState) {
        // SAFETY: Only the current thread accesses its own state, and `saved` has the room: see
        // `start`.
        unsafe { (&raw mut (*self.0).saved).cast::<StepState>().write(state) };
    }

    /// What is being stepped.
    #[inline]
    fn get(&self) -> Option<(&Breakpoint, &Step, StepState)> {
        // SAFETY: Only the current thread accesses its own state. By the type invariants, the
        // reference is owned if it is not null, and stays so while `self` is borrowed.
        let bp = unsafe { (*self.0).breakpoint.cast::<Breakpoint>().as_ref() }?;
        // SAFETY: As above; then there is a state.
        let state = unsafe { (&raw const (*self.0).saved).cast::<StepState>().read() };
        Some((bp, bp.insn().plan().step()?, state))
    }

    /// Ends: `Stepping` to `Running`.
    ///
    /// Must be called with interrupts enabled, because this may drop the last reference.
    #[inline]
    fn end(self) {
        // SAFETY: As in `get`.
        //
        // INVARIANT: The reference is taken out.
        let (bp, denied) = unsafe {
            let bp = core::ptr::replace(&raw mut (*self.0).breakpoint, core::ptr::null_mut());
            (bp, core::mem::take(&mut (*self.0).signal_denied))
        };
        if bp.is_null() {
            return;
        }
        // SAFETY: By the type invariants it was of an `Arc` that was owned.
        drop(unsafe { Arc::from_raw(bp.cast::<Breakpoint>()) });
        TrapNumber(self.0).recall();
        utrace::release_steps();
        if denied {
            Task::recheck_signals();
        }
    }

    /// Has signals wait until the end.
    #[inline]
    fn deny(&self) {
        // SAFETY: Only the current thread accesses its own state.
        unsafe { (*self.0).signal_denied = true };
        Task::postpone_signals();
    }
}

/// Ends a step that the current thread is out of since [`moved_away`].
///
/// Must be called with interrupts enabled.
#[inline]
pub(crate) fn end_forgotten() {
    let stepping = Stepping::current();
    if stepping
        .get()
        .is_some_and(|(_, _, state)| state.is_forgotten())
    {
        stepping.end();
    }
}

/// Sends the current thread to the slot.
#[inline]
pub(crate) fn begin(bp: Arc<Breakpoint>, regs: &mut PtRegs) {
    let (Some(step), Some(slot)) = (bp.insn().plan().step(), bp.slot()) else {
        // A breakpoint whose plan has a step has a slot, and the other way round.
        return;
    };
    let state = step.begin(regs, slot.addr(), &mut CurrentThread::new());
    Stepping::current().start(bp, state);
}

/// Has the current thread, which is in the slot of `bp` and has a signal, stepped. Returns whether
/// the signal waits for that.
pub(crate) fn begin_denied(bp: &Arc<Breakpoint>, regs: &mut PtRegs) -> bool {
    let (Some(step), Some(slot)) = (bp.insn().plan().step(), bp.slot()) else {
        return false;
    };
    match step.begin_in_second_copy(regs, slot.addr()) {
        Some(state) => Stepping::current().start(bp.clone(), state),
        None => begin(bp.clone(), regs),
    }
    Stepping::current().deny();
    true
}

/// Handles an `int3` of a thread that may have finished a repeated instruction. Returns whether it
/// has.
pub(crate) fn finish_second_copy(regs: &mut PtRegs) -> bool {
    let stepping = Stepping::current();
    let finished = stepping
        .get()
        .is_some_and(|(_, step, state)| step.finish_second_copy(state, regs));
    if finished {
        stepping.end();
    }
    finished
}

/// Returns whether the current thread is stepping.
pub(crate) fn is_stepping() -> bool {
    Stepping::current().get().is_some()
}

/// Handles a debug trap, which may be by the trap flag, for other reasons or both. Returns whether
/// it was by the trap flag, and that for us only.
pub(crate) fn debug(regs: &mut PtRegs, step: bool, others: bool, trap: &mut Trap) -> bool {
    if !is_stepping() {
        // A watchpoint, or a step that began in the middle of a slot.
        slot::settle(regs);
        return false;
    }
    step && step_trap(regs, others, trap)
}

/// Handles the debug trap of a thread that is stepping. Returns whether that is all there is to
/// it; if not, the thread was being stepped by a debugger too.
fn step_trap(regs: &mut PtRegs, others: bool, trap: &mut Trap) -> bool {
    trap.with_interrupts(|| {
        end_forgotten();
        let stepping = Stepping::current();
        let Some((_, step, state)) = stepping.get() else {
            return false;
        };
        let mut thread = CurrentThread::new();
        let finished = step.finish(state, regs, &mut thread);
        if others && thread.block_step() {
            // The debug trap of a watchpoint ends block-stepping, which `finish()` has started
            // again.
            thread.set_block_step(false);
        }
        match finished {
            Finished::Done { deliver_trap } => {
                stepping.end();
                !deliver_trap
            }
            Finished::Again => true,
            Finished::Fault(fault) => {
                stepping.end();
                force_fault(fault.addr, fault.write);
                true
            }
        }
    })
}

/// Says whether the signals of the current thread, which has some, are to wait.
///
/// # Safety
///
/// The current thread is about to return to user mode, and its registers are used by nobody else
/// during the call.
pub unsafe fn deny_signal() -> bool {
    if Task::is_current_worker() {
        return false;
    }
    // SAFETY: By the requirement on the caller.
    let regs = unsafe { PtRegs::of_current() };
    let may_wait = || !Task::is_current_killed() && !Task::has_synchronous_signal();
    end_forgotten();
    let stepping = Stepping::current();
    let Some((_, step, state)) = stepping.get() else {
        return slot::leave(regs, may_wait);
    };
    if !TrapNumber::current().is_trapped() && may_wait() {
        stepping.deny();
        return true;
    }
    // A watchpoint may have trapped after the last iteration of a repeated instruction.
    if !step.finish_second_copy(state, regs) {
        step.abort(state, regs, &mut CurrentThread::without_faults());
    }
    stepping.end();
    false
}

/// The instruction pointer of the current thread has been changed on its way to user mode, because
/// what it was executing is aborted: there is no step to finish any more.
///
/// Context: interrupts may be disabled.
pub(crate) fn moved_away(regs: &mut PtRegs) {
    let stepping = Stepping::current();
    let Some((_, step, state)) = stepping.get() else {
        return;
    };
    // The reference must not be dropped with interrupts disabled. The thread may have looked for
    // work for the last time: an interrupt on its way out makes it look again.
    stepping.set_forgotten(step.forget(state, regs));
    current!().notify_resume();
    smp::interrupt_self();
}

/// The current thread gives up its address space; it returns to no slot.
pub fn abandon() {
    Stepping::current().end();
}
