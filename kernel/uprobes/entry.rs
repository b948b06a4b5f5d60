// SPDX-License-Identifier: GPL-2.0

//! Chain entries of a probepoint: consumers, and return probes.

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

/// The part of return probes at a probepoint: at the entry of a function they expect its return, at
/// a return breakpoint they detect it. [`crate::returns`] implements it.
pub(crate) trait ReturnPoint: Send + Sync {
    /// Called for a thread of the process, whose registers are `regs`, after the handlers of the
    /// consumers. At the entry of a function, `generation` is the number of the newest consumer
    /// that wants its return.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// The return of the function that is entered will not be detected.
    fn reached(&self, generation: u64, regs: &mut PtRegs, guard: &Guard) -> Result;
}

/// A return breakpoint, and for which process.
#[derive(Clone)]
pub(crate) struct GroupReturnPoint {
    pub(crate) group: ThreadGroup,
    pub(crate) point: Arc<dyn ReturnPoint>,
}

impl GroupReturnPoint {
    /// Returns whether it is that return breakpoint.
    pub(crate) fn is(&self, point: &dyn ReturnPoint) -> bool {
        core::ptr::addr_eq(Arc::as_ptr(&self.point), point)
    }
}

/// What a probepoint is to a probe.
#[derive(Clone)]
pub(crate) enum Role {
    /// Where it is. If the probe wants returns, and its function has no size, this is the entry of
    /// the function.
    Hit(Option<Arc<dyn ReturnPoint>>),
    /// An instruction by which the function returns.
    Exit,
}

/// A probe, and for which process.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) probe: Arc<Probe>,
    pub(crate) group: ThreadGroup,
    pub(crate) role: Role,
    /// Whether it is called with interrupts disabled.
    pub(crate) is_for_interrupt: bool,
    /// Whether there is something to do for it in task context.
    pub(crate) is_for_task: bool,
}

impl Entry {
    pub(crate) fn new(probe: Arc<Probe>, group: ThreadGroup, role: Role) -> Self {
        let (is_for_interrupt, is_for_task) = match &role {
            Role::Hit(returns) => (probe.wants.interrupt, probe.wants.task || returns.is_some()),
            Role::Exit => (false, true),
        };
        Self {
            probe,
            group,
            role,
            is_for_interrupt,
            is_for_task,
        }
    }
}
