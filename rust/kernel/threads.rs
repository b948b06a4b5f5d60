// SPDX-License-Identifier: GPL-2.0

//! Threads of processes: lookup, and notification.
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
    types::NotThreadSafe, //
};

use core::ptr::NonNull;

pub use walk::{
    all,
    cpus_executing,
    Threads, //
};

/// Identity of a thread group: a number that can be compared and ordered.
///
/// It stays the same through `exec()`, and is not reused while a [`Group`] for it exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadGroup(usize);

/// A reference to a thread group, through the `struct pid` that all of its threads share.
///
/// # Invariants
///
/// The `Group` owns a reference to the `struct pid`.
pub struct Group(NonNull<bindings::pid>);

// SAFETY: Any thread may use a `struct pid`, and drop a reference to it.
unsafe impl Send for Group {}
// SAFETY: Any thread may use a `struct pid`.
unsafe impl Sync for Group {}

impl Group {
    /// Returns the group of a task, if the task has not been reaped.
    pub fn from_task(task: &Task) -> Option<Self> {
        // SAFETY: `task` is a valid task by its type invariants.
        let pid = unsafe { bindings::get_task_pid(task.as_ptr(), bindings::pid_type_PIDTYPE_TGID) };
        // INVARIANT: `get_task_pid()` took a reference, which the `Group` owns.
        NonNull::new(pid).map(Self)
    }

    /// Finds a group that uses an address space: the group of the current thread, or of the owner
    /// in the sense of memory control groups, or else of the first thread of the system that uses
    /// it.
    pub fn from_mm(mm: &Mm) -> Option<Self> {
        let rcu = rcu::read_lock();
        let is_user = |task: &&Task| task.uses(mm) && !task.is_worker();
        Some(&**crate::current!())
            .filter(is_user)
            .or_else(|| mm.owner(&rcu).filter(is_user))
            .or_else(|| all(&rcu).find(is_user))
            .and_then(Self::from_task)
    }

    /// Returns the identity of the group.
    pub fn id(&self) -> ThreadGroup {
        ThreadGroup(self.0.as_ptr() as usize)
    }

    /// Returns the number of the group in the pid namespace of the current thread, if it has a
    /// number there.
    pub fn number(&self) -> Option<Pid> {
        // SAFETY: By the type invariants the `struct pid` is valid.
        let number = unsafe { bindings::pid_vnr(self.0.as_ptr()) };
        (number != 0).then_some(number)
    }

    /// Returns a thread that uses an address space and has not begun to exit.
    ///
    /// Skips threads that have no address space yet: a process that the kernel starts has none
    /// before its first `execve()`.
    fn live_thread(&self) -> Option<ARef<Task>> {
        self.threads(&rcu::read_lock())
            .find(|thread| thread.has_mm() && !thread.is_exiting() && !thread.is_worker())
            .map(ARef::from)
    }

    /// Returns the address space that the threads use, unless all threads have begun to exit.
    ///
    /// Context: may sleep.
    pub fn get_mm(&self) -> Option<ARef<MmWithUser>> {
        loop {
            // A thread gives up its address space only when it exits or gets another one, so the
            // next iteration finds another thread or another address space.
            if let Some(mm) = self.live_thread()?.get_mm() {
                return Some(mm);
            }
        }
    }

    /// Returns whether only threads of this group use an address space. The caller must ensure that
    /// none of these threads can create a thread any more. If this returns false, the other users
    /// may already have gone.
    pub fn is_only_user_of(&self, mm: &MmWithUser) -> bool {
        // The acquire in `mm.users()` orders the count of the users before the count of the
        // threads, and `exit_mm()` clears `task_struct::mm` before it drops the reference. So each
        // thread that is counted below had a reference that is counted here.
        let users = mm.users();
        let rcu = rcu::read_lock();
        let own = self.threads(&rcu).filter(|thread| thread.uses(mm)).count();
        usize::try_from(users).is_ok_and(|users| users <= own)
    }

    /// Returns the address space that the threads use, if the caller may attach to the thread that
    /// it is taken from, as for [`Task::access_mm`].
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// As for [`Task::access_mm`]; [`ESRCH`] if every thread has begun to exit.
    pub fn access_mm(&self) -> Result<ARef<MmWithUser>> {
        loop {
            match self.live_thread().ok_or(ESRCH)?.access_mm() {
                // The next iteration finds another one, as in `get_mm`.
                Err(ESRCH) => (),
                accessed => return accessed,
            }
        }
    }

    /// Iterates over the threads of the group.
    ///
    /// The iteration may miss a thread that is added or removed during it, but no other.
    pub fn threads<'rcu>(&self, _rcu: &'rcu rcu::Guard) -> Threads<'rcu> {
        // SAFETY: `self.0` is valid because by the type invariants the `Group` owns a reference.
        // The task stays valid while RCU is held, which `_rcu` ensures for the result.
        let leader =
            unsafe { bindings::pid_task(self.0.as_ptr(), bindings::pid_type_PIDTYPE_TGID) };
        // SAFETY: `pid_task()` finds a task that is, or has just been, on the list of its group.
        unsafe { Threads::from_leader(leader) }
    }
}

impl Mm {
    /// Returns the owner in the sense of memory control groups. The owner may have changed to
    /// another address space.
    fn owner<'rcu>(&self, _rcu: &'rcu rcu::Guard) -> Option<&'rcu Task> {
        // SAFETY: `self` is a valid address space by its type invariants. `_rcu` keeps the task.
        // CAST: `Task` is a transparent wrapper.
        unsafe { bindings::mm_owner(self.as_raw()).cast::<Task>().as_ref() }
    }
}

impl MmWithUser {
    /// Returns the number of references that keep the address space in use: one for each thread
    /// that uses it, and others, for example the caller's. The load is an acquire.
    pub fn users(&self) -> i32 {
        // SAFETY: The address space is valid by the type invariants; the counter is atomic.
        unsafe { bindings::mm_users_acquire(self.as_raw()) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the `Group` owns a reference.
        unsafe { bindings::put_pid(self.0.as_ptr()) };
    }
}

/// Finds a thread by its number in the pid namespace of the caller.
pub fn find(pid: Pid) -> Option<ARef<Task>> {
    // SAFETY: The function may be called with any number.
    let task = unsafe { bindings::find_get_task_by_vpid(pid) };
    NonNull::new(task).map(|task| {
        // SAFETY: `find_get_task_by_vpid()` took a reference. CAST: `Task` is a transparent
        // wrapper.
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
    // SAFETY: Taking the lock has no requirements that concern memory safety.
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
    /// Returns the thread group of the current task.
    #[inline]
    pub fn current_group() -> ThreadGroup {
        // SAFETY: The current task has a `signal`, which it keeps.
        let pids = unsafe { &raw const (*(*Self::current_raw()).signal).pids };
        // SAFETY: The current task keeps its `signal`. The `struct pid` of the thread group does
        // not change as long as one of its threads executes.
        let pid = unsafe { (*pids)[bindings::pid_type_PIDTYPE_TGID as usize] };
        ThreadGroup(pid as usize)
    }

    /// Returns the `PF_` flags as they are at the moment.
    #[inline]
    fn pf_flags(&self) -> u32 {
        // SAFETY: `self` is a valid task by its type invariants. A read that races with a change
        // gives the old or the new value.
        unsafe { core::ptr::read_volatile(&raw const (*self.as_ptr()).flags) }
    }

    /// Returns whether the task is a kernel thread.
    pub fn is_kernel_thread(&self) -> bool {
        self.pf_flags() & bindings::PF_KTHREAD != 0
    }

    /// Returns whether the task never goes to user mode: it is a kernel thread, or a worker that
    /// the kernel runs for a process, as io_uring does.
    pub fn is_worker(&self) -> bool {
        self.pf_flags() & (bindings::PF_KTHREAD | bindings::PF_USER_WORKER) != 0
    }

    /// Returns whether the current task never goes to user mode, as for [`Task::is_worker`].
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

    /// Returns the task's address space, if it has one in use. The caller must not hold the task's
    /// lock.
    pub fn get_mm(&self) -> Option<ARef<MmWithUser>> {
        // SAFETY: `self` is a valid task by its type invariants. The requirement on the lock does
        // not concern memory safety.
        let mm = unsafe { bindings::get_task_mm(self.as_ptr()) };
        // SAFETY: `get_task_mm()` took a reference. CAST: `MmWithUser` is a transparent wrapper.
        NonNull::new(mm).map(|mm| unsafe { ARef::from_raw(mm.cast()) })
    }

    /// Returns the task's address space, if the caller may attach to the task as a debugger.
    ///
    /// `execve()` changes the address space and the credentials in two steps. This function checks
    /// and takes the reference under the lock that `execve()` holds over both steps, so that the
    /// permission applies to the address space that is returned.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// [`ESRCH`]: no address space. [`EPERM`]: the caller may not attach. [`EINTR`]: the caller has
    /// been killed.
    pub fn access_mm(&self) -> Result<ARef<MmWithUser>> {
        // SAFETY: `self` is a valid task by its type invariants. It keeps its `signal_struct`,
        // which has the lock, until it is freed.
        let mm = from_err_ptr(unsafe { bindings::mm_access_attach(self.as_ptr()) });
        let mm = mm.map_err(|error| if error == EACCES { EPERM } else { error })?;
        // SAFETY: `mm_access()` took a reference. CAST: `MmWithUser` is a transparent wrapper.
        NonNull::new(mm).map_or(Err(ESRCH), |mm| Ok(unsafe { ARef::from_raw(mm.cast()) }))
    }

    /// Calls `f` with the task's address space, if it has one. `f` must not sleep.
    pub fn with_mm<R>(&self, f: impl FnOnce(&Mm) -> R) -> Option<R> {
        // SAFETY: `self` is a valid task by its type invariants. It does not give up its address
        // space while its lock is held.
        unsafe {
            bindings::task_lock(self.as_ptr());
            let mm = (*self.as_ptr()).mm;
            let ret = (!mm.is_null()).then(|| f(Mm::from_raw(mm)));
            bindings::task_unlock(self.as_ptr());
            ret
        }
    }

    /// Returns the address space as it is at the moment, which the task may give up.
    #[inline]
    fn raw_mm(&self) -> *mut bindings::mm_struct {
        // SAFETY: `self` is a valid task by its type invariants. A read that races with a change
        // gives the old or the new value.
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

    /// Makes the task run its pending work before it returns to user mode. Does not wake it.
    pub fn notify_resume(&self) {
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::set_notify_resume(self.as_ptr()) };
    }

    /// Does the same as [`Task::notify_resume`], except that a thread that executes in user mode
    /// stays there until its CPU takes an interrupt. No barrier is implied.
    pub fn notify_resume_later(&self) {
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::set_tsk_notify_resume(self.as_ptr()) };
    }

    /// Returns the instruction pointer with which a thread will continue in user mode, as it is at
    /// the moment, unless the thread has exited.
    ///
    /// # Safety
    ///
    /// The thread must not be a kernel thread, and must not go to user mode during the call.
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn user_ip(&self) -> Option<usize> {
        let mut ip = 0;
        // SAFETY: `self` is a valid task by its type invariants. By the safety requirements it is
        // not a kernel thread, so that its stack, which the function keeps during the call, begins
        // with its registers.
        unsafe { bindings::task_user_ip(self.as_ptr(), &mut ip) }.then_some(ip)
    }

    /// Changes the instruction pointer with which a thread will continue in user mode, if it is
    /// still `from`. The thread may change it at the same time.
    ///
    /// # Safety
    ///
    /// As for [`Task::user_ip`].
    #[cfg(CONFIG_X86_64)]
    pub unsafe fn exchange_user_ip(&self, from: usize, to: usize) -> bool {
        // SAFETY: `self` is a valid task by its type invariants. By the safety requirements it is
        // not a kernel thread, so that its stack, which the function keeps during the call, begins
        // with its registers.
        unsafe { bindings::task_exchange_user_ip(self.as_ptr(), from, to) }
    }

    /// Returns whether the task has been killed.
    pub fn is_killed(&self) -> bool {
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::fatal_signal_pending(self.as_ptr()) != 0 }
    }

    /// Returns whether the current task has been killed.
    #[inline]
    pub fn is_current_killed() -> bool {
        // SAFETY: The current task is valid.
        unsafe { bindings::fatal_signal_pending(Self::current_raw()) != 0 }
    }

    /// Returns whether the kernel has sent the current task a signal for the instruction that the
    /// task was executing, and the signal is pending and not blocked.
    #[cfg(CONFIG_UBP)]
    pub fn has_synchronous_signal() -> bool {
        // SAFETY: The function reads the current task and takes its siglock, which the caller
        // cannot hold: no guard of it outlives the functions of `siglock`.
        unsafe { bindings::synchronous_signal_pending() }
    }

    /// Hides the signals that are pending for the current task, until
    /// [`Task::recheck_signals`] or the next signal.
    #[inline]
    pub fn postpone_signals() {
        // SAFETY: The current task may clear its own flag. The caller must ensure that it is set
        // again; this does not concern memory safety.
        unsafe { bindings::clear_tsk_sigpending(Self::current_raw()) };
    }

    /// Makes the current task look for pending signals before it returns to user mode.
    #[inline]
    pub fn recheck_signals() {
        // SAFETY: The flag may be set at any time: the task then looks for signals, and may find
        // none.
        unsafe { bindings::set_tsk_sigpending(Self::current_raw()) };
    }

    /// Kills the task's process.
    pub fn kill(&self) {
        // SAFETY: `self` is a valid task by its type invariants. `send_sig()` sends nothing to a
        // task that has been reaped, because `lock_task_sighand()` fails for it.
        unsafe { bindings::send_sig(bindings::SIGKILL as c_int, self.as_ptr(), 1) };
    }

    /// Returns whether the caller may attach to the task as a debugger. Does not sleep.
    pub fn may_attach(&self) -> bool {
        // SAFETY: `self` is a valid task by its type invariants.
        unsafe { bindings::ptrace_may_attach(self.as_ptr()) }
    }
}

#[macros::kunit_tests(rust_threads)]
mod tests {
    use super::*;

    fn group(pid: Pid) -> Group {
        find(pid).and_then(|task| Group::from_task(&task)).unwrap()
    }

    #[test]
    fn kernel_threads_have_no_address_space() {
        // PID 2 is kthreadd.
        assert!(group(2).get_mm().is_none());
    }

    #[test]
    fn before_its_first_program_init_has_no_address_space() {
        // The tests may also run later.
        let has_mm = find(1).is_some_and(|init| init.has_mm());
        assert_eq!(group(1).get_mm().is_some(), has_mm);
    }
}
