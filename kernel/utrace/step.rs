// SPDX-License-Identifier: GPL-2.0

//! Steps: traps of the CPU after an instruction or a branch, on behalf of engines.
//!
//! # Protocol
//!
//! ```text
//!             an engine asks         on the way to user mode         the CPU traps
//!   nothing ----------------> wanted ----------------------> armed ----------------> over
//!      ^                        |                              |                       |
//!      |  the engine answers another action, or is detached    |                       |
//!      |<-------------------------------------------------------                       |
//!      `-------------------------------------------------------------------------------'
//!                             its report, in get_signal(): UTRACE_SIGNAL_STEP
//! ```
//!
//! `AttachedEngine::step` is the step that an engine wants, and `AttachedEngine::stepped` means
//! that the report is pending. `task_struct::utrace_step` records whether the CPU is set up for
//! engines, and for a debugger or the program itself. The trap of a step that only engines want
//! never becomes a signal. A forced SIGTRAP would reset the program's disposition of it, make an
//! init process killable, and kill the program if no engine was left to consume it.
//!
//! While another part of the kernel steps the thread for its own purposes, between [`hold_steps`]
//! and [`release_steps`], the CPU's set-up stays as it is, and requests wait in
//! `AttachedEngine::step`. That part has saved the trap flag and the mode of block steps, and will
//! restore them.
//!
//! Nothing here depends on the static key of the call sites. If a thread is still set up for a step
//! when its last engine is detached, it traps once more, and that trap ends the step.

use crate::{
    jobctl::enter_get_signal,
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    task::Task,
    utrace_types::Action, //
};

/// The unit after which the CPU traps. The smallest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Instruction,
    Block,
}

impl Step {
    /// Returns the step that an action requests, if it requests one.
    pub(crate) fn from_action(action: Action) -> Option<Self> {
        match action {
            Action::SingleStep => Some(Self::Instruction),
            Action::BlockStep => Some(Self::Block),
            Action::Stop | Action::Interrupt | Action::Report | Action::Resume | Action::Detach => {
                None
            }
        }
    }
}

/// Returns the parties that want the current thread to trap, as `UTRACE_STEP_` bits.
fn step_owners(task: &Task) -> u32 {
    // SAFETY: `task` is current. Only the current thread accesses the field, and a debugger while
    // it keeps the thread in a stop.
    unsafe { (*task.as_ptr()).utrace_step }
}

/// Keeps the CPU's set-up for steps of the current thread unchanged until [`release_steps`]. The
/// caller must call that before the thread stops or exits.
#[inline]
pub fn hold_steps() {
    // SAFETY: The task is current and runs, so it is in no debugger's stop. No other thread
    // accesses the field.
    unsafe { (*Task::current_raw()).utrace_step |= bindings::UTRACE_STEP_HELD };
}

/// Ends [`hold_steps`]. Requests that have waited are served on the way to user mode.
///
/// Context: any but an NMI.
#[inline]
pub fn release_steps() {
    // SAFETY: The task is current and runs, so it is in no debugger's stop. No other thread
    // accesses the field.
    let step = unsafe { &mut (*Task::current_raw()).utrace_step };
    let is_due = *step & bindings::UTRACE_STEP_DUE != 0;
    *step &= !bindings::UTRACE_STEP_HOLD;
    if is_due {
        current!().notify_resume();
    }
}

/// Returns whether the CPU's set-up must stay unchanged. If so, [`release_steps`] ensures that
/// [`update`] is called again.
fn wait_if_held(task: &Task) -> bool {
    // SAFETY: The task is current and runs, so it is in no debugger's stop. No other thread
    // accesses the field.
    let step = unsafe { &mut (*task.as_ptr()).utrace_step };
    let is_held = *step & bindings::UTRACE_STEP_HELD != 0;
    if is_held {
        *step |= bindings::UTRACE_STEP_DUE;
    }
    is_held
}

/// Sets the CPU up for the steps that engines of the current thread want. The thread is on its way
/// to user mode.
///
/// Context: may sleep, because it reads the program's text.
pub(crate) fn update(task: &Task, thread: &Thread) {
    if wait_if_held(task) {
        return;
    }
    let wanted = thread.state.lock().smallest_step();
    match wanted {
        Some(step) => {
            // SAFETY: `task` is current, and on its way to user mode.
            unsafe {
                let block = step == Step::Block && bindings::arch_has_block_step();
                bindings::user_enable_engine_step(task.as_ptr(), block);
            }
        }
        None => disarm(task),
    }
}

/// Ends the set-up of the current thread for a step of engines, if there is one. A debugger's step
/// continues.
fn disarm(task: &Task) {
    if step_owners(task) & bindings::UTRACE_STEP_ENGINE != 0 {
        // SAFETY: `task` is current, and in the kernel.
        unsafe { bindings::user_disable_engine_step(task.as_ptr()) };
    }
}

/// Updates the set-up after a report in `get_signal()`. Steps that engines want are set up on the
/// way to user mode.
pub(crate) fn update_after_report(task: &Task, thread: &Thread) {
    if thread.state.lock().smallest_step().is_some() {
        task.notify_resume();
    } else {
        disarm(task);
    }
}

/// Handles a trap of the CPU in the current thread, which stepped. `code` is the `si_code` of the
/// signal for it. Returns whether only engines wanted the trap.
pub(crate) fn trapped(task: &Task, code: c_int) -> bool {
    let others = bindings::UTRACE_STEP_DEBUGGER | bindings::UTRACE_STEP_PROGRAM;
    let only_engines = step_owners(task) & others == 0;
    disarm(task);
    if let Some(thread) = thread::get(task) {
        if thread.state.lock().end_steps(task, code) {
            enter_get_signal();
        }
    }
    only_engines
}

/// Handles an instruction that the current thread has executed under a step without a trap of the
/// CPU. Returns whether the trap is for engines only, so that no signal must be sent.
///
/// Must be called with interrupts enabled.
pub fn step_trap() -> bool {
    let task = current!();
    step_owners(task) & bindings::UTRACE_STEP_ENGINE != 0
        && trapped(task, bindings::TRAP_TRACE as c_int)
}
