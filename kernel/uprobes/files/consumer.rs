// SPDX-License-Identifier: GPL-2.0

//! Consumers of file probes: `struct uprobe_consumer` of C.

use kernel::{
    bindings,
    mm::Mm,
    prelude::*,
    ptregs::PtRegs, //
};

use core::ptr::NonNull;

/// A consumer that is registered.
///
/// # Invariants
///
/// The structure is valid until the consumer is in no list of consumers any more, and a grace
/// period of Tasks Trace RCU has elapsed.
#[derive(Clone, Copy)]
pub(super) struct FileConsumer {
    raw: NonNull<bindings::uprobe_consumer>,
    /// Number of the consumer; see [`Probe::id`](crate::probe::Probe::id).
    pub(super) id: u64,
    pub(super) has_handler: bool,
    pub(super) wants_returns: bool,
}

// SAFETY: C allows any thread to call the functions of a consumer.
unsafe impl Send for FileConsumer {}
// SAFETY: C allows several threads to call the functions of a consumer at the same time.
unsafe impl Sync for FileConsumer {}

/// The answer of a handler.
#[derive(Clone, Copy)]
pub(super) struct Answer(c_int);

impl Answer {
    /// Returns whether the consumer wants the return of this call, if it has a return handler.
    pub(super) fn wants_return(self) -> bool {
        self.0 == 0
    }

    /// Returns whether the consumer does not want to be called in this address space.
    pub(super) fn is_removal(self) -> bool {
        const REMOVE: c_int = bindings::UPROBE_HANDLER_REMOVE as c_int;

        self.0 == REMOVE
    }
}

impl FileConsumer {
    /// # Errors
    ///
    /// `EINVAL`: the consumer has no handler.
    ///
    /// # Safety
    ///
    /// `raw` must be valid, as the type invariants say.
    pub(super) unsafe fn new(raw: NonNull<bindings::uprobe_consumer>) -> Result<Self> {
        // SAFETY: The caller passes a valid structure, which nothing else changes.
        let (has_handler, wants_returns) = unsafe {
            (
                (*raw.as_ptr()).handler.is_some(),
                (*raw.as_ptr()).ret_handler.is_some(),
            )
        };
        if !has_handler && !wants_returns {
            return Err(EINVAL);
        }
        // INVARIANT: As the caller guarantees.
        Ok(Self {
            raw,
            id: 0,
            has_handler,
            wants_returns,
        })
    }

    /// Sets the number, before the consumer is in a list.
    pub(super) fn set_id(&mut self, id: u64) {
        self.id = id;
        // SAFETY: By the type invariants the structure is valid. Only this function sets the field.
        unsafe { (*self.raw.as_ptr()).id = id };
    }

    pub(super) fn is(&self, raw: *const bindings::uprobe_consumer) -> bool {
        core::ptr::eq(self.raw.as_ptr(), raw)
    }

    /// Returns whether the consumer decides at each call whether it wants the return.
    pub(super) fn is_session(&self) -> bool {
        self.has_handler && self.wants_returns
    }

    /// Returns whether the filter accepts an address space.
    ///
    /// Context: may sleep.
    pub(super) fn accepts(&self, mm: &Mm) -> bool {
        // SAFETY: By the type invariants the structure is valid. The filter may be called with a
        // valid address space.
        unsafe {
            match (*self.raw.as_ptr()).filter {
                Some(filter) => filter(self.raw.as_ptr(), mm.as_raw()),
                None => true,
            }
        }
    }

    /// Calls the handler, if there is one. Returns its answer, and the cookie for the return.
    // Inlined into the loops over the consumers.
    #[inline(always)]
    pub(super) fn hit(&self, regs: &mut PtRegs) -> (Answer, u64) {
        let mut cookie = 0;
        // SAFETY: By the type invariants the structure is valid. The registers are those of the
        // current thread, which has been allocated its `utask`.
        let answer = unsafe {
            match (*self.raw.as_ptr()).handler {
                Some(handler) => handler(self.raw.as_ptr(), regs.as_ptr(), &mut cookie),
                None => 0,
            }
        };
        (Answer(answer), cookie)
    }

    /// Calls the return handler. The current thread has returned from the function that begins at
    /// `function`. `cookie` is what the handler of a session has left at the call.
    #[inline]
    pub(super) fn returned(&self, function: usize, regs: &mut PtRegs, cookie: Option<u64>) {
        let mut cookie = cookie;
        let data = cookie
            .as_mut()
            .map_or(core::ptr::null_mut(), core::ptr::from_mut);
        // SAFETY: By the type invariants the structure is valid. The registers are those of the
        // current thread, which has been allocated its `utask`.
        unsafe {
            if let Some(handler) = (*self.raw.as_ptr()).ret_handler {
                handler(self.raw.as_ptr(), function, regs.as_ptr(), data);
            }
        }
    }
}
