// SPDX-License-Identifier: GPL-2.0

//! What is done when a zombie goes.
//!
//! Whoever reaps a zombie, its parent perhaps, must not wait for an engine: no code of an engine is
//! called there. What is to be done is said before, when the thread has died, and is one of few
//! things that do not sleep. All memory that they take is allocated by the dying thread.
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
    Shared, //
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

/// What is to be done when the zombie of a thread that has died is gone.
///
/// There is nothing here that could sleep, and no code of the engine:
///
/// ```ignore,compile_fail,E0308
/// use kernel::{prelude::*, utrace::AtReap};
///
/// fn wait() -> AtReap {
///     || kernel::time::delay::fsleep(kernel::time::Delta::from_millis(100))
/// }
/// ```
///
/// nor is there such a method:
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
    /// Nothing. The engine is detached from the thread now.
    Nothing,
    /// This is completed, and whoever waits for it is woken.
    Complete(Arc<Completion>),
    /// A worker calls [`Engine::reaped`](super::Engine::reaped), some time later.
    Report,
}

/// Which engine: its address. It is not reused before what is due for it is underway.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Key(usize);

impl Key {
    pub(super) fn of(engine: *mut bindings::utrace_engine) -> Self {
        Self(engine as usize)
    }
}

/// A worker's call of [`Engine::reaped`](super::Engine::reaped).
#[pin_data]
struct Call {
    #[pin]
    work: Work<Call>,
    shared: Arc<Shared>,
    callbacks: Arc<dyn Callbacks>,
    task: ARef<Task>,
}

impl_has_work! {
    impl HasWork<Self> for Call { self.work }
}

/// A `struct work_struct`, to be compared. Never null.
type WorkId = *mut bindings::work_struct;

impl Call {
    fn id(&self) -> WorkId {
        // SAFETY: The pointer is valid.
        let work = unsafe { Self::raw_get_work(core::ptr::from_ref(self).cast_mut()) };
        // SAFETY: As above.
        unsafe { Work::raw_get(work) }
    }
}

impl WorkItem for Call {
    type Pointer = Pin<KBox<Self>>;

    fn run(this: Self::Pointer) {
        let id = this.id();
        let shared = this.shared.clone();
        if !shared.is_over() {
            this.callbacks.reaped(&this.task);
        }
        // With it goes the reference to the engine, before its owner is told.
        drop(this);
        shared.reaps.done(id);
    }
}

enum Due {
    Complete(Arc<Completion>),
    Call(Pin<KBox<Call>>),
}

struct Slot {
    key: Key,
    /// Of the call, if it is one.
    id: Option<WorkId>,
    /// Nothing if a worker is underway with it.
    due: Option<Due>,
}

// SAFETY: What is owned may be sent; the pointer is compared only.
unsafe impl Send for Slot {}

/// What is due for an attachment: of one thread at most, or of a process's zombies.
#[pin_data]
pub(super) struct Reaps {
    #[pin]
    slots: SpinLock<KVec<Slot>>,
    /// Woken when a call has returned.
    #[pin]
    done: CondVar,
}

impl Reaps {
    pub(super) fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            slots <- new_spinlock!(KVec::new(), "utrace::Reaps"),
            done <- new_condvar!("utrace::Reaps"),
        })
    }

    /// Keeps what the engine `key`, whose thread is dying, wants to be done. Returns whether that
    /// is anything. May sleep.
    pub(super) fn expect(
        &self,
        key: Key,
        at_reap: AtReap,
        call: (&Arc<Shared>, &Arc<dyn Callbacks>, &Task),
    ) -> bool {
        let (due, id) = match at_reap {
            AtReap::Nothing => return false,
            AtReap::Complete(completion) => (Due::Complete(completion), None),
            AtReap::Report => {
                let call = insist(|| {
                    let (shared, callbacks, task) = call;
                    KBox::pin_init(
                        pin_init!(Call {
                            work <- new_work!("utrace::Call"),
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
        self.add(Slot {
            key,
            id,
            due: Some(due),
        });
        true
    }

    fn add(&self, mut slot: Slot) {
        loop {
            let mut slots = self.slots.lock();
            match slots.push_within_capacity(slot) {
                Ok(()) => return,
                Err(full) => slot = full.0,
            }
            let wanted = slots.len() * 2 + 1;
            drop(slots);

            let mut larger = insist(|| KVec::with_capacity(wanted, GFP_KERNEL));
            let mut slots = self.slots.lock();
            if slots.len() < larger.capacity() {
                while let Some(slot) = slots.pop() {
                    // There is room.
                    let _ = larger.push_within_capacity(slot);
                }
                mem::swap(&mut *slots, &mut larger);
            }
            // The smaller list is freed without the lock.
            drop(slots);
        }
    }

    /// Does what is due for an engine whose zombie is gone. Does not sleep.
    pub(super) fn reap(&self, key: Key) {
        let mut slots = self.slots.lock();
        let is_due = |slot: &Slot| slot.key == key && slot.due.is_some();
        let Some(at) = slots.iter().position(is_due) else {
            return;
        };
        let due = slots.get_mut(at).and_then(|slot| slot.due.take());
        match due {
            Some(Due::Complete(completion)) => {
                let slot = slots.remove(at);
                drop(slots);
                drop(slot);
                completion.complete_all();
            }
            // The slot stays, for `cancel` to see.
            Some(Due::Call(call)) => {
                drop(slots);
                workqueue::system_long().enqueue(call);
            }
            None => (),
        }
    }

    /// A call has returned.
    fn done(&self, id: WorkId) {
        let mut slots = self.slots.lock();
        let is_it = |slot: &Slot| slot.id == Some(id) && slot.due.is_none();
        if let Some(at) = slots.iter().position(is_it) {
            let _ = slots.remove(at);
        }
        self.done.notify_all();
    }

    /// Drops what is due, and waits for what is underway, unless the caller is that. Nothing is
    /// added from here on. May sleep.
    pub(super) fn cancel(&self) {
        loop {
            let mut slots = self.slots.lock();
            let Some(at) = slots.iter().position(|slot| slot.due.is_some()) else {
                break;
            };
            let slot = slots.remove(at);
            drop(slots);
            drop(slot);
        }
        // SAFETY: There are no requirements on the caller.
        let own = unsafe { bindings::current_work() };
        let mut slots = self.slots.lock();
        while slots.iter().any(|slot| slot.id != Some(own)) {
            self.done.wait(&mut slots);
        }
    }
}

/// Allocates, however long it takes. It is for small things, in a thread that has given up its
/// memory already, and has nobody to give an error to.
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
    fn each_zombie_completes_its_own() -> Result {
        let reaps = KBox::pin_init(Reaps::new(), GFP_KERNEL)?;
        // More than there is room for at first.
        let mut all = KVec::new();
        for key in 0..9 {
            let completion = completion()?;
            reaps.add(Slot {
                key: Key(key),
                id: None,
                due: Some(Due::Complete(completion.clone())),
            });
            all.push(completion, GFP_KERNEL)?;
        }
        for key in [4, 0, 8] {
            reaps.reap(Key(key));
        }
        // A second time, or for one that nothing was due for, nothing happens.
        reaps.reap(Key(4));
        reaps.reap(Key(9));

        for (key, completion) in all.iter().enumerate() {
            let slots = reaps.slots.lock();
            let is_left = slots.iter().any(|slot| slot.key == Key(key));
            drop(slots);
            assert_eq!(is_left, ![4, 0, 8].contains(&key));
            if !is_left {
                // At once, or the test never ends.
                completion.wait_for_completion();
            }
        }
        assert_eq!(reaps.slots.lock().len(), 6);
        Ok(())
    }

    #[test]
    fn what_was_cancelled_is_not_done() -> Result {
        let reaps = KBox::pin_init(Reaps::new(), GFP_KERNEL)?;
        let completion = completion()?;
        reaps.add(Slot {
            key: Key(1),
            id: None,
            due: Some(Due::Complete(completion.clone())),
        });
        reaps.cancel();
        reaps.reap(Key(1));
        assert!(reaps.slots.lock().is_empty());
        // Nobody has it any more.
        assert!(Arc::into_unique_or_drop(completion).is_some());
        Ok(())
    }
}
