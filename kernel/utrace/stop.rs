// SPDX-License-Identifier: GPL-2.0

//! Stops: a thread stays in the kernel because an engine wants it stopped.
//!
//! # Places
//!
//! A thread that executes in user mode, or sleeps in a system call, when the stop is requested
//! stops in `get_signal()`, before it takes a signal from the queue: [`StopPlace::Signals`]. It
//! serves job control, a debugger or a freezer there without ending the stop: it leaves the stop,
//! `get_signal()` does the work, and calls utrace again. SIGSTOP is handled in the same way. All
//! other signals wait.
//!
//! If a thread stops in the middle of an operation ([`StopPlace::Inside`]: a system call that is
//! about to begin, its exit, or a signal that it has taken), such requests wait until the stop is
//! over.
//!
//! # Protocol
//!
//! ```text
//!              an engine wants it               no engine wants it
//!   executing -------------------> stopped ------------------------> executing
//!       ^                           |   ^
//!       |        SIGKILL            |   | get_signal() has done that
//!       `---------------------------+   |
//!                                   `-> in get_signal(), asked by job control, debugger, freezer
//! ```
//!
//! The thread itself sets and clears `ThreadState::stopped`, under the lock. The caller that
//! withdraws the last engine's request to stop wakes the thread, after that and without a lock: the
//! thread may have left this stop by then, and may be in another one, or in a debugger's. The
//! thread sleeps in a separate state, `TASK_UTRACED`, so this wake-up ends only a sleep of
//! [`stop`], which then checks its condition again. While the holder of the lock sees `stopped`
//! set, the thread does not access its user-mode registers, so the holder may access them.

use crate::{
    jobctl::{
        enter_get_signal_locked,
        sleep,
        WokenBy,
        UTRACE_STOPPED, //
    },
    thread::Thread, //
};

use kernel::{
    prelude::*,
    task::Task, //
};

/// The place of a thread when it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum StopPlace {
    /// In `get_signal()`, without a signal.
    Signals,
    /// Elsewhere.
    Inside,
}

/// The reason for the end of a stop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Ended {
    /// No engine wants the stop, or none did.
    Resumed,
    /// The thread has been killed.
    Killed,
    /// `get_signal()` has work to do, and then calls utrace again. Only with
    /// [`StopPlace::Signals`].
    HasWork,
    /// `get_signal()` must take SIGSTOP, and then call utrace again. Only with
    /// [`StopPlace::Signals`].
    Sigstop,
}

/// Stops the current thread as long as an engine wants it stopped.
pub(crate) fn stop(task: &Task, thread: &Thread, place: StopPlace) -> Ended {
    if !begin(thread) {
        return Ended::Resumed;
    }
    let current = current!();
    let ended = loop {
        let Some(siglock) = current.lock_own_signals() else {
            // The thread has been reaped, so it has died.
            break Ended::Killed;
        };
        if siglock.is_killed() {
            break Ended::Killed;
        }
        match place {
            StopPlace::Signals if siglock.has_work() => {
                enter_get_signal_locked(&siglock);
                break Ended::HasWork;
            }
            StopPlace::Signals if siglock.sigstop_pending() => {
                enter_get_signal_locked(&siglock);
                break Ended::Sigstop;
            }
            StopPlace::Signals | StopPlace::Inside => siglock.set(UTRACE_STOPPED),
        }
        let woken_by = match place {
            StopPlace::Signals => WokenBy::Signals,
            StopPlace::Inside => WokenBy::Kill,
        };
        sleep(siglock, woken_by, || !thread.state.lock().any_stop());
        if is_over(thread) {
            break Ended::Resumed;
        }
    };
    thread.state.lock().stopped = false;
    if let Some(siglock) = task.lock_signals() {
        siglock.clear(UTRACE_STOPPED);
    }
    ended
}

/// Begins a stop, if an engine wants one. Returns whether it has begun.
fn begin(thread: &Thread) -> bool {
    let mut state = thread.state.lock();
    if state.any_stop() {
        state.stopped = true;
        state.stops = state.stops.wrapping_add(1);
    }
    state.stopped
}

/// Ends the stop if no engine wants it, under the lock: an engine that wants a stop later gets a
/// new one.
fn is_over(thread: &Thread) -> bool {
    let mut state = thread.state.lock();
    state.stopped = state.any_stop();
    !state.stopped
}
