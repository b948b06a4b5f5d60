// SPDX-License-Identifier: GPL-2.0

//! A reference-counted pointer with a cached address of its value.

use crate::sync::Arc;

use core::{
    ops::Deref,
    ptr::NonNull, //
};

/// An [`Arc`] together with the address of its value.
///
/// The value of an `Arc<dyn Trait>` lies behind the count, at an offset that depends on the
/// alignment of the type and is looked up at each access. A `DirectArc` avoids this lookup.
///
/// # Invariants
///
/// `value` points to the value of `arc`.
pub struct DirectArc<T: ?Sized> {
    value: NonNull<T>,
    arc: Arc<T>,
}

// SAFETY: A `DirectArc` is an `Arc` and a pointer to its value, and an `Arc<T>` is `Send` for such
// `T`.
unsafe impl<T: ?Sized + Sync + Send> Send for DirectArc<T> {}
// SAFETY: A `DirectArc` is an `Arc` and a pointer to its value, and an `Arc<T>` is `Sync` for such
// `T`.
unsafe impl<T: ?Sized + Sync + Send> Sync for DirectArc<T> {}

impl<T: ?Sized> From<Arc<T>> for DirectArc<T> {
    fn from(arc: Arc<T>) -> Self {
        // INVARIANT: The value does not move as long as there are references to it.
        let value = NonNull::from(&*arc);
        Self { value, arc }
    }
}

impl<T: ?Sized> DirectArc<T> {
    /// Returns the [`Arc`].
    pub fn as_arc(&self) -> &Arc<T> {
        &self.arc
    }
}

impl<T: ?Sized> Clone for DirectArc<T> {
    fn clone(&self) -> Self {
        self.arc.clone().into()
    }
}

impl<T: ?Sized> Deref for DirectArc<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: By the type invariants this is the value of `arc`, which `self` keeps.
        unsafe { self.value.as_ref() }
    }
}
