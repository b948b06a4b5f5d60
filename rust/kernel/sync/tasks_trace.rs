// SPDX-License-Identifier: GPL-2.0

//! Tasks Trace RCU: read-side critical sections that may sleep, at the cost of a per-CPU counter.
//!
//! This flavour of RCU is for tracing: a reader writes no shared cache line, may fault and sleep,
//! and may begin with interrupts disabled. Here it protects heap cells: a cell is published in a
//! [`RcuPointer`] or a [`Map`], read under a [`Guard`], and freed a grace period after it was
//! removed.
//!
//! C header: [`include/linux/rcupdate_trace.h`](srctree/include/linux/rcupdate_trace.h)

use crate::{
    alloc::{
        AllocError,
        Flags, //
    },
    bindings,
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    },
};

use core::{
    marker::PhantomData,
    ptr::NonNull, //
};

mod index;
mod map;
pub use map::Map;

/// Evidence of a Tasks Trace RCU read-side critical section of the current task.
///
/// # Invariants
///
/// `scp` was returned by `rcu_read_lock_tasks_trace()`, and the section has not been left.
#[must_use = "if unused, the read-side critical section ends at once"]
pub struct Guard {
    scp: *mut bindings::srcu_ctr,
    _not_send: NotThreadSafe,
}

/// Enters a read-side critical section. Context: any that RCU watches; sections may nest.
#[inline]
pub fn read_lock() -> Guard {
    Guard {
        // SAFETY: The function has no safety requirements.
        //
        // INVARIANT: `scp` was just returned, and the section is left only when the guard is
        // dropped.
        scp: unsafe { bindings::rcu_read_lock_tasks_trace() },
        _not_send: NotThreadSafe,
    }
}

/// Evidence that the section of a [`Guard`] is not left during `'a`.
#[derive(Clone, Copy)]
pub struct RcuReadToken<'a>(PhantomData<&'a Guard>);

impl Guard {
    /// Returns evidence of the section, independent of the borrow of the guard.
    ///
    /// # Safety
    ///
    /// The guard must not be dropped during `'a`.
    #[inline]
    pub unsafe fn read_token<'a>(&self) -> RcuReadToken<'a> {
        RcuReadToken(PhantomData)
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants `scp` is of a section of this task that has not been left.
        unsafe { bindings::rcu_read_unlock_tasks_trace(self.scp) };
    }
}

/// Waits until all read-side critical sections that exist now have ended. Sleeps.
///
/// Must not be called within a read-side critical section.
pub fn synchronize() {
    // SAFETY: The caller must be able to sleep, which does not concern memory safety.
    unsafe { bindings::synchronize_rcu_tasks_trace() };
}

/// Does the same as [`synchronize`], but faster, by interrupting the other CPUs.
pub fn synchronize_expedited() {
    // SAFETY: The structure belongs to this flavour. The caller must be able to sleep, which does
    // not concern memory safety.
    unsafe { bindings::synchronize_srcu_expedited(&raw mut bindings::rcu_tasks_trace_srcu_struct) };
}

/// Evidence that the calling code is never unloaded.
///
/// The RCU core drops a cell by a function that is compiled with the crate that creates the cell,
/// and calls it after a grace period. A module may be unloaded by then, since nothing makes its
/// unloading wait with `rcu_barrier_tasks_trace()`. So only built-in code may create cells.
///
/// # Invariants
///
/// Only built-in code has instances.
#[derive(Clone, Copy)]
pub struct BuiltIn(());

impl BuiltIn {
    /// Returns the evidence.
    ///
    /// # Safety
    ///
    /// The caller must be built in, as a crate is if its configuration symbol is a `bool`, and must
    /// not pass the evidence to a module.
    pub const unsafe fn new() -> Self {
        // INVARIANT: By the safety requirements the caller is built in.
        Self(())
    }
}

/// A value on the heap that the RCU core frees.
#[repr(C)]
struct RcuBox<T> {
    rcu: Opaque<bindings::callback_head>,
    value: T,
}

impl<T: Send + Sync + 'static> RcuBox<T> {
    fn new(value: T, flags: Flags) -> Result<NonNull<Self>, AllocError> {
        let cell = KBox::new(
            Self {
                rcu: Opaque::uninit(),
                value,
            },
            flags,
        )?;
        Ok(NonNull::from(KBox::leak(cell)))
    }

    /// Frees the cell after a grace period. Does not sleep.
    ///
    /// The value is dropped with bottom halves disabled.
    ///
    /// # Safety
    ///
    /// `this` must be from [`RcuBox::new`], no new reader can find it, and it must be retired only
    /// once.
    unsafe fn retire(this: NonNull<Self>) {
        /// # Safety
        ///
        /// `head` must be the `rcu` of a cell that [`RcuBox::retire`] queued.
        unsafe extern "C" fn free<T>(head: *mut bindings::callback_head) {
            // SAFETY: `rcu` is the first field of a `repr(C)` struct, so this is the cell. It came
            // from a `KBox`, and no reference to it remains after the grace period.
            drop(unsafe { KBox::from_raw(head.cast::<RcuBox<T>>()) });
        }

        // CAST: `rcu`, a transparent wrapper, is the first field of a `repr(C)` struct.
        let head = this.as_ptr().cast::<bindings::callback_head>();
        // SAFETY: By the safety requirements the cell is retired only once, so that it stays
        // allocated until the callback frees it.
        unsafe { bindings::call_rcu_tasks_trace(head, Some(free::<T>)) };
    }
}

/// A pointer to a value that writers replace as a whole; readers see the current value.
///
/// # Invariants
///
/// `cell` is null or owns an [`RcuBox`]. A cell is retired when it has been replaced.
pub struct RcuPointer<T: Send + Sync + 'static> {
    cell: Atomic<*mut RcuBox<T>>,
    _owns: PhantomData<T>,
}

impl<T: Send + Sync + 'static> RcuPointer<T> {
    /// Creates a pointer without a value.
    pub const fn empty(_: BuiltIn) -> Self {
        // INVARIANT: Null owns nothing.
        Self {
            cell: Atomic::new(core::ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// Returns the current value.
    #[inline]
    pub fn read<'a>(&'a self, guard: &'a Guard) -> Option<&'a T> {
        // SAFETY: `guard` is borrowed during `'a`, so it is not dropped.
        self.read_in(unsafe { guard.read_token() })
    }

    /// Returns the current value. Like [`RcuPointer::read`], with evidence of the section.
    #[inline]
    pub fn read_in<'a>(&'a self, _token: RcuReadToken<'a>) -> Option<&'a T> {
        let cell = self.cell.load(Acquire);
        // SAFETY: By the type invariants a non-null `cell` is valid. If it is replaced during `'a`,
        // it is retired, and the section keeps it allocated for as long as the reference lives.
        unsafe { cell.as_ref() }.map(|cell| &cell.value)
    }

    /// Publishes `value`. The former value is dropped after a grace period; this does not wait for
    /// it.
    pub fn publish(&self, value: T, flags: Flags) -> Result<(), AllocError> {
        let new = RcuBox::new(value, flags)?;
        self.exchange(new.as_ptr());
        Ok(())
    }

    /// Removes the value. It is dropped after a grace period; this does not wait for it.
    pub fn clear(&self) {
        self.exchange(core::ptr::null_mut());
    }

    fn exchange(&self, new: *mut RcuBox<T>) {
        // INVARIANT: Ownership of `new` moves into `cell`, and ownership of `old` out of it.
        let old = self.cell.xchg(new, Full);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: By the type invariants `old` was a cell of `RcuBox::new`. After the exchange
            // only this function and earlier readers refer to it.
            unsafe { RcuBox::retire(old) };
        }
    }
}

/// A value on the heap that a pointer in a C structure owns.
pub struct ForeignRcuBox<T: Send + Sync + 'static>(NonNull<RcuBox<T>>, PhantomData<T>);

impl<T: Send + Sync + 'static> ForeignRcuBox<T> {
    /// Moves a value to the heap.
    pub fn new(_: BuiltIn, value: T, flags: Flags) -> Result<Self, AllocError> {
        Ok(Self(RcuBox::new(value, flags)?, PhantomData))
    }

    /// Converts the handle to a pointer, which is not null and owns the value.
    pub fn into_raw(self) -> *mut c_void {
        let cell = self.0;
        core::mem::forget(self);
        cell.as_ptr().cast()
    }

    /// Converts a pointer back to a handle.
    ///
    /// # Safety
    ///
    /// `raw` must be from [`ForeignRcuBox::into_raw`] of the same type, and not have been converted
    /// back before.
    pub unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: By the safety requirements `raw` is from a handle, and so not null.
        Self(unsafe { NonNull::new_unchecked(raw.cast()) }, PhantomData)
    }

    /// Borrows the value behind a pointer.
    ///
    /// # Safety
    ///
    /// `raw` must be null or from [`ForeignRcuBox::into_raw`] of the same type. It must not be
    /// converted back during `'a`; or a [`Guard`] that existed before the conversion must be held
    /// during `'a`.
    #[inline]
    pub unsafe fn borrow<'a>(raw: *mut c_void) -> Option<&'a T> {
        // SAFETY: By the safety requirements `raw` is null or a valid cell, because a grace period
        // passes between the drop of a handle and the release of its cell.
        unsafe { raw.cast::<RcuBox<T>>().as_ref() }.map(|cell| &cell.value)
    }
}

impl<T: Send + Sync + 'static> Drop for ForeignRcuBox<T> {
    /// Retires the value, which is dropped after a grace period. Does not wait for it.
    fn drop(&mut self) {
        // SAFETY: A handle owns its cell, and is dropped once.
        unsafe { RcuBox::retire(self.0) };
    }
}

impl<T: Send + Sync + 'static> Drop for RcuPointer<T> {
    fn drop(&mut self) {
        self.clear();
    }
}
