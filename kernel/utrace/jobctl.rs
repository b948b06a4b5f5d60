// SPDX-License-Identifier: GPL-2.0

//! utrace's bits of `task_struct::jobctl`, and its sleep state `TASK_UTRACED`.

use kernel::{
    bindings,
    prelude::*,
    siglock::{
        CurrentSiglock,
        Jobctl, //
    },
    task::Task, //
};

/// `get_signal()` must call utrace.
pub(crate) const ENTER_UTRACE: Jobctl = Jobctl::from_bit(bindings::JOBCTL_UTRACE_BIT);

/// An engine has stopped the thread.
pub(crate) const UTRACE_STOPPED: Jobctl = Jobctl::from_bit(bindings::JOBCTL_UTRACE_STOPPED_BIT);

/// Makes the current thread enter `get_signal()`, where it stops or reports.
pub(crate) fn enter_get_signal() {
    if let Some(siglock) = current!().lock_own_signals() {
        enter_get_signal_locked(&siglock);
    }
}

/// Makes the current thread enter `get_signal()` as [`enter_get_signal`] does, with `siglock` held.
pub(crate) fn enter_get_signal_locked(siglock: &CurrentSiglock<'_>) {
    siglock.set(ENTER_UTRACE);
    siglock.set_sigpending();
}

/// Wakes a task that is in a stop of [`sleep`], and from no other sleep, since no other code sleeps
/// in this state.
pub(crate) fn wake_from_stop(task: &Task) {
    // SAFETY: `task` is a valid task by its type invariants.
    unsafe { bindings::wake_up_state(task.as_ptr(), bindings::__TASK_UTRACED) };
}

/// Waits until a task, which is in a stop, is off its CPU. Returns whether it was in a stop.
///
/// Context: may sleep.
pub(crate) fn wait_inactive_in_stop(task: &Task) -> bool {
    let stops = bindings::__TASK_UTRACED | bindings::__TASK_STOPPED | bindings::TASK_FROZEN;
    // SAFETY: `task` is a valid task by its type invariants.
    unsafe { bindings::wait_task_inactive(task.as_ptr(), stops) != 0 }
}

/// Makes a task check again the signals that engines have left in its queues.
pub(crate) fn release_held_signals(task: &Task) {
    if let Some(_siglock) = task.lock_signals() {
        // SAFETY: `task` is a valid task by its type invariants. `_siglock` is held, which protects
        // the set of held signals.
        unsafe { bindings::release_held_signals(task.as_ptr()) };
    }
}

/// Events that wake the current thread from a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WokenBy {
    /// [`wake_from_stop`], and signals.
    Signals,
    /// [`wake_from_stop`], and SIGKILL.
    Kill,
}

/// Puts the current thread to sleep in `TASK_UTRACED`. May return at any time: the caller must
/// check again the condition that it waits for.
///
/// Releases `siglock`. Calls `go_on` with the state set, so that no wake-up is lost; if `go_on`
/// returns true, the thread does not sleep. `go_on` must not sleep.
///
/// Only these stops use the state: a debugger's wake-up (`__TASK_TRACED`) does not end them, and
/// [`wake_from_stop`] ends no stop of a debugger. SIGKILL and the freezer treat the state as
/// they treat `TASK_STOPPED`.
///
/// Context: the caller must hold no other lock.
pub(crate) fn sleep(siglock: CurrentSiglock<'_>, woken_by: WokenBy, go_on: impl FnOnce() -> bool) {
    match woken_by {
        WokenBy::Signals => {
            // SAFETY: This is the state of the current task, and it is reset below.
            unsafe {
                bindings::set_special_state(bindings::TASK_INTERRUPTIBLE | bindings::TASK_UTRACED)
            };
            // A signal that is sent after `siglock` is released sets the flag again, and wakes the
            // thread.
            siglock.clear_sigpending();
        }
        // SAFETY: This is the state of the current task, and it is reset below. SIGKILL is sent
        // with the lock held, and wakes a thread in this state.
        WokenBy::Kill => unsafe { bindings::set_special_state(bindings::TASK_UTRACED) },
    }
    drop(siglock);
    if go_on() {
        // SAFETY: The current task may reset its own state at any time.
        unsafe { bindings::set_current_running() };
    } else {
        // SAFETY: `siglock` was dropped, and the caller must hold no other lock. A stopped thread
        // counts as frozen.
        unsafe {
            bindings::cgroup_enter_frozen();
            bindings::schedule();
            bindings::cgroup_leave_frozen(true);
        }
    }
    if woken_by == WokenBy::Signals {
        // SAFETY: The current thread is on its way to user mode, where the kernel does this anyway.
        unsafe { bindings::run_notify_signal() };
    }
}
