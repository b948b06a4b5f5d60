// SPDX-License-Identifier: GPL-2.0

//! The API for modules written in C. See `struct uprobe` in `include/linux/uprobes.h`.

use crate::{
    client::Client,
    process::Process,
    registration::{
        register,
        Registration, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::PtRegs,
    sync::Arc,
    warn_on, //
};
use ubp::Vaddr;

/// The client that calls the handlers of a `struct uprobe`.
///
/// # Invariants
///
/// `uprobe` is valid until the client has been unregistered.
struct CClient {
    uprobe: *mut bindings::uprobe,
    handler: Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::pt_regs)>,
    handler_in_interrupt:
        Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::pt_regs)>,
}

// SAFETY: The pointer is passed to the handlers only, which are called from any thread by the
// rules of the API.
unsafe impl Send for CClient {}
// SAFETY: As above; several threads may call the handlers at the same time.
unsafe impl Sync for CClient {}

impl Client for CClient {
    fn hit(&self, regs: &mut PtRegs) {
        if let Some(handler) = self.handler {
            // SAFETY: By the type invariants `uprobe` is valid, and so are the registers.
            unsafe { handler(self.uprobe, regs.as_ptr()) };
        }
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        if let Some(handler) = self.handler_in_interrupt {
            // SAFETY: As above.
            unsafe { handler(self.uprobe, regs.as_ptr()) };
        }
    }

    fn wants_task(&self) -> bool {
        self.handler.is_some()
    }

    fn wants_interrupt(&self) -> bool {
        self.handler_in_interrupt.is_some()
    }
}

/// Registers a probe.
///
/// # Safety
///
/// `u` is null or valid, its fields are not changed by others during the call, and if it succeeds,
/// `u` stays valid until it has been unregistered. May sleep.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe(u: *mut bindings::uprobe) -> c_int {
    // SAFETY: By the requirement on the caller.
    let Some(uprobe) = (unsafe { u.as_mut() }) else {
        return EINVAL.to_errno();
    };
    if !uprobe.registration.is_null() {
        return EBUSY.to_errno();
    }
    let registered = (|| {
        let process = Process::from_pid(uprobe.pid)?;
        // INVARIANT: By the requirement on the caller.
        let client = Arc::new(
            CClient {
                uprobe: u,
                handler: uprobe.handler,
                handler_in_interrupt: uprobe.handler_in_interrupt,
            },
            GFP_KERNEL,
        )?;
        let registration = KBox::<Registration>::new_uninit(GFP_KERNEL)?;
        let at = Vaddr::new(uprobe.vaddr);
        Ok::<_, Error>(KBox::write(registration, register(&process, at, client)?))
    })();
    match registered {
        Ok(registration) => {
            uprobe.registration = KBox::into_raw(registration).cast();
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// Unregisters a probe. When it returns, no handler of it is executing, nor will be.
///
/// # Safety
///
/// `u` is null, or valid and not used by others during the call; its `registration` is null, or of
/// [`register_uprobe`]. Must not be called by a handler. May sleep.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobe(u: *mut bindings::uprobe) {
    // SAFETY: By the requirement on the caller.
    let Some(uprobe) = (unsafe { u.as_mut() }) else {
        return;
    };
    // A handler cannot wait for itself: the caller must not free `u` then.
    warn_on!(ubp::is_in_hit());
    let registration = core::mem::replace(&mut uprobe.registration, core::ptr::null_mut());
    if !registration.is_null() {
        // SAFETY: By the requirement on the caller it is of `KBox::into_raw` above.
        drop(unsafe { KBox::from_raw(registration.cast::<Registration>()) });
    }
}
