// SPDX-License-Identifier: GPL-2.0

//! Owners of probes.

use super::{
    detection::Detection,
    in_handler,
    target::{
        Target,
        TargetProcess, //
    },
    Handler, //
};

use crate::{
    bindings,
    error::to_result,
    ffi::c_uint,
    prelude::*,
    ptregs::PtRegs,
    task::Task,
    types::Opaque, //
};

use core::{
    convert::Infallible,
    marker::PhantomData,
    mem::ManuallyDrop,
    ptr::NonNull, //
};

type CHandler = Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::pt_regs)>;

/// The probe of the C interface, and its handler.
#[pin_data]
struct Inner<H> {
    raw: Opaque<bindings::uprobe>,
    #[pin]
    handler: H,
}

/// Placeholder for a handler's type where it does not matter. It has no values.
pub enum AnyHandler {}

/// Counts of hits and returns of a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbeCounts {
    /// Number of hits for which the probe fired.
    pub hits: u64,
    /// Number of calls of [`Handler::returned`].
    pub returns: u64,
    /// Number of hits and returns that were missed.
    pub misses: u64,
}

/// Owner of a probe in a process.
///
/// Dropping it unregisters the probe and waits: after the drop no method of the handler is
/// executing or will be called, and the handler has been dropped. The drop changes nothing in a
/// process that has exited or no longer has the text.
///
/// Handlers cannot wait for handlers. In a method of any probe's handler, the drop returns at once;
/// hits that begin afterwards do not fire; a worker drops the handler when none of its methods is
/// executing any more.
///
/// Context of the drop: may sleep; in a method of a handler: any.
///
/// A `Probe` without a type parameter has some handler; see [`Probe::into_any`].
///
/// # Invariants
///
/// - `raw` is a field of an [`Inner<T>`] for some `T: Handler`, which is `H` unless `H` is
///   [`AnyHandler`]. The `Inner` is the contents of a [`KBox`], which this owns, and is pinned.
/// - `raw` has been registered, and only the owner unregisters it, except that uprobes does so when
///   the module is gone, and with it all code that could use this.
/// - The `unregistered` callback of `raw` is [`free::<T>`]. Nothing writes to `raw`.
#[must_use = "dropping it unregisters"]
// Transparent, because `Probe::unregister_all` passes a vector of these as an array of pointers.
#[repr(transparent)]
pub struct Probe<H = AnyHandler> {
    raw: NonNull<bindings::uprobe>,
    _handler: PhantomData<H>,
}

// SAFETY: Any thread may unregister a probe. That thread, or a worker, drops the handler, which is
// `Send` because every `Handler` is.
unsafe impl<H> Send for Probe<H> {}
// SAFETY: A shared reference gives access only to the handler, which is `Sync` because every
// `Handler` is, and to the counts, which C reads under RCU.
unsafe impl<H> Sync for Probe<H> {}

impl<H: Handler> Probe<H> {
    /// Registers a probe. When this returns, at the latest, each thread of the process that is
    /// about to execute the instruction calls the handler first.
    ///
    /// Context: may sleep; takes the mmap lock of the process. May be called by [`Handler::hit`]
    /// and [`Handler::returned`].
    ///
    /// # Errors
    ///
    /// `EINVAL`: the number is not valid for a thread, or belongs to a kernel thread; or the
    /// address is not in executable memory of this process alone; or the size is not that of a
    /// function that returns. `ESRCH`: no such process, or it is exiting. `EPERM`: the caller may
    /// not attach to it, or the instruction cannot be probed. `EEXIST`: a foreign breakpoint, or
    /// one of UBP that is not of uprobes. `EOPNOTSUPP`: a handler names a process by a number.
    /// `EFAULT`: the text cannot be read, or ends
    /// within the instruction. `EINTR`: the caller has been killed, or has got a signal while
    /// waiting for a userfaultfd. `ENOMEM`.
    ///
    /// # Examples
    ///
    /// Dropping the owner removes the probe, so the compiler rejects an unused owner:
    ///
    /// ```ignore,compile_fail,unused_must_use
    /// # #![deny(unused_must_use)]
    /// # use kernel::{prelude::*, uprobes::{Handler, Probe, Target}};
    /// # fn probe<H: Handler>(target: Target<'_>, handler: H) -> Result {
    /// Probe::register(target, handler)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn register(target: Target<'_>, handler: H) -> Result<Self> {
        Self::register_pinned::<Infallible>(target, handler)
    }

    /// Registers a probe, and initialises its handler in place. A handler with a lock needs this.
    ///
    /// # Errors
    ///
    /// As for [`Probe::register`], and the error of the initialiser.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     new_spinlock,
    ///     prelude::*,
    ///     ptregs::PtRegs,
    ///     sync::SpinLock,
    ///     uprobes::{Handler, Probe, Target}, //
    /// };
    ///
    /// /// Stack pointer at the last call.
    /// #[pin_data]
    /// struct LastCall {
    ///     #[pin]
    ///     stack_pointer: SpinLock<usize>,
    /// }
    ///
    /// #[vtable]
    /// impl Handler for LastCall {
    ///     fn hit(&self, regs: &mut PtRegs) {
    ///         *self.stack_pointer.lock() = regs.sp();
    ///     }
    /// }
    ///
    /// fn watch(pid: i32, function: usize) -> Result<Probe<LastCall>> {
    ///     let handler = pin_init!(LastCall {
    ///         stack_pointer <- new_spinlock!(0),
    ///     });
    ///     Probe::register_pinned(Target::from_pid(pid, function), handler)
    /// }
    /// # // No process has this number.
    /// # assert_eq!(watch(-1, 0x1000).err(), Some(EINVAL));
    /// ```
    pub fn register_pinned<E>(target: Target<'_>, handler: impl PinInit<H, E>) -> Result<Self>
    where
        Error: From<E>,
    {
        const {
            assert!(
                H::HAS_HIT || H::HAS_HIT_IN_INTERRUPT || H::HAS_RETURNED,
                "the handler would never be called"
            )
        };
        let inner = KBox::<Inner<H>>::pin_init::<Error>(
            pin_init!(Inner {
                raw: Opaque::new(Self::describe(&target)),
                handler <- handler,
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: The contents of the box are not moved; only `free` makes a box of the pointer
        // again.
        let inner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // SAFETY: `inner` came out of a box, so it is valid.
        let raw = Opaque::cast_into(unsafe { &raw const (*inner).raw });
        let registered = match target.process {
            // SAFETY: `raw` is valid and stays in place, and nothing writes to it, until `free` is
            // called, which is after `raw` was unregistered or if this fails. The C handlers set by
            // `describe` take a field of an `Inner<H>`, and the `Inner<H>` around `raw` is
            // initialised.
            TargetProcess::Pid(_) => unsafe { bindings::register_uprobe(raw) },
            // SAFETY: `raw` is valid as for `register_uprobe()`, and a `Task` is valid.
            TargetProcess::Task(task) => unsafe {
                bindings::register_uprobe_task(raw, task.as_ptr())
            },
        };
        to_result(registered).inspect_err(|_| {
            // SAFETY: `raw` is a field of an `Inner<H>` that came out of a box above. Its
            // registration failed, so no handler is called, and nothing else uses it.
            unsafe { free::<H>(raw) }
        })?;
        // INVARIANT: `raw` has just been registered, is as `describe` made it, and is in an
        // `Inner<H>` that came out of a box.
        Ok(Self {
            // SAFETY: `raw` points to a field of an allocated box, and so is not null.
            raw: unsafe { NonNull::new_unchecked(raw) },
            _handler: PhantomData,
        })
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        // SAFETY: By the type invariants `raw` is in an `Inner<H>`, since `AnyHandler` is not a
        // `Handler`. The `Inner` is valid until `self` is dropped.
        unsafe { handler_of(self.raw.as_ptr()) }
    }

    /// Erases the type of the handler, so that the probe can be stored with others, or where the
    /// type has no name.
    pub fn into_any(self) -> Probe {
        // INVARIANT: `raw` is in the same `Inner<T>`, and `H` is `AnyHandler`; `self` is not
        // dropped.
        Probe {
            raw: ManuallyDrop::new(self).raw,
            _handler: PhantomData,
        }
    }

    // Constants, so that no functions are generated for methods that are absent.
    const HIT: CHandler = if H::HAS_HIT { Some(hit::<H>) } else { None };

    const HIT_IN_INTERRUPT: CHandler = if H::HAS_HIT_IN_INTERRUPT {
        Some(hit_in_interrupt::<H>)
    } else {
        None
    };

    const RETURNED: CHandler = if H::HAS_RETURNED {
        Some(returned::<H>)
    } else {
        None
    };

    const FIRES_FOR: Option<
        unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::task_struct) -> bool,
    > = if H::HAS_FIRES_FOR {
        Some(fires_for::<H>)
    } else {
        None
    };

    fn describe(target: &Target<'_>) -> bindings::uprobe {
        bindings::uprobe {
            pid: match target.process {
                TargetProcess::Pid(pid) => pid,
                TargetProcess::Task(_) => 0,
            },
            flags: target.flags,
            vaddr: target.at,
            size: target.size,
            handler: Self::HIT,
            handler_in_interrupt: Self::HIT_IN_INTERRUPT,
            return_handler: Self::RETURNED,
            filter: Self::FIRES_FOR,
            unregistered: Some(free::<H>),
        }
    }
}

impl<H> Probe<H> {
    fn read_counts(&self) -> bindings::uprobe_counts {
        let mut counts = bindings::uprobe_counts::default();
        // SAFETY: `counts` is valid for a write. By the type invariants `raw` is registered, so
        // that the call does not fail.
        unsafe { bindings::uprobe_read_counts(self.raw.as_ptr(), &mut counts) };
        counts
    }

    /// Returns how returns of the function are detected; `None` if the handler has no
    /// [`Handler::returned`].
    ///
    /// Context: as for [`Probe::counts`].
    pub fn detection(&self) -> Option<Detection> {
        let counts = self.read_counts();
        Detection::from_raw(counts.detection, counts.walk_end)
    }

    /// Returns the counts of the probe.
    ///
    /// Context: any, including handlers with interrupts disabled; but not an interrupt.
    pub fn counts(&self) -> ProbeCounts {
        let counts = self.read_counts();
        ProbeCounts {
            hits: counts.hits,
            returns: counts.returns,
            misses: counts.misses,
        }
    }

    /// Unregisters several probes: as if each was dropped, with a single wait.
    ///
    /// Context: as for the drop of one.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     prelude::*,
    ///     uprobes::{Handler, Probe, Target}, //
    /// };
    ///
    /// fn probe_both<H: Handler>(pid: i32, function: usize, handler: H) -> Result<KVec<Probe>> {
    ///     let target = Target::from_pid(pid, function);
    ///     let mut probes = KVec::with_capacity(2, GFP_KERNEL)?;
    ///     probes.push(Probe::register(target, handler)?.into_any(), GFP_KERNEL)?;
    ///     probes.push(
    ///         Probe::register_return_fn(target, |_| pr_info!("returned\n"))?,
    ///         GFP_KERNEL,
    ///     )?;
    ///     Ok(probes)
    /// }
    ///
    /// # let probes: KVec<Probe> = KVec::new();
    /// Probe::unregister_all(probes);
    /// ```
    pub fn unregister_all(mut probes: KVec<Self>) {
        // If C cannot count so many, they are dropped one by one.
        let Ok(count) = c_uint::try_from(probes.len()) else {
            return;
        };
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants the probes are registered. CAST: A `Probe` is a
        // transparent wrapper of a pointer, so that a vector of probes is an array of pointers.
        unsafe { bindings::unregister_uprobes(probes.as_mut_ptr().cast(), count) };
        for probe in probes {
            let probe = ManuallyDrop::new(probe);
            if is_unused_after {
                // SAFETY: `probe` has been unregistered, and is neither used again nor dropped.
                unsafe { Self::release(probe.raw) };
            }
        }
    }

    /// Frees a probe that was unregistered outside of handlers.
    ///
    /// # Safety
    ///
    /// `raw` must be the pointer of a `Probe` that satisfies its type invariants, except that it
    /// has been unregistered, so that no method of the handler is executing. `raw` must not be used
    /// afterwards.
    unsafe fn release(raw: NonNull<bindings::uprobe>) {
        // SAFETY: By the type invariants `raw` is valid, and nothing writes to it.
        if let Some(free) = unsafe { (*raw.as_ptr()).unregistered } {
            // SAFETY: By the type invariants this is `free::<T>`, and `raw` is in an `Inner<T>`
            // that came out of a box. C does not call `unregistered` for a probe that is
            // unregistered outside of handlers and no longer uses `raw`. By the safety requirements
            // neither does any other code.
            unsafe { free(raw.as_ptr()) };
        }
    }
}

impl<H> Drop for Probe<H> {
    fn drop(&mut self) {
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants `raw` is registered.
        unsafe { bindings::unregister_uprobe(self.raw.as_ptr()) };
        // In a handler, C calls `unregistered` when the handlers that may be executing have ended,
        // which may already have happened.
        if is_unused_after {
            // SAFETY: The probe has been unregistered, and `self` is not used after this.
            unsafe { Self::release(self.raw) };
        }
    }
}

/// Drops an [`Inner<H>`]. C calls it as `unregistered`.
///
/// # Safety
///
/// `raw` must be in an [`Inner<H>`] that came out of a [`KBox`], and must not be used after this.
/// Context: may sleep.
unsafe extern "C" fn free<H: Handler>(raw: *mut bindings::uprobe) {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>` that came out of a box and is
    // not used again. The `Inner` is dropped in place, and so stays pinned.
    drop(unsafe { KBox::from_raw(inner_of::<H>(raw)) });
}

/// # Safety
///
/// `raw` must be in an [`Inner<H>`].
unsafe fn inner_of<H>(raw: *mut bindings::uprobe) -> *mut Inner<H> {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>`. CAST: `Opaque` is a transparent
    // wrapper.
    unsafe { crate::container_of!(Opaque::cast_from(raw), Inner<H>, raw) }.cast_mut()
}

/// # Safety
///
/// `raw` must be in an [`Inner<H>`] that is valid for `'a`.
unsafe fn handler_of<'a, H>(raw: *mut bindings::uprobe) -> &'a H {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>` that is valid for `'a`.
    unsafe { &(*inner_of::<H>(raw)).handler }
}

/// # Safety
///
/// Must be called by uprobes only, for a probe that [`Probe::register_pinned`] registered, with the
/// registers of the current thread, to which no other reference exists.
unsafe extern "C" fn hit<H: Handler>(raw: *mut bindings::uprobe, regs: *mut bindings::pt_regs) {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>` and `regs` is not aliased. The
    // `Inner` is valid until the probe was unregistered, and the unregistration waits for this
    // call, or defers the release until after it.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.hit(regs);
}

/// # Safety
///
/// As for [`hit`].
unsafe extern "C" fn hit_in_interrupt<H: Handler>(
    raw: *mut bindings::uprobe,
    regs: *mut bindings::pt_regs,
) {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>`, which unregistration keeps
    // until this call has returned, and `regs` is not aliased.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.hit_in_interrupt(regs);
}

/// # Safety
///
/// As for [`hit`].
unsafe extern "C" fn returned<H: Handler>(
    raw: *mut bindings::uprobe,
    regs: *mut bindings::pt_regs,
) {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>`, which unregistration keeps
    // until this call has returned, and `regs` is not aliased.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.returned(regs);
}

/// # Safety
///
/// As for [`hit`], and `task` must be valid.
unsafe extern "C" fn fires_for<H: Handler>(
    raw: *mut bindings::uprobe,
    task: *mut bindings::task_struct,
) -> bool {
    // SAFETY: By the safety requirements `raw` is in an `Inner<H>`, which unregistration keeps
    // until this call has returned, and `task` is valid. CAST: `Task` is a transparent wrapper.
    let (handler, task) = unsafe { (handler_of::<H>(raw), &*task.cast::<Task>()) };
    handler.fires_for(task)
}
