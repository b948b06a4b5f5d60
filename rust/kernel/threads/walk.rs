// SPDX-License-Identifier: GPL-2.0

//! Walks over threads, and over the tasks that CPUs execute.
//!
//! C headers: [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h),
//! [`include/linux/sched/task.h`](srctree/include/linux/sched/task.h)

use crate::{
    bindings,
    cpu::{
        nr_cpu_ids,
        CpuId, //
    },
    cpumask::Cpumask,
    prelude::*,
    sync::rcu,
    task::Task, //
};

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

/// Iterates over the threads of a group, from its leader on.
///
/// Threads are added at the end of the list. A thread that is removed keeps its link to the next
/// thread, so the iteration continues from there.
///
/// # Invariants
///
/// `next` is null, or a task that has been on the list of its group since RCU was taken.
pub struct Threads<'rcu> {
    next: *mut bindings::task_struct,
    _rcu: PhantomData<&'rcu rcu::Guard>,
}

impl Threads<'_> {
    /// # Safety
    ///
    /// `leader` must be null, or a task that has been on the list of its group, as its leader,
    /// since RCU was taken. RCU must be held for the lifetime of the result.
    pub(super) unsafe fn from_leader(leader: *mut bindings::task_struct) -> Self {
        // INVARIANT: By the safety requirements `leader` is null or has been on the list of its
        // group since RCU was taken.
        Self {
            next: leader,
            _rcu: PhantomData,
        }
    }
}

impl<'rcu> Iterator for Threads<'rcu> {
    type Item = &'rcu Task;

    fn next(&mut self) -> Option<&'rcu Task> {
        let thread = NonNull::new(self.next)?;
        // SAFETY: By the type invariants RCU keeps the task, and the links of its list.
        //
        // INVARIANT: The list is read with RCU held.
        self.next = unsafe { bindings::next_thread(thread.as_ptr()) };
        // SAFETY: By the type invariants RCU keeps the task. CAST: `Task` is a transparent wrapper.
        Some(unsafe { &*thread.as_ptr().cast() })
    }
}

/// Iterates over the leaders of all groups.
///
/// # Invariants
///
/// `last` is `init_task`, or a task that has been on its list since RCU was taken.
struct Leaders<'rcu> {
    last: *mut bindings::task_struct,
    _rcu: PhantomData<&'rcu rcu::Guard>,
}

impl<'rcu> Iterator for Leaders<'rcu> {
    type Item = Threads<'rcu>;

    fn next(&mut self) -> Option<Threads<'rcu>> {
        // SAFETY: By the type invariants RCU keeps the task, and its link.
        let next = unsafe { bindings::next_task(self.last) };
        if next == &raw mut bindings::init_task {
            return None;
        }
        // INVARIANT: The list is read with RCU held.
        self.last = next;
        // INVARIANT: A leader is on the list of its group as long as it is on the list of leaders.
        Some(Threads {
            next,
            _rcu: PhantomData,
        })
    }
}

/// Iterates over all threads of the system except the idle tasks.
///
/// The time is proportional to their number. The iteration may miss a thread that is added or
/// removed during it, but no other.
pub fn all<'rcu>(_rcu: &'rcu rcu::Guard) -> impl Iterator<Item = &'rcu Task> {
    // INVARIANT: `init_task` is the head of the list.
    Leaders {
        last: &raw mut bindings::init_task,
        _rcu: PhantomData,
    }
    .flatten()
}

/// Adds to `mask` each CPU that executes a task for which `f` holds.
///
/// The run queue of each CPU is locked while its task is read. A switch to another task comes
/// either before the read, which then finds the new task, or after it. In the second case the new
/// task sees all that the caller has written before the call.
pub fn cpus_executing(mask: &mut Cpumask, f: impl Fn(&Task) -> bool) {
    let rcu = rcu::read_lock();
    // CPUs that are offline may come online at any time, so they are checked as well.
    for cpu in (0..nr_cpu_ids()).filter_map(CpuId::from_u32) {
        if executed_by(cpu, &rcu).is_some_and(&f) {
            mask.set(cpu);
        }
    }
}

/// Returns the task that a CPU executes, if such a CPU is possible.
fn executed_by(cpu: CpuId, _rcu: &rcu::Guard) -> Option<&Task> {
    let cpu = cpu.as_u32() as c_int;
    // SAFETY: `cpu` is less than `nr_cpu_ids` by the type invariants, and a possible CPU has a run
    // queue.
    let task = unsafe {
        if !bindings::cpu_possible(cpu) {
            return None;
        }
        bindings::cpu_curr_snapshot(cpu)
    };
    // SAFETY: The task was executing with RCU held, and RCU keeps it. CAST: `Task` is a transparent
    // wrapper.
    unsafe { task.cast::<Task>().as_ref() }
}

#[macros::kunit_tests(rust_threads_walk)]
mod tests {
    use super::*;

    use crate::{
        cpumask::CpumaskVar,
        threads::{
            find,
            Group, //
        },
    };

    #[test]
    fn the_current_thread_is_among_all_and_in_its_group() {
        let current = crate::current!();
        let is_current = |task: &Task| core::ptr::eq(task, &**current);
        let rcu = rcu::read_lock();
        assert!(all(&rcu).any(is_current));
        let own = Group::from_task(current).unwrap();
        let kthreadd = find(2).and_then(|task| Group::from_task(&task)).unwrap();
        assert!(own.threads(&rcu).any(is_current));
        assert!(!kthreadd.threads(&rcu).any(is_current));
    }

    #[test]
    fn a_cpu_executes_the_current_thread() {
        let current = crate::current!();
        let mut mask = CpumaskVar::new_zero(GFP_KERNEL).unwrap();
        cpus_executing(&mut mask, |task| core::ptr::eq(task, &**current));
        assert_eq!(mask.weight(), 1);
    }
}
