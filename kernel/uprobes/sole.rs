// SPDX-License-Identifier: GPL-2.0

//! The only one who is called at a probepoint: mostly there is one, and these are the fast ways.

use crate::{
    client::{
        Handler,
        Returning, //
    },
    contain::Calls,
    entry::{
        Entry,
        GroupReturnPoint,
        ReturnPoint, //
    },
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

/// The only one who is called.
pub(crate) struct Sole {
    probe: Arc<Probe>,
    group: ThreadGroup,
}

impl Sole {
    pub(crate) fn of(entry: &Entry) -> Self {
        Self {
            probe: entry.probe.clone(),
            group: entry.group,
        }
    }

    /// The probe, if it is to fire for a thread of `group`.
    #[inline(always)]
    fn firing(&self, group: ThreadGroup, calls: &Calls) -> Option<ArcBorrow<'_, Probe>> {
        let probe = self.probe.as_arc_borrow();
        (self.group == group && calls.fires(probe)).then_some(probe)
    }

    /// Calls its handler, if the probe is to fire for a thread of `group`.
    #[inline(always)]
    pub(crate) fn call(
        &self,
        group: ThreadGroup,
        calls: Calls,
        handler: Handler,
        regs: &mut PtRegs,
    ) {
        let Some(probe) = self.firing(group, &calls) else {
            return;
        };
        match handler {
            Handler::Interrupt | Handler::Task => probe.hits.increment(),
            Handler::Return(_) => probe.returns.increment(),
            Handler::Filter => (),
        }
        calls.call_sole(probe, handler, regs);
    }
}

/// The only one who is called, of a function whose returns are noticed.
pub(crate) struct SoleFunction {
    sole: Sole,
    /// Whether it has a handler for the entry.
    at_entry: bool,
    entrance: DirectArc<dyn ReturnPoint>,
}

impl SoleFunction {
    pub(crate) fn of(entry: &Entry, entrance: &Arc<dyn ReturnPoint>) -> Self {
        Self {
            sole: Sole::of(entry),
            at_entry: entry.probe.wants.task,
            entrance: entrance.clone().into(),
        }
    }

    /// A thread of `group` enters the function, which begins at `at`.
    #[inline(always)]
    pub(crate) fn enter(&self, at: usize, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        let calls = Calls::begin(false);
        let Some(probe) = self.sole.firing(group, &calls) else {
            return;
        };
        probe.hits.increment();
        if self.at_entry {
            calls.call_sole(probe, Handler::Task, regs);
            // A thread that has been sent elsewhere does not call the function.
            if regs.ip() != at {
                return;
            }
        }
        let expected = self.entrance.reached(probe.id, regs, guard);
        if expected.is_err() {
            self.miss(group);
        }
    }

    #[cold]
    fn miss(&self, group: ThreadGroup) {
        // It may have been disarmed by now.
        if let Some(probe) = self.sole.firing(group, &Calls::begin(false)) {
            probe.misses.increment();
        }
    }

    /// The thread, of `group`, is about to return from the function. It was entered when `newest`
    /// was the newest probe.
    #[inline(always)]
    pub(crate) fn returning(&self, group: ThreadGroup, newest: u64, regs: &mut PtRegs) {
        let calls = Calls::begin(false);
        let newer = self.sole.probe.id > newest;
        let Some(probe) = self.sole.firing(group, &calls).filter(|_| !newer) else {
            return;
        };
        probe.returns.increment();
        calls.call_sole(probe, Handler::Return(Returning::From), regs);
    }
}

/// The only return breakpoint, where there is no consumer.
pub(crate) struct SoleReturnPoint {
    group: ThreadGroup,
    point: DirectArc<dyn ReturnPoint>,
}

impl SoleReturnPoint {
    pub(crate) fn of(point: &GroupReturnPoint) -> Self {
        Self {
            group: point.group,
            point: point.point.clone().into(),
        }
    }

    /// A thread of `group` is there. The point notifies consumers elsewhere, each of which filters
    /// for itself.
    #[inline(always)]
    pub(crate) fn reached(&self, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        if self.group == group {
            let _ = self.point.reached(0, regs, guard);
        }
    }
}
