// SPDX-License-Identifier: GPL-2.0

//! Signals as an engine sees them.

use crate::{
    bindings,
    prelude::*, //
};

/// What is to become of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// What the process has set for it; for most engines, its handler is run.
    Deliver,
    /// Nothing.
    Ignore,
    /// The end of the process.
    Terminate,
    /// The end of the process, with a core dump.
    Core,
    /// A stop of the process, as by `SIGSTOP`.
    Stop,
    /// The same, but not if the process group is orphaned.
    Tstp,
    /// Back into the queue with it.
    Hold,
}

impl Disposition {
    pub(super) fn from_bits(bits: u32) -> Self {
        if bits & bindings::UTRACE_SIGNAL_HOLD != 0 {
            return Self::Hold;
        }
        match bits & bindings::UTRACE_SIGNAL_MASK {
            bindings::utrace_signal_action_UTRACE_SIGNAL_IGN => Self::Ignore,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TERM => Self::Terminate,
            bindings::utrace_signal_action_UTRACE_SIGNAL_CORE => Self::Core,
            bindings::utrace_signal_action_UTRACE_SIGNAL_STOP => Self::Stop,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TSTP => Self::Tstp,
            _ => Self::Deliver,
        }
    }

    pub(super) fn bits(self) -> u32 {
        match self {
            Self::Deliver => bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER,
            Self::Ignore => bindings::utrace_signal_action_UTRACE_SIGNAL_IGN,
            Self::Terminate => bindings::utrace_signal_action_UTRACE_SIGNAL_TERM,
            Self::Core => bindings::utrace_signal_action_UTRACE_SIGNAL_CORE,
            Self::Stop => bindings::utrace_signal_action_UTRACE_SIGNAL_STOP,
            Self::Tstp => bindings::utrace_signal_action_UTRACE_SIGNAL_TSTP,
            Self::Hold => {
                bindings::utrace_signal_action_UTRACE_SIGNAL_IGN | bindings::UTRACE_SIGNAL_HOLD
            }
        }
    }
}

/// What a report made where signals are handled holds, and what it becomes.
pub(super) struct Slot<'a> {
    /// What is to become of the signal, as the C API has it.
    pub(super) bits: u32,
    pub(super) info: &'a mut bindings::kernel_siginfo,
    pub(super) action: &'a mut bindings::k_sigaction,
}

/// Why [`Engine::signal`](super::Engine::signal) is called.
pub enum Occasion<'a> {
    /// A signal was taken from the queue.
    Signal(Signal<'a>),
    /// There is none: the thread was to report, see [`Action::Report`](super::Action::Report).
    Report(NoSignal<'a>),
    /// There is none: the handler of one has been set up, and is about to be run.
    Handler(NoSignal<'a>),
    /// There is none: a step that this engine asked for is over.
    Step(NoSignal<'a>),
}

impl<'a> Occasion<'a> {
    pub(super) fn new(slot: &'a mut Slot<'_>) -> Self {
        let (info, action) = (&mut *slot.info, &mut *slot.action);
        let bits = &mut slot.bits;
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

/// A signal that was taken from the queue, on its way to the thread.
pub struct Signal<'a> {
    bits: &'a mut u32,
    info: &'a mut bindings::kernel_siginfo,
}

impl Signal<'_> {
    /// The number of the signal.
    pub fn number(&self) -> i32 {
        self.info.__bindgen_anon_1.si_signo
    }

    /// Where it comes from: `si_code`.
    pub fn code(&self) -> i32 {
        self.info.__bindgen_anon_1.si_code
    }

    /// The address that it is about, if it is about one: `si_addr` of a fault or trap.
    pub fn address(&self) -> Option<usize> {
        // SAFETY: There are no requirements on the caller.
        let layout = unsafe { bindings::siginfo_layout(self.number() as c_uint, self.code()) };
        match layout {
            bindings::siginfo_layout_SIL_FAULT
            | bindings::siginfo_layout_SIL_FAULT_TRAPNO
            | bindings::siginfo_layout_SIL_FAULT_MCEERR
            | bindings::siginfo_layout_SIL_FAULT_BNDERR
            | bindings::siginfo_layout_SIL_FAULT_PKUERR
            | bindings::siginfo_layout_SIL_FAULT_PERF_EVENT => {
                // SAFETY: Every byte of a `struct kernel_siginfo` is initialised, and any are a
                // valid pointer; the layout says that these are meant.
                let addr = unsafe { self.info.__bindgen_anon_1._sifields._sigfault._addr };
                Some(addr as usize)
            }
            _ => None,
        }
    }

    /// What becomes of it: what the engines that were asked before want, or else what the process
    /// has set.
    pub fn found(&self) -> Disposition {
        Disposition::from_bits(*self.bits)
    }

    /// Has something else become of it. Without this it stays with [`Signal::found`].
    pub fn decide(&mut self, disposition: Disposition) {
        *self.bits = disposition.bits();
    }
}

/// The place where a signal could be, in a report without one.
pub struct NoSignal<'a> {
    bits: &'a mut u32,
    info: &'a mut bindings::kernel_siginfo,
    action: &'a mut bindings::k_sigaction,
}

impl NoSignal<'_> {
    /// Has the thread get a signal at once, as from the kernel, to which happens what the process
    /// has set for it. It does not go through the queue, and is not blocked.
    ///
    /// # Errors
    ///
    /// `EINVAL`: there is no such signal, or it is `SIGKILL`, for which there is
    /// [`Task::kill`](crate::task::Task::kill).
    pub fn raise(self, number: i32) -> Result {
        let exists = (1..=bindings::_NSIG as i32).contains(&number);
        if !exists || number == bindings::SIGKILL as i32 {
            return Err(EINVAL);
        }
        *self.info = pin_init::zeroed();
        self.info.__bindgen_anon_1.si_signo = number;
        self.info.__bindgen_anon_1.si_code = bindings::SI_KERNEL as i32;
        // SAFETY: The number is of a signal.
        *self.action = unsafe { bindings::utrace_current_sigaction(number) };
        *self.bits = bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER;
        Ok(())
    }
}
