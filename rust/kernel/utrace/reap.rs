// SPDX-License-Identifier: GPL-2.0

//! Work at the reap of a zombie.
//!
//! The thread that reaps a zombie, such as its parent, must not wait for an engine, so no code of
//! an engine is called there. The engine chooses the work earlier, when the thread dies, from a few
//! kinds that do not sleep. The dying thread allocates all memory that they need.
//!
//! ```text
//!  Engine::death       reaped                  in a worker
//! --------------> due --------> underway ----------------------> (nothing)
//!                  |  \                    Engine::reaped returns
//!         detached |   `------> (nothing)
//!                  v  completed
//!              (nothing)
//! ```

use super::shared::{
    Callbacks,
    EngineShared, //
};

use crate::{
    bindings, impl_has_work, new_condvar, new_spinlock, new_work,
    prelude::*,
    sync::{
        aref::ARef,
        Arc,
        Completion,
        CondVar,
        SpinLock, //
    },
    task::Task,
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::{
        self,
        HasWork,
        Work,
        WorkItem, //
    },
};

use core::mem;

/// Work to do when the zombie of a dead thread is gone.
///
/// No variant can sleep, and none contains code of the engine:
///
/// ```ignore,compile_fail,E0308
/// use kernel::{prelude::*, utrace::AtReap};
///
/// fn wait() -> AtReap {
///     || kernel::time::delay::fsleep(kernel::time::Delta::from_millis(100))
/// }
/// ```
///
/// Nor does [`Engine`](super::Engine) have such a method:
///
/// ```ignore,compile_fail,E0407
/// use kernel::{task::Task, utrace::{Engine, Events}};
///
/// struct Waiting;
///
/// impl Engine for Waiting {
///     const EVENTS: Events = Events::DEATH;
///
///     fn reap(&self, thread: &Task) {
///         kernel::time::delay::fsleep(kernel::time::Delta::from_millis(100));
///     }
/// }
/// ```
#[must_use]
pub enum AtReap {
    /// No work. The engine is detached from the thread now.
    Nothing,
    /// Completes this [`Completion`].
    Complete(Arc<Completion>),
    /// A worker calls [`Engine::reaped`](super::Engine::reaped), some time later.
    Report,
}

/// The address of an engine, as its identity. It is not reused before the engine's pending work has
/// started.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct EngineKey(usize);

impl EngineKey {
    pub(super) fn from_engine(engine: *mut bindings::utrace_engine) -> Self {
        Self(engine as usize)
    }
}

/// A call of [`Engine::reaped`](super::Engine::reaped) by a worker.
#[pin_data]
struct ReapedCall {
    #[pin]
    work: Work<ReapedCall>,
    shared: Arc<EngineShared>,
    callbacks: Arc<dyn Callbacks>,
    task: ARef<Task>,
}

impl_has_work! {
    impl HasWork<Self> for ReapedCall { self.work }
}

/// The address of a `struct work_struct`, for comparison only. Never null.
type WorkId = *mut bindings::work_struct;

impl ReapedCall {
    fn id(&self) -> WorkId {
        // SAFETY: The pointer is valid because it comes from the reference `self`.
        let work = unsafe { Self::raw_get_work(core::ptr::from_ref(self).cast_mut()) };
        // SAFETY: `work` points into `self`, which is valid.
        unsafe { Work::raw_get(work) }
    }
}

impl WorkItem for ReapedCall {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        let id = this.id();
        let shared = this.shared.clone();
        if !shared.is_over() {
            this.callbacks.reaped(&this.task);
        }
        // This drops the reference to the engine before its owner is woken.
        drop(this);
        shared.reaps.done(id);
    }
}

enum Due {
    Complete(Arc<Completion>),
    Call(Pin<KBox<ReapedCall>>),
}

struct PendingReap {
    key: EngineKey,
    /// The work item, if this is a call.
    id: Option<WorkId>,
    /// `None` while a worker executes the call.
    due: Option<Due>,
}

// SAFETY: `due` and its contents are `Send`; the pointer `id` is only compared.
unsafe impl Send for PendingReap {}

/// The pending work of an attachment: for one thread at most, or for the zombies of a process.
#[pin_data]
pub(super) struct Reaps {
    #[pin]
    pending: SpinLock<KVec<PendingReap>>,
    /// Notified when a call has returned.
    #[pin]
    done: CondVar,
}

impl Reaps {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            pending <- new_spinlock!(KVec::new(), "utrace::Reaps"),
            done <- new_condvar!("utrace::Reaps"),
        })
    }

    /// Stores the work that the engine `key` has chosen. Its thread is dying. Returns whether there
    /// is any work. May sleep.
    pub(super) fn expect(
        &self,
        key: EngineKey,
        at_reap: AtReap,
        call: (&Arc<EngineShared>, &Arc<dyn Callbacks>, &Task),
    ) -> bool {
        let (due, id) = match at_reap {
            AtReap::Nothing => return false,
            AtReap::Complete(completion) => (Due::Complete(completion), None),
            AtReap::Report => {
                let call = insist(|| {
                    let (shared, callbacks, task) = call;
                    KBox::pin_init(
                        pin_init!(ReapedCall {
                            work <- new_work!("utrace::ReapedCall"),
                            shared: shared.clone(),
                            callbacks: callbacks.clone(),
                            task: task.into(),
                        }),
                        GFP_KERNEL,
                    )
                });
                let id = call.id();
                (Due::Call(call), Some(id))
            }
        };
        self.add(PendingReap {
            key,
            id,
            due: Some(due),
        });
        true
    }

    fn add(&self, mut reap: PendingReap) {
        loop {
            let mut pending = self.pending.lock();
            match pending.push_within_capacity(reap) {
                Ok(()) => return,
                Err(full) => reap = full.0,
            }
            let wanted = pending.len() * 2 + 1;
            drop(pending);

            let mut larger = insist(|| KVec::with_capacity(wanted, GFP_KERNEL));
            let mut pending = self.pending.lock();
            if pending.len() < larger.capacity() {
                while let Some(reap) = pending.pop() {
                    // `larger` has room, as its capacity was compared with the length.
                    let _ = larger.push_within_capacity(reap);
                }
                mem::swap(&mut *pending, &mut larger);
            }
            // The smaller list is freed without the lock held.
            drop(pending);
        }
    }

    /// Does the pending work of an engine at the reap of its zombie. Does not sleep.
    pub(super) fn reap(&self, key: EngineKey) {
        let mut pending = self.pending.lock();
        let is_due = |reap: &PendingReap| reap.key == key && reap.due.is_some();
        let Some(at) = pending.iter().position(is_due) else {
            return;
        };
        let due = pending.get_mut(at).and_then(|reap| reap.due.take());
        match due {
            Some(Due::Complete(completion)) => {
                let reap = pending.remove(at);
                drop(pending);
                drop(reap);
                completion.complete_all();
            }
            // The entry stays so that `cancel` waits for the call.
            Some(Due::Call(call)) => {
                drop(pending);
                workqueue::system_long().enqueue(call);
            }
            None => (),
        }
    }

    /// Removes the entry of a call that has returned, and wakes `cancel`.
    fn done(&self, id: WorkId) {
        let mut pending = self.pending.lock();
        let is_it = |reap: &PendingReap| reap.id == Some(id) && reap.due.is_none();
        if let Some(at) = pending.iter().position(is_it) {
            let _ = pending.remove(at);
        }
        self.done.notify_all();
    }

    /// Drops the pending work, and waits for calls that are executing, except if the caller is one
    /// of them. No work may be added afterwards. May sleep.
    pub(super) fn cancel(&self) {
        loop {
            let mut pending = self.pending.lock();
            let Some(at) = pending.iter().position(|reap| reap.due.is_some()) else {
                break;
            };
            let reap = pending.remove(at);
            drop(pending);
            drop(reap);
        }
        // SAFETY: `current_work()` has no requirements on its caller.
        let own = unsafe { bindings::current_work() };
        let mut pending = self.pending.lock();
        while pending.iter().any(|reap| reap.id != Some(own)) {
            self.done.wait(&mut pending);
        }
    }
}

/// Allocates, and retries until it succeeds. For small allocations by a thread that has already
/// given up its memory, and has no caller to return an error to.
fn insist<V, E>(mut allocate: impl FnMut() -> Result<V, E>) -> V {
    loop {
        match allocate() {
            Ok(value) => return value,
            Err(_) => fsleep(Delta::from_millis(1)),
        }
    }
}

#[cfg(CONFIG_RUST_UTRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_utrace_reap)]
mod tests {
    use super::*;

    fn completion() -> Result<Arc<Completion>> {
        Arc::pin_init(Completion::new(), GFP_KERNEL)
    }

    #[test]
    fn completion_by_zombie() -> Result {
        let reaps = KBox::pin_init(Reaps::new(), GFP_KERNEL)?;
        // More than the initial capacity.
        let mut all = KVec::new();
        for key in 0..9 {
            let completion = completion()?;
            reaps.add(PendingReap {
                key: EngineKey(key),
                id: None,
                due: Some(Due::Complete(completion.clone())),
            });
            all.push(completion, GFP_KERNEL)?;
        }
        for key in [4, 0, 8] {
            reaps.reap(EngineKey(key));
        }
        // Reaping a key again, or a key without work, does nothing.
        reaps.reap(EngineKey(4));
        reaps.reap(EngineKey(9));

        for (key, completion) in all.iter().enumerate() {
            let pending = reaps.pending.lock();
            let is_left = pending.iter().any(|reap| reap.key == EngineKey(key));
            drop(pending);
            assert_eq!(is_left, ![4, 0, 8].contains(&key));
            if !is_left {
                // The completion is done already; otherwise this test would hang.
                completion.wait_for_completion();
            }
        }
        assert_eq!(reaps.pending.lock().len(), 6);
        Ok(())
    }

    #[test]
    fn cancelled_work_is_dropped() -> Result {
        let reaps = KBox::pin_init(Reaps::new(), GFP_KERNEL)?;
        let completion = completion()?;
        reaps.add(PendingReap {
            key: EngineKey(1),
            id: None,
            due: Some(Due::Complete(completion.clone())),
        });
        reaps.cancel();
        reaps.reap(EngineKey(1));
        assert!(reaps.pending.lock().is_empty());
        // No other reference to the completion is left.
        assert!(Arc::into_unique_or_drop(completion).is_some());
        Ok(())
    }
}
