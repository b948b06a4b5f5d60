// SPDX-License-Identifier: GPL-2.0

//! Whether the call sites are switched on.

use kernel::static_key::{
    DeferredKey,
    Enabled, //
};

extern "C" {
    /// See `include/linux/ubp.h`.
    #[link_name = "ubp_active"]
    static KEY: DeferredKey;
}

/// Switches the call sites on, for as long as the result lives.
///
/// Context: as of [`utrace::Active::new`].
pub(crate) fn activate() -> Enabled {
    // SAFETY: `exports.c` defines the key.
    unsafe { &KEY }.enable()
}
