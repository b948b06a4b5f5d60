// SPDX-License-Identifier: GPL-2.0

//! Job control, exit and death of a thread.

use crate::{
    bindings,
    prelude::*, //
};

/// A status as returned by `wait()`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitStatus(c_int);

impl WaitStatus {
    const SIGNAL: c_int = 0x7f;
    const CORE: c_int = 0x80;

    pub(super) fn from_long(status: c_long) -> Self {
        Self(status as c_int)
    }

    /// Returns the status of a thread that exits by itself.
    pub const fn from_exit_code(code: u8) -> Self {
        Self((code as c_int) << 8)
    }

    /// Returns the code, if the thread has exited by itself.
    pub fn exited(self) -> Option<u8> {
        (self.0 & Self::SIGNAL == 0).then_some((self.0 >> 8) as u8)
    }

    /// Returns the signal, if one has killed the thread.
    pub fn killed_by(self) -> Option<i32> {
        match self.0 & Self::SIGNAL {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Returns whether a core was dumped.
    pub fn dumped_core(self) -> bool {
        self.killed_by().is_some() && self.0 & Self::CORE != 0
    }

    /// Returns the status as a number.
    pub fn raw(self) -> i32 {
        self.0
    }
}

/// The recipient of the notification of a thread's death.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeathNotify {
    /// The parent was sent this signal; 0 if it wants none.
    Parent(i32),
    /// No process waits for the thread.
    NoOne,
    /// No process yet, because the thread is the leader of its process and other threads are left.
    Later,
}

/// The death of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Death {
    /// Whether the thread was the last of its process.
    pub group_dead: bool,
    /// The recipient of the notification.
    pub notify: DeathNotify,
}

impl Death {
    pub(super) fn new(group_dead: bool, signal: c_int) -> Self {
        Self {
            group_dead,
            notify: match signal {
                -1 => DeathNotify::NoOne,
                -2 => DeathNotify::Later,
                signal => DeathNotify::Parent(signal),
            },
        }
    }
}

/// The kind of a change by job control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JobControlChange {
    /// The process is stopped.
    Stopped,
    /// The process continues.
    Continued,
}

/// A change of a process by job control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobControl {
    /// The change.
    pub change: JobControlChange,
    /// Whether the parent will be notified.
    pub parent_notified: bool,
}

impl JobControl {
    pub(super) fn new(kind: c_int, notify: c_int) -> Self {
        Self {
            change: match kind as u32 {
                bindings::CLD_CONTINUED => JobControlChange::Continued,
                _ => JobControlChange::Stopped,
            },
            parent_notified: notify != 0,
        }
    }
}
