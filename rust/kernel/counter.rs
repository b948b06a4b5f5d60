// SPDX-License-Identifier: GPL-2.0

//! Event counters in per-CPU memory.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_void, //
};
use core::ptr::NonNull;

/// A counter with a part for each CPU, so that CPUs share no cache line.
///
/// # Invariants
///
/// The pointer is a per-CPU allocation of an `unsigned long`, which the counter owns.
pub struct Counter(NonNull<c_void>);

// SAFETY: A per-CPU allocation is not bound to a thread.
unsafe impl Send for Counter {}

// SAFETY: Only a part's own CPU changes it, by an operation that interrupts cannot tear. Any CPU
// may read it.
unsafe impl Sync for Counter {}

impl Counter {
    /// Creates a counter at zero. May sleep.
    pub fn new() -> Result<Self, AllocError> {
        // SAFETY: The function may be called from any context that may sleep.
        let parts = unsafe { bindings::alloc_percpu_ulong() };

        // INVARIANT: The counter owns the allocation that was just made.
        NonNull::new(parts).map(Self).ok_or(AllocError)
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        // SAFETY: By the type invariants the pointer is an allocation of an `unsigned long`.
        unsafe { bindings::this_cpu_inc_ulong(self.0.as_ptr()) }
    }

    /// Returns the sum over all CPUs. Concurrent increments may be missed.
    pub fn sum(&self) -> usize {
        // SAFETY: By the type invariants the pointer is an allocation of an `unsigned long`.
        unsafe { bindings::percpu_sum_ulong(self.0.as_ptr()) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the counter owns the allocation, and it is being dropped.
        unsafe { bindings::free_percpu(self.0.as_ptr()) }
    }
}
