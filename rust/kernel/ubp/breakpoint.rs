// SPDX-License-Identifier: GPL-2.0

//! Breakpoints that are removed when they are dropped.

use super::{
    analysis::plan_from_raw,
    in_handler,
    Handler,
    Plan,
    Then, //
};

use crate::{
    bindings,
    error::to_result,
    prelude::*,
    ptregs::PtRegs,
    task::Task,
    types::Opaque, //
};

use core::mem::ManuallyDrop;

/// The `struct ubp_bkpt`, and the handler beside it.
#[pin_data]
struct BreakpointInner<H> {
    #[pin]
    raw: Opaque<bindings::ubp_bkpt>,
    handler: H,
}

/// A breakpoint in the text of a process, which owns its handler.
///
/// Dropping it removes the breakpoint and waits: after the drop, no method of the handler is
/// executing or will be called. The drop does nothing to a process that has exited or has no longer
/// the text.
///
/// Context of the drop: may sleep. It must not happen in a method of a handler, because a handler
/// cannot wait for itself. If it does, the kernel warns, removes the breakpoint, and does not free
/// the handler.
///
/// # Invariants
///
/// `inner.raw` has been inserted, and has neither been removed since nor been used otherwise.
#[must_use = "dropping it takes the breakpoint out"]
pub struct Breakpoint<H: Handler> {
    inner: ManuallyDrop<Pin<KBox<BreakpointInner<H>>>>,
    plan: Plan,
}

// SAFETY: Any thread may remove a breakpoint. The handler is then dropped by that thread, and is
// `Send`.
unsafe impl<H: Handler> Send for Breakpoint<H> {}
// SAFETY: A reference gives access to the handler, which is `Sync`, and to the plan, which does not
// change.
unsafe impl<H: Handler> Sync for Breakpoint<H> {}

impl<H: Handler> Breakpoint<H> {
    /// Inserts a breakpoint at an address of the process that `task` belongs to. Threads call the
    /// handler at the latest when this function has returned.
    ///
    /// Context: may sleep; takes the mmap lock of the process.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the address is not in executable memory of this process alone. `ESRCH`: the
    /// process exits, or has no user space. `EEXIST`: there is another breakpoint, of UBP or
    /// foreign. `EPERM`: the instruction cannot have a breakpoint, see [`analyze`](super::analyze).
    /// `EFAULT`: the text cannot be read, or ends within the instruction. `EDEADLK`: the caller is
    /// within a handler. `EINTR`: the caller has been killed. `ENOMEM`.
    ///
    /// # Examples
    ///
    /// Dropping the breakpoint restores the text, so the result must not be ignored:
    ///
    /// ```ignore,compile_fail,unused_must_use
    /// # #![deny(unused_must_use)]
    /// # use kernel::{prelude::*, task::Task, ubp::{Breakpoint, Handler}};
    /// # fn probe<H: Handler>(task: &Task, at: usize, handler: H) -> Result {
    /// Breakpoint::insert(task, at, handler)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn insert(task: &Task, at: usize, handler: H) -> Result<Self> {
        let inner = KBox::pin_init(
            pin_init!(BreakpointInner {
                raw <- Opaque::ffi_init(|raw: *mut bindings::ubp_bkpt| {
                    let bkpt = bindings::ubp_bkpt {
                        vaddr: at,
                        handler_in_interrupt: Self::HANDLER_IN_INTERRUPT,
                        handler: Self::HANDLER,
                        ..Default::default()
                    };
                    // SAFETY: `raw` is valid for a write because `ffi_init()` passes the memory to
                    // initialise.
                    unsafe { raw.write(bkpt) };
                }),
                handler,
            }),
            GFP_KERNEL,
        )?;
        let raw = inner.raw.get();
        // SAFETY: `task` and `raw` are valid. `inner` is pinned, and `drop()` below frees it only
        // after `ubp_remove_bkpt()` has returned. The handlers expect a `raw` that is in an
        // `BreakpointInner<H>`, as this one is.
        to_result(unsafe { bindings::ubp_insert_bkpt(task.as_ptr(), raw) })?;
        // SAFETY: `raw` is valid, and `plan` does not change after `ubp_insert_bkpt()` has set it.
        let plan = plan_from_raw(unsafe { (*raw).plan });
        // INVARIANT: `ubp_insert_bkpt()` has inserted `inner.raw`.
        Ok(Self {
            inner: ManuallyDrop::new(inner),
            // An inserted instruction was not refused.
            plan: plan.unwrap_or(Plan::Step),
        })
    }

    /// Returns how the displaced instruction is executed.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// Returns the handler.
    pub fn handler(&self) -> &H {
        &self.inner.handler
    }

    const HANDLER_IN_INTERRUPT: Option<
        unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs) -> bool,
    > = if H::HAS_HIT_IN_INTERRUPT {
        Some(Self::handler_in_interrupt)
    } else {
        None
    };

    const HANDLER: Option<unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs)> =
        if H::HAS_HIT { Some(Self::handle) } else { None };

    /// Returns the handler beside a `struct ubp_bkpt`.
    ///
    /// # Safety
    ///
    /// `raw` must be in a [`BreakpointInner<H>`] that is valid for `'a`.
    unsafe fn handler_of<'a>(raw: *mut bindings::ubp_bkpt) -> &'a H {
        // SAFETY: The caller passes a `raw` that is in a `BreakpointInner<H>` which is valid for
        // `'a`. CAST: `Opaque` is a transparent wrapper.
        unsafe { &(*crate::container_of!(Opaque::cast_from(raw), BreakpointInner<H>, raw)).handler }
    }

    /// # Safety
    ///
    /// Must be called by UBP, for a breakpoint of [`Breakpoint::insert`], with the registers of the
    /// current thread, which nothing else uses.
    unsafe extern "C" fn handler_in_interrupt(
        raw: *mut bindings::ubp_bkpt,
        regs: *mut bindings::pt_regs,
    ) -> bool {
        // SAFETY: UBP passes the `raw` of a breakpoint of `insert()`, which stays valid until its
        // removal has waited for this call, and the registers of the current thread, which nothing
        // else uses.
        let (handler, regs) = unsafe { (Self::handler_of(raw), PtRegs::from_raw_mut(regs)) };
        match handler.hit_in_interrupt(regs) {
            Then::Resume => false,
            Then::Task => true,
        }
    }

    /// # Safety
    ///
    /// As for [`Breakpoint::handler_in_interrupt`].
    unsafe extern "C" fn handle(raw: *mut bindings::ubp_bkpt, regs: *mut bindings::pt_regs) {
        // SAFETY: UBP passes the `raw` of a breakpoint of `insert()`, which stays valid until its
        // removal has waited for this call, and the registers of the current thread, which nothing
        // else uses.
        let (handler, regs) = unsafe { (Self::handler_of(raw), PtRegs::from_raw_mut(regs)) };
        handler.hit(regs);
    }
}

impl<H: Handler> Drop for Breakpoint<H> {
    fn drop(&mut self) {
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants, `inner.raw` has been inserted and not been removed.
        unsafe { bindings::ubp_remove_bkpt(self.inner.raw.get()) };
        if is_unused_after {
            // SAFETY: `drop()` runs once, so `inner` is dropped once. UBP and the handlers do not
            // use it any more, because the caller is not in a handler and `ubp_remove_bkpt()` has
            // waited for them.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}
