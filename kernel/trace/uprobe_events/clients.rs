// SPDX-License-Identifier: GPL-2.0

//! Who takes the hits or returns of an enabled probe: one client a usage.
//!
//! To trace, what is in registers is recorded at once, with interrupts disabled, which is sooner
//! done. Perf is told in task context, for its BPF programs may sleep.

use crate::event::UserProbe;
use kernel::{
    alloc::AllocError,
    ptregs::PtRegs,
    sync::{
        Arc,
        ArcBorrow, //
    },
    trace_probe::{
        DirectProbe,
        Kind,
        Probe,
        ProbeEvent,
        Usage, //
    },
};
use uprobes::{
    Client,
    Returning,
    Wants, //
};

/// Records hits in the trace buffers, at once.
pub(crate) struct DirectRecorder(DirectProbe<UserProbe>);

impl DirectRecorder {
    /// Makes one, if that can be done for the probe.
    pub(crate) fn new(probe: ArcBorrow<'_, Probe<UserProbe>>) -> Option<Self> {
        match probe.place().kind() {
            Kind::Hit => DirectProbe::new(probe).map(Self),
            Kind::Return => None,
        }
    }
}

impl Client for DirectRecorder {
    fn wants(&self) -> Wants {
        Wants::INTERRUPT
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        // SAFETY: Nobody but uprobes calls this, with interrupts disabled.
        unsafe { self.0.trace_hit(regs) };
        self.0.probe().place().hits.increment();
    }
}

/// Records in the trace buffers.
pub(crate) struct Recorder(pub(crate) Arc<Probe<UserProbe>>);

impl Recorder {
    fn record(&self, at: usize, regs: &PtRegs) {
        let place = self.0.place();

        match self.0.trace(at, regs) {
            Ok(()) => place.hits.increment(),
            Err(AllocError) => place.unrecorded.increment(),
        }
    }
}

impl Client for Recorder {
    fn wants(&self) -> Wants {
        wants_in_task(&self.0)
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.record(regs.ip(), regs);
    }

    fn returned(&self, regs: &mut PtRegs, how: Returning) {
        self.record(returns_to(regs, how), regs);
    }
}

/// Tells perf.
pub(crate) struct Profiler(pub(crate) Arc<Probe<UserProbe>>);

impl Profiler {
    fn tell(&self, at: usize, regs: &mut PtRegs) {
        let place = self.0.place();

        match self.0.profile(at, regs) {
            // What is traced as well counts there.
            Ok(()) if self.0.is_live(Usage::Trace) => (),
            Ok(()) => place.hits.increment(),
            Err(AllocError) => place.unrecorded.increment(),
        }
    }
}

impl Client for Profiler {
    fn wants(&self) -> Wants {
        wants_in_task(&self.0)
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.tell(regs.ip(), regs);
    }

    fn returned(&self, regs: &mut PtRegs, how: Returning) {
        self.tell(returns_to(regs, how), regs);
    }
}

fn wants_in_task(probe: &Probe<UserProbe>) -> Wants {
    match probe.place().kind() {
        Kind::Hit => Wants::TASK,
        Kind::Return => Wants::RETURNED,
    }
}

/// Where a function returns to. That cannot be read only if the thread is not going to get there.
fn returns_to(regs: &PtRegs, how: Returning) -> usize {
    how.address(regs).unwrap_or(0)
}
