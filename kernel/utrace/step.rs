// SPDX-License-Identifier: GPL-2.0

//! Steps: the CPU traps after an instruction, or a branch, because an engine wants it to.
//!
//! # Protocol
//!
//! ```text
//!             an engine asks         on the way to user mode         the CPU traps
//!   nothing ----------------> wanted ----------------------> armed ----------------> over
//!      ^                        |                              |                       |
//!      |  the engine answers something else, or is detached    |                       |
//!      |<-------------------------------------------------------                       |
//!      `-------------------------------------------------------------------------------'
//!                             its report, in get_signal(): UTRACE_SIGNAL_STEP
//! ```
//!
//! `Entry::step` holds what an engine wants, and `Entry::stepped` that it has not had its report.
//! `task_struct::utrace_step` says what the CPU is set up for, and for which others: a debugger, or
//! the program itself. The trap of a step that only engines want never becomes a signal. A forced
//! SIGTRAP would reset the program's disposition of it, take away that an init process cannot be
//! killed, and kill the program if no engine was left to swallow it.
//!
//! While another part of the kernel steps the thread for itself, between [`hold_steps`] and
//! [`release_steps`], the CPU's set-up stays as it is: requests wait in `Entry::step`. That part
//! has saved the trap flag and the mode of block steps, and will restore them.
//!
//! Nothing here depends on the static key of the call sites: a thread that is still set up for a
//! step when its last engine goes traps once more, and that ends the step.

use crate::{
    resume::enter_get_signal,
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    task::Task, //
};

/// After what the CPU is to trap. The smallest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Step {
    Instruction,
    Block,
}

/// Returns who wants the current thread to trap: `UTRACE_STEP_` bits.
fn wanted_by(task: &Task) -> u32 {
    // SAFETY: The task is current, and only the current thread, or a debugger that keeps it in a
    // stop, accesses the field.
    unsafe { (*task.as_ptr()).utrace_step }
}

/// Keeps the CPU's set-up for steps of the current thread until [`release_steps`], which the caller
/// must call before the thread stops or exits.
#[inline]
pub fn hold_steps() {
    // SAFETY: The task is current, and so is in no debugger's stop: no other thread accesses the
    // field.
    unsafe { (*Task::current_raw()).utrace_step |= bindings::UTRACE_STEP_HELD };
}

/// Ends what [`hold_steps`] began. Requests that have waited are served on the way to user mode.
///
/// Context: any but an NMI.
#[inline]
pub fn release_steps() {
    // SAFETY: As in `hold_steps`.
    let step = unsafe { &mut (*Task::current_raw()).utrace_step };
    let is_due = *step & bindings::UTRACE_STEP_DUE != 0;
    *step &= !bindings::UTRACE_STEP_HOLD;
    if is_due {
        current!().notify_resume();
    }
}

/// Returns whether the CPU's set-up must stay as it is. If so, [`release_steps`] has [`update`]
/// called again.
fn wait_if_held(task: &Task) -> bool {
    // SAFETY: The task is current, and so is in no debugger's stop: no other thread accesses the
    // field.
    let step = unsafe { &mut (*task.as_ptr()).utrace_step };
    let is_held = *step & bindings::UTRACE_STEP_HELD != 0;
    if is_held {
        *step |= bindings::UTRACE_STEP_DUE;
    }
    is_held
}

/// Sets the CPU up for what the engines of the current thread, which is on its way to user mode,
/// want now.
///
/// Context: may sleep, because the program's text is read.
pub(crate) fn update(task: &Task, thread: &Thread) {
    if wait_if_held(task) {
        return;
    }
    let wanted = thread.state.lock().wanted_step();
    match wanted {
        Some(step) => {
            // SAFETY: The task is current, and on its way to user mode.
            unsafe {
                let block = step == Step::Block && bindings::arch_has_block_step();
                bindings::user_enable_engine_step(task.as_ptr(), block);
            }
        }
        None => disarm(task),
    }
}

/// Ends the step of the current thread that engines wanted, if there is one. That of a debugger
/// goes on.
fn disarm(task: &Task) {
    if wanted_by(task) & bindings::UTRACE_STEP_ENGINE != 0 {
        // SAFETY: The task is current, and in the kernel.
        unsafe { bindings::user_disable_engine_step(task.as_ptr()) };
    }
}

/// After a report in `get_signal()`: steps that are wanted are set up on the way to user mode.
pub(crate) fn settle(task: &Task, thread: &Thread) {
    if thread.state.lock().wanted_step().is_some() {
        task.notify_resume();
    } else {
        disarm(task);
    }
}

/// The CPU has trapped in the current thread for a step, with `code` for what a signal of it would
/// have as `si_code`. Returns whether nobody but engines has wanted that.
pub(crate) fn trapped(task: &Task, code: c_int) -> bool {
    let others = bindings::UTRACE_STEP_DEBUGGER | bindings::UTRACE_STEP_PROGRAM;
    let only_engines = wanted_by(task) & others == 0;
    disarm(task);
    if let Some(thread) = thread::get(task) {
        if thread.state.lock().end_steps(task, code) {
            enter_get_signal();
        }
    }
    only_engines
}

/// The current thread has executed an instruction under a step, without a trap of the CPU. Returns
/// whether the trap that is due is for engines only, so that no signal must be sent.
///
/// Must be called with interrupts enabled.
pub fn step_trap() -> bool {
    let task = current!();
    wanted_by(task) & bindings::UTRACE_STEP_ENGINE != 0
        && trapped(task, bindings::TRAP_TRACE as c_int)
}
