// SPDX-License-Identifier: GPL-2.0

//! Job control of a thread, under `siglock`, and stops of the current one.
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
    /// Takes the task's `siglock`. Returns nothing if the task has been reaped.
    pub fn lock_signals(&self) -> Option<Siglock<'_>> {
        // SAFETY: `self` is a valid task by its type invariants.
        let locked = unsafe { bindings::lock_task_siglock(self.as_ptr()) };
        // INVARIANT: `lock_task_siglock()` returned true, so it has taken the lock.
        // Lazily: a `Siglock` releases the lock when it is dropped.
        locked.then(|| Siglock {
            task: self,
            _not_send: NotThreadSafe,
        })
    }

    /// Wakes the task if it is in a stop of [`sleep`], and from nothing else: no other code sleeps
    /// in this state.
    pub fn wake_from_stop(&self) {
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::wake_up_state(self.as_ptr(), bindings::__TASK_UTRACED) };
    }

    /// Waits until the task, which is in a stop, is off its CPU. Returns whether it was.
    ///
    /// Context: may sleep.
    pub fn wait_inactive_in_stop(&self) -> bool {
        let stops = bindings::__TASK_UTRACED | bindings::__TASK_STOPPED | bindings::TASK_FROZEN;
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::wait_task_inactive(self.as_ptr(), stops) != 0 }
    }

    /// Makes the task look again at the signals that engines have left in its queues.
    pub fn release_held_signals(&self) {
        if let Some(siglock) = self.lock_signals() {
            // SAFETY: The task is valid, and `siglock` is held, which protects the set.
            unsafe { bindings::release_held_signals(siglock.task.as_ptr()) };
        }
    }
}

impl CurrentTask {
    /// Takes the `siglock` of the current thread. Returns nothing if the thread has been reaped.
    pub fn lock_own_signals(&self) -> Option<CurrentSiglock<'_>> {
        // INVARIANT: The lock is of the current task, which `self` is by its type invariants.
        self.lock_signals().map(CurrentSiglock)
    }
}

impl Drop for Siglock<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held. A task that has a held `siglock` keeps
        // its `sighand`.
        unsafe { bindings::unlock_task_siglock(self.task.as_ptr()) };
    }
}

impl Siglock<'_> {
    fn jobctl(&self) -> c_ulong {
        // SAFETY: The task is valid, and the field is protected by the lock.
        unsafe { (*self.task.as_ptr()).jobctl }
    }

    /// Sets a bit.
    pub fn set(&self, bit: Jobctl) {
        // SAFETY: The task is valid, and the field is protected by the lock. `self` cannot be
        // shared with another thread.
        unsafe { (*self.task.as_ptr()).jobctl |= bit.bit() };
    }

    /// Clears a bit.
    pub fn clear(&self, bit: Jobctl) {
        // SAFETY: As in `set`: valid, protected by the lock, and not shared.
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

    /// Whether a signal sent now would reach the thread: it would not if the thread exits, or its
    /// process does or is dumped.
    pub fn takes_signals(&self) -> bool {
        // SAFETY: The task is valid. It has a `signal` as it has a `sighand`, and the lock protects
        // the flags in it.
        unsafe { bindings::takes_signals(self.task.as_ptr()) }
    }

    /// Returns the status that the process exits with, if it exits as a whole.
    pub fn group_exit_code(&self) -> Option<c_int> {
        // SAFETY: The task is valid. It has a `signal` as it has a `sighand`, and the lock protects
        // these fields. No reference to the structure is made, as other threads access other
        // fields of it.
        unsafe {
            let signal = (*self.task.as_ptr()).signal;
            ((*signal).flags & bindings::SIGNAL_GROUP_EXIT != 0).then(|| (*signal).group_exit_code)
        }
    }

    /// If the process exits as a whole with the status `old`, changes that to `new`.
    pub fn replace_group_exit_code(&self, old: c_int, new: c_int) {
        // SAFETY: The task is valid. It has a `signal` as it has a `sighand`, and the lock protects
        // these fields. No reference to the structure is made, as other threads access other
        // fields of it.
        unsafe {
            let signal = (*self.task.as_ptr()).signal;
            if (*signal).flags & bindings::SIGNAL_GROUP_EXIT != 0
                && (*signal).group_exit_code == old
            {
                (*signal).group_exit_code = new;
            }
        }
    }

    /// Wakes the thread as a signal does, and has it enter `get_signal()`.
    pub fn wake_up(&self) {
        // SAFETY: The task is valid, and the lock is held.
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
    /// Has the thread enter `get_signal()` before it returns to user mode.
    pub fn enter_get_signal(&self) {
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

/// Puts the current thread to sleep in `TASK_UTRACED`. Returns at any time: the caller must look
/// again at what it waits for.
///
/// `siglock` is released. `go_on` is called with the state set, so that no wake-up is lost; if it
/// returns true, the thread does not sleep. It must not sleep.
///
/// The state belongs to these stops alone: a debugger's wake-up (`__TASK_TRACED`) does not end
/// them, and [`Task::wake_from_stop`] ends no stop of a debugger. SIGKILL and the freezer treat it
/// as they treat `TASK_STOPPED`.
///
/// Context: no other lock is held.
pub fn sleep(siglock: CurrentSiglock<'_>, woken_by: WokenBy, go_on: impl FnOnce() -> bool) {
    match woken_by {
        WokenBy::Signals => {
            // SAFETY: The state of the current task, to be reset below; `siglock` is that of the
            // current task by its type invariants. A signal that is sent after `siglock` is
            // released sets the flag again, and wakes.
            unsafe {
                bindings::set_special_state(bindings::TASK_INTERRUPTIBLE | bindings::TASK_UTRACED);
                bindings::clear_tsk_sigpending(siglock.task.as_ptr());
            }
        }
        // SAFETY: The state of the current task, to be reset below. SIGKILL is sent with the lock
        // held, and wakes this state.
        WokenBy::Kill => unsafe { bindings::set_special_state(bindings::TASK_UTRACED) },
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
