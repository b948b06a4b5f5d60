// SPDX-License-Identifier: GPL-2.0

//! Instructions that a control-flow walk has reached.

use kernel::prelude::*;
use ubp::Vaddr;

/// A range of instructions that one path has reached.
struct Range {
    start: usize,
    end: usize,
    /// Index of the last call before the range; see [`walk`](crate::returns::walk).
    call: Option<usize>,
}

/// The instructions that a walk has reached, in the order of addresses.
pub(crate) struct Seen(KVec<Range>);

impl Seen {
    pub(crate) fn new() -> Self {
        Self(KVec::new())
    }

    fn position(&self, at: usize) -> usize {
        self.0.partition_point(|range| range.start <= at)
    }

    /// Returns whether a path has reached the instruction at an address.
    pub(crate) fn has(&self, at: Vaddr) -> bool {
        let at = at.as_usize();
        let before = self.position(at).checked_sub(1);
        before
            .and_then(|index| self.0.get(index))
            .is_some_and(|range| at < range.end)
    }

    /// Adds the instruction from `from` to `to`, which a path has reached after `call`.
    pub(crate) fn add(&mut self, from: Vaddr, to: Vaddr, call: Option<usize>) -> Result {
        let (start, end) = (from.as_usize(), to.as_usize());
        let position = self.position(start);
        let before = position.checked_sub(1);
        if let Some(range) = before.and_then(|index| self.0.get_mut(index)) {
            if range.end == start && range.call == call {
                range.end = end;
                return Ok(());
            }
        }
        self.0.reserve(1, GFP_KERNEL)?;
        self.0
            .insert_within_capacity(position, Range { start, end, call })
            .map_err(|_| ENOMEM)
    }

    /// Drops the instructions for whose last call `keep` does not hold.
    pub(crate) fn retain(&mut self, keep: impl Fn(Option<usize>) -> bool) {
        self.0.retain(|range| keep(range.call));
    }
}
