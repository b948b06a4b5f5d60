// SPDX-License-Identifier: GPL-2.0

//! A process that is probed.

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        rcu,
        Arc, //
    },
    task::{
        Pid,
        Task, //
    },
    threads::{
        self,
        Group,
        ThreadGroup, //
    },
};
use ubp::{
    Refused,
    Vaddr, //
};

/// A thread group, with the address space that it had when it was found.
pub struct Process {
    /// The thread that it was found by.
    task: ARef<Task>,
    group: Group,
    mm: ARef<Mm>,
}

impl Process {
    /// Finds the process of a thread, whose number is of the caller's pid namespace. The caller
    /// must be allowed to attach to it as a debugger.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: no such number can be, or a kernel thread. `ESRCH`: no such process, or it exits.
    /// `EPERM`: not allowed. `ENOMEM`.
    pub fn from_pid(pid: Pid) -> Result<Arc<Self>> {
        if pid <= 0 {
            return Err(EINVAL);
        }
        let process = Self::of(&*threads::find(pid).ok_or(ESRCH)?)?;
        // One that exits has nothing that could be probed, permitted or not.
        if !process.task.may_attach() {
            return Err(EPERM);
        }
        Ok(process)
    }

    /// Returns the process of a thread. Nobody's permission is asked for.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a kernel thread. `ESRCH`: it exits. `ENOMEM`.
    pub fn of(task: &Task) -> Result<Arc<Self>> {
        if task.is_kernel_thread() {
            return Err(EINVAL);
        }
        let group = Group::of(task).ok_or(ESRCH)?;
        let mm = group.get_mm().ok_or(ESRCH)?;
        let process = Self {
            task: ARef::from(task),
            group,
            mm: ARef::from(&**mm),
        };
        Ok(Arc::new(process, GFP_KERNEL)?)
    }

    /// Returns the address space, if the process still has it.
    ///
    /// # Errors
    ///
    /// `ESRCH`.
    pub(crate) fn mm(&self) -> Result<ARef<MmWithUser>> {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let alive = self
            .group
            .threads(&rcu::read_lock())
            .any(|thread| thread.uses(&mm) && !thread.is_exiting());
        if alive {
            Ok(mm)
        } else {
            Err(ESRCH)
        }
    }

    /// Returns a thread of the process, which may have exited.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    pub(crate) fn group(&self) -> ThreadGroup {
        self.group.id()
    }

    /// Says whether a probe could be registered at an address.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// As of [`register`](crate::register).
    pub fn check(&self, at: Vaddr) -> Result<(), Refused> {
        ubp::check(&*self.mm()?, at)
    }

    /// Says whether the returns of the function at an address, of `size` bytes, could be probed by
    /// the instructions that return; see [`Spot::size`](crate::Spot::size).
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// As of [`exits`](crate::exits), and of [`register`](crate::register).
    pub fn check_returns(&self, at: Vaddr, size: usize) -> Result<(), Refused> {
        let mm = self.mm()?;
        for exit in &ubp::exits(&mm, at, size)? {
            ubp::check(&mm, *exit)?;
        }
        Ok(())
    }

    /// Returns the offset in its file of the byte at an address, if a file is mapped there.
    ///
    /// Context: may sleep.
    pub fn file_offset(&self, at: Vaddr) -> Option<usize> {
        let mm = self.mm().ok()?;
        let mmap = mm.mmap_read_lock();
        let offset = mmap
            .vma_lookup(at.as_usize())
            .and_then(|vma| vma.file_offset(at.as_usize()));
        offset
    }
}
