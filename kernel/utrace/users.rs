// SPDX-License-Identifier: GPL-2.0

//! The threads that use an address space.
//!
//! Usually these are the threads of one group, and only this group is walked. Threads of other
//! groups may share the address space, by `CLONE_VM` without `CLONE_THREAD` as in `vfork()`. They
//! can only be found among all threads of the system. A comparison of two counters shows whether
//! there may be any: see [`Users::are_all_in`].

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
/// The reference to the address space is an owned one, because it is counted among the users. With
/// each further reference that no thread holds, the walk covers all threads of the system.
#[derive(Clone, Copy)]
pub struct Users<'a> {
    mm: &'a ARef<MmWithUser>,
    group: Option<&'a Group>,
}

impl<'a> Users<'a> {
    /// Describes the threads that use `mm`. They are likely to be in `group`.
    pub fn new(mm: &'a ARef<MmWithUser>, group: Option<&'a Group>) -> Self {
        Self { mm, group }
    }

    /// Returns the address space.
    pub fn mm(&self) -> &'a MmWithUser {
        self.mm
    }

    /// Calls `f` with each thread that uses the address space, except workers, which never go to
    /// user mode. `f` must not sleep.
    ///
    /// A thread that becomes visible during the call may be missed, but no other thread.
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

    /// Returns whether all visible threads that use the address space are in `group`.
    ///
    /// Each thread that uses the address space holds a reference in `mm_users`, from before it is
    /// visible until after it has cleared its `mm`. Each thread of the group is counted in `live`,
    /// from when it becomes visible, with `siglock` held, until it begins to exit, which is before
    /// it drops its reference. `mm_users` is read first. No thread is added while `siglock` is
    /// held, so `live` is then at most the number of threads of the group that hold one of the
    /// counted references. If `live` equals that count without the reference of `self.mm`, there is
    /// no other holder.
    ///
    /// The last check is that the group uses this address space. A group gets another one only by
    /// an exec, in which the last remaining thread drops its reference after it has the new `mm`.
    fn are_all_in(&self, group: &Group, rcu: &rcu::Guard) -> bool {
        let Some(leader) = group.threads(rcu).next() else {
            return false;
        };
        let Some(_siglock) = leader.lock_signals() else {
            return false;
        };
        let users = self.mm.users();
        // SAFETY: RCU keeps the task valid, and the task keeps its `signal`. The counter is atomic.
        let live = unsafe { Atomic::from_ptr(&raw mut (*(*leader.as_ptr()).signal).live.counter) };
        users - 1 <= live.load(Relaxed) && group.threads(rcu).any(|thread| thread.uses(self.mm))
    }
}
