// SPDX-License-Identifier: GPL-2.0

//! Single-consumer fast paths of a probepoint.
//!
//! Most probepoints have one consumer with one handler, or one return breakpoint. A hit there needs
//! neither the loop over the chain nor the checks for several entries. The functions here are
//! inlined into the hit path, because calls between them would add to the instructions of each hit.

use crate::{
    consumer::HandlerKind,
    entry::{
        ChainEntry,
        GroupReturnPoint,
        ReturnPoint, //
    },
    guard::HandlerGuard,
    probe::Probe, //
};

use kernel::{
    ptregs::PtRegs,
    sync::{
        tasks_trace::Guard,
        Arc,
        ArcBorrow,
        DirectArc, //
    },
    threads::ThreadGroup, //
};

/// The only consumer at a probepoint.
pub(crate) struct SingleConsumer {
    probe: Arc<Probe>,
    group: ThreadGroup,
}

impl SingleConsumer {
    pub(crate) fn new(entry: &ChainEntry) -> Self {
        Self {
            probe: entry.probe.clone(),
            group: entry.group,
        }
    }

    /// Returns the probe, if it fires for the current thread, which belongs to `group`.
    #[inline(always)]
    fn firing(
        &self,
        group: ThreadGroup,
        handler_guard: &HandlerGuard,
    ) -> Option<ArcBorrow<'_, Probe>> {
        let probe = self.probe.as_arc_borrow();
        (self.group == group && handler_guard.fires(probe)).then_some(probe)
    }

    /// Calls the handler, if the probe fires for the current thread, which belongs to `group`.
    #[inline(always)]
    pub(crate) fn call(
        &self,
        group: ThreadGroup,
        handler_guard: HandlerGuard,
        kind: HandlerKind,
        regs: &mut PtRegs,
    ) {
        let Some(probe) = self.firing(group, &handler_guard) else {
            return;
        };
        match kind {
            HandlerKind::Interrupt | HandlerKind::Task => probe.hits.increment(),
            HandlerKind::Filter | HandlerKind::Return => (),
        }
        handler_guard.call_single(probe, kind, regs);
    }
}

/// The only consumer at the entry of a function. It has a return handler.
pub(crate) struct SingleFunction {
    single: SingleConsumer,
    /// Whether the consumer also has a handler for task context, to call at the entry.
    at_entry: bool,
    function_entry: DirectArc<dyn ReturnPoint>,
}

impl SingleFunction {
    pub(crate) fn new(entry: &ChainEntry, function_entry: &Arc<dyn ReturnPoint>) -> Self {
        Self {
            single: SingleConsumer::new(entry),
            at_entry: entry.probe.handlers.task,
            function_entry: function_entry.clone().into(),
        }
    }

    /// Handles a hit of a thread of `group` at the entry of the function, which begins at `at`.
    #[inline(always)]
    pub(crate) fn enter(&self, at: usize, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        let handler_guard = HandlerGuard::new(false);
        let Some(probe) = self.single.firing(group, &handler_guard) else {
            return;
        };
        probe.hits.increment();
        if self.at_entry {
            handler_guard.call_single(probe, HandlerKind::Task, regs);
            // If the handler has moved the thread, the thread does not enter the function.
            if regs.ip() != at {
                return;
            }
        }
        let expected = self.function_entry.reached(probe.id, regs, guard);
        if expected.is_err() {
            self.miss(group);
        }
    }

    #[cold]
    fn miss(&self, group: ThreadGroup) {
        // The handler guard may have disarmed the probe since.
        if let Some(probe) = self.single.firing(group, &HandlerGuard::new(false)) {
            probe.misses.increment();
        }
    }

    /// Calls the return handler for a thread of `group`, unless the probe is newer than the call.
    /// `generation` was the number of the newest consumer at the call.
    #[inline(always)]
    pub(crate) fn returned(&self, group: ThreadGroup, generation: u64, regs: &mut PtRegs) {
        let handler_guard = HandlerGuard::new(false);
        let newer = self.single.probe.id > generation;
        let Some(probe) = self.single.firing(group, &handler_guard).filter(|_| !newer) else {
            return;
        };
        probe.returns.increment();
        handler_guard.call_single(probe, HandlerKind::Return, regs);
    }
}

/// The only return breakpoint at a probepoint that has no consumer.
pub(crate) struct SingleReturnPoint {
    group: ThreadGroup,
    point: DirectArc<dyn ReturnPoint>,
}

impl SingleReturnPoint {
    pub(crate) fn new(point: &GroupReturnPoint) -> Self {
        Self {
            group: point.group,
            point: point.point.clone().into(),
        }
    }

    /// Handles a hit of a thread of `group`. The filter of each return consumer is called later,
    /// when the return point reports the return.
    #[inline(always)]
    pub(crate) fn reached(&self, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        if self.group == group {
            let _ = self.point.reached(0, regs, guard);
        }
    }
}
