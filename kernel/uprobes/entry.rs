// SPDX-License-Identifier: GPL-2.0

//! Chain entries of a probepoint: consumers, and return points.

use crate::probe::Probe;

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace::Guard,
        Arc, //
    },
    threads::ThreadGroup, //
};

/// A point at which return probes act: the entry of a function, where they expect its return, or a
/// return breakpoint, where they detect it. [`crate::returns`] implements this.
pub(crate) trait ReturnPoint: Send + Sync {
    /// Called for the current thread after the handlers of the consumers. `regs` are the registers
    /// of the thread. At the entry of a function, `generation` is the number of the newest consumer
    /// that wants its return.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// At the entry of a function: the return of this call will not be detected.
    fn reached(&self, generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result;
}

/// A return breakpoint, and the process that it belongs to.
#[derive(Clone)]
pub(crate) struct GroupReturnPoint {
    pub(crate) group: ThreadGroup,
    pub(crate) point: Arc<dyn ReturnPoint>,
}

impl GroupReturnPoint {
    /// Returns whether the return breakpoint is `point`.
    pub(crate) fn is(&self, point: &dyn ReturnPoint) -> bool {
        core::ptr::addr_eq(Arc::as_ptr(&self.point), point)
    }
}

/// A probe at a probepoint, and the process that it fires in.
#[derive(Clone)]
pub(crate) struct ChainEntry {
    pub(crate) probe: Arc<Probe>,
    pub(crate) group: ThreadGroup,
    /// The return point at the entry of the function, if the consumer wants returns.
    pub(crate) function_entry: Option<Arc<dyn ReturnPoint>>,
    /// Whether the consumer has a handler for interrupt context.
    pub(crate) is_for_interrupt: bool,
    /// Whether the entry has something to do in task context.
    pub(crate) is_for_task: bool,
}

impl ChainEntry {
    pub(crate) fn new(
        probe: Arc<Probe>,
        group: ThreadGroup,
        function_entry: Option<Arc<dyn ReturnPoint>>,
    ) -> Self {
        Self {
            is_for_interrupt: probe.handlers.interrupt,
            is_for_task: probe.handlers.task || function_entry.is_some(),
            probe,
            group,
            function_entry,
        }
    }
}
