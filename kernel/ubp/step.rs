// SPDX-License-Identifier: GPL-2.0

//! Stepping of threads through displaced instructions in slots.
//!
//! # States of a thread
//!
//! ```text
//!           begin()                  step_trap(): executed
//!  Running ---------> Stepping ---------------------------------> Running, at the next instruction
//!                      |    ^ |
//!                      +----+ +---> abort_xol(): Running, where an aborted sequence continues
//!     step_trap(): one        |       (executed also: finish_second_copy())
//!     iteration of several    | deny_signal(): a signal that must not wait; abandon(): the thread
//!                             | exits
//!                             v
//!                           Running, at the instruction
//! ```
//!
//! A thread that executes a slot without being stepped starts to step if a signal must wait for it,
//! see [`crate::slot`].
//!
//! While a thread is stepping, signals wait until the step is over, because their handlers must not
//! see an instruction pointer in a slot, and the instruction must not be executed twice. These
//! signals must not wait:
//!
//! - SIGKILL;
//! - a signal that the instruction itself has raised. Most exceptions set the trap number, which
//!   [`TrapNumber`] has replaced before. The others (the first use of a register that the program
//!   has no permission for, a machine check, #VC) leave a synchronous signal of the kernel in the
//!   queue, and the instruction would raise it again and again;
//! - a signal for which a page fault of the instruction was given up, because the memory may depend
//!   on the signal's handler. The instruction has not been executed, except for completed
//!   iterations, and the trap number is that of a page fault.

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
    StepState,
    ThreadAccess,
    XolStep, //
};

/// The number of the current thread's last trap, which shows whether an instruction in a slot has
/// raised an exception. The number is replaced before the thread enters the slot, and restored
/// afterwards.
pub(crate) struct TrapNumber(*mut bindings::ubp_task);

impl TrapNumber {
    /// The number that stands for no trap.
    const NONE: usize = usize::MAX;

    #[inline]
    pub(crate) fn current() -> Self {
        // SAFETY: `Task::current_raw()` returns a valid task, and only the field's address is
        // taken.
        Self(unsafe { &raw mut (*Task::current_raw()).ubp })
    }

    /// Replaces the number, so that a later trap can be detected.
    #[inline]
    pub(crate) fn forget(&self) {
        let nr = trap_nr();
        if nr != Self::NONE {
            // SAFETY: The pointer is valid because the task is current, and only the current thread
            // accesses its `ubp` state.
            unsafe { (*self.0).saved_trap_nr = nr };
            set_trap_nr(Self::NONE);
        }
    }

    /// Sets the number to that of a page fault, as if the page fault had raised the signal that
    /// ended it.
    pub(crate) fn set_page_fault(&self) {
        set_trap_nr(PAGE_FAULT);
    }

    /// Returns whether there has been a trap since [`TrapNumber::forget`].
    #[inline]
    fn is_trapped(&self) -> bool {
        trap_nr() != Self::NONE
    }

    /// Returns whether there has been a trap since [`TrapNumber::forget`]. If not, restores the
    /// number.
    #[inline]
    pub(crate) fn recall(&self) -> bool {
        let trapped = self.is_trapped();
        if !trapped {
            // SAFETY: The pointer is valid because the task is current, and only the current thread
            // accesses its `ubp` state.
            set_trap_nr(unsafe { (*self.0).saved_trap_nr });
        }
        trapped
    }
}

/// The current thread's `struct ubp_task`.
///
/// # Invariants
///
/// `breakpoint` is null, or owns a reference of an `Arc<Breakpoint>` with a step in its plan. If it
/// is not null, `saved` holds a [`StepState`].
struct Stepping(*mut bindings::ubp_task);

impl Stepping {
    #[inline]
    fn current() -> Self {
        // SAFETY: `Task::current_raw()` returns a valid task, and only the field's address is
        // taken.
        Self(unsafe { &raw mut (*Task::current_raw()).ubp })
    }

    /// Starts a step: `Running` to `Stepping`.
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
        // SAFETY: The pointer is valid because the task is current, and only the current thread
        // accesses its `ubp` state. The assertions above ensure that `saved` has room for a
        // `StepState`.
        //
        // INVARIANT: The reference and the state are stored.
        unsafe {
            (&raw mut (*self.0).saved).cast::<StepState>().write(state);
            (*self.0).signal_denied = false;
            (*self.0).breakpoint = Arc::into_raw(bp).cast_mut().cast();
        }
    }

    /// Stores a forgotten `state`, so that [`end_forgotten`] ends the step.
    fn set_forgotten(&self, state: StepState) {
        // SAFETY: The pointer is valid because the task is current, and only the current thread
        // accesses its `ubp` state. The assertions in `start()` ensure that `saved` has room for a
        // `StepState`.
        unsafe { (&raw mut (*self.0).saved).cast::<StepState>().write(state) };
    }

    /// Returns the breakpoint, the step and its state if the thread is stepping.
    #[inline]
    fn get(&self) -> Option<(&Breakpoint, &XolStep, StepState)> {
        // SAFETY: The pointer is valid because the task is current, and only the current thread
        // accesses its `ubp` state. By the type invariants, `breakpoint` is null or owns a
        // reference, which it keeps while `self` is borrowed.
        let bp = unsafe { (*self.0).breakpoint.cast::<Breakpoint>().as_ref() }?;
        // SAFETY: By the type invariants, `saved` holds a `StepState` because `breakpoint` is not
        // null.
        let state = unsafe { (&raw const (*self.0).saved).cast::<StepState>().read() };
        Some((bp, bp.insn().plan().step()?, state))
    }

    /// Ends a step: `Stepping` to `Running`.
    ///
    /// Must be called with interrupts enabled, because this may drop the last reference.
    #[inline]
    fn end(self) {
        // SAFETY: The pointer is valid because the task is current, and only the current thread
        // accesses its `ubp` state.
        //
        // INVARIANT: `breakpoint` is null afterwards.
        let (bp, denied) = unsafe {
            let bp = core::ptr::replace(&raw mut (*self.0).breakpoint, core::ptr::null_mut());
            (bp, core::mem::take(&mut (*self.0).signal_denied))
        };
        if bp.is_null() {
            return;
        }
        // SAFETY: By the type invariants, `breakpoint` owned a reference of an `Arc<Breakpoint>`,
        // which was stored by `Arc::into_raw()`.
        drop(unsafe { Arc::from_raw(bp.cast::<Breakpoint>()) });
        TrapNumber(self.0).recall();
        utrace::release_steps();
        if denied {
            Task::recheck_signals();
        }
    }

    /// Makes signals wait until the end of the step.
    #[inline]
    fn deny(&self) {
        // SAFETY: The pointer is valid because the task is current, and only the current thread
        // accesses its `ubp` state.
        unsafe { (*self.0).signal_denied = true };
        Task::postpone_signals();
    }
}

/// Ends a step that the current thread has left by [`abort_xol`].
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

/// Sends the current thread to the slot, and starts a step.
#[inline]
pub(crate) fn begin(bp: Arc<Breakpoint>, regs: &mut PtRegs) {
    let (Some(step), Some(slot)) = (bp.insn().plan().step(), bp.slot()) else {
        // A breakpoint has a slot if and only if its plan has a step.
        return;
    };
    let state = step.begin(regs, slot.addr(), &mut CurrentThread::new());
    Stepping::current().start(bp, state);
}

/// Steps the current thread, which is in the slot of `bp` and has a signal. Returns whether the
/// signal waits for the step.
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

/// Handles an `int3` of a thread that may have finished a repeated instruction. Returns whether the
/// thread has finished it.
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

/// Handles a debug trap, which may have been caused by the trap flag, by other events, or by both.
/// Returns whether the trap flag caused it for a step of UBP only.
pub(crate) fn debug(regs: &mut PtRegs, step: bool, others: bool, trap: &mut Trap) -> bool {
    if !is_stepping() {
        // The trap is from a watchpoint, or from a step that began in the middle of a slot.
        slot::fixup_ip(regs);
        return false;
    }
    step && step_trap(regs, others, trap)
}

/// Handles the debug trap of a thread that is stepping. Returns whether the trap is completely
/// handled. If not, a debugger was stepping the thread as well.
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

/// Decides whether the pending signals of the current thread must wait.
///
/// # Safety
///
/// The current thread must be about to return to user mode, and nothing else may use its registers
/// during the call.
pub unsafe fn deny_signal() -> bool {
    if Task::is_current_worker() {
        return false;
    }
    // SAFETY: The current thread is about to return to user mode, so its registers are fully saved,
    // and the caller ensures that nothing else uses them during the call.
    let regs = unsafe { PtRegs::from_current() };
    let may_wait = || !Task::is_current_killed() && !Task::has_synchronous_signal();
    end_forgotten();
    let stepping = Stepping::current();
    let Some((_, step, state)) = stepping.get() else {
        return slot::leave_slot(regs, may_wait);
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

/// Abandons the step of the current thread, because the kernel has changed its instruction pointer
/// on the way to user mode and aborted its sequence.
///
/// Context: interrupts may be disabled.
pub(crate) fn abort_xol(regs: &mut PtRegs) {
    let stepping = Stepping::current();
    let Some((_, step, state)) = stepping.get() else {
        return;
    };
    // The reference must not be dropped with interrupts disabled. The thread may have looked for
    // work for the last time, so an interrupt on its way out makes it look again.
    stepping.set_forgotten(step.forget(state, regs));
    current!().notify_resume();
    smp::interrupt_self();
}

/// Ends the step of the current thread, which gives up its address space and returns to no slot.
pub fn abandon() {
    Stepping::current().end();
}
