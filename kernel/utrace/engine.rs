// SPDX-License-Identifier: GPL-2.0

//! What an engine is.

use kernel::{
    prelude::*,
    task::Task, //
};

/// What an engine wants to become of it after an event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Action {
    /// Stay attached.
    Resume,
    /// Be detached from the thread that the event is of.
    Detach,
}

/// How a thread exits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    /// The code, as `wait()` reports it.
    pub code: c_long,
    /// Whether this is the last thread of its process.
    pub last: bool,
}

/// The interest of an in-kernel user in a thread.
///
/// Each method is an event. It is called in the context of the thread that the event is of, which
/// is `thread`, except that [`Engine::clone`] is in that of the parent. No lock is held, and the
/// method may sleep, but the thread waits for it. An engine that is attached from within a method
/// misses the event at hand.
///
/// The idea, the events and their order are those of Roland McGrath's utrace of 2009.
pub trait Engine: Send + Sync {
    /// `thread` has created `child`, which has not run. `flags` are of `clone()`.
    fn clone(&self, thread: &Task, child: &Task, flags: u64) -> Action {
        let _ = (thread, child, flags);
        Action::Resume
    }

    /// `thread` has a new image. It is the only thread of its process now.
    fn exec(&self, thread: &Task) -> Action {
        let _ = thread;
        Action::Resume
    }

    /// `thread` exits. Its memory and files are still there.
    fn exit(&self, thread: &Task, exit: Exit) -> Action {
        let _ = (thread, exit);
        Action::Resume
    }

    /// `thread` is about to return to user mode, after [`request_quiesce`].
    ///
    /// [`request_quiesce`]: crate::request_quiesce
    fn quiesce(&self, thread: &Task) -> Action {
        let _ = thread;
        Action::Resume
    }
}
