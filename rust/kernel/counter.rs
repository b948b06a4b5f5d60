// SPDX-License-Identifier: GPL-2.0

//! Event counters without a cache line that CPUs share.
//!
//! C header: [`include/linux/percpu.h`](srctree/include/linux/percpu.h)

use crate::{
    alloc::AllocError,
    bindings,
    ffi::c_void, //
};
use core::ptr::NonNull;

/// A counter of which every CPU has its own part.
///
/// # Invariants
///
/// The pointer is a per-CPU allocation of an `unsigned long`, which the counter owns.
pub struct Counter(NonNull<c_void>);

// SAFETY: A per-CPU allocation is of no particular thread.
unsafe impl Send for Counter {}

// SAFETY: A part is changed only by its own CPU, in a way that interrupts cannot tear, and may be
// read by any.
unsafe impl Sync for Counter {}

impl Counter {
    /// Makes a counter at zero. May sleep.
    pub fn new() -> Result<Self, AllocError> {
        // SAFETY: An allocation has no preconditions other than a context which may sleep.
        let parts = unsafe { bindings::alloc_percpu_ulong() };

        // INVARIANT: What was allocated is ours.
        NonNull::new(parts).map(Self).ok_or(AllocError)
    }

    /// Adds one.
    #[inline]
    pub fn increment(&self) {
        // SAFETY: By the type invariants.
        unsafe { bindings::this_cpu_inc_ulong(self.0.as_ptr()) }
    }

    /// Sum over all CPUs. What is counted meanwhile may be in it or not.
    pub fn sum(&self) -> usize {
        // SAFETY: By the type invariants.
        unsafe { bindings::percpu_sum_ulong(self.0.as_ptr()) }
    }
}

impl Drop for Counter {
    fn drop(&mut self) {
        // SAFETY: By the type invariants the allocation is ours, and nobody has the counter now.
        unsafe { bindings::free_percpu(self.0.as_ptr()) }
    }
}
