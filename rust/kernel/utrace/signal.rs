// SPDX-License-Identifier: GPL-2.0

//! Signals, as reported to an engine.

use super::Disposition;

use crate::{
    bindings,
    prelude::*, //
};

/// The state of a report from the signal code, with the decisions of the engines so far.
pub(super) struct SignalReport<'a> {
    /// The disposition of the signal, as bits of the C API.
    pub(super) bits: u32,
    pub(super) info: &'a mut bindings::kernel_siginfo,
    pub(super) action: &'a mut bindings::k_sigaction,
}

/// The reason for a call of [`Engine::signal`](super::Engine::signal).
pub enum SignalEvent<'a> {
    /// A signal was taken from the queue.
    Signal(Signal<'a>),
    /// No signal; a report was requested, see [`Action::Report`](super::Action::Report).
    Report(NoSignal<'a>),
    /// No signal; the handler of one has been set up, and is about to run.
    Handler(NoSignal<'a>),
    /// No signal; a step that this engine requested is over.
    Step(NoSignal<'a>),
}

impl<'a> SignalEvent<'a> {
    pub(super) fn new(signal_report: &'a mut SignalReport<'_>) -> Self {
        let (info, action) = (&mut *signal_report.info, &mut *signal_report.action);
        let bits = &mut signal_report.bits;
        match *bits & bindings::UTRACE_SIGNAL_MASK {
            bindings::utrace_signal_action_UTRACE_SIGNAL_REPORT => {
                Self::Report(NoSignal { bits, info, action })
            }
            bindings::utrace_signal_action_UTRACE_SIGNAL_HANDLER => {
                Self::Handler(NoSignal { bits, info, action })
            }
            bindings::utrace_signal_action_UTRACE_SIGNAL_STEP => {
                Self::Step(NoSignal { bits, info, action })
            }
            _ => Self::Signal(Signal { bits, info }),
        }
    }
}

/// A signal that the thread has taken from the queue, before it is delivered.
pub struct Signal<'a> {
    bits: &'a mut u32,
    info: &'a mut bindings::kernel_siginfo,
}

impl Signal<'_> {
    /// Returns the number of the signal.
    pub fn number(&self) -> i32 {
        self.info.__bindgen_anon_1.si_signo
    }

    /// Returns `si_code`, the origin of the signal.
    pub fn code(&self) -> i32 {
        self.info.__bindgen_anon_1.si_code
    }

    /// Returns `si_addr`, if the signal is one with an address, such as a fault or a trap.
    pub fn address(&self) -> Option<usize> {
        // SAFETY: `siginfo_layout()` has no requirements on its caller.
        let layout = unsafe { bindings::siginfo_layout(self.number() as c_uint, self.code()) };
        match layout {
            bindings::siginfo_layout_SIL_FAULT
            | bindings::siginfo_layout_SIL_FAULT_TRAPNO
            | bindings::siginfo_layout_SIL_FAULT_MCEERR
            | bindings::siginfo_layout_SIL_FAULT_BNDERR
            | bindings::siginfo_layout_SIL_FAULT_PKUERR
            | bindings::siginfo_layout_SIL_FAULT_PERF_EVENT => {
                // SAFETY: Every byte of a `struct kernel_siginfo` is initialised, and a pointer may
                // have any value. The layout says that `_sigfault` is in use.
                let addr = unsafe { self.info.__bindgen_anon_1._sifields._sigfault._addr };
                Some(addr as usize)
            }
            _ => None,
        }
    }

    /// Returns the disposition that the engines called before have chosen, or else the one that the
    /// process has set.
    pub fn found(&self) -> Disposition {
        if *self.bits & bindings::UTRACE_SIGNAL_HOLD != 0 {
            return Disposition::Hold;
        }
        Disposition::from_answer(*self.bits).unwrap_or(Disposition::Deliver)
    }

    /// Changes the disposition. Without this, it stays as in [`Signal::found`].
    pub fn decide(&mut self, disposition: Disposition) {
        *self.bits = disposition.bits();
    }
}

/// The place for a signal, in a report without one.
pub struct NoSignal<'a> {
    bits: &'a mut u32,
    info: &'a mut bindings::kernel_siginfo,
    action: &'a mut bindings::k_sigaction,
}

impl NoSignal<'_> {
    /// Delivers a signal to the thread at once, as if from the kernel. The process's disposition of
    /// the signal applies. The signal does not pass through the queue, and cannot be blocked.
    ///
    /// # Errors
    ///
    /// `EINVAL` if there is no such signal, or if it is `SIGKILL`; use
    /// [`Task::kill`](crate::task::Task::kill) for the latter.
    pub fn raise(self, number: i32) -> Result {
        let exists = (1..=bindings::_NSIG as i32).contains(&number);
        if !exists || number == bindings::SIGKILL as i32 {
            return Err(EINVAL);
        }
        *self.info = pin_init::zeroed();
        self.info.__bindgen_anon_1.si_signo = number;
        self.info.__bindgen_anon_1.si_code = bindings::SI_KERNEL as i32;
        // SAFETY: `number` was checked to be a signal.
        *self.action = unsafe { bindings::utrace_current_sigaction(number) };
        *self.bits = bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER;
        Ok(())
    }
}
