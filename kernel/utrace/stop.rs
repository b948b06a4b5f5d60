// SPDX-License-Identifier: GPL-2.0

//! Stops: a thread that stays in the kernel because an engine wants it to.
//!
//! # Where
//!
//! A thread that is asked to stop while it executes, or sleeps in a system call, stops in
//! `get_signal()`, before it takes a signal from the queue: [`Where::Signals`]. What job control,
//! a debugger or a freezer wants of it is done there without ending the stop: it leaves the stop,
//! `get_signal()` does it, and asks again. The same goes for SIGSTOP. All other signals wait.
//!
//! Where it stops in the midst of something ([`Where::Inside`]: of a system call that is about to
//! begin, of its exit, with a signal in hand) such things wait until the stop is over.
//!
//! # Protocol
//!
//! ```text
//!              an engine wants it               no engine wants it
//!   executing -------------------> stopped ------------------------> executing
//!       ^                           |   ^
//!       |        SIGKILL            |   | get_signal() has seen to it
//!       `---------------------------+   |
//!                                   `-> in get_signal(), asked by job control, debugger, freezer
//! ```
//!
//! The thread itself sets and clears `State::stopped`, under the lock. Whoever takes the wish of
//! the last engine back wakes the thread, after that and without a lock: the thread may have left
//! this stop by then, and be in another one, or in one of a debugger. It sleeps in a state of its
//! own, `TASK_UTRACED`, so that the wake-up ends no sleep but one in this file, which looks again.
//! While `stopped` is seen under the lock, the thread does
//! not touch its user-mode registers, and so its holder may.

use crate::thread::Thread;

use kernel::{
    prelude::*,
    siglock::{
        self,
        Jobctl,
        WokenBy, //
    },
    task::Task, //
};

/// At what a thread is when it stops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Where {
    /// In `get_signal()`, with nothing in hand.
    Signals,
    /// Elsewhere.
    Inside,
}

/// How a stop ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Ended {
    /// No engine wants it, or none has wanted it.
    Resumed,
    /// The thread has been killed.
    Killed,
    /// `get_signal()` has to see to something, and asks again then. [`Where::Signals`] only.
    HasWork,
    /// `get_signal()` is to take SIGSTOP, and ask again then. [`Where::Signals`] only.
    Sigstop,
}

/// Stops the current thread for as long as an engine wants it stopped.
pub(crate) fn stop(task: &Task, thread: &Thread, place: Where) -> Ended {
    if !begin(thread) {
        return Ended::Resumed;
    }
    let current = current!();
    let ended = loop {
        let Some(siglock) = current.lock_own_signals() else {
            // It has been reaped, which cannot be before it has died.
            break Ended::Killed;
        };
        if siglock.is_killed() {
            break Ended::Killed;
        }
        match place {
            Where::Signals if siglock.has_work() => {
                siglock.enter_get_signal();
                break Ended::HasWork;
            }
            Where::Signals if siglock.sigstop_pending() => {
                siglock.enter_get_signal();
                break Ended::Sigstop;
            }
            Where::Signals | Where::Inside => siglock.set(Jobctl::UtraceStopped),
        }
        let woken_by = match place {
            Where::Signals => WokenBy::Signals,
            Where::Inside => WokenBy::Kill,
        };
        siglock::sleep(siglock, woken_by, || !thread.state.lock().any_stop());
        if is_over(thread) {
            break Ended::Resumed;
        }
    };
    thread.state.lock().stopped = false;
    if let Some(siglock) = task.lock_signals() {
        siglock.clear(Jobctl::UtraceStopped);
    }
    ended
}

/// Returns whether there is a stop.
fn begin(thread: &Thread) -> bool {
    let mut state = thread.state.lock();
    if state.any_stop() {
        state.stopped = true;
        state.stops = state.stops.wrapping_add(1);
    }
    state.stopped
}

/// Ends the stop if no engine wants it, in one step: one that wants it later has to wait for the
/// next.
fn is_over(thread: &Thread) -> bool {
    let mut state = thread.state.lock();
    state.stopped = state.any_stop();
    !state.stopped
}
