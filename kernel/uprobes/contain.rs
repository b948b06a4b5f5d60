// SPDX-License-Identifier: GPL-2.0

//! Containment of handlers, which are code of others.
//!
//! A handler that returns in another context than it was called in, which includes one that has
//! slept with interrupts disabled, or that has taken longer than
//! `kernel.uprobe_handler_budget_us`, is called no more: its probe is disarmed, and the log has one
//! line with the name of the handler. The context is [restored](Context::restore), and the thread
//! goes on. [`Registration::is_disarmed`] shows the owner of the probe that this has happened.
//!
//! A handler that does not return, or writes to memory of others, cannot be contained. The locks
//! that it has taken cannot be released.
//!
//! [`Registration::is_disarmed`]: crate::Registration::is_disarmed

use crate::{
    client::Handler,
    probe::{
        Gate,
        Probe, //
    }, //
};

use kernel::{
    bindings,
    context::{
        Context,
        Imbalance, //
    },
    prelude::*,
    ptregs::PtRegs,
    sync::ArcBorrow,
    time::{
        Delta,
        Instant,
        Monotonic, //
    },
};

/// The handlers of one hit that run in the same context.
pub(crate) struct Calls {
    interrupts_off: bool,
    context: Context,
}

impl Calls {
    /// Begins with the handlers that are called with interrupts disabled, or with those that are
    /// called in task context. Nothing else is disabled where hits are told of.
    #[inline]
    pub(crate) fn begin(interrupts_off: bool) -> Self {
        Self {
            interrupts_off,
            context: Context::from_user_mode(interrupts_off),
        }
    }

    /// Whether `probe` is to fire for the current thread.
    #[inline]
    pub(crate) fn fires(&self, probe: ArcBorrow<'_, Probe>) -> bool {
        probe.is_open() || passes(probe, self.interrupts_off)
    }

    /// Calls a handler of `probe`, with the instruction pointer at `at`, wherever an earlier one
    /// has moved it. The last move counts.
    #[inline(never)]
    pub(crate) fn call(
        &self,
        probe: ArcBorrow<'_, Probe>,
        handler: Handler,
        at: usize,
        regs: &mut PtRegs,
    ) {
        let moved = regs.ip();
        regs.set_ip(at);
        self.call_sole(probe, handler, regs);
        if regs.ip() == at {
            regs.set_ip(moved);
        }
    }

    /// Calls the only handler that there is.
    #[inline(always)]
    pub(crate) fn call_sole(
        &self,
        probe: ArcBorrow<'_, Probe>,
        handler: Handler,
        regs: &mut PtRegs,
    ) {
        if budget_us() == 0 {
            invoke(&probe, handler, regs);
        } else {
            timed(probe, handler, regs);
        }
        if !self.context.is_kept() {
            unbalanced(probe, handler, self.context.restore());
        }
    }
}

#[inline(always)]
fn invoke(probe: &Probe, handler: Handler, regs: &mut PtRegs) {
    match handler {
        // That is not called with registers.
        Handler::Filter => (),
        Handler::Task => probe.client().hit(regs),
        Handler::Interrupt => probe.client().hit_in_interrupt(regs),
        Handler::Return(how) => probe.client().returned(regs, how),
    }
}

/// Whether a probe that is not open for all lets the current thread pass.
#[inline(never)]
fn passes(probe: ArcBorrow<'_, Probe>, interrupts_off: bool) -> bool {
    match probe.gate() {
        Gate::Open => return true,
        Gate::Closed => return false,
        Gate::Guarded => (),
    }
    let context = Context::from_user_mode(interrupts_off);
    let fires = probe.client().fires_for(kernel::current!());
    if !context.is_kept() {
        unbalanced(probe, Handler::Filter, context.restore());
    }
    fires
}

/// Microseconds that a handler may take, or 0.
#[inline]
fn budget_us() -> usize {
    // SAFETY: The administrator writes to it at any time; of a racing write the old or the new
    // value is read.
    unsafe { core::ptr::read_volatile(&raw const bindings::uprobe_handler_budget_us) }
}

#[inline(never)]
fn timed(probe: ArcBorrow<'_, Probe>, handler: Handler, regs: &mut PtRegs) {
    let budget = budget_us();
    let start = Instant::<Monotonic>::now();
    invoke(&probe, handler, regs);
    let took: Delta = start.elapsed();
    let took = took.as_micros_ceil();
    if u64::try_from(took).is_ok_and(|took| took > budget as u64) {
        overdrawn(probe, handler, took, budget);
    }
}

#[cold]
fn overdrawn(probe: ArcBorrow<'_, Probe>, handler: Handler, took: i64, budget: usize) {
    if Probe::disarm(probe) {
        pr_warn!(
            "handler {} took {} us, of {} us that it may: its probe is disarmed\n",
            probe.client().symbol(handler),
            took,
            budget,
        );
    }
}

#[cold]
fn unbalanced(probe: ArcBorrow<'_, Probe>, handler: Handler, imbalance: Imbalance) {
    if Probe::disarm(probe) {
        pr_warn!(
            "handler {} {}: its probe is disarmed\n",
            probe.client().symbol(handler),
            imbalance,
        );
    }
}
