// SPDX-License-Identifier: GPL-2.0

//! A thread that executes a displaced instruction in a slot.
//!
//! # States of a thread
//!
//! ```text
//!           begin()                  step_trap(): executed
//!  Running ---------> Stepping ---------------------------------> Running, at the next instruction
//!                      |    ^ |
//!                      +----+ | deny_signal(): the instruction raised an exception, or the thread
//!     step_trap(): one        | is killed; abandon(): the thread exits
//!     iteration of several    v
//!                           Running, at the instruction
//! ```
//!
//! While a thread is stepping, signals wait: nobody is to see an instruction pointer in a slot, and
//! the instruction must not be executed twice. They are let through when the step is over. A
//! signal that the instruction itself has caused is not to wait; that there is one is told by the
//! trap number, which every trap but the step's own sets.

use crate::breakpoint::Breakpoint;

use kernel::{
    bindings,
    prelude::*,
    ptregs::PtRegs,
    sync::Arc,
    task::Task,
    trap::{
        force_fault,
        replace_trap_nr,
        Trap, //
    },
};
use ubp_arch::{
    CurrentThread,
    Finished,
    Step,
    StepState,
    Vaddr, //
};

/// The number of no trap.
const NO_TRAP: usize = usize::MAX;

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
    #[inline]
    fn start(&self, bp: Arc<Breakpoint>, state: StepState) {
        const { assert!(size_of::<StepState>() <= size_of::<[c_ulong; 2]>()) };
        const { assert!(align_of::<StepState>() <= align_of::<c_ulong>()) };

        let trap_nr = replace_trap_nr(NO_TRAP);
        // SAFETY: Only the current thread accesses its own state. `saved` has the room.
        //
        // INVARIANT: The reference and the state are stored.
        unsafe {
            (&raw mut (*self.0).saved).cast::<StepState>().write(state);
            (*self.0).saved_trap_nr = trap_nr;
            (*self.0).signal_denied = false;
            (*self.0).breakpoint = Arc::into_raw(bp).cast_mut().cast();
        }
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

    /// Ends: `Stepping` to `Running`. `trapped` says whether the instruction raised an exception,
    /// whose number then stays.
    #[inline]
    fn end(self, trapped: bool) {
        // SAFETY: As in `get`.
        //
        // INVARIANT: The reference is taken out.
        let (bp, trap_nr, denied) = unsafe {
            let bp = core::ptr::replace(&raw mut (*self.0).breakpoint, core::ptr::null_mut());
            (bp, (*self.0).saved_trap_nr, (*self.0).signal_denied)
        };
        if bp.is_null() {
            return;
        }
        // SAFETY: By the type invariants it was of an `Arc` that was owned.
        drop(unsafe { Arc::from_raw(bp.cast::<Breakpoint>()) });
        if !trapped {
            replace_trap_nr(trap_nr);
        }
        if denied {
            Task::recheck_signals();
        }
    }
}

/// Sends the current thread to the slot.
#[inline]
pub(crate) fn begin(bp: &Arc<Breakpoint>, step: &Step, regs: &mut PtRegs) {
    let Some(slot) = bp.slot() else {
        // A breakpoint whose plan has a step has a slot, and the other way round.
        return;
    };
    let state = step.begin(regs, slot.addr(), &mut CurrentThread::new());
    Stepping::current().start(bp.clone(), state);
}

/// Handles the debug trap of a thread that is stepping. Returns whether that is all there is to
/// it; if not, the thread was being stepped by a debugger too.
pub(crate) fn step_trap(regs: &mut PtRegs, trap: &mut Trap) -> bool {
    trap.with_interrupts(|| {
        let stepping = Stepping::current();
        let Some((_, step, state)) = stepping.get() else {
            return false;
        };
        match step.finish(state, regs, &mut CurrentThread::new()) {
            Finished::Done { deliver_trap } => {
                stepping.end(false);
                !deliver_trap
            }
            Finished::Again => true,
            Finished::Fault(fault) => {
                stepping.end(true);
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
    let stepping = Stepping::current();
    let Some((_, step, state)) = stepping.get() else {
        return false;
    };
    let trap_nr = replace_trap_nr(NO_TRAP);
    if trap_nr == NO_TRAP && !Task::is_current_killed() {
        // SAFETY: Only the current thread accesses its own state.
        unsafe { (*stepping.0).signal_denied = true };
        Task::postpone_signals();
        return true;
    }
    // SAFETY: By the requirement on the caller.
    let regs = unsafe { PtRegs::of_current() };
    step.abort(state, regs, &mut CurrentThread::new());
    if trap_nr != NO_TRAP {
        replace_trap_nr(trap_nr);
    }
    stepping.end(trap_nr != NO_TRAP);
    false
}

/// Where the program has the instruction that the current thread executes in a slot.
pub fn stepped_address() -> Option<Vaddr> {
    Stepping::current().get().map(|(bp, _, _)| bp.at())
}

/// The current thread gives up its address space; it returns to no slot.
pub fn abandon() {
    Stepping::current().end(false);
}
