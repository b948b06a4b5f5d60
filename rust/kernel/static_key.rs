// SPDX-License-Identifier: GPL-2.0

//! Static keys that Rust code enables, for call sites in C code.
//!
//! C header: [`include/linux/jump_label_ratelimit.h`](srctree/include/linux/jump_label_ratelimit.h)

use crate::{
    bindings,
    prelude::*,
    types::Opaque, //
};

use core::marker::PhantomData;

/// A `struct static_key_false_deferred`, which C code defines.
///
/// The key is switched off with a delay, so that a key that is switched on and off in quick
/// succession does not patch the kernel's text each time, and so that dropping an [`Enabled`] does
/// not take the locks that text patching needs.
#[repr(transparent)]
pub struct DeferredKey(Opaque<bindings::static_key_false_deferred>);

// SAFETY: Any thread may operate on a static key at any time.
unsafe impl Sync for DeferredKey {}

/// Call sites in C code that a key switches on and off.
pub trait CallSites {
    /// Returns the key.
    fn key() -> &'static DeferredKey;
}

/// Keeps call sites switched on.
///
/// # Invariants
///
/// Each instance is counted once in `key`.
#[must_use = "if unused, the call sites are switched off again"]
pub struct Enabled<S: CallSites> {
    key: &'static DeferredKey,
    _sites: PhantomData<S>,
}

impl<S: CallSites> Enabled<S> {
    /// Switches the call sites on. They are on when this returns.
    ///
    /// Context: may sleep. Takes `cpu_hotplug_lock`, even if the call sites are on already. Cpusets
    /// take `mmap_lock` with `cpu_hotplug_lock` held, so the caller must not hold `mmap_lock`, nor
    /// a lock within which `mmap_lock` is taken.
    #[expect(clippy::new_without_default, reason = "it sleeps, and takes a lock")]
    pub fn new() -> Self {
        let key = S::key();
        // SAFETY: A reference to this type refers to a key that C code has initialised.
        unsafe { bindings::static_branch_inc_deferred(key.0.get()) };
        // INVARIANT: The call above counted this instance.
        Self {
            key,
            _sites: PhantomData,
        }
    }

    /// Counts the key once more. Neither takes a lock nor sleeps, because the call sites are
    /// already on.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: the count would overflow.
    pub fn try_clone(&self) -> Result<Self> {
        // SAFETY: A reference to this type refers to a key that C code has initialised.
        if unsafe { bindings::static_branch_inc_enabled(self.key.0.get()) } {
            // INVARIANT: The call above counted this instance.
            Ok(Self {
                key: self.key,
                _sites: PhantomData,
            })
        } else {
            Err(ENOMEM)
        }
    }
}

impl<S: CallSites> Drop for Enabled<S> {
    /// Does not sleep. The call sites are switched off some time after the last drop.
    fn drop(&mut self) {
        // SAFETY: A reference to this type refers to a key that C code has initialised. By the type
        // invariants the key counts this instance.
        unsafe { bindings::static_branch_dec_deferred(self.key.0.get()) };
    }
}
