// SPDX-License-Identifier: GPL-2.0

//! Return breakpoints in text that has been unmapped, as a JIT compiler does, and the memory that
//! they take.

use super::{
    Adding,
    Breakpoints,
    Inserted,
    BREAKPOINT_BYTES, //
};
use crate::returns::limits::{
    Charge,
    Memory, //
};

use kernel::{
    prelude::*,
    sync::tasks_trace, //
};

/// Number of charges that must fail before the breakpoints that have been removed are dropped.
const REFUSALS: usize = 32;

impl Breakpoints {
    /// Charges a breakpoint at a return address.
    ///
    /// If there is no room, drops breakpoints in text that has been unmapped. This visits all
    /// breakpoints, so it happens once for [`REFUSALS`] failures.
    pub(super) fn charge<'a>(&self, memory: &'a Memory, adding: &mut Adding) -> Result<Charge<'a>> {
        if !adding.rate.take() {
            return Err(EAGAIN);
        }
        memory.try_charge(BREAKPOINT_BYTES).or_else(|error| {
            adding.refused += 1;
            if adding.refused < REFUSALS {
                return Err(error);
            }
            adding.refused = 0;
            self.remove_gone(|inserted| {
                if inserted.is_charged {
                    memory.uncharge(BREAKPOINT_BYTES);
                }
                inserted.is_charged
            });
            memory.try_charge(BREAKPOINT_BYTES)
        })
    }

    /// Removes the breakpoints in text that has been unmapped that `is_meant` holds for. `open`
    /// must be locked.
    fn remove_gone(&self, is_meant: impl Fn(&Inserted) -> bool) {
        let guard = tasks_trace::read_lock();
        for (at, inserted) in self.inserted.range(0..=usize::MAX, &guard) {
            if inserted.is_gone() && is_meant(inserted) {
                inserted.remove();
                self.inserted.remove(at);
            }
        }
    }

    /// Removes the breakpoints at return instructions in text that has been unmapped.
    ///
    /// Context: may sleep.
    pub(crate) fn remove_gone_insns(&self) {
        let open = self.open.lock();
        if open.is_some() {
            self.remove_gone(|inserted| !inserted.is_charged && inserted.probepoint.is_some());
        }
    }
}
