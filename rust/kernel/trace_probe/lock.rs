// SPDX-License-Identifier: GPL-2.0

//! `event_mutex`, which protects what there is of events.
//!
//! C header: [`kernel/trace/trace.h`](srctree/kernel/trace/trace.h)

use crate::{
    bindings,
    types::{
        NotThreadSafe,
        ScopeGuard, //
    },
};
use core::cell::UnsafeCell;

/// Evidence that the current task holds `event_mutex`.
///
/// # Invariants
///
/// The current task holds `event_mutex` while the value exists.
pub(super) struct EventsLocked(NotThreadSafe);

impl EventsLocked {
    /// Runs `f` with the mutex held.
    pub(super) fn with<R>(f: impl FnOnce(&EventsLocked) -> R) -> R {
        let mutex = &raw mut bindings::event_mutex;

        // SAFETY: The mutex is initialised at build time and exists forever.
        unsafe { bindings::mutex_lock(mutex) };
        // SAFETY: The guard is dropped once and by the same task, which locked the mutex above.
        let _unlock = ScopeGuard::new(|| unsafe { bindings::mutex_unlock(mutex) });

        // INVARIANT: The mutex was locked above, and is unlocked after this value is gone.
        f(&EventsLocked(NotThreadSafe))
    }

    /// Trusts the caller that the mutex is held.
    ///
    /// # Safety
    ///
    /// The current task must hold `event_mutex` for as long as the returned value exists.
    pub(super) unsafe fn assume() -> Self {
        // INVARIANT: By the safety requirements.
        EventsLocked(NotThreadSafe)
    }
}

/// A slot for a value, protected by `event_mutex`.
pub(super) struct LockedSlot<V>(UnsafeCell<Option<V>>);

// SAFETY: The value is accessed only with the mutex held, so by one task at a time; it may have
// been put there by another one, which `V: Send` allows.
unsafe impl<V: Send> Sync for LockedSlot<V> {}

impl<V> LockedSlot<V> {
    /// A slot that is empty.
    pub(super) const fn new() -> Self {
        Self(UnsafeCell::new(None))
    }

    /// Puts a value in, and returns the one before.
    pub(super) fn replace(&self, value: Option<V>, _locked: &EventsLocked) -> Option<V> {
        // SAFETY: The mutex is held, so nobody else is here, and no reference to the contents
        // outlives a call of this function.
        core::mem::replace(unsafe { &mut *self.0.get() }, value)
    }

    /// Calls `f` with the value, if there is one. Meanwhile the slot is empty.
    pub(super) fn inspect<R>(&self, f: impl FnOnce(&V) -> R, locked: &EventsLocked) -> Option<R> {
        let value = self.replace(None, locked)?;
        let result = f(&value);

        self.replace(Some(value), locked);
        Some(result)
    }
}
