// SPDX-License-Identifier: GPL-2.0

//! A process that is probed.

use crate::returns::return_instructions;

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
///
/// Two of them are equal if they are of one thread group with one address space. The references
/// that each of them holds ensure that neither is reused for another process, so they can be
/// compared where a number cannot: numbers are reused, differ between pid namespaces, and stay the
/// same through `execve()`.
pub struct Process {
    /// The thread that it was found by.
    task: ARef<Task>,
    group: Group,
    mm: ARef<Mm>,
}

impl PartialEq for Process {
    fn eq(&self, other: &Self) -> bool {
        self.group() == other.group() && self.mm.as_raw() == other.mm.as_raw()
    }
}

impl Eq for Process {}

impl Process {
    /// Finds the process of a thread by its number in the pid namespace of the caller, who must be
    /// allowed to attach to the thread as a debugger.
    ///
    /// The permission is checked for the address space that the process is found with; see
    /// [`Task::access_mm`]. If the thread exits, another thread of the process stands in for it.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: no such number can be, or a kernel thread. `ESRCH`: no such process, or it exits.
    /// `EPERM`: not allowed. `EINTR`: the caller has been killed. `ENOMEM`.
    pub fn from_pid(pid: Pid) -> Result<Arc<Self>> {
        if pid <= 0 {
            return Err(EINVAL);
        }
        let task = threads::find(pid).ok_or(ESRCH)?;
        Self::new(&task, |group| match task.access_mm() {
            Err(ESRCH) => group.access_mm(),
            accessed => accessed,
        })
    }

    /// Returns the process of a thread, without a check of permissions.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a kernel thread. `ESRCH`: it exits. `ENOMEM`.
    pub fn of(task: &Task) -> Result<Arc<Self>> {
        Self::new(task, |group| group.get_mm().ok_or(ESRCH))
    }

    fn new(task: &Task, mm: impl FnOnce(&Group) -> Result<ARef<MmWithUser>>) -> Result<Arc<Self>> {
        if task.is_kernel_thread() {
            return Err(EINVAL);
        }
        let group = Group::of(task).ok_or(ESRCH)?;
        let mm = mm(&group)?;
        let process = Self {
            task: ARef::from(task),
            group,
            mm: ARef::from(&**mm),
        };
        Ok(Arc::new(process, GFP_KERNEL)?)
    }

    /// Returns whether the process has exited, or has got another address space by `execve()`.
    /// Such a process gets no more hits, and no probe.
    ///
    /// Context: may sleep.
    pub fn is_over(&self) -> bool {
        self.mm().is_err()
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

    /// Returns whether both are the same process, with the same image.
    pub fn is_same(&self, other: &Self) -> bool {
        self.group() == other.group() && core::ptr::eq(&*self.mm, &*other.mm)
    }

    /// Returns whether a thread is one of the process. The thread may have exited, if the process
    /// has not.
    pub fn has_thread(&self, thread: &Task) -> bool {
        Group::of(thread).is_some_and(|group| group.id() == self.group())
    }

    /// Returns whether a number, in the pid namespace of the current thread, is that of a thread of
    /// the process.
    pub fn has_thread_numbered(&self, pid: Pid) -> bool {
        threads::find(pid).is_some_and(|thread| self.has_thread(&thread))
    }

    /// Returns the number of the process in the pid namespace of the current thread. There is none
    /// if the process is over, because the number may be another process's by now, or if the
    /// process is not in that namespace.
    ///
    /// Context: may sleep.
    pub fn number(&self) -> Option<Pid> {
        if self.is_over() {
            return None;
        }
        self.group.number()
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
    /// As of [`return_instructions`], and of [`register`](crate::register).
    pub fn check_returns(&self, at: Vaddr, size: usize) -> Result<(), Refused> {
        let mm = self.mm()?;
        for exit in &return_instructions(&mm, at, size)? {
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
