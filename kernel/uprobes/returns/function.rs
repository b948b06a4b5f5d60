// SPDX-License-Identifier: GPL-2.0

//! A function that has return probes.

use crate::probepoint::Probepoint;

use kernel::{
    prelude::*,
    sync::Arc,
    uprobes::Detection, //
};
use ubp::Vaddr;

/// A function that has return probes.
pub(crate) struct Function {
    pub(crate) probepoint: Arc<Probepoint>,
    /// The return instructions that have breakpoints, in the order of addresses.
    pub(crate) return_insns: KVec<Vaddr>,
    pub(crate) detection: Detection,
    /// Whether the function may jump to its first instruction.
    pub(crate) may_reenter: bool,
}

impl Function {
    pub(crate) fn is_followed(&self) -> bool {
        !matches!(self.detection, Detection::ReturnAddress { .. })
    }

    pub(crate) fn owns_return_insns(&self) -> bool {
        self.detection == Detection::OwnReturnInsns
    }

    /// Returns whether the text of the function has been unmapped.
    pub(crate) fn is_gone(&self) -> bool {
        self.probepoint.is_gone()
    }

    /// Returns whether the function begins at `entry`, and still has its breakpoint.
    // Inlined into the fast path of a return.
    #[inline(always)]
    pub(crate) fn is_at(&self, entry: usize) -> bool {
        self.probepoint.at.as_usize() == entry && !self.probepoint.is_gone()
    }
}

/// The generation of a return for which the kernel calls all consumers, because it does not know
/// the call.
pub(crate) const ANY_GENERATION: u64 = u64::MAX;

/// A function from which a thread returns, and the [generation](Caller) of the call.
pub(crate) type Called<'a> = (&'a Function, u64);
