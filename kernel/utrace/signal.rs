// SPDX-License-Identifier: GPL-2.0

//! Signals that are taken by the current thread, and reports made in `get_signal()`.
//!
//! `get_signal()` calls this file at two points, with `siglock` released: before it takes a signal
//! from the queue, if [`ENTER_UTRACE`](crate::jobctl::ENTER_UTRACE) is set, and after it has taken
//! one.

use crate::{
    engine::Engine,
    jobctl::enter_get_signal,
    report::{
        detail_of,
        user_regs,
        EventReport,
        Order, //
    },
    step,
    stop::{
        stop,
        Ended,
        StopPlace, //
    },
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    task::Task,
    utrace_types::{
        Action,
        Disposition,
        Event,
        Events, //
    },
};

use core::ptr;

/// Returns an answer with its detail replaced.
fn with_detail(answer: u32, detail: u32) -> u32 {
    answer & bindings::UTRACE_RESUME_MASK | detail
}

/// The next step of `get_signal()`: `enum utrace_next`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Next {
    Relook = bindings::utrace_next_UTRACE_NEXT_RELOOK,
    Sigstop = bindings::utrace_next_UTRACE_NEXT_SIGSTOP,
    Signal = bindings::utrace_next_UTRACE_NEXT_SIGNAL,
}

/// Returns a signal that has a disposition by default.
fn default_signal(disposition: Disposition) -> Option<c_int> {
    match disposition {
        Disposition::Terminate => Some(bindings::SIGTERM as c_int),
        Disposition::Core => Some(bindings::SIGQUIT as c_int),
        Disposition::Stop => Some(bindings::SIGSTOP as c_int),
        Disposition::Tstp => Some(bindings::SIGTSTP as c_int),
        Disposition::Deliver | Disposition::Ignore | Disposition::Hold => None,
    }
}

/// Returns the event of a signal that the process has set a disposition for.
fn event_of(disposition: Disposition) -> Event {
    match disposition {
        Disposition::Deliver | Disposition::Hold => Event::Signal,
        Disposition::Ignore => Event::SignalIgnored,
        Disposition::Terminate => Event::SignalTerminate,
        Disposition::Core => Event::SignalCore,
        Disposition::Stop | Disposition::Tstp => Event::SignalStop,
    }
}

/// Returns whether engines must be called again before the thread is in user mode.
fn is_report_due(action: Action) -> bool {
    action <= Action::Report
}

/// A `struct utrace_signal`, which is on the stack of `get_signal()`.
pub(crate) struct UtraceSignal<'a>(&'a mut bindings::utrace_signal);

impl<'a> UtraceSignal<'a> {
    /// # Safety
    ///
    /// `raw`, and the memory that it points to, must be valid, and must not be accessed by anything
    /// else during `'a`.
    pub(crate) unsafe fn from_raw(raw: *mut bindings::utrace_signal) -> Self {
        // SAFETY: The caller ensures that `raw` is valid and not accessed by anything else during
        // `'a`.
        Self(unsafe { &mut *raw })
    }

    fn info(&mut self) -> &mut bindings::kernel_siginfo {
        // SAFETY: The caller of `from_raw` ensures that `info`, in the `struct ksignal` of
        // `get_signal()`, is valid.
        unsafe { &mut *self.0.info }
    }

    /// Returns the number in the `siginfo`, if it is a valid signal.
    fn number(&mut self) -> Option<c_int> {
        let number = self.info().__bindgen_anon_1.si_signo;
        (1..=bindings::_NSIG as c_int)
            .contains(&number)
            .then_some(number)
    }

    fn set_number(&mut self, number: c_int) {
        self.info().__bindgen_anon_1.si_signo = number;
    }

    /// Returns the disposition that the process has set.
    fn disposition(&self) -> Disposition {
        let signr = self.0.signr;
        match HandlerKind::new(&self.0.action) {
            HandlerKind::Function => Disposition::Deliver,
            HandlerKind::Ignore => Disposition::Ignore,
            // SAFETY: These functions only compare the number.
            HandlerKind::Default => unsafe {
                if bindings::sig_kernel_ignore(signr) || bindings::current_unkillable_by(signr) {
                    Disposition::Ignore
                } else if signr == bindings::SIGSTOP as c_int {
                    Disposition::Stop
                } else if bindings::sig_kernel_stop(signr) {
                    Disposition::Tstp
                } else if bindings::sig_kernel_coredump(signr) {
                    Disposition::Core
                } else {
                    Disposition::Terminate
                }
            },
        }
    }

    /// Fills in the `siginfo` that a SIGTRAP for the step would have.
    fn describe_step(&mut self, code: c_int) {
        let info = self.info();
        *info = pin_init::zeroed();
        info.__bindgen_anon_1.si_signo = bindings::SIGTRAP as c_int;
        info.__bindgen_anon_1.si_code = code;
        // SAFETY: The current thread came from user mode, so its registers are on its stack.
        let ip = unsafe { (&raw const (*user_regs()).ip).read_volatile() };
        info.__bindgen_anon_1._sifields._sigfault._addr = ip as *mut c_void;
    }

    /// Returns whether the engine has left the description of the step unchanged.
    fn still_describes_step(&mut self, code: c_int) -> bool {
        let info = &self.info().__bindgen_anon_1;
        info.si_signo == bindings::SIGTRAP as c_int && info.si_code == code
    }

    fn call(&mut self, found: u32, engine: &Engine, has_signal: bool) -> Option<u32> {
        let callback = engine.ops().report_signal?;
        // The action that the process has set. An engine can only change the copy in `self`.
        let original = self.0.action;
        let original_ptr = if has_signal { &original } else { ptr::null() };
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid and may be called with
        // its data. It is called in the thread of the signal, without locks, and the pointers are
        // valid during the call.
        Some(unsafe {
            callback(
                found,
                engine.as_ptr(),
                user_regs(),
                self.0.info,
                original_ptr,
                &mut self.0.action,
            )
        })
    }

    /// Applies the disposition that engines have chosen. Returns whether there is still a signal.
    ///
    /// `original` is the signal before engines were called, if there was one.
    fn decide(
        &mut self,
        disposition: Option<Disposition>,
        original: Option<&OriginalSignal>,
    ) -> bool {
        let default_signal = disposition.and_then(default_signal);
        self.0.signr = match (self.number(), default_signal) {
            (Some(number), _) => number,
            (None, Some(number)) => {
                self.set_number(number);
                number
            }
            (None, None) => return false,
        };
        self.0.default_of = self.0.signr;
        if original.is_some_and(|original| original.is_kept(self, disposition)) {
            return true;
        }
        match disposition {
            None | Some(Disposition::Ignore | Disposition::Hold) => return false,
            Some(Disposition::Deliver) => (),
            Some(
                Disposition::Terminate | Disposition::Core | Disposition::Stop | Disposition::Tstp,
            ) => {
                self.0.action = pin_init::zeroed();
                self.0.default_of = default_signal.unwrap_or(self.0.signr);
            }
        }
        self.0.replaced = true;
        true
    }
}

/// The kind of action that a process has set for a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum HandlerKind {
    Default,
    Ignore,
    Function,
}

impl HandlerKind {
    fn new(action: &bindings::k_sigaction) -> Self {
        // `SIG_DFL` is null, and `SIG_IGN` 1.
        match action.sa.sa_handler.map_or(0, |handler| handler as usize) {
            0 => Self::Default,
            1 => Self::Ignore,
            _ => Self::Function,
        }
    }
}

/// A signal as it was taken from the queue.
struct OriginalSignal {
    disposition: Disposition,
    signr: c_int,
    info: bindings::kernel_siginfo,
    action: bindings::k_sigaction,
}

impl OriginalSignal {
    fn new(signal: &mut UtraceSignal<'_>) -> Self {
        Self {
            disposition: signal.disposition(),
            signr: signal.0.signr,
            info: *signal.info(),
            action: signal.0.action,
        }
    }

    /// Returns whether `disposition` is what the process has set anyway.
    fn is_kept(&self, now: &UtraceSignal<'_>, disposition: Option<Disposition>) -> bool {
        let (old, new) = (&self.action.sa, &now.0.action.sa);
        disposition.is_some_and(|new| new == self.disposition || new == Disposition::Deliver)
            && now.0.signr == self.signr
            && old.sa_handler.map(|f| f as usize) == new.sa_handler.map(|f| f as usize)
            && old.sa_flags == new.sa_flags
            && old.sa_restorer.map(|f| f as usize) == new.sa_restorer.map(|f| f as usize)
            && old.sa_mask.sig == new.sa_mask.sig
    }
}

/// Reports and stops before `get_signal()` takes a signal from the queue.
pub(crate) fn before_dequeue(task: &Task, mut signal: UtraceSignal<'_>) -> Next {
    let Some(thread) = thread::get(task) else {
        return Next::Relook;
    };
    loop {
        let has_signal = report_none(task, thread, &mut signal);
        let place = match has_signal {
            true => StopPlace::Inside,
            false => StopPlace::Signals,
        };
        return match stop(task, thread, place) {
            Ended::Killed | Ended::HasWork => Next::Relook,
            Ended::Sigstop => Next::Sigstop,
            Ended::Resumed if has_signal => Next::Signal,
            // A report was requested during the stop.
            Ended::Resumed if is_report_due(thread.state.lock().pending) => continue,
            Ended::Resumed => Next::Relook,
        };
    }
}

/// Makes the requested reports, and the reports of steps. Returns whether there is a signal now.
fn report_none(task: &Task, thread: &Thread, signal: &mut UtraceSignal<'_>) -> bool {
    let mut state = thread.state.lock();
    let asked = is_report_due(state.take_pending());
    let handler = core::mem::take(&mut state.handler_set_up);
    let (any_stepped, code) = (state.any_stepped(), state.step_code);
    drop(state);
    if !asked && !handler && !any_stepped {
        return false;
    }
    let mut report = EventReport::new(task, thread)
        .ending_steps()
        .reporting_steps();
    let mut has_signal = false;
    let audience = match asked || handler {
        true => Events::QUIESCE,
        // Call only engines that have a step to be reported.
        false => Events::NONE,
    };
    report.each(audience, Order::Forward, |report, engine| {
        let stepped = thread.state.lock().take_stepped(engine);
        if !has_signal {
            report.detail = if handler {
                bindings::utrace_signal_action_UTRACE_SIGNAL_HANDLER
            } else if stepped {
                bindings::utrace_signal_action_UTRACE_SIGNAL_STEP
            } else {
                bindings::utrace_signal_action_UTRACE_SIGNAL_REPORT
            };
        }
        let found = report.found();
        if engine.ops().report_signal.is_none() {
            // The answer of `report_quiesce()` has no disposition.
            let answer = report.quiesce(engine, 0)?;
            return Some(with_detail(answer, detail_of(found)));
        }
        let describes_step = !has_signal && !handler && stepped;
        if describes_step {
            signal.describe_step(code);
        } else if !has_signal {
            *signal.info() = pin_init::zeroed();
        }
        let answer = signal.call(found, engine, has_signal)?;
        let mut disposition = Disposition::from_answer(answer);
        // An engine that decides nothing returns "deliver" as well.
        if describes_step
            && disposition == Some(Disposition::Deliver)
            && signal.still_describes_step(code)
        {
            disposition = None;
        }
        has_signal = signal.decide(disposition, None);
        let detail = match disposition.filter(|_| has_signal) {
            Some(disposition) => disposition.bits(),
            None => detail_of(found),
        };
        Some(with_detail(answer, detail))
    });
    step::update_after_report(task, thread);
    has_signal
}

/// Reports a signal that `get_signal()` has taken from the queue, and stops.
pub(crate) fn after_dequeue(task: &Task, mut signal: UtraceSignal<'_>) -> Next {
    let Some(thread) = thread::get(task) else {
        return Next::Signal;
    };
    let original = OriginalSignal::new(&mut signal);
    let event = event_of(original.disposition);
    let mut report = EventReport::new(task, thread).ending_steps();
    report.detail = original.disposition.bits();
    let mut asked = false;
    let audience = Events::from_event(event).with(Events::QUIESCE);
    report.each(audience, Order::Forward, |report, engine| {
        let found = report.found();
        if engine.events().has(event) && engine.ops().report_signal.is_some() {
            asked = true;
            signal.call(found, engine, true)
        } else if engine.events().has(Event::Quiesce) && engine.ops().report_signal.is_none() {
            // The answer of `report_quiesce()` has no disposition.
            let answer = report.quiesce(engine, event.bit())?;
            Some(with_detail(answer, detail_of(found)))
        } else {
            None
        }
    });
    step::update_after_report(task, thread);
    if signal.0.immutable {
        *signal.info() = original.info;
        return Next::Signal;
    }
    if asked && report.detail & bindings::UTRACE_SIGNAL_HOLD != 0 {
        // The signal goes back unchanged.
        signal.0.hold = true;
        *signal.info() = original.info;
    }
    let left = !signal.0.hold
        && (!asked || signal.decide(Disposition::from_answer(report.detail), Some(&original)));
    if !left {
        if thread.state.lock().any_stop() {
            enter_get_signal();
        }
        return Next::Relook;
    }
    match stop(task, thread, StopPlace::Inside) {
        Ended::Resumed => Next::Signal,
        Ended::Killed | Ended::HasWork | Ended::Sigstop => Next::Relook,
    }
}

/// Requests the report of a signal frame that has been set up.
pub(crate) fn handler_set_up(task: &Task) {
    if let Some(thread) = thread::get(task) {
        let mut state = thread.state.lock();
        state.handler_set_up = true;
        // The CPU is not set up for a step any more. The engines that wanted one get this report
        // instead.
        state.end_steps(task, bindings::TRAP_BRKPT as c_int);
        drop(state);
        enter_get_signal();
    }
}
