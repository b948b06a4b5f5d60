// SPDX-License-Identifier: GPL-2.0

//! A reference-counted pointer that is followed without a calculation.

use crate::sync::Arc;

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// An [`Arc`] together with the address of its value.
///
/// The value of an `Arc<dyn Trait>` is behind its count, as far as the alignment of the type asks
/// for, which has to be looked up each time. Where that matters, this is followed instead.
///
/// # Invariants
///
/// `value` is what `_arc` owns.
pub struct DirectArc<T: ?Sized> {
    value: NonNull<T>,
    _arc: Arc<T>,
}

// SAFETY: It is an `Arc`, and a reference to its value.
unsafe impl<T: ?Sized + Sync + Send> Send for DirectArc<T> {}
// SAFETY: As above.
unsafe impl<T: ?Sized + Sync + Send> Sync for DirectArc<T> {}

impl<T: ?Sized> From<Arc<T>> for DirectArc<T> {
    fn from(arc: Arc<T>) -> Self {
        // INVARIANT: The value stays in its place for as long as there are references.
        let value = NonNull::from(&*arc);
        Self { value, _arc: arc }
    }
}

impl<T: ?Sized> Deref for DirectArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants it is of `_arc`, which keeps it while `self` is borrowed.
        unsafe { self.value.as_ref() }
    }
}
