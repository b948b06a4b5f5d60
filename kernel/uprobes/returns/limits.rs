// SPDX-License-Identifier: GPL-2.0

//! Limits on what the kernel keeps for the return probes of a process.
//!
//! The process decides where its stacks are and from where it calls a function, so that it decides
//! how many pages of return instances and how many breakpoints at return addresses there are. Both
//! are allocated in its context, and charged to its memory cgroup; together they must not exceed
//! the sysctl `kernel.uprobe_returns_kb`. A call that they have no room for is a miss.

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
    // SAFETY: The administrator writes to the variable at any time; of a racing write the old or
    // the new value is read.
    let kb = unsafe { core::ptr::read_volatile(&raw const bindings::uprobe_returns_kb) };
    kb.saturating_mul(1024)
}

/// The memory of a process's return probes.
pub(crate) struct Memory {
    used: Atomic<i64>,
}

impl Memory {
    pub(crate) const fn new() -> Self {
        Self {
            used: Atomic::new(0),
        }
    }

    /// Charges an allocation. The caller must return what it gets by [`Memory::uncharge`] when it
    /// frees the allocation.
    ///
    /// # Errors
    ///
    /// `ENOMEM`: there is no room.
    pub(crate) fn charge(&self, bytes: usize) -> Result {
        let used = self.used.fetch_add(bytes as i64, Relaxed) as usize;
        if used.saturating_add(bytes) > max_bytes() {
            self.uncharge(bytes);
            return Err(ENOMEM);
        }
        Ok(())
    }

    pub(crate) fn uncharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes as i64, Relaxed);
    }

    /// Charges an allocation until the caller keeps the charge.
    pub(crate) fn try_charge(&self, bytes: usize) -> Result<Charge<'_>> {
        self.charge(bytes)?;
        Ok(Charge {
            memory: self,
            bytes,
        })
    }
}

/// A charge that is given back on a drop.
pub(crate) struct Charge<'a> {
    memory: &'a Memory,
    bytes: usize,
}

impl Charge<'_> {
    /// Leaves it to the caller to give the charge back.
    pub(crate) fn keep(self) {
        core::mem::forget(self);
    }
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.memory.uncharge(self.bytes);
    }
}

/// How many breakpoints at return addresses a process may add at once, and in each second. Each of
/// them changes text, for which the threads of the process are stopped.
const ADDRESSES_A_SECOND: i64 = 1000;

/// How fast breakpoints are added.
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

    /// Returns whether one more may be added now.
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
