// SPDX-License-Identifier: GPL-2.0

//! Limits on what the kernel keeps for the return probes of a process.
//!
//! The process controls the number of pages of return instances and of breakpoints at return
//! addresses, by its stacks and by its calls. The kernel allocates both in the context of the
//! process and charges them to its memory cgroup. Together they must not exceed the sysctl
//! `kernel.uprobe_returns_kb`. A call for which there is no room counts as a miss.

use kernel::{
    bindings,
    prelude::*,
    sync::atomic::{
        Atomic,
        Relaxed, //
    },
    time::{
        Instant,
        Monotonic, //
    },
};

/// Returns the limit in bytes.
fn max_bytes() -> usize {
    // SAFETY: The variable is static. The sysctl writes to it at any time, and a volatile read of
    // a word gets the old or the new value.
    let kb = unsafe { core::ptr::read_volatile(&raw const bindings::uprobe_returns_kb) };
    kb.saturating_mul(1024)
}

/// Memory of the return probes of a process.
pub(crate) struct Memory {
    used: Atomic<i64>,
}

impl Memory {
    pub(crate) const fn new() -> Self {
        Self {
            used: Atomic::new(0),
        }
    }

    pub(crate) fn uncharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes as i64, Relaxed);
    }

    /// Charges an allocation.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no room.
    pub(crate) fn try_charge(&self, bytes: usize) -> Result<Charge<'_>> {
        let used = self.used.fetch_add(bytes as i64, Relaxed) as usize;
        let charge = Charge {
            memory: self,
            bytes,
        };
        if used.saturating_add(bytes) > max_bytes() {
            return Err(ENOMEM);
        }
        Ok(charge)
    }
}

/// A charge. Dropping it gives the charge back.
pub(crate) struct Charge<'a> {
    memory: &'a Memory,
    bytes: usize,
}

impl Charge<'_> {
    /// Keeps the charge. The caller must give it back by [`Memory::uncharge`].
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.memory.uncharge(self.bytes);
    }
}

/// Number of breakpoints at return addresses that a process may add in each second. To add one, the
/// kernel stops the threads of the process, because it changes text.
const ADDRESSES_A_SECOND: i64 = 1000;

/// Rate limit for adding breakpoints.
pub(crate) struct Rate {
    left: i64,
    since: Instant<Monotonic>,
}

impl Rate {
    pub(crate) fn new() -> Self {
        Self {
            left: ADDRESSES_A_SECOND,
            since: Instant::now(),
        }
    }

    /// Returns whether a breakpoint may be added now, and counts it.
    pub(crate) fn take(&mut self) -> bool {
        let earned = self.since.elapsed().as_millis() * ADDRESSES_A_SECOND / 1000;
        if earned > 0 {
            self.left = ADDRESSES_A_SECOND.min(self.left.saturating_add(earned));
            self.since = Instant::now();
        }
        let may = self.left > 0;
        self.left -= i64::from(may);
        may
    }
}
