// SPDX-License-Identifier: GPL-2.0

//! Job control of a thread, under `siglock`.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/sched/jobctl.h`](srctree/include/linux/sched/jobctl.h)

use crate::{
    bindings,
    prelude::*,
    task::{
        CurrentTask,
        Task, //
    },
    types::NotThreadSafe, //
};

use core::ops::Deref;

/// A bit of `task_struct::jobctl`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Jobctl(c_ulong);

impl Jobctl {
    /// Returns the bit with a number, which is a `JOBCTL_*_BIT`.
    pub const fn from_bit(number: u32) -> Self {
        Self(1 << number)
    }
}

/// Set by `do_signal_stop()`: the thread sleeps in a group stop.
const STOPPED: c_ulong = 1 << bindings::JOBCTL_STOPPED_BIT;
/// Another thread, or SIGKILL, makes the thread exit.
const KILLED: c_ulong = 1 << bindings::JOBCTL_KILLED_BIT;
/// Work that `get_signal()` does before it takes a signal from the queue.
const WORK: c_ulong = 1 << bindings::JOBCTL_STOP_PENDING_BIT
    | 1 << bindings::JOBCTL_TRAP_STOP_BIT
    | 1 << bindings::JOBCTL_TRAP_NOTIFY_BIT
    | 1 << bindings::JOBCTL_TRAP_FREEZE_BIT;

/// Evidence that a task's `siglock` is held, with interrupts disabled.
///
/// Several can be held at a time and released in any order, because disabling interrupts is
/// counted.
///
/// # Invariants
///
/// The lock is held.
pub struct Siglock<'a> {
    task: &'a Task,
    _not_send: NotThreadSafe,
}

impl Task {
    /// Takes the task's `siglock`. Returns [`None`] if the task has been reaped.
    pub fn lock_signals(&self) -> Option<Siglock<'_>> {
        // SAFETY: `self` is a valid task by its type invariants.
        let locked = unsafe { bindings::lock_task_siglock(self.as_ptr()) };
        // INVARIANT: `lock_task_siglock()` returned true, so it has taken the lock. Created lazily,
        // because a `Siglock` releases the lock when it is dropped.
        locked.then(|| Siglock {
            task: self,
            _not_send: NotThreadSafe,
        })
    }
}

impl CurrentTask {
    /// Takes the `siglock` of the current thread. Returns [`None`] if the thread has been reaped.
    pub fn lock_own_signals(&self) -> Option<CurrentSiglock<'_>> {
        // INVARIANT: The lock is of the current task, which `self` is by its type invariants.
        self.lock_signals().map(CurrentSiglock)
    }
}

impl Drop for Siglock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held. A task keeps its `sighand` while its
        // `siglock` is held.
        unsafe { bindings::unlock_task_siglock(self.task.as_ptr()) };
    }
}

impl Siglock<'_> {
    fn jobctl(&self) -> c_ulong {
        // SAFETY: `task` is a valid task by its type invariants. The lock, which is held by the
        // type invariants, protects the field.
        unsafe { (*self.task.as_ptr()).jobctl }
    }

    /// Sets a bit.
    pub fn set(&self, bit: Jobctl) {
        // SAFETY: `task` is a valid task by its type invariants, and the field is protected by the
        // lock. `self` cannot be shared with another thread.
        unsafe { (*self.task.as_ptr()).jobctl |= bit.0 };
    }

    /// Clears a bit.
    pub fn clear(&self, bit: Jobctl) {
        // SAFETY: `task` is a valid task by its type invariants, and the field is protected by the
        // lock. `self` cannot be shared with another thread.
        unsafe { (*self.task.as_ptr()).jobctl &= !bit.0 };
    }

    /// Returns whether the thread sleeps in a group stop, from which it wakes into `get_signal()`.
    pub fn in_group_stop(&self) -> bool {
        self.jobctl() & STOPPED != 0
    }

    /// Returns whether `get_signal()` has to handle a group stop, a debugger or the freezer.
    pub fn has_work(&self) -> bool {
        self.jobctl() & WORK != 0
    }

    /// Returns whether SIGSTOP is pending for the thread or for its process.
    pub fn sigstop_pending(&self) -> bool {
        // SAFETY: `task` is a valid task by its type invariants, and the queues are protected by
        // the lock.
        unsafe { bindings::sigstop_pending(self.task.as_ptr()) }
    }

    /// Returns whether the thread must exit, because of SIGKILL or of another thread.
    pub fn is_killed(&self) -> bool {
        // SAFETY: `task` is a valid task by its type invariants, and the queue is protected by the
        // lock.
        let pending = unsafe { bindings::__fatal_signal_pending(self.task.as_ptr()) } != 0;
        pending || self.jobctl() & KILLED != 0
    }

    /// Returns whether a signal that is sent now would reach the thread. It would not if the thread
    /// or its process exits, or the process is dumped.
    pub fn takes_signals(&self) -> bool {
        // SAFETY: `task` is a valid task by its type invariants. It has a `signal`, because it has
        // a `sighand`, and the lock protects the flags in it.
        unsafe { bindings::takes_signals(self.task.as_ptr()) }
    }

    /// Returns the status that the process exits with, if it exits as a whole.
    pub fn group_exit_code(&self) -> Option<c_int> {
        // SAFETY: `task` is a valid task by its type invariants. It has a `signal`, because it has
        // a `sighand`, and the lock protects these fields. No reference to the structure is
        // created, because other threads access other fields of it.
        unsafe {
            let signal = (*self.task.as_ptr()).signal;
            ((*signal).flags & bindings::SIGNAL_GROUP_EXIT != 0).then(|| (*signal).group_exit_code)
        }
    }

    /// If the process exits as a whole with the status `old`, changes the status to `new`.
    pub fn replace_group_exit_code(&self, old: c_int, new: c_int) {
        // SAFETY: `task` is a valid task by its type invariants. It has a `signal`, because it has
        // a `sighand`, and the lock protects these fields. No reference to the structure is
        // created, because other threads access other fields of it.
        unsafe {
            let signal = (*self.task.as_ptr()).signal;
            if (*signal).flags & bindings::SIGNAL_GROUP_EXIT != 0
                && (*signal).group_exit_code == old
            {
                (*signal).group_exit_code = new;
            }
        }
    }

    /// Wakes the thread as a signal does, and makes it enter `get_signal()`.
    pub fn wake_up(&self) {
        // SAFETY: `task` is a valid task by its type invariants, and the lock is held.
        unsafe { bindings::signal_wake_up(self.task.as_ptr()) };
    }
}

/// Evidence that the `siglock` of the current thread is held.
///
/// # Invariants
///
/// The lock is of the current task.
pub struct CurrentSiglock<'a>(Siglock<'a>);

impl<'a> Deref for CurrentSiglock<'a> {
    type Target = Siglock<'a>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl CurrentSiglock<'_> {
    /// Makes the thread enter `get_signal()` before it returns to user mode.
    pub fn set_sigpending(&self) {
        // SAFETY: `task` is a valid task by its type invariants. The flag may be set at any time.
        unsafe { bindings::set_tsk_sigpending(self.task.as_ptr()) };
    }

    /// Revokes [`CurrentSiglock::set_sigpending`], and the wake-ups by signals so far.
    pub fn clear_sigpending(&self) {
        // SAFETY: `task` is the current task by the type invariants, and the lock, which senders of
        // signals take, is held.
        unsafe { bindings::clear_tsk_sigpending(self.task.as_ptr()) };
    }
}
