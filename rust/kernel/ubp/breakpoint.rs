// SPDX-License-Identifier: GPL-2.0

//! Owners of breakpoints.

use super::{
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

/// What C has, and the handler beside it.
#[pin_data]
struct Inner<H> {
    #[pin]
    raw: Opaque<bindings::ubp_bkpt>,
    handler: H,
}

/// A breakpoint in the text of a process, and its owner.
///
/// Dropping this takes it out, and waits: after the drop no method of the handler is executing or
/// will be called. It does nothing to a process that has exited, or that has no longer the text.
///
/// Context of the drop: may sleep. It must not happen in a method of a handler, which could not
/// wait for itself: the kernel warns of that, takes the breakpoint out, and does not free the
/// handler.
///
/// # Invariants
///
/// `inner.raw` has been inserted, and neither been removed since nor been used otherwise.
#[must_use = "dropping it takes the breakpoint out"]
pub struct Breakpoint<H: Handler> {
    inner: ManuallyDrop<Pin<KBox<Inner<H>>>>,
    plan: Plan,
}

// SAFETY: A breakpoint may be taken out by any thread, where the handler, which is `Send`, is then
// dropped.
unsafe impl<H: Handler> Send for Breakpoint<H> {}
// SAFETY: Of what is behind it, only the handler can be reached, which is `Sync`.
unsafe impl<H: Handler> Sync for Breakpoint<H> {}

impl<H: Handler> Breakpoint<H> {
    /// Inserts a breakpoint at an address of the process that `task` is a thread of. From when this
    /// returns, at the latest, its handler is called.
    ///
    /// Context: may sleep; takes the mmap lock of the process.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the address is not in executable memory of this process alone. `ESRCH`: the
    /// process exits, or has no user space. `EEXIST`: there is another breakpoint, UBP's or not.
    /// `EPERM`: the instruction cannot have one, see [`analyze`](super::analyze). `EFAULT`: the
    /// text cannot be read, or ends within the instruction. `EDEADLK`: the caller is within a
    /// handler. `EINTR`: it has been killed. `ENOMEM`.
    ///
    /// # Examples
    ///
    /// The text is restored when the owner goes, so the owner cannot be overlooked:
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
            pin_init!(Inner {
                raw <- Opaque::ffi_init(|raw: *mut bindings::ubp_bkpt| {
                    let bkpt = bindings::ubp_bkpt {
                        vaddr: at,
                        handler_in_interrupt: Self::HANDLER_IN_INTERRUPT,
                        handler: Self::HANDLER,
                        ..Default::default()
                    };
                    // SAFETY: The place to initialise is valid for a write.
                    unsafe { raw.write(bkpt) };
                }),
                handler,
            }),
            GFP_KERNEL,
        )?;
        let raw = inner.raw.get();
        // SAFETY: Both are valid. What is pinned stays in its place until it is dropped, which
        // `drop` below does after the removal. The handlers are for what is around `raw`.
        to_result(unsafe { bindings::ubp_insert_bkpt(task.as_ptr(), raw) })?;
        // SAFETY: It was written by the call, and does not change.
        let plan = Plan::from_raw(unsafe { (*raw).plan });
        // INVARIANT: It has just been inserted.
        Ok(Self {
            inner: ManuallyDrop::new(inner),
            // What has been inserted was not refused.
            plan: plan.unwrap_or(Plan::Step),
        })
    }

    /// How the displaced instruction is executed.
    pub fn plan(&self) -> Plan {
        self.plan
    }

    /// The handler.
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

    /// # Safety
    ///
    /// `raw` is of an [`Inner<H>`] that is valid for `'a`.
    unsafe fn handler_of<'a>(raw: *mut bindings::ubp_bkpt) -> &'a H {
        // SAFETY: By the requirement on the caller. CAST: `Opaque` is a transparent wrapper.
        unsafe { &(*crate::container_of!(Opaque::cast_from(raw), Inner<H>, raw)).handler }
    }

    /// # Safety
    ///
    /// Called by UBP, for a breakpoint of [`Breakpoint::insert`], with the registers of the current
    /// thread, which nobody else uses.
    unsafe extern "C" fn handler_in_interrupt(
        raw: *mut bindings::ubp_bkpt,
        regs: *mut bindings::pt_regs,
    ) -> bool {
        // SAFETY: By the requirement on the caller; it is valid until it has been removed, which
        // waits for this.
        let (handler, regs) = unsafe { (Self::handler_of(raw), PtRegs::from_raw_mut(regs)) };
        match handler.hit_in_interrupt(regs) {
            Then::Resume => false,
            Then::Task => true,
        }
    }

    /// # Safety
    ///
    /// As of [`Breakpoint::handler_in_interrupt`].
    unsafe extern "C" fn handle(raw: *mut bindings::ubp_bkpt, regs: *mut bindings::pt_regs) {
        // SAFETY: As above.
        let (handler, regs) = unsafe { (Self::handler_of(raw), PtRegs::from_raw_mut(regs)) };
        handler.hit(regs);
    }
}

impl<H: Handler> Drop for Breakpoint<H> {
    fn drop(&mut self) {
        let is_unused_after = !in_handler();
        // SAFETY: By the type invariants it has been inserted.
        unsafe { bindings::ubp_remove_bkpt(self.inner.raw.get()) };
        if is_unused_after {
            // SAFETY: Nobody uses it after this, and it is not dropped again.
            unsafe { ManuallyDrop::drop(&mut self.inner) };
        }
    }
}
