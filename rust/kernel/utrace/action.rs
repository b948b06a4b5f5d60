// SPDX-License-Identifier: GPL-2.0

//! What engines want to become of a thread.

use crate::{
    bindings,
    error::to_result,
    prelude::*, //
};

/// What an engine answers to an event: what is to become of the thread.
///
/// If several engines, or an engine and somebody who controls it, want different things, the one
/// that comes first here is done. [`Action::Stop`] lasts until the engine, or its owner, asks for
/// something else; all others are for once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
#[must_use]
pub enum Action {
    /// The thread stays in the kernel.
    Stop = bindings::utrace_resume_action_UTRACE_STOP,
    /// It reports [`Engine::quiesce`](super::Engine::quiesce) at once. A system call that it
    /// sleeps in is interrupted, as by a signal.
    Interrupt = bindings::utrace_resume_action_UTRACE_INTERRUPT,
    /// It reports before it returns to user mode.
    Report = bindings::utrace_resume_action_UTRACE_REPORT,
    /// It reports after one instruction, see [`Occasion::Step`](super::Occasion::Step).
    SingleStep = bindings::utrace_resume_action_UTRACE_SINGLESTEP,
    /// It reports after the next branch.
    BlockStep = bindings::utrace_resume_action_UTRACE_BLOCKSTEP,
    /// It goes on.
    Resume = bindings::utrace_resume_action_UTRACE_RESUME,
    /// It goes on, without this engine.
    Detach = bindings::utrace_resume_action_UTRACE_DETACH,
}

impl Action {
    /// Takes the action out of what a callback finds.
    pub(super) fn found_in(found: u32) -> Self {
        match found & bindings::UTRACE_RESUME_MASK {
            bindings::utrace_resume_action_UTRACE_STOP => Self::Stop,
            bindings::utrace_resume_action_UTRACE_INTERRUPT => Self::Interrupt,
            bindings::utrace_resume_action_UTRACE_REPORT => Self::Report,
            bindings::utrace_resume_action_UTRACE_SINGLESTEP => Self::SingleStep,
            bindings::utrace_resume_action_UTRACE_BLOCKSTEP => Self::BlockStep,
            bindings::utrace_resume_action_UTRACE_DETACH => Self::Detach,
            // The one number that is left has no meaning.
            _ => Self::Resume,
        }
    }

    /// Makes a callback's answer of it, with what `found` holds besides an action.
    pub(super) fn answer(self, found: u32) -> u32 {
        self as u32 | found & !bindings::UTRACE_RESUME_MASK
    }
}

/// What the owner of an engine wants to become of the thread: an [`Action`] other than
/// [`Action::Detach`], as an engine is detached by dropping its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Request {
    /// See [`Action::Stop`].
    Stop = Action::Stop as u32,
    /// See [`Action::Interrupt`].
    Interrupt = Action::Interrupt as u32,
    /// See [`Action::Report`].
    Report = Action::Report as u32,
    /// See [`Action::SingleStep`].
    SingleStep = Action::SingleStep as u32,
    /// See [`Action::BlockStep`].
    BlockStep = Action::BlockStep as u32,
    /// See [`Action::Resume`].
    Resume = Action::Resume as u32,
}

/// How far a request has got when the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// It is done: with [`Request::Stop`], the thread is stopped.
    Done,
    /// It will be: the thread has been asked, or a callback of the engine is executing, and may
    /// have begun with what was before.
    Underway,
}

impl Progress {
    /// Takes it from what a function of the C API returns.
    pub(super) fn from_ret(ret: c_int) -> Result<Self> {
        match to_result(ret) {
            Ok(()) => Ok(Self::Done),
            Err(e) if e == EINPROGRESS => Ok(Self::Underway),
            Err(e) => Err(e),
        }
    }
}
