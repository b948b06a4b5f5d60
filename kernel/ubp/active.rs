// SPDX-License-Identifier: GPL-2.0

//! Whether the call sites are switched on.

use kernel::static_key::DeferredKey;

extern "C" {
    /// `include/linux/ubp.h`
    #[link_name = "ubp_active"]
    static KEY: DeferredKey;
}

/// Keeps the call sites of UBP switched on. Created and dropped where one may sleep.
///
/// # Invariants
///
/// Each instance is counted once in the static key.
pub(crate) struct Active(());

impl Active {
    pub(crate) fn new() -> Self {
        // SAFETY: The key is defined in `exports.c`, and only this type counts in it.
        unsafe { &KEY }.increment();
        // INVARIANT: Counted just now.
        Self(())
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        // SAFETY: As above.
        //
        // INVARIANT: The count of this instance goes with it.
        unsafe { &KEY }.decrement();
    }
}
