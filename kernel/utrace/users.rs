// SPDX-License-Identifier: GPL-2.0

//! The threads that use an address space.
//!
//! Mostly they are the threads of one group, and that is all that is walked then. Threads of other
//! groups that share the address space, by `CLONE_VM` without `CLONE_THREAD` as of `vfork()`, can
//! only be found among all threads of the system. Whether there may be any is a comparison of two
//! counters: see [`Users::are_all_in`].

use kernel::{
    mm::MmWithUser,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        rcu, //
    },
    task::Task,
    threads::{
        self,
        Group, //
    },
};

/// The threads that use an address space.
///
/// The reference to the address space is an owned one, because it is accounted for in the number of
/// users. Each further reference that is not a thread's makes the walk one over all threads of the
/// system.
#[derive(Clone, Copy)]
pub struct Users<'a> {
    mm: &'a ARef<MmWithUser>,
    group: Option<&'a Group>,
}

impl<'a> Users<'a> {
    /// Describes the threads that use `mm`. `group` is a group of which they are likely to be.
    pub fn new(mm: &'a ARef<MmWithUser>, group: Option<&'a Group>) -> Self {
        Self { mm, group }
    }

    /// Returns the address space.
    pub fn mm(&self) -> &'a MmWithUser {
        self.mm
    }

    /// Calls `f` with each thread that uses the address space, but for workers, which never go to
    /// user mode. `f` must not sleep.
    ///
    /// A thread that becomes visible during the call may be missed, and only such a one.
    pub fn for_each(&self, mut f: impl FnMut(&Task)) {
        let rcu = rcu::read_lock();
        let f = |thread: &Task| {
            if thread.uses(self.mm) && !thread.is_worker() {
                f(thread);
            }
        };
        match self.group {
            Some(group) if self.are_all_in(group, &rcu) => group.threads(&rcu).for_each(f),
            _ => threads::all(&rcu).for_each(f),
        }
    }

    /// Returns whether every thread that uses the address space, and is visible, is of `group`.
    ///
    /// Each thread that uses the address space holds a reference in `mm_users`: from before it is
    /// visible until after it has cleared its `mm`. Each thread of the group is counted in `live`
    /// from when it becomes visible, for which `siglock` is held, until it begins to exit, which is
    /// before it gives its reference up. `mm_users` is read first. As no thread is added with
    /// `siglock` held, `live` is then not more than the threads of the group that hold one of the
    /// references that were read. So if it is as many as were read but for `self.mm`, there is no
    /// other holder.
    ///
    /// That the group uses this address space is looked at last: it gets another one by an exec
    /// only, in which the last thread that is left gives its reference up after it has another
    /// `mm`.
    fn are_all_in(&self, group: &Group, rcu: &rcu::Guard) -> bool {
        let Some(leader) = group.threads(rcu).next() else {
            return false;
        };
        let Some(_siglock) = leader.lock_signals() else {
            return false;
        };
        let users = self.mm.users();
        // SAFETY: RCU keeps the task, and the task its `signal`. The counter is atomic.
        let live = unsafe { Atomic::from_ptr(&raw mut (*(*leader.as_ptr()).signal).live.counter) };
        users - 1 <= live.load(Relaxed) && group.threads(rcu).any(|thread| thread.uses(self.mm))
    }
}
