// SPDX-License-Identifier: GPL-2.0

//! Calling handlers, which are others' code, such that their mistakes stay theirs.
//!
//! A handler that comes back in another context than it was called in, has slept where it must not,
//! or has taken longer than `kernel.uprobe_handler_budget_us`, is called no more: its probe is
//! disarmed, and the log says so, once. The context is put right, and the thread goes on.
//!
//! A handler that does not come back, or writes where it should not, cannot be contained. Nor can
//! locks that it has taken be released.

use crate::{
    client::Handler,
    probe::Probe, //
};

use kernel::{
    bindings,
    context::{
        Context,
        Imbalance, //
    },
    prelude::*,
    ptregs::PtRegs,
    sync::Arc,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// The handlers of one hit that run in the same context.
pub(crate) struct Calls {
    context: Context,
}

impl Calls {
    /// Begins, in the context that handlers are to be called in.
    #[inline]
    pub(crate) fn begin() -> Self {
        Self {
            context: Context::now(),
        }
    }

    /// Whether `probe` is to fire for the current thread.
    #[inline]
    pub(crate) fn fires(&self, probe: &Arc<Probe>) -> bool {
        if !probe.is_live() {
            return false;
        }
        if !probe.wants.filter {
            return true;
        }
        let fires = probe.client().fires_for(kernel::current!());
        let imbalance = self.context.restore();
        if !imbalance.is_none() {
            unbalanced(probe, Handler::Filter, imbalance);
        }
        fires
    }

    /// Calls a handler of `probe`, with the instruction pointer at `at`, wherever an earlier one
    /// has moved it. The last move counts.
    #[inline]
    pub(crate) fn call(&self, probe: &Arc<Probe>, handler: Handler, at: usize, regs: &mut PtRegs) {
        let moved = regs.ip();
        regs.set_ip(at);
        let budget = budget_us();
        if budget == 0 || probe.is_internal {
            invoke(probe, handler, regs);
        } else {
            timed(probe, handler, regs, budget);
        }
        let imbalance = self.context.restore();
        if !imbalance.is_none() {
            unbalanced(probe, handler, imbalance);
        }
        if regs.ip() == at {
            regs.set_ip(moved);
        }
    }
}

#[inline]
fn invoke(probe: &Probe, handler: Handler, regs: &mut PtRegs) {
    match handler {
        // That is not called with registers.
        Handler::Filter => (),
        Handler::Task => probe.client().hit(regs),
        Handler::Interrupt => probe.client().hit_in_interrupt(regs),
        Handler::Return(how) => probe.client().returned(regs, how),
    }
}

/// Microseconds that a handler may take, or 0.
#[inline]
fn budget_us() -> usize {
    // SAFETY: The administrator writes to it at any time; of a racing write the old or the new
    // value is read.
    unsafe { core::ptr::read_volatile(&raw const bindings::uprobe_handler_budget_us) }
}

fn timed(probe: &Arc<Probe>, handler: Handler, regs: &mut PtRegs, budget: usize) {
    let start = Instant::<Monotonic>::now();
    invoke(probe, handler, regs);
    let took: Delta = start.elapsed();
    let took = took.as_micros_ceil();
    if u64::try_from(took).is_ok_and(|took| took > budget as u64) {
        overdrawn(probe, handler, took, budget);
    }
}

#[cold]
fn overdrawn(probe: &Arc<Probe>, handler: Handler, took: i64, budget: usize) {
    if probe.disarm() {
        pr_warn!(
            "handler {} took {} us, of {} us that it may: its probe is disarmed\n",
            probe.client().symbol(handler),
            took,
            budget,
        );
    }
}

#[cold]
fn unbalanced(probe: &Arc<Probe>, handler: Handler, imbalance: Imbalance) {
    if probe.disarm() {
        pr_warn!(
            "handler {} {}: its probe is disarmed\n",
            probe.client().symbol(handler),
            imbalance,
        );
    }
}
