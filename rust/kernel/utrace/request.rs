// SPDX-License-Identifier: GPL-2.0

//! Requests of the owner of an engine.

use super::Action;

use crate::{
    error::to_result,
    prelude::*, //
};

/// A request of the owner of an engine for the thread: an [`Action`] other than [`Action::Detach`],
/// because dropping the owner detaches the engine.
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

/// The progress of a request when the call returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Progress {
    /// The request is done; after [`Request::Stop`] the thread is stopped.
    Done,
    /// The request will be done: the thread has been asked, or a callback of the engine is
    /// executing, which may have begun before the request.
    Underway,
}

impl Progress {
    /// Converts the return value of a function of the C API.
    pub(super) fn from_ret(ret: c_int) -> Result<Self> {
        match to_result(ret) {
            Ok(()) => Ok(Self::Done),
            Err(e) if e == EINPROGRESS => Ok(Self::Underway),
            Err(e) => Err(e),
        }
    }
}
