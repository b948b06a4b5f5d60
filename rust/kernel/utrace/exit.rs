// SPDX-License-Identifier: GPL-2.0

//! Job control, exit and death of a thread, by value.

use crate::{
    bindings,
    prelude::*, //
};

/// A status as `wait()` gives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitStatus(c_int);

impl WaitStatus {
    const SIGNAL: c_int = 0x7f;
    const CORE: c_int = 0x80;

    pub(super) fn from_long(status: c_long) -> Self {
        Self(status as c_int)
    }

    /// Of an exit by the thread itself.
    pub const fn of_exit(code: u8) -> Self {
        Self((code as c_int) << 8)
    }

    /// The code, if the thread has exited by itself.
    pub fn exited(self) -> Option<u8> {
        (self.0 & Self::SIGNAL == 0).then_some((self.0 >> 8) as u8)
    }

    /// The signal, if one has killed the thread.
    pub fn killed_by(self) -> Option<i32> {
        match self.0 & Self::SIGNAL {
            0 => None,
            signal => Some(signal),
        }
    }

    /// Whether a core was dumped.
    pub fn dumped_core(self) -> bool {
        self.killed_by().is_some() && self.0 & Self::CORE != 0
    }

    /// The status as a number.
    pub fn raw(self) -> i32 {
        self.0
    }
}

/// Whom the death of a thread is of interest to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mourner {
    /// The parent, which was sent this signal; 0 if it wants none.
    Parent(i32),
    /// Nobody: nobody waits for it.
    Nobody,
    /// Nobody yet: it is the leader of its process, and threads are left.
    Later,
}

/// The death of a thread.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Death {
    /// Whether it was the last of its process.
    pub group_dead: bool,
    /// Whom it is of interest to.
    pub mourner: Mourner,
}

impl Death {
    pub(super) fn new(group_dead: bool, signal: c_int) -> Self {
        Self {
            group_dead,
            mourner: match signal {
                -1 => Mourner::Nobody,
                -2 => Mourner::Later,
                signal => Mourner::Parent(signal),
            },
        }
    }
}

/// What job control has done to a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It is stopped.
    Stopped,
    /// It goes on.
    Continued,
}

/// A change of a process by job control.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct JobControl {
    /// The change.
    pub change: Change,
    /// Whether the parent will be told.
    pub parent_told: bool,
}

impl JobControl {
    pub(super) fn new(kind: c_int, notify: c_int) -> Self {
        Self {
            change: match kind as u32 {
                bindings::CLD_CONTINUED => Change::Continued,
                _ => Change::Stopped,
            },
            parent_told: notify != 0,
        }
    }
}
