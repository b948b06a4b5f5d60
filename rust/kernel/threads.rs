// SPDX-License-Identifier: GPL-2.0

//! The threads of processes: finding them, walking them, and having them report.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/pid.h`](srctree/include/linux/pid.h)

use crate::{
    bindings,
    cpu::CpuId,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::aref::ARef,
    task::{
        Pid,
        Task, //
    },
    types::NotThreadSafe,
};

use core::ptr::NonNull;

/// Identity of a thread group.
///
/// It stays the same through `exec()`, and is not reused while a reference to a task of the group
/// is held.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadGroup(usize);

impl ThreadGroup {
    /// Returns the group as a number to order groups by.
    #[inline]
    pub fn as_usize(self) -> usize {
        self.0
    }
}

/// Finds a thread by its number in the pid namespace of the caller.
pub fn find(pid: Pid) -> Option<ARef<Task>> {
    // SAFETY: There are no requirements on the caller.
    let task = unsafe { bindings::find_get_task_by_vpid(pid) };
    NonNull::new(task).map(|task| {
        // SAFETY: The reference was taken for us. CAST: `Task` is a transparent wrapper.
        unsafe { ARef::from_raw(task.cast()) }
    })
}

/// Returns the leader of a task's thread group, if the task has not been reaped.
pub fn leader(task: &Task) -> Option<ARef<Task>> {
    let _guard = tasklist();
    // SAFETY: `task` is valid; that it has a `signal` under the lock says that it has not been
    // reaped, and so is of a group whose leader is valid.
    unsafe {
        if (*task.as_ptr()).signal.is_null() {
            return None;
        }
        // CAST: `Task` is a transparent wrapper.
        Some(ARef::from(&*(*task.as_ptr()).group_leader.cast::<Task>()))
    }
}

/// Evidence that `tasklist_lock` is held for reading: threads are neither added nor removed.
///
/// # Invariants
///
/// The lock is held while instances exist.
pub struct TasklistGuard(NotThreadSafe);

/// Takes `tasklist_lock` for reading. The holder must not sleep.
pub fn tasklist() -> TasklistGuard {
    // SAFETY: There are no requirements on the caller that concern memory safety.
    unsafe { bindings::tasklist_read_lock() };
    // INVARIANT: The lock was just taken.
    TasklistGuard(NotThreadSafe)
}

impl Drop for TasklistGuard {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the lock is held.
        unsafe { bindings::tasklist_read_unlock() };
    }
}

impl TasklistGuard {
    /// Calls `f` with each thread of `of`'s group that has not been reaped.
    pub fn for_each_thread(&self, of: &Task, mut f: impl FnMut(&Task)) {
        // SAFETY: `of` is valid; that it has a `signal` under the lock says that it has not been
        // reaped, and so is of a group whose leader is valid.
        let leader = unsafe {
            if (*of.as_ptr()).signal.is_null() {
                return;
            }
            (*of.as_ptr()).group_leader
        };
        let mut thread = leader;
        while !thread.is_null() {
            // SAFETY: The lock is held by the type invariants, so that `thread`, of the list of
            // its group, is valid. CAST: `Task` is a transparent wrapper.
            f(unsafe { &*thread.cast::<Task>() });
            // SAFETY: As above.
            thread = unsafe { bindings::next_thread(thread) };
        }
    }

    /// Calls `f` with each thread of the system that is not the idle task's.
    pub fn for_each(&self, mut f: impl FnMut(&Task)) {
        let init = &raw mut bindings::init_task;
        // SAFETY: `init_task` is the head of the list, which the lock keeps from changing.
        let mut leader = unsafe { bindings::next_task(init) };
        while leader != init {
            // SAFETY: `leader` is of the list that the lock keeps. CAST: As above.
            self.for_each_thread(unsafe { &*leader.cast::<Task>() }, &mut f);
            // SAFETY: As above.
            leader = unsafe { bindings::next_task(leader) };
        }
    }
}

impl Task {
    /// Returns the identity of the task's thread group.
    #[inline]
    pub fn thread_group(&self) -> ThreadGroup {
        // SAFETY: `signal` changes once only, to null, when the task is reaped; the number is
        // compared, never followed.
        ThreadGroup(
            unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).signal) } as usize,
        )
    }

    /// Returns the `PF_` flags as they are at the moment.
    #[inline]
    fn pf_flags(&self) -> u32 {
        // SAFETY: The task is valid; of a racing change the old or the new value is read.
        unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).flags) }
    }

    /// Returns whether the task is a kernel thread.
    pub fn is_kernel_thread(&self) -> bool {
        self.pf_flags() & bindings::PF_KTHREAD != 0
    }

    /// Returns whether the task never goes to user mode: a kernel thread, or a worker that the
    /// kernel runs for a process, as io_uring does.
    pub fn is_worker(&self) -> bool {
        self.pf_flags() & (bindings::PF_KTHREAD | bindings::PF_USER_WORKER) != 0
    }

    /// Returns whether the task has begun to exit.
    pub fn is_exiting(&self) -> bool {
        self.pf_flags() & bindings::PF_EXITING != 0
    }

    /// Returns the task's address space, if it has one in use.
    pub fn get_mm(&self) -> Option<ARef<MmWithUser>> {
        // SAFETY: The task is valid, and it is the caller who is told not to hold its lock.
        let mm = unsafe { bindings::get_task_mm(self.as_ptr()) };
        // SAFETY: `get_task_mm()` took a reference for us. CAST: A transparent wrapper.
        NonNull::new(mm).map(|mm| unsafe { ARef::from_raw(mm.cast()) })
    }

    /// Returns whether the task uses `mm` as its own.
    #[inline]
    pub fn uses(&self, mm: &Mm) -> bool {
        // SAFETY: The task is valid, and the pointer is compared only.
        let of_task = unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).mm) };
        core::ptr::eq(of_task, mm.as_raw())
    }

    /// Returns the CPU that the task executes on at the moment, if it does.
    pub fn running_on(&self) -> Option<CpuId> {
        // SAFETY: The task is valid.
        if unsafe { bindings::task_curr(self.as_ptr()) } == 0 {
            return None;
        }
        // SAFETY: As above.
        CpuId::from_u32(unsafe { bindings::task_cpu(self.as_ptr()) })
    }

    /// Has the task run the work that is due before it returns to user mode. Does not wake it.
    pub fn notify_resume(&self) {
        // SAFETY: The task is valid.
        unsafe { bindings::set_notify_resume(self.as_ptr()) };
    }

    /// Returns whether the task has been killed.
    pub fn is_killed(&self) -> bool {
        // SAFETY: The task is valid.
        unsafe { bindings::fatal_signal_pending(self.as_ptr()) != 0 }
    }

    /// Returns whether the current task has been killed.
    #[inline]
    pub fn is_current_killed() -> bool {
        // SAFETY: The current task is valid.
        unsafe { bindings::fatal_signal_pending(Self::current_raw()) != 0 }
    }

    /// Hides the signals that are pending for the current task, until
    /// [`Task::recheck_signals`] or the next signal.
    #[inline]
    pub fn postpone_signals() {
        // SAFETY: The flag of the current task may be cleared by itself; that it is set again is
        // for the caller to see to.
        unsafe { bindings::clear_tsk_sigpending(Self::current_raw()) };
    }

    /// Has the current task look for pending signals before it returns to user mode.
    #[inline]
    pub fn recheck_signals() {
        // SAFETY: The flag may be set at any time: signals are looked for, and found or not.
        unsafe { bindings::set_tsk_sigpending(Self::current_raw()) };
    }

    /// Kills the task's process.
    pub fn kill(&self) {
        // SAFETY: The task is valid and has not been reaped: it has not run, or is current.
        unsafe { bindings::send_sig(bindings::SIGKILL as c_int, self.as_ptr(), 1) };
    }

    /// Returns whether the caller may attach to the task as a debugger may. Sleeps not.
    pub fn may_attach(&self) -> bool {
        // SAFETY: The task is valid.
        unsafe { bindings::ptrace_may_attach(self.as_ptr()) }
    }
}
