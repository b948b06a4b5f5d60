// SPDX-License-Identifier: GPL-2.0

//! Static keys that Rust code counts in, for branches in C code.
//!
//! C header: [`include/linux/jump_label_ratelimit.h`](srctree/include/linux/jump_label_ratelimit.h)

use crate::{
    bindings,
    types::Opaque, //
};

/// A `struct static_key_false_deferred`, which C code defines.
///
/// Switching off is put off for a while, so that a key that is switched on and off in quick
/// succession does not patch the kernel's text each time, and so that [`DeferredKey::decrement`]
/// does not take the locks that text patching needs.
#[repr(transparent)]
pub struct DeferredKey(Opaque<bindings::static_key_false_deferred>);

// SAFETY: The operations on a static key may be done from any thread at any time.
unsafe impl Sync for DeferredKey {}

impl DeferredKey {
    /// Switches the branches on, if this is the first count. When it returns, they are on. Sleeps.
    pub fn increment(&self) {
        // SAFETY: A reference to this type is to a key that C code has initialised.
        unsafe { bindings::static_branch_inc_deferred(self.0.get()) };
    }

    /// Takes back one [`DeferredKey::increment`]. The branches are switched off some time after
    /// the last one.
    pub fn decrement(&self) {
        // SAFETY: As above.
        unsafe { bindings::static_branch_dec_deferred(self.0.get()) };
    }
}
