// SPDX-License-Identifier: GPL-2.0

//! Owners of probes.

use super::{
    in_handler,
    spot::{
        Process,
        Spot, //
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

/// What C has, and the handler beside it.
#[pin_data]
struct Inner<H> {
    raw: Opaque<bindings::uprobe>,
    #[pin]
    handler: H,
}

/// Stands for the type of a handler where it does not matter. There are no values of it.
pub enum AnyHandler {}

/// What has come of a probe so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// How often it fired.
    pub hits: u64,
    /// How often [`Handler::returned`] was called.
    pub returns: u64,
    /// How often it should have fired, or returns should have been noticed, and could not be.
    pub misses: u64,
}

/// A probe in a process, and its owner.
///
/// Dropping this unregisters it, and waits: after the drop no method of the handler is executing or
/// will be called, and the handler has been dropped. It does nothing to a process that has exited,
/// or that has no longer the text.
///
/// In a method of a handler, any probe's, one cannot wait for handlers. There the drop returns at
/// once; hits that begin afterwards do not fire; the handler is dropped by a worker when none of
/// its methods is executing any more.
///
/// Context of the drop: may sleep; in a method of a handler: any.
///
/// A `Probe` without a type parameter is one of some handler; see [`Probe::into_any`].
///
/// # Invariants
///
/// - `raw` is that of an [`Inner<T>`] for some `T: Handler`, which is `H` unless that is
///   [`AnyHandler`]. The `Inner` is the contents of a [`KBox`], which this owns, and is pinned.
/// - It has been registered, and is unregistered by the owner only; but uprobes do it when the
///   module has gone, and with it all code that could use this.
/// - Its `unregistered` is [`free::<T>`]. Nothing writes to it.
#[must_use = "dropping it unregisters"]
// Of several, `Probe::unregister_all` makes an array of pointers.
#[repr(transparent)]
pub struct Probe<H = AnyHandler> {
    raw: NonNull<bindings::uprobe>,
    _handler: PhantomData<H>,
}

// SAFETY: A probe may be unregistered by any thread. There, or in a worker, the handler is dropped,
// which is `Send` as every `Handler` is.
unsafe impl<H> Send for Probe<H> {}
// SAFETY: Of what is behind it, only the handler can be reached, which is `Sync` as every `Handler`
// is, and the counts, which C reads under RCU.
unsafe impl<H> Sync for Probe<H> {}

impl<H: Handler> Probe<H> {
    /// Registers a probe. From when this returns, at the latest, each thread of the process that is
    /// about to execute the instruction calls the handler first.
    ///
    /// Context: may sleep; takes the mmap lock of the process. May be called by [`Handler::hit`]
    /// and [`Handler::returned`].
    ///
    /// # Errors
    ///
    /// `EINVAL`: no thread can have such a number, or it is one of the kernel's; or the address is
    /// not in executable memory of this process alone; or the size is not that of a function that
    /// returns. `ESRCH`: no such process, or it exits. `EPERM`: the caller may not attach to it, or
    /// the instruction cannot be probed. `EEXIST`: a breakpoint that is not UBP's, or not of
    /// uprobes. `EOPNOTSUPP`: the function of that size is also left by a jump, or a handler names
    /// a process by a number. `EFAULT`: the text cannot be read, or ends within the instruction.
    /// `EINTR`: the caller has been killed, or has got a signal while waiting for a userfaultfd.
    /// `ENOMEM`.
    ///
    /// # Examples
    ///
    /// The probe goes when the owner goes, so the owner cannot be overlooked:
    ///
    /// ```ignore,compile_fail,unused_must_use
    /// # #![deny(unused_must_use)]
    /// # use kernel::{prelude::*, uprobes::{Handler, Probe, Spot}};
    /// # fn probe<H: Handler>(spot: Spot<'_>, handler: H) -> Result {
    /// Probe::register(spot, handler)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn register(spot: Spot<'_>, handler: H) -> Result<Self> {
        Self::register_pinned::<Infallible>(spot, handler)
    }

    /// Registers a probe whose handler is initialised in its place, as one with a lock is.
    ///
    /// # Errors
    ///
    /// As of [`Probe::register`], and that of the initialiser.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     new_spinlock,
    ///     prelude::*,
    ///     ptregs::PtRegs,
    ///     sync::SpinLock,
    ///     uprobes::{Handler, Probe, Spot}, //
    /// };
    ///
    /// /// Where the stack was at the last call.
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
    ///     Probe::register_pinned(Spot::of_pid(pid, function), handler)
    /// }
    /// # // No process has this number.
    /// # assert_eq!(watch(-1, 0x1000).err(), Some(EINVAL));
    /// ```
    pub fn register_pinned<E>(spot: Spot<'_>, handler: impl PinInit<H, E>) -> Result<Self>
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
                raw: Opaque::new(Self::describe(&spot)),
                handler <- handler,
            }? Error),
            GFP_KERNEL,
        )?;
        // SAFETY: Nothing moves what this points to; only `free` makes a box of it again.
        let inner = KBox::into_raw(unsafe { Pin::into_inner_unchecked(inner) });
        // SAFETY: What came out of the box is valid.
        let raw = Opaque::cast_into(unsafe { &raw const (*inner).raw });
        let registered = match spot.process {
            // SAFETY: `raw` is valid and stays in its place, and nobody writes to it, until `free`
            // is called, which is after it has been unregistered or if this fails. The handlers are
            // for what is around it, which has been initialised.
            Process::Pid(_) => unsafe { bindings::register_uprobe(raw) },
            // SAFETY: As above; and the task is valid.
            Process::Task(task) => unsafe { bindings::register_uprobe_task(raw, task.as_ptr()) },
        };
        to_result(registered).inspect_err(|_| {
            // SAFETY: It came out of a box above, and what has not been registered is not called.
            unsafe { free::<H>(raw) }
        })?;
        // INVARIANT: It has just been registered, as `describe` made it, and came out of a box.
        Ok(Self {
            // SAFETY: A field of what a box had is not at null.
            raw: unsafe { NonNull::new_unchecked(raw) },
            _handler: PhantomData,
        })
    }

    /// The handler.
    pub fn handler(&self) -> &H {
        // SAFETY: By the type invariants it is of an `Inner<H>`, as `AnyHandler` is no handler,
        // which is there until `self` is dropped.
        unsafe { handler_of(self.raw.as_ptr()) }
    }

    /// Forgets the type of the handler, such that this can be kept with others, or where its type
    /// has no name.
    pub fn into_any(self) -> Probe {
        // INVARIANT: As before, with a `T` that is not told; `self` is not dropped.
        Probe {
            raw: ManuallyDrop::new(self).raw,
            _handler: PhantomData,
        }
    }

    // Constants, such that functions are not made for methods that are not there.
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

    fn describe(spot: &Spot<'_>) -> bindings::uprobe {
        bindings::uprobe {
            pid: match spot.process {
                Process::Pid(pid) => pid,
                Process::Task(_) => 0,
            },
            flags: spot.flags,
            vaddr: spot.at,
            size: spot.size,
            handler: Self::HIT,
            handler_in_interrupt: Self::HIT_IN_INTERRUPT,
            return_handler: Self::RETURNED,
            filter: Self::FIRES_FOR,
            unregistered: Some(free::<H>),
        }
    }
}

impl<H> Probe<H> {
    /// What has come of the probe so far.
    ///
    /// Context: any, handlers with interrupts disabled as well; but not an interrupt.
    pub fn counts(&self) -> Counts {
        let mut counts = bindings::uprobe_counts::default();
        // SAFETY: The place for the counts is valid for a write. By the type invariants it is
        // registered, so that this does not fail.
        unsafe { bindings::uprobe_read_counts(self.raw.as_ptr(), &mut counts) };
        Counts {
            hits: counts.hits,
            returns: counts.returns,
            misses: counts.misses,
        }
    }

    /// Unregisters several at once: as if each was dropped, for one wait.
    ///
    /// Context: as of the drop of one.
    ///
    /// # Examples
    ///
    /// ```
    /// use kernel::{
    ///     prelude::*,
    ///     uprobes::{Handler, Probe, Spot}, //
    /// };
    ///
    /// fn probe_both<H: Handler>(pid: i32, function: usize, handler: H) -> Result<KVec<Probe>> {
    ///     let spot = Spot::of_pid(pid, function);
    ///     let mut probes = KVec::with_capacity(2, GFP_KERNEL)?;
    ///     probes.push(Probe::register(spot, handler)?.into_any(), GFP_KERNEL)?;
    ///     probes.push(
    ///         Probe::register_return_fn(spot, |_| pr_info!("returned\n"))?,
    ///         GFP_KERNEL,
    ///     )?;
    ///     Ok(probes)
    /// }
    ///
    /// # let probes: KVec<Probe> = KVec::new();
    /// Probe::unregister_all(probes);
    /// ```
    pub fn unregister_all(mut probes: KVec<Self>) {
        // If there are more than C can count, one by one.
        let Ok(count) = c_uint::try_from(probes.len()) else {
            return;
        };
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants these are registered. CAST: A `Probe` is a transparent
        // wrapper of a pointer, so that many are an array of those.
        unsafe { bindings::unregister_uprobes(probes.as_mut_ptr().cast(), count) };
        for probe in probes {
            let probe = ManuallyDrop::new(probe);
            if is_unused_after {
                // SAFETY: It has been unregistered, and `probe` is neither used again nor dropped.
                unsafe { Self::release(probe.raw) };
            }
        }
    }

    /// Frees what has been unregistered outside of handlers.
    ///
    /// # Safety
    ///
    /// `raw` is that of a `Probe`, whose type invariants hold for it but that it has been
    /// unregistered, such that no method of the handler is executing. Nobody uses it afterwards.
    unsafe fn release(raw: NonNull<bindings::uprobe>) {
        // SAFETY: By the type invariants it is valid, and nobody writes to it.
        if let Some(free) = unsafe { (*raw.as_ptr()).unregistered } {
            // SAFETY: By the type invariants this is `free::<T>`, and `raw` of an `Inner<T>` which
            // came out of a box. C, which does not call it for what is unregistered outside of
            // handlers, has no use for it any more, nor has anybody else.
            unsafe { free(raw.as_ptr()) };
        }
    }
}

impl<H> Drop for Probe<H> {
    fn drop(&mut self) {
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants it is registered.
        unsafe { bindings::unregister_uprobe(self.raw.as_ptr()) };
        // In a handler, C calls `unregistered`, when the handlers that may be executing have ended;
        // that may have been by now.
        if is_unused_after {
            // SAFETY: It has been unregistered, and `self` is not used after this.
            unsafe { Self::release(self.raw) };
        }
    }
}

/// Takes the [`Inner<H>`] apart. C calls it as `unregistered`.
///
/// # Safety
///
/// `raw` is that of an [`Inner<H>`] that came out of a [`KBox`], and which nobody uses after this.
/// Context: may sleep.
unsafe extern "C" fn free<H: Handler>(raw: *mut bindings::uprobe) {
    // SAFETY: By the requirement on the caller. It is dropped where it is, and so stays pinned.
    drop(unsafe { KBox::from_raw(inner_of::<H>(raw)) });
}

/// # Safety
///
/// `raw` is that of an [`Inner<H>`].
unsafe fn inner_of<H>(raw: *mut bindings::uprobe) -> *mut Inner<H> {
    // SAFETY: By the requirement on the caller. CAST: `Opaque` is a transparent wrapper.
    unsafe { crate::container_of!(Opaque::cast_from(raw), Inner<H>, raw) }.cast_mut()
}

/// # Safety
///
/// `raw` is that of an [`Inner<H>`] that is valid for `'a`.
unsafe fn handler_of<'a, H>(raw: *mut bindings::uprobe) -> &'a H {
    // SAFETY: By the requirement on the caller.
    unsafe { &(*inner_of::<H>(raw)).handler }
}

/// # Safety
///
/// Called by uprobes, for what [`Probe::register_pinned`] registers, with the registers of the
/// current thread, which nobody else uses.
unsafe extern "C" fn hit<H: Handler>(raw: *mut bindings::uprobe, regs: *mut bindings::pt_regs) {
    // SAFETY: By the requirement on the caller; it is valid until it has been unregistered, which
    // waits for this, or defers what frees it to after this.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.hit(regs);
}

/// # Safety
///
/// As of [`hit`].
unsafe extern "C" fn hit_in_interrupt<H: Handler>(
    raw: *mut bindings::uprobe,
    regs: *mut bindings::pt_regs,
) {
    // SAFETY: As in `hit`.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.hit_in_interrupt(regs);
}

/// # Safety
///
/// As of [`hit`].
unsafe extern "C" fn returned<H: Handler>(
    raw: *mut bindings::uprobe,
    regs: *mut bindings::pt_regs,
) {
    // SAFETY: As in `hit`.
    let (handler, regs) = unsafe { (handler_of::<H>(raw), PtRegs::from_raw_mut(regs)) };
    handler.returned(regs);
}

/// # Safety
///
/// As of [`hit`]; with a valid task.
unsafe extern "C" fn fires_for<H: Handler>(
    raw: *mut bindings::uprobe,
    task: *mut bindings::task_struct,
) -> bool {
    // SAFETY: As in `hit`. CAST: `Task` is a transparent wrapper.
    let (handler, task) = unsafe { (handler_of::<H>(raw), &*task.cast::<Task>()) };
    handler.fires_for(task)
}
