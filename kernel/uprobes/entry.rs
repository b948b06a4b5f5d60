// SPDX-License-Identifier: GPL-2.0

//! Chain entries of a probepoint: consumers, return points, and the probe of a file.

use crate::probe::Probe;

use kernel::{
    mm::MmWithUser,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::Atomic,
        tasks_trace::Guard,
        Arc,
        DirectArc, //
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

/// A call of a function that has ended by its return.
#[derive(Clone, Copy)]
pub(crate) struct EndedCall {
    /// Address of the function.
    pub(crate) function: usize,
    /// Location of the return address on the stack.
    pub(crate) location: usize,
    /// Number of the newest consumer that wanted the return at the time of the call.
    pub(crate) generation: u64,
}

/// The probe of a mapped file at a probepoint. [`crate::files`] implements this.
pub(crate) trait FilePlace: Send + Sync {
    /// Returns the flag that says whether a consumer wants to know of returns.
    ///
    /// Context: any.
    fn wants_returns(&self) -> &Arc<Atomic<bool>>;

    /// Calls the handlers of the consumers for the current thread, none of which wants to know of
    /// returns.
    ///
    /// Context: may sleep.
    fn hit(&self, regs: &mut PtRegs, guard: &Guard);

    /// Calls the handlers of the consumers for the current thread, which is at `at`. Returns the
    /// number of the newest consumer that wants the return of this call, if one does and the thread
    /// is still at `at`.
    ///
    /// Context: may sleep.
    fn hit_for_return(&self, at: usize, regs: &mut PtRegs, guard: &Guard) -> Option<u64>;

    /// Calls the return handlers of the consumers for the current thread, which has returned from
    /// the function here.
    ///
    /// Context: may sleep.
    fn returned(&self, ended: EndedCall, regs: &mut PtRegs, guard: &Guard);

    /// Prepares the detection of returns of the function here in the current thread's process.
    /// Returns the return point of its entry.
    ///
    /// Context: may sleep, and wait for page faults.
    fn prepare_returns(&self) -> Result<Arc<dyn ReturnPoint>>;

    /// Adds the probe to a copy of the address space, which `fork()` has made.
    ///
    /// Context: may sleep, and wait for page faults.
    fn inherit(&self, copy: &ARef<MmWithUser>);

    /// The breakpoint has gone with its page of text, and something else takes the probepoint's
    /// place.
    ///
    /// Context: any.
    fn lost(&self);

    /// Has the place forgotten, because the last user of the address space has gone.
    ///
    /// Context: any.
    fn space_ended(&self);
}

/// The entry of the function at a probepoint, as the return probes of one process know it.
#[derive(Clone)]
pub(crate) struct GroupFunction {
    pub(crate) group: ThreadGroup,
    /// `None`: the returns cannot be detected.
    pub(crate) entry: Option<DirectArc<dyn ReturnPoint>>,
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
