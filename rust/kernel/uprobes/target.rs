// SPDX-License-Identifier: GPL-2.0

//! Target of a probe: a process and an address in it.

use crate::{
    bindings,
    task::{
        Pid,
        Task, //
    },
};

/// A process, as the caller of a registration names it.
#[derive(Clone, Copy)]
pub(super) enum TargetProcess<'a> {
    Pid(Pid),
    Task(&'a Task),
}

/// Target of a probe: an address of a process.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    pub(super) process: TargetProcess<'a>,
    pub(super) at: usize,
    pub(super) size: usize,
    pub(super) flags: u32,
}

impl Target<'_> {
    /// Targets the instruction at an address of the process of a thread. `pid` is the number of the
    /// thread in the caller's pid namespace. The caller must be allowed to attach to the process as
    /// a debugger.
    ///
    /// A handler must use [`Target::from_task`], because it executes in the probed thread, with the
    /// pid namespace and the permissions of that thread.
    pub fn from_pid(pid: Pid, at: usize) -> Self {
        Self::new(TargetProcess::Pid(pid), at)
    }

    /// Sets the size of the function at the address, in bytes; 0 if it is not known.
    ///
    /// With a size, uprobes finds the return instructions of more functions. For hits the size
    /// makes no difference.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Extends the probe to processes that the process creates by `fork()`, and to their
    /// descendants.
    pub fn follow_fork(self) -> Self {
        Self {
            flags: self.flags | bindings::UPROBE_FOLLOW_FORK,
            ..self
        }
    }
}

impl<'a> Target<'a> {
    /// Targets the instruction at an address of the process of a thread. No permission is checked.
    pub fn from_task(task: &'a Task, at: usize) -> Self {
        Self::new(TargetProcess::Task(task), at)
    }

    fn new(process: TargetProcess<'a>, at: usize) -> Self {
        Self {
            process,
            at,
            size: 0,
            flags: 0,
        }
    }
}
