// SPDX-License-Identifier: GPL-2.0

//! Static keys that Rust code counts in, for branches in C code.
//!
//! C header: [`include/linux/jump_label_ratelimit.h`](srctree/include/linux/jump_label_ratelimit.h)

use crate::{
    bindings,
    prelude::*,
    types::Opaque, //
};

/// A `struct static_key_false_deferred`, which C code defines.
///
/// Switching off is put off for a while, so that a key that is switched on and off in quick
/// succession does not patch the kernel's text each time, and so that dropping an [`Enabled`] does
/// not take the locks that text patching needs.
#[repr(transparent)]
pub struct DeferredKey(Opaque<bindings::static_key_false_deferred>);

// SAFETY: The operations on a static key may be done from any thread at any time.
unsafe impl Sync for DeferredKey {}

/// Keeps the branches of a key switched on.
///
/// # Invariants
///
/// Each instance is counted once in the key.
#[must_use = "if unused, the branches are switched off again"]
pub struct Enabled(&'static DeferredKey);

impl DeferredKey {
    /// Switches the branches on, if they are not. When it returns, they are on.
    ///
    /// Context: may sleep. Takes `cpu_hotplug_lock`, even if the branches are on already. Cpusets
    /// take `mmap_lock` with `cpu_hotplug_lock` held, so the caller must not hold `mmap_lock`, nor
    /// a lock within which `mmap_lock` is taken.
    pub fn enable(&'static self) -> Enabled {
        // SAFETY: A reference to this type is to a key that C code has initialised.
        unsafe { bindings::static_branch_inc_deferred(self.0.get()) };
        // INVARIANT: Counted just now.
        Enabled(self)
    }
}

impl Enabled {
    /// Counts once more. Neither takes a lock nor sleeps, because the branches are on already.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: the count would overflow.
    pub fn try_clone(&self) -> Result<Self> {
        // SAFETY: A reference to this type is to a key that C code has initialised.
        if unsafe { bindings::static_branch_inc_enabled(self.0 .0.get()) } {
            // INVARIANT: Counted just now.
            Ok(Self(self.0))
        } else {
            Err(ENOMEM)
        }
    }
}

impl Drop for Enabled {
    /// Does not sleep. The branches are switched off some time after the last drop.
    fn drop(&mut self) {
        // SAFETY: As above; by the type invariants this is one of the counts.
        unsafe { bindings::static_branch_dec_deferred(self.0 .0.get()) };
    }
}
