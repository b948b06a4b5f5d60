// SPDX-License-Identifier: GPL-2.0

//! Handler guard: limits the damage that a faulty handler does.
//!
//! The kernel disarms the probe of a handler that
//!
//! - returns in another context than it was called in: with a lock of RCU held or interrupts
//!   enabled, for example, or after it has slept with interrupts disabled;
//! - takes longer than the sysctl `kernel.uprobe_handler_budget_us`.
//!
//! No handler of the probe is called afterwards, and the log names the faulty one. The guard
//! [restores](Context::restore) the context, and the thread continues. The owner of the probe sees
//! the disarming by [`Registration::is_disarmed`].
//!
//! The guard does not help against a handler that does not return or that writes to memory which it
//! does not own. It does not release locks that a handler has taken.
//!
//! [`Registration::is_disarmed`]: crate::Registration::is_disarmed

use crate::{
    consumer::HandlerKind,
    probe::{
        Probe,
        ProbeState, //
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

/// Guard of the handlers that one hit calls in the same context.
pub(crate) struct HandlerGuard {
    interrupts_off: bool,
    context: Context,
}

impl HandlerGuard {
    /// Creates the guard of the handlers for interrupt context or for task context. UBP reports a
    /// hit with nothing but interrupts disabled.
    #[inline]
    pub(crate) fn new(interrupts_off: bool) -> Self {
        Self {
            interrupts_off,
            context: Context::from_user_mode(interrupts_off),
        }
    }

    /// Returns whether `probe` fires for the current thread.
    #[inline]
    pub(crate) fn fires(&self, probe: ArcBorrow<'_, Probe>) -> bool {
        probe.fires_for_all() || passes_filter(probe, self.interrupts_off)
    }

    /// Calls a handler of `probe`, one of several. The handler finds the instruction pointer at
    /// `at`, even if an earlier handler has changed it. The last change takes effect.
    // Not inlined: the handlers of a chain share one copy of the call.
    #[inline(never)]
    pub(crate) fn call(
        &self,
        probe: ArcBorrow<'_, Probe>,
        kind: HandlerKind,
        at: usize,
        regs: &mut PtRegs,
    ) {
        let moved = regs.ip();
        regs.set_ip(at);
        self.call_single(probe, kind, regs);
        if regs.ip() == at {
            regs.set_ip(moved);
        }
    }

    /// Calls a handler of `probe`, the only one for this hit.
    // Inlined because each caller has a constant `kind`, which leaves one arm of `invoke`.
    #[inline(always)]
    pub(crate) fn call_single(
        &self,
        probe: ArcBorrow<'_, Probe>,
        kind: HandlerKind,
        regs: &mut PtRegs,
    ) {
        if budget_us() == 0 {
            invoke(&probe, kind, regs);
        } else {
            invoke_timed(probe, kind, regs);
        }
        if !self.context.is_kept() {
            unbalanced(probe, kind, self.context.restore());
        }
    }
}

// Inlined for a constant `kind`, as `HandlerGuard::call_single`.
#[inline(always)]
fn invoke(probe: &Probe, kind: HandlerKind, regs: &mut PtRegs) {
    match kind {
        // `passes_filter` calls the filter, which gets no registers.
        HandlerKind::Filter => (),
        HandlerKind::Task => probe.consumer().hit(regs),
        HandlerKind::Interrupt => probe.consumer().hit_in_interrupt(regs),
        HandlerKind::Return => probe.consumer().returned(regs),
    }
}

/// Returns whether a probe that is filtered or disabled fires for the current thread.
// Not inlined, to keep it out of the hit path of a probe without a filter.
#[inline(never)]
fn passes_filter(probe: ArcBorrow<'_, Probe>, interrupts_off: bool) -> bool {
    match probe.state() {
        ProbeState::Enabled => return true,
        ProbeState::Disabled => return false,
        ProbeState::Filtered => (),
    }
    let context = Context::from_user_mode(interrupts_off);
    let fires = probe.consumer().fires_for(kernel::current!());
    if !context.is_kept() {
        unbalanced(probe, HandlerKind::Filter, context.restore());
    }
    fires
}

/// Returns the time in microseconds that a handler may take; 0 if there is no limit.
#[inline]
fn budget_us() -> usize {
    // SAFETY: The variable is static. The sysctl writes to it at any time, and a volatile read of
    // a word gets the old or the new value.
    unsafe { core::ptr::read_volatile(&raw const bindings::uprobe_handler_budget_us) }
}

/// Calls a handler, and disarms its probe if the handler takes too long.
// Not inlined, to keep it out of the hit path without a budget.
#[inline(never)]
fn invoke_timed(probe: ArcBorrow<'_, Probe>, kind: HandlerKind, regs: &mut PtRegs) {
    let budget = budget_us();
    let start = Instant::<Monotonic>::now();
    invoke(&probe, kind, regs);
    let took: Delta = start.elapsed();
    let took = took.as_micros_ceil();
    if u64::try_from(took).is_ok_and(|took| took > budget as u64) {
        over_budget(probe, kind, took, budget);
    }
}

#[cold]
fn over_budget(probe: ArcBorrow<'_, Probe>, kind: HandlerKind, took: i64, budget: usize) {
    if Probe::disarm(probe) {
        pr_warn!(
            "handler {} took {} us, of {} us that it may: its probe is disarmed\n",
            probe.consumer().symbol(kind),
            took,
            budget,
        );
    }
}

#[cold]
fn unbalanced(probe: ArcBorrow<'_, Probe>, kind: HandlerKind, imbalance: Imbalance) {
    if Probe::disarm(probe) {
        pr_warn!(
            "handler {} {}: its probe is disarmed\n",
            probe.consumer().symbol(kind),
            imbalance,
        );
    }
}
