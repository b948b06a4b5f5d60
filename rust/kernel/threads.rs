// SPDX-License-Identifier: GPL-2.0

//! The threads of processes: finding them, and having them report.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/pid.h`](srctree/include/linux/pid.h)

mod walk;

use crate::{
    bindings,
    error::from_err_ptr,
    mm::{
        Mm,
        MmWithUser, //
    },
    prelude::*,
    sync::{
        aref::ARef,
        rcu, //
    },
    task::{
        Pid,
        Task, //
    },
    types::NotThreadSafe,
};

use core::ptr::NonNull;

pub use walk::{
    all,
    cpus_executing,
    Threads, //
};

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

    /// Finds a group that uses an address space: the current thread's, or that of the owner in the
    /// sense of memory control groups, or else the first of all threads of the system that does.
    pub fn using(mm: &Mm) -> Option<Self> {
        let rcu = rcu::read_lock();
        let is_user = |task: &&Task| task.uses(mm) && !task.is_worker();
        Some(&**crate::current!())
            .filter(is_user)
            .or_else(|| mm.owner(&rcu).filter(is_user))
            .or_else(|| all(&rcu).find(is_user))
            .and_then(Self::of)
    }

    /// Returns which group it is.
    pub fn id(&self) -> ThreadGroup {
        ThreadGroup(self.0.as_ptr() as usize)
    }

    /// Returns the number of the group in the pid namespace of the current thread, if it has one
    /// there.
    pub fn number(&self) -> Option<Pid> {
        // SAFETY: By the type invariants the `struct pid` is valid.
        let number = unsafe { bindings::pid_vnr(self.0.as_ptr()) };
        (number != 0).then_some(number)
    }

    /// Returns a thread that uses an address space and has not begun to exit.
    ///
    /// Passes over a thread that has no address space yet: a process that the kernel starts has
    /// none before its first `execve()`.
    fn live_thread(&self) -> Option<ARef<Task>> {
        self.threads(&rcu::read_lock())
            .find(|thread| thread.has_mm() && !thread.is_exiting() && !thread.is_worker())
            .map(ARef::from)
    }

    /// Returns the address space that the threads use, if one has not begun to exit.
    ///
    /// Context: may sleep.
    pub fn get_mm(&self) -> Option<ARef<MmWithUser>> {
        loop {
            // A thread gives up its address space only when it exits or gets another one, so the
            // next round finds another thread or another address space.
            if let Some(mm) = self.live_thread()?.get_mm() {
                return Some(mm);
            }
        }
    }

    /// Returns whether no other process uses an address space that threads of this group use, none
    /// of which can create a thread any more. Other users may have gone when this says that there
    /// are some.
    pub fn is_only_user_of(&self, mm: &MmWithUser) -> bool {
        // The users are counted before the threads are, by an acquire, and `exit_mm()` clears
        // `task_struct::mm` before it drops the reference. So each thread that is counted below had
        // a reference that is counted here.
        let users = mm.users();
        let rcu = rcu::read_lock();
        let own = self.threads(&rcu).filter(|thread| thread.uses(mm)).count();
        usize::try_from(users).is_ok_and(|users| users <= own)
    }

    /// Returns the address space that the threads use, if the caller may attach to the thread that
    /// it is taken from, as of [`Task::access_mm`].
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// As of [`Task::access_mm`]; [`ESRCH`] if every thread has begun to exit.
    pub fn access_mm(&self) -> Result<ARef<MmWithUser>> {
        loop {
            match self.live_thread().ok_or(ESRCH)?.access_mm() {
                // As in `get_mm`.
                Err(ESRCH) => (),
                accessed => return accessed,
            }
        }
    }

    /// Iterates over the threads of the group.
    ///
    /// A thread that is added or removed during the iteration may be missed; no other is.
    pub fn threads<'rcu>(&self, _rcu: &'rcu rcu::Guard) -> Threads<'rcu> {
        // SAFETY: `self.0` is valid because a reference to it is owned by the type invariants.
        // The task that is found stays valid while RCU is held.
        let leader =
            unsafe { bindings::pid_task(self.0.as_ptr(), bindings::pid_type_PIDTYPE_TGID) };
        // SAFETY: `pid_task()` finds a task that is, or has just been, on the list of its group.
        unsafe { Threads::from_leader(leader) }
    }
}

impl Mm {
    /// Returns the owner in the sense of memory control groups. It may have another address space
    /// by now.
    fn owner<'rcu>(&self, _rcu: &'rcu rcu::Guard) -> Option<&'rcu Task> {
        // SAFETY: The address space is valid, and RCU is held, which keeps the task. CAST: `Task`
        // is a transparent wrapper.
        unsafe { bindings::mm_owner(self.as_raw()).cast::<Task>().as_ref() }
    }
}

impl MmWithUser {
    /// Returns the number of references that keep the address space in use: one for each thread
    /// that uses it, and those of others, as the caller's. The load is an acquire.
    pub fn users(&self) -> i32 {
        // SAFETY: The address space is valid by the type invariants; the counter is atomic.
        unsafe { bindings::mm_users_acquire(self.as_raw()) }
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
        group.threads(&rcu::read_lock()).for_each(f);
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

    /// Returns the task's address space, if the caller may attach to the task as a debugger may.
    ///
    /// `execve()` changes the address space and the credentials in two steps. The check and the
    /// reference are taken under the lock that `execve()` holds over both, so that the permission
    /// is the one for the address space that is returned.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// [`ESRCH`]: no address space. [`EPERM`]: the caller may not attach. [`EINTR`]: the caller has
    /// been killed.
    pub fn access_mm(&self) -> Result<ARef<MmWithUser>> {
        // SAFETY: The task is valid, and keeps its `signal_struct`, with the lock in it, until it
        // is freed.
        let mm = from_err_ptr(unsafe { bindings::mm_access_attach(self.as_ptr()) });
        let mm = mm.map_err(|error| if error == EACCES { EPERM } else { error })?;
        // SAFETY: `mm_access()` took a reference for us. CAST: A transparent wrapper.
        NonNull::new(mm).map_or(Err(ESRCH), |mm| Ok(unsafe { ARef::from_raw(mm.cast()) }))
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

    /// Has the task run the work that is due before it returns to user mode. Does not wake it.
    pub fn notify_resume(&self) {
        // SAFETY: The task is valid.
        unsafe { bindings::set_notify_resume(self.as_ptr()) };
    }

    /// As [`Task::notify_resume`], but a thread that executes in user mode stays there until its
    /// CPU takes an interrupt. No barrier is implied.
    pub fn notify_resume_later(&self) {
        // SAFETY: The task is valid.
        unsafe { bindings::set_tsk_notify_resume(self.as_ptr()) };
    }

    /// Returns the instruction pointer with which a thread will go on in user mode, as it is at the
    /// moment, unless the thread has exited.
    ///
    /// # Safety
    ///
    /// The thread is not a kernel thread, and does not go to user mode during the call.
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn user_ip(&self) -> Option<usize> {
        let mut ip = 0;
        // SAFETY: The task is valid. The stack of such a thread, which is kept during the call,
        // begins with its registers.
        unsafe { bindings::task_user_ip(self.as_ptr(), &mut ip) }.then_some(ip)
    }

    /// Changes the instruction pointer with which a thread will go on in user mode, if it is still
    /// `from`. The thread may be changing it, too.
    ///
    /// # Safety
    ///
    /// As of [`Task::user_ip`].
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn exchange_user_ip(&self, from: usize, to: usize) -> bool {
        // SAFETY: The task is valid. The stack of such a thread, which is kept during the call,
        // begins with its registers.
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

    /// Returns whether the kernel has sent the current task a signal for the instruction that the
    /// task was executing, which is pending and not blocked.
    #[cfg(CONFIG_UBP)]
    pub fn has_synchronous_signal() -> bool {
        // SAFETY: The function looks at the current task, and takes its siglock, which the caller
        // cannot hold: no guard of it outlives `siglock`'s own functions.
        unsafe { bindings::synchronous_signal_pending() }
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
