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

/// Which thread group it is: a number to compare, and to order by.
///
/// It stays the same through `exec()`, and is not reused while a [`Group`] of it exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadGroup(usize);

/// A reference to a thread group, through the `struct pid` that all of its threads share.
///
/// # Invariants
///
/// A reference to the `struct pid` is owned.
pub struct Group(NonNull<bindings::pid>);

// SAFETY: A `struct pid` may be used by any thread, and its reference dropped by any.
unsafe impl Send for Group {}
// SAFETY: As above.
unsafe impl Sync for Group {}

impl Group {
    /// Returns the group of a task, if the task has not been reaped.
    pub fn of(task: &Task) -> Option<Self> {
        // SAFETY: The task is valid.
        let pid = unsafe { bindings::get_task_pid(task.as_ptr(), bindings::pid_type_PIDTYPE_TGID) };
        // INVARIANT: `get_task_pid()` took a reference for us.
        NonNull::new(pid).map(Self)
    }

    /// Returns which group it is.
    pub fn id(&self) -> ThreadGroup {
        ThreadGroup(self.0.as_ptr() as usize)
    }

    /// Returns the address space that the threads use, if one has not begun to exit.
    ///
    /// Context: may sleep.
    pub fn get_mm(&self) -> Option<ARef<MmWithUser>> {
        loop {
            let mut found = None;
            tasklist().for_each_thread(self, |thread| {
                let is_user = thread.has_mm() && !thread.is_exiting() && !thread.is_worker();
                if found.is_none() && is_user {
                    found = Some(ARef::from(thread));
                }
            });
            // A thread that gives up its address space has begun to exit, or gets another one. Who
            // has none yet is passed over: what the kernel starts, before its first `execve()`.
            if let Some(mm) = found?.get_mm() {
                return Some(mm);
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: By the type invariants a reference is owned.
        unsafe { bindings::put_pid(self.0.as_ptr()) };
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
    /// Calls `f` with each thread of a group that has not been reaped.
    pub fn for_each_thread(&self, group: &Group, f: impl FnMut(&Task)) {
        // SAFETY: By the type invariants of `Group` the `struct pid` is valid, and the lock, which
        // is held by those of `self`, keeps the task.
        let leader =
            unsafe { bindings::pid_task(group.0.as_ptr(), bindings::pid_type_PIDTYPE_TGID) };
        if !leader.is_null() {
            // SAFETY: A leader that was found under the lock, which is still held.
            unsafe { walk(leader, f) };
        }
    }

    /// Calls `f` with each thread of the system that is not the idle task's.
    pub fn for_each(&self, mut f: impl FnMut(&Task)) {
        let init = &raw mut bindings::init_task;
        // SAFETY: `init_task` is the head of the list, which the lock keeps from changing.
        let mut leader = unsafe { bindings::next_task(init) };
        while leader != init {
            // SAFETY: The list is of leaders, and the lock is held by the type invariants.
            unsafe { walk(leader, &mut f) };
            // SAFETY: `leader` is on the list, and the lock is held.
            leader = unsafe { bindings::next_task(leader) };
        }
    }
}

/// Calls `f` with each thread of a group.
///
/// # Safety
///
/// `leader` is the leader of the group, and has not been reaped. `tasklist_lock` is held.
unsafe fn walk(leader: *mut bindings::task_struct, mut f: impl FnMut(&Task)) {
    let mut thread = leader;
    while !thread.is_null() {
        // SAFETY: Threads on the list of a group are valid while the lock is held. CAST: `Task` is
        // a transparent wrapper.
        f(unsafe { &*thread.cast::<Task>() });
        // SAFETY: As above.
        thread = unsafe { bindings::next_thread(thread) };
    }
}

impl Task {
    /// Returns which thread group the current task is of.
    #[inline]
    pub fn current_group() -> ThreadGroup {
        // SAFETY: The current task has a `signal`, which it keeps.
        let pids = unsafe { &raw const (*(*Self::current_raw()).signal).pids };
        // SAFETY: As above; the thread group's own `struct pid` does not change as long as it has
        // a thread that executes.
        let pid = unsafe { (*pids)[bindings::pid_type_PIDTYPE_TGID as usize] };
        ThreadGroup(pid as usize)
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

    /// Returns whether the current task never goes to user mode, as of [`Task::is_worker`].
    #[inline]
    pub fn is_current_worker() -> bool {
        // SAFETY: The current task is valid.
        let flags = unsafe { (*Self::current_raw()).flags };
        flags & (bindings::PF_KTHREAD | bindings::PF_USER_WORKER) != 0
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

    /// Calls `f` with the task's address space, if it has one. `f` must not sleep.
    pub fn with_mm<R>(&self, f: impl FnOnce(&Mm) -> R) -> Option<R> {
        // SAFETY: The task is valid. Its address space is not given up while its lock is held.
        unsafe {
            bindings::task_lock(self.as_ptr());
            let mm = (*self.as_ptr()).mm;
            let ret = (!mm.is_null()).then(|| f(Mm::from_raw(mm)));
            bindings::task_unlock(self.as_ptr());
            ret
        }
    }

    /// The address space as it is at the moment, which may be given up.
    #[inline]
    fn raw_mm(&self) -> *mut bindings::mm_struct {
        // SAFETY: The task is valid; of a racing change the old or the new value is read.
        unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).mm) }
    }

    /// Returns whether the task has an address space.
    fn has_mm(&self) -> bool {
        !self.raw_mm().is_null()
    }

    /// Returns whether the task uses `mm` as its own.
    #[inline]
    pub fn uses(&self, mm: &Mm) -> bool {
        core::ptr::eq(self.raw_mm(), mm.as_raw())
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

    /// Returns the instruction pointer with which a thread will go on in user mode, as it is at the
    /// moment.
    ///
    /// # Safety
    ///
    /// `tasklist_lock` is held, and the thread uses an address space, is not a worker, and does not
    /// go to user mode during the call.
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn user_ip(&self) -> usize {
        // SAFETY: Such a thread has a stack, which begins with its registers.
        unsafe { bindings::task_user_ip(self.as_ptr()) }
    }

    /// Changes the instruction pointer with which a thread will go on in user mode, if it is still
    /// `from`. The thread may be changing it, too.
    ///
    /// # Safety
    ///
    /// As of [`Task::user_ip`].
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn exchange_user_ip(&self, from: usize, to: usize) -> bool {
        // SAFETY: As above.
        unsafe { bindings::task_exchange_user_ip(self.as_ptr(), from, to) }
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
        // SAFETY: The task is valid. `send_sig()` sends nothing to a task that has been reaped,
        // because lock_task_sighand() fails for that.
        unsafe { bindings::send_sig(bindings::SIGKILL as c_int, self.as_ptr(), 1) };
    }

    /// Returns whether the caller may attach to the task as a debugger may. Sleeps not.
    pub fn may_attach(&self) -> bool {
        // SAFETY: The task is valid.
        unsafe { bindings::ptrace_may_attach(self.as_ptr()) }
    }
}

#[macros::kunit_tests(rust_threads)]
mod tests {
    use super::*;

    fn group(pid: Pid) -> Group {
        find(pid).and_then(|task| Group::of(&task)).unwrap()
    }

    #[test]
    fn kernel_threads_have_no_address_space() {
        // That is kthreadd.
        assert!(group(2).get_mm().is_none());
    }

    #[test]
    fn before_its_first_program_init_has_no_address_space() {
        // Tests may also run later.
        let has_mm = find(1).is_some_and(|init| init.has_mm());
        assert_eq!(group(1).get_mm().is_some(), has_mm);
    }
}
