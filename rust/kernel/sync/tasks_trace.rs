// SPDX-License-Identifier: GPL-2.0

//! Tasks Trace RCU: read-side critical sections that may sleep, at the cost of a per-CPU counter.
//!
//! This is the flavour for tracing: a reader writes no shared cache line, may fault and sleep, and
//! may begin with interrupts disabled. What it protects here are heap cells: a cell is published
//! in a [`Published`] or a [`Map`], read under a [`Guard`], and freed a grace period after it was
//! taken out.
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

/// Enters a read-side critical section. Any context that RCU watches; sections may nest.
#[inline]
pub fn read_lock() -> Guard {
    Guard {
        // SAFETY: There are no requirements on the caller.
        //
        // INVARIANT: This is what entered the section.
        scp: unsafe { bindings::rcu_read_lock_tasks_trace() },
        _not_send: NotThreadSafe,
    }
}

/// Evidence that the section of a [`Guard`] is not left during `'a`.
#[derive(Clone, Copy)]
pub struct Section<'a>(PhantomData<&'a Guard>);

impl Guard {
    /// Returns evidence for those who hand the guard itself on.
    ///
    /// # Safety
    ///
    /// The guard is not dropped during `'a`.
    #[inline]
    pub unsafe fn section<'a>(&self) -> Section<'a> {
        Section(PhantomData)
    }
}

impl Drop for Guard {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: By the type invariants, `scp` is of a section of this task that is still open.
        unsafe { bindings::rcu_read_unlock_tasks_trace(self.scp) };
    }
}

/// Waits until all read-side critical sections that exist now have ended. Sleeps.
///
/// Must not be called within a read-side critical section.
pub fn synchronize() {
    // SAFETY: There are no requirements on the caller but to be able to sleep, which is not a
    // matter of memory safety.
    unsafe { bindings::synchronize_rcu_tasks_trace() };
}

/// As [`synchronize`], sooner, at the price of interrupting the other CPUs.
pub fn synchronize_expedited() {
    // SAFETY: The structure is that of this flavour; otherwise as above.
    unsafe { bindings::synchronize_srcu_expedited(&raw mut bindings::rcu_tasks_trace_srcu_struct) };
}

/// Evidence that the code of its user is never unloaded.
///
/// The RCU core drops a cell by a function that is compiled with the crate that creates the cell,
/// at a time of its own. A module may be gone by then, and nothing makes it wait with
/// `rcu_barrier_tasks_trace()` on its way out. So cells are created by code that is built in.
///
/// # Invariants
///
/// Instances exist in code that is built in only.
#[derive(Clone, Copy)]
pub struct BuiltIn(());

impl BuiltIn {
    /// Returns the evidence.
    ///
    /// # Safety
    ///
    /// The caller must be built in, as a crate is whose configuration symbol is a `bool`, and must
    /// not hand the evidence to a module.
    pub const unsafe fn new() -> Self {
        // INVARIANT: By the requirement on the caller.
        Self(())
    }
}

/// A value on the heap that the RCU core frees.
#[repr(C)]
struct Cell<T> {
    rcu: Opaque<bindings::callback_head>,
    value: T,
}

impl<T: Send + Sync + 'static> Cell<T> {
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
    /// `this` is of [`Cell::new`], no new reader can find it, and this is called once.
    unsafe fn retire(this: NonNull<Self>) {
        /// # Safety
        ///
        /// `head` is the `rcu` of a cell that [`Cell::retire`] queued.
        unsafe extern "C" fn free<T>(head: *mut bindings::callback_head) {
            // SAFETY: `rcu` is the first field of a `repr(C)` struct, so this is the cell; it came
            // from a `KBox`, and with the grace period over nobody else refers to it.
            drop(unsafe { KBox::from_raw(head.cast::<Cell<T>>()) });
        }

        // CAST: `rcu`, a transparent wrapper, is the first field of a `repr(C)` struct.
        let head = this.as_ptr().cast::<bindings::callback_head>();
        // SAFETY: The cell stays allocated until the callback frees it, which the caller promised
        // to be the only one.
        unsafe { bindings::call_rcu_tasks_trace(head, Some(free::<T>)) };
    }
}

/// A value that readers see as it is at the moment, and that writers replace as a whole.
///
/// # Invariants
///
/// `cell` is null or owns a [`Cell`]; a cell is retired when it has been replaced.
pub struct Published<T: Send + Sync + 'static> {
    cell: Atomic<*mut Cell<T>>,
    _owns: PhantomData<T>,
}

impl<T: Send + Sync + 'static> Published<T> {
    /// Creates one that holds nothing.
    pub const fn empty(_: BuiltIn) -> Self {
        // INVARIANT: Null owns nothing.
        Self {
            cell: Atomic::new(core::ptr::null_mut()),
            _owns: PhantomData,
        }
    }

    /// Returns what is published now.
    #[inline]
    pub fn read<'a>(&'a self, guard: &'a Guard) -> Option<&'a T> {
        // SAFETY: It is borrowed during `'a`.
        self.read_in(unsafe { guard.section() })
    }

    /// As [`Published::read`].
    #[inline]
    pub fn read_in<'a>(&'a self, _section: Section<'a>) -> Option<&'a T> {
        let cell = self.cell.load(Acquire);
        // SAFETY: By the type invariants a non-null `cell` is valid; if it is replaced meanwhile,
        // it is retired, and the section keeps it allocated for as long as the reference lives.
        unsafe { cell.as_ref() }.map(|cell| &cell.value)
    }

    /// Publishes `value`; the one before is dropped after a grace period. Does not wait for it.
    pub fn publish(&self, value: T, flags: Flags) -> Result<(), AllocError> {
        let new = Cell::new(value, flags)?;
        self.exchange(new.as_ptr());
        Ok(())
    }

    /// Publishes nothing, in the same way.
    pub fn clear(&self) {
        self.exchange(core::ptr::null_mut());
    }

    fn exchange(&self, new: *mut Cell<T>) {
        // INVARIANT: Ownership of `new` moves in, that of `old` out.
        let old = self.cell.xchg(new, Full);
        if let Some(old) = NonNull::new(old) {
            // SAFETY: By the type invariants `old` was a cell of `Cell::new`, and the exchange
            // made this the only place that refers to it, earlier readers aside.
            unsafe { Cell::retire(old) };
        }
    }
}

/// A value on the heap whose owner is a pointer in a C structure.
pub struct Handle<T: Send + Sync + 'static>(NonNull<Cell<T>>, PhantomData<T>);

impl<T: Send + Sync + 'static> Handle<T> {
    /// Moves a value to the heap.
    pub fn new(_: BuiltIn, value: T, flags: Flags) -> Result<Self, AllocError> {
        Ok(Self(Cell::new(value, flags)?, PhantomData))
    }

    /// Turns the handle into a pointer that is not null, and owns the value.
    pub fn into_raw(self) -> *mut c_void {
        let cell = self.0;
        core::mem::forget(self);
        cell.as_ptr().cast()
    }

    /// Takes a value back.
    ///
    /// # Safety
    ///
    /// `raw` is of [`Handle::into_raw`], of the same type, and has not been taken back before.
    pub unsafe fn from_raw(raw: *mut c_void) -> Self {
        // SAFETY: By the requirement on the caller it is of a handle, and so not null.
        Self(unsafe { NonNull::new_unchecked(raw.cast()) }, PhantomData)
    }

    /// Borrows the value behind a pointer.
    ///
    /// # Safety
    ///
    /// `raw` is null or of [`Handle::into_raw`], of the same type. During `'a` it is not taken
    /// back; or a [`Guard`] is held during `'a` which was there before it was taken back.
    #[inline]
    pub unsafe fn borrow<'a>(raw: *mut c_void) -> Option<&'a T> {
        // SAFETY: By the requirement on the caller it is null or a valid cell, as a grace period
        // is between the taking back and the end of the cell.
        unsafe { raw.cast::<Cell<T>>().as_ref() }.map(|cell| &cell.value)
    }
}

impl<T: Send + Sync + 'static> Drop for Handle<T> {
    /// The value is dropped after a grace period, for which this does not wait.
    fn drop(&mut self) {
        // SAFETY: A handle owns its cell, and is dropped once.
        unsafe { Cell::retire(self.0) };
    }
}

impl<T: Send + Sync + 'static> Drop for Published<T> {
    fn drop(&mut self) {
        self.clear();
    }
}
