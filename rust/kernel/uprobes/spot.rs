// SPDX-License-Identifier: GPL-2.0

//! Where probes are.

use crate::{
    bindings,
    task::{
        Pid,
        Task, //
    },
};

/// A process, as who registers names it.
#[derive(Clone, Copy)]
pub(super) enum Process<'a> {
    Pid(Pid),
    Task(&'a Task),
}

/// Where a probe is wanted: an address of a process.
#[derive(Clone, Copy)]
pub struct Spot<'a> {
    pub(super) process: Process<'a>,
    pub(super) at: usize,
    pub(super) size: usize,
    pub(super) flags: u32,
}

impl Spot<'_> {
    /// The instruction that begins at an address of the process of a thread, whose number is of
    /// the caller's pid namespace. The caller must be allowed to attach to it as a debugger.
    ///
    /// A handler must use [`Spot::of_task`], because it executes in the probed thread, and has the
    /// pid namespace and the permissions of that.
    pub fn of_pid(pid: Pid, at: usize) -> Self {
        Self::of(Process::Pid(pid), at)
    }

    /// The function that begins there is that many bytes long; 0: this is not known.
    ///
    /// Of a function whose size is known the instructions that return are known, else they are
    /// looked for. For hits this makes no difference.
    pub fn size(self, size: usize) -> Self {
        Self { size, ..self }
    }

    /// Processes that the process creates by `fork()` are to have the probe as well, and so are
    /// theirs.
    pub fn follow_fork(self) -> Self {
        Self {
            flags: self.flags | bindings::UPROBE_FOLLOW_FORK,
            ..self
        }
    }
}

impl<'a> Spot<'a> {
    /// The instruction that begins at an address of the process of a thread. Nobody's permission is
    /// asked for.
    pub fn of_task(task: &'a Task, at: usize) -> Self {
        Self::of(Process::Task(task), at)
    }

    fn of(process: Process<'a>, at: usize) -> Self {
        Self {
            process,
            at,
            size: 0,
            flags: 0,
        }
    }
}
