// SPDX-License-Identifier: GPL-2.0

//! Job control of a thread, under `siglock`, and stops of the current one.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/sched/jobctl.h`](srctree/include/linux/sched/jobctl.h)

use crate::{
    bindings,
    prelude::*,
    task::Task,
    types::NotThreadSafe, //
};

/// A bit of `task_struct::jobctl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Jobctl {
    /// `get_signal()` is to ask utrace.
    Utrace,
    /// An engine has stopped the thread.
    UtraceStopped,
}

impl Jobctl {
    const fn bit(self) -> c_ulong {
        match self {
            Self::Utrace => 1 << bindings::JOBCTL_UTRACE_BIT,
            Self::UtraceStopped => 1 << bindings::JOBCTL_UTRACE_STOPPED_BIT,
        }
    }
}

/// Of `do_signal_stop()`: the thread sleeps in a group stop.
const STOPPED: c_ulong = 1 << bindings::JOBCTL_STOPPED_BIT;
/// Another thread, or SIGKILL, makes the thread exit.
const KILLED: c_ulong = 1 << bindings::JOBCTL_KILLED_BIT;
/// What `get_signal()` does before it takes a signal from the queue.
const WORK: c_ulong = 1 << bindings::JOBCTL_STOP_PENDING_BIT
    | 1 << bindings::JOBCTL_TRAP_STOP_BIT
    | 1 << bindings::JOBCTL_TRAP_NOTIFY_BIT
    | 1 << bindings::JOBCTL_TRAP_FREEZE_BIT;

/// Evidence that a task's `siglock` is held, with interrupts disabled.
///
/// # Invariants
///
/// The lock is held, and was taken with the flags.
pub struct Siglock<'a> {
    task: &'a Task,
    flags: c_ulong,
    _not_send: NotThreadSafe,
}

impl Task {
    /// Takes the task's `siglock`. Returns nothing if the task has been reaped.
    pub fn lock_signals(&self) -> Option<Siglock<'_>> {
        let mut flags = 0;
        // SAFETY: The task is valid, and so is the place for the flags.
        let sighand = unsafe { bindings::lock_task_sighand(self.as_ptr(), &mut flags) };
        // INVARIANT: The lock was just taken.
        (!sighand.is_null()).then(|| Siglock {
            task: self,
            flags,
            _not_send: NotThreadSafe,
        })
    }

    /// Whether a debugger is attached to the task.
    pub fn is_ptraced(&self) -> bool {
        // SAFETY: The task is valid; of a racing change the old or the new value is read.
        unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).ptrace) != 0 }
    }

    /// Wakes the task if it is in a stop of [`sleep`].
    pub fn wake_from_stop(&self) {
        // SAFETY: The task is valid.
        unsafe { bindings::wake_up_state(self.as_ptr(), bindings::__TASK_TRACED) };
    }

    /// Waits until the task, which is in a stop, is off its CPU. Returns whether it was.
    ///
    /// Context: may sleep.
    pub fn wait_inactive_in_stop(&self) -> bool {
        let stops = bindings::__TASK_TRACED | bindings::__TASK_STOPPED | bindings::TASK_FROZEN;
        // SAFETY: The task is valid.
        unsafe { bindings::wait_task_inactive(self.as_ptr(), stops) != 0 }
    }
}

impl Drop for Siglock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held, and was taken with the flags.
        unsafe { bindings::unlock_task_sighand(self.task.as_ptr(), &mut self.flags) };
    }
}

impl Siglock<'_> {
    fn jobctl(&self) -> c_ulong {
        // SAFETY: The task is valid, and the field is protected by the lock.
        unsafe { (*self.task.as_ptr()).jobctl }
    }

    /// Sets a bit.
    pub fn set(&mut self, bit: Jobctl) {
        // SAFETY: The task is valid, and the field is protected by the lock.
        unsafe { (*self.task.as_ptr()).jobctl |= bit.bit() };
    }

    /// Clears a bit.
    pub fn clear(&mut self, bit: Jobctl) {
        // SAFETY: The task is valid, and the field is protected by the lock.
        unsafe { (*self.task.as_ptr()).jobctl &= !bit.bit() };
    }

    /// Whether the thread sleeps in a group stop, from which it wakes into `get_signal()`.
    pub fn in_group_stop(&self) -> bool {
        self.jobctl() & STOPPED != 0
    }

    /// Whether `get_signal()` has to see to a group stop, to a debugger or to the freezer.
    pub fn has_work(&self) -> bool {
        self.jobctl() & WORK != 0
    }

    /// Whether SIGSTOP is pending for the thread or for its process.
    pub fn sigstop_pending(&self) -> bool {
        // SAFETY: The task is valid, and the queues are protected by the lock.
        unsafe { bindings::sigstop_pending(self.task.as_ptr()) }
    }

    /// Whether the thread is to exit, by SIGKILL or because another thread says so.
    pub fn is_killed(&self) -> bool {
        // SAFETY: The task is valid, and the queue is protected by the lock.
        let pending = unsafe { bindings::__fatal_signal_pending(self.task.as_ptr()) } != 0;
        pending || self.jobctl() & KILLED != 0
    }

    /// The status that the process exits with, if it has begun to exit as a whole.
    pub fn group_exit_code(&mut self) -> Option<&mut c_int> {
        // SAFETY: The task is valid and not reaped, so it has a `signal`; it is protected by the
        // lock.
        let signal = unsafe { &mut *(*self.task.as_ptr()).signal };
        (signal.flags & bindings::SIGNAL_GROUP_EXIT != 0).then_some(&mut signal.group_exit_code)
    }

    /// Wakes the thread as a signal does, and has it enter `get_signal()`.
    pub fn wake_up(&mut self) {
        // SAFETY: The task is valid, and the lock is held.
        unsafe { bindings::signal_wake_up(self.task.as_ptr()) };
    }

    /// Has the current thread enter `get_signal()` before it returns to user mode.
    pub fn enter_get_signal(&mut self) {
        self.set(Jobctl::Utrace);
        // SAFETY: The task is valid. The flag may be set at any time.
        unsafe { bindings::set_tsk_sigpending(self.task.as_ptr()) };
    }
}

/// What wakes the current thread from a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WokenBy {
    /// [`Task::wake_from_stop`], and whatever signals do.
    Signals,
    /// [`Task::wake_from_stop`], and SIGKILL.
    Kill,
}

/// Puts the current thread to sleep, as one that is stopped for tracing. Returns at any time: the
/// caller looks again at what it waits for.
///
/// `siglock` is of the current thread; it is released. `go_on` is called with the state set, so
/// that no wake-up is lost; if it returns true, the thread does not sleep. It must not sleep.
///
/// Context: no other lock is held.
pub fn sleep(siglock: Siglock<'_>, woken_by: WokenBy, go_on: impl FnOnce() -> bool) {
    match woken_by {
        WokenBy::Signals => {
            // SAFETY: The state of the current task, to be reset below. A signal that comes from
            // here on sets the flag again, and wakes.
            unsafe {
                bindings::set_special_state(bindings::TASK_INTERRUPTIBLE | bindings::__TASK_TRACED);
                bindings::clear_tsk_sigpending(siglock.task.as_ptr());
            }
        }
        // SAFETY: As above. SIGKILL is sent with the lock held, and wakes this state.
        WokenBy::Kill => unsafe { bindings::set_special_state(bindings::__TASK_TRACED) },
    }
    drop(siglock);
    if go_on() {
        // SAFETY: The state of the current task may be reset at any time.
        unsafe { bindings::set_current_running() };
    } else {
        // SAFETY: No lock is held, by the requirement on the caller; a stopped thread counts as
        // frozen.
        unsafe {
            bindings::cgroup_enter_frozen();
            bindings::schedule();
            bindings::cgroup_leave_frozen(true);
        }
    }
    if woken_by == WokenBy::Signals {
        // SAFETY: The current thread is on its way to user mode, where this is done anyway.
        unsafe { bindings::run_notify_signal() };
    }
}
