// SPDX-License-Identifier: GPL-2.0

//! Whether the call sites are switched on.

use kernel::{
    prelude::*,
    static_key::{
        DeferredKey,
        Enabled, //
    }, //
};

extern "C" {
    /// See `include/linux/utrace.h`.
    #[link_name = "utrace_active"]
    static KEY: DeferredKey;
}

/// Keeps the call sites switched on.
///
/// Code that needs the call sites with `mmap_lock` held takes a reference to one, because none can
/// be made there.
#[must_use = "if unused, the call sites are switched off again"]
pub struct Active(Enabled);

impl Active {
    /// Switches the call sites on.
    ///
    /// Context: may sleep. Takes `cpu_hotplug_lock`, within which cpusets take `mmap_lock`, so the
    /// caller must not hold `mmap_lock`, nor a lock within which `mmap_lock` is taken.
    #[expect(clippy::new_without_default, reason = "it sleeps, and takes a lock")]
    pub fn new() -> Self {
        // SAFETY: `exports.c` defines the key.
        Self(unsafe { &KEY }.enable())
    }

    /// Keeps them on for a second user. Neither takes a lock nor sleeps.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there are too many.
    pub fn try_clone(&self) -> Result<Self> {
        self.0.try_clone().map(Self)
    }
}
