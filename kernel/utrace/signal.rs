// SPDX-License-Identifier: GPL-2.0

//! Signals on their way to the current thread, and reports made in `get_signal()`.
//!
//! `get_signal()` comes here twice, each time with `siglock` released: before it takes a signal
//! from the queue, if [`Jobctl::Utrace`](kernel::siglock::Jobctl) is set, and after.

use crate::{
    engine::Engine,
    event::{
        detail_of,
        with_detail,
        Action,
        Event,
        Events, //
    },
    report::{
        user_regs,
        Order,
        Report, //
    },
    resume::enter_get_signal,
    step,
    stop::{
        stop,
        Ended,
        Where, //
    },
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    task::Task, //
};

use core::ptr;

/// What `get_signal()` does next: `enum utrace_next`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Next {
    Relook = bindings::utrace_next_UTRACE_NEXT_RELOOK,
    Sigstop = bindings::utrace_next_UTRACE_NEXT_SIGSTOP,
    Signal = bindings::utrace_next_UTRACE_NEXT_SIGNAL,
}

/// What is to become of a signal: `enum utrace_signal_action`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    Deliver,
    Ignore,
    Terminate,
    Core,
    Stop,
    Tstp,
    /// There is no signal.
    None,
}

impl Fate {
    fn from_detail(detail: u32) -> Self {
        match detail & bindings::UTRACE_SIGNAL_MASK {
            bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER => Self::Deliver,
            bindings::utrace_signal_action_UTRACE_SIGNAL_IGN => Self::Ignore,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TERM => Self::Terminate,
            bindings::utrace_signal_action_UTRACE_SIGNAL_CORE => Self::Core,
            bindings::utrace_signal_action_UTRACE_SIGNAL_STOP => Self::Stop,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TSTP => Self::Tstp,
            _ => Self::None,
        }
    }

    fn detail(self) -> u32 {
        match self {
            Self::Deliver => bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER,
            Self::Ignore => bindings::utrace_signal_action_UTRACE_SIGNAL_IGN,
            Self::Terminate => bindings::utrace_signal_action_UTRACE_SIGNAL_TERM,
            Self::Core => bindings::utrace_signal_action_UTRACE_SIGNAL_CORE,
            Self::Stop => bindings::utrace_signal_action_UTRACE_SIGNAL_STOP,
            Self::Tstp => bindings::utrace_signal_action_UTRACE_SIGNAL_TSTP,
            Self::None => bindings::utrace_signal_action_UTRACE_SIGNAL_REPORT,
        }
    }

    /// The signal whose default action it is.
    fn signr(self) -> Option<c_int> {
        match self {
            Self::Terminate => Some(bindings::SIGTERM as c_int),
            Self::Core => Some(bindings::SIGQUIT as c_int),
            Self::Stop => Some(bindings::SIGSTOP as c_int),
            Self::Tstp => Some(bindings::SIGTSTP as c_int),
            Self::Deliver | Self::Ignore | Self::None => None,
        }
    }

    fn event(self) -> Event {
        match self {
            Self::Deliver | Self::None => Event::Signal,
            Self::Ignore => Event::SignalIgn,
            Self::Terminate => Event::SignalTerm,
            Self::Core => Event::SignalCore,
            Self::Stop | Self::Tstp => Event::SignalStop,
        }
    }
}

/// A `struct utrace_signal`, which `get_signal()` has on its stack.
pub(crate) struct Signal<'a>(&'a mut bindings::utrace_signal);

impl<'a> Signal<'a> {
    /// # Safety
    ///
    /// `raw`, and what it points to, is valid and nobody else's for `'a`.
    pub(crate) unsafe fn from_raw(raw: *mut bindings::utrace_signal) -> Self {
        // SAFETY: By the requirement on the caller.
        Self(unsafe { &mut *raw })
    }

    fn info(&mut self) -> &mut bindings::kernel_siginfo {
        // SAFETY: `get_signal()` has it in its `struct ksignal`.
        unsafe { &mut *self.0.info }
    }

    /// The number in the `siginfo`, if it is one.
    fn number(&mut self) -> Option<c_int> {
        let number = self.info().__bindgen_anon_1.si_signo;
        (1..=bindings::_NSIG as c_int)
            .contains(&number)
            .then_some(number)
    }

    fn set_number(&mut self, number: c_int) {
        self.info().__bindgen_anon_1.si_signo = number;
    }

    /// What becomes of it as the process has it.
    fn fate(&self) -> Fate {
        let signr = self.0.signr;
        match Handler::of(&self.0.action) {
            Handler::Own => Fate::Deliver,
            Handler::Ignore => Fate::Ignore,
            // SAFETY: They only compare the number.
            Handler::Default => unsafe {
                if bindings::sig_kernel_ignore(signr) || bindings::current_unkillable_by(signr) {
                    Fate::Ignore
                } else if signr == bindings::SIGSTOP as c_int {
                    Fate::Stop
                } else if bindings::sig_kernel_stop(signr) {
                    Fate::Tstp
                } else if bindings::sig_kernel_coredump(signr) {
                    Fate::Core
                } else {
                    Fate::Terminate
                }
            },
        }
    }

    /// Describes the trap of a step as the signal of one would.
    fn describe_step(&mut self, code: c_int) {
        let info = self.info();
        *info = pin_init::zeroed();
        info.__bindgen_anon_1.si_signo = bindings::SIGTRAP as c_int;
        info.__bindgen_anon_1.si_code = code;
        // SAFETY: The current thread came from user mode, so that its registers are on its stack.
        let ip = unsafe { (&raw const (*user_regs()).ip).read_volatile() };
        info.__bindgen_anon_1._sifields._sigfault._addr = ip as *mut c_void;
    }

    /// Whether an engine has left that as it was.
    fn still_describes_step(&mut self, code: c_int) -> bool {
        let info = &self.info().__bindgen_anon_1;
        info.si_signo == bindings::SIGTRAP as c_int && info.si_code == code
    }

    fn call(&mut self, found: u32, engine: &Engine, has_signal: bool) -> Option<u32> {
        let callback = engine.ops().report_signal?;
        // What the process has set; only the copy in `self` can be changed.
        let own = self.0.action;
        let own_ptr = if has_signal { &own } else { ptr::null() };
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for, and the
        // pointers are valid during the call.
        Some(unsafe {
            callback(
                found,
                engine.as_ptr(),
                user_regs(),
                self.0.info,
                own_ptr,
                &mut self.0.action,
            )
        })
    }

    /// Does what engines want to become of the signal. Returns whether there is one left.
    ///
    /// `own` is what it was before they were asked, if there was one.
    fn decide(&mut self, fate: Fate, own: Option<&Own>) -> bool {
        self.0.signr = match (self.number(), fate.signr()) {
            (Some(number), _) => number,
            (None, Some(number)) => {
                self.set_number(number);
                number
            }
            (None, None) => return false,
        };
        self.0.default_of = self.0.signr;
        if own.is_some_and(|own| own.is_meant(self, fate)) {
            return true;
        }
        match fate {
            Fate::Ignore | Fate::None => return false,
            Fate::Deliver => (),
            Fate::Terminate | Fate::Core | Fate::Stop | Fate::Tstp => {
                self.0.action = pin_init::zeroed();
                self.0.default_of = fate.signr().unwrap_or(self.0.signr);
            }
        }
        self.0.replaced = true;
        true
    }
}

/// What a process has set for a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Handler {
    Default,
    Ignore,
    Own,
}

impl Handler {
    fn of(action: &bindings::k_sigaction) -> Self {
        // `SIG_DFL` is null, and `SIG_IGN` 1.
        match action.sa.sa_handler.map_or(0, |handler| handler as usize) {
            0 => Self::Default,
            1 => Self::Ignore,
            _ => Self::Own,
        }
    }
}

/// A signal as it came from the queue.
struct Own {
    fate: Fate,
    signr: c_int,
    info: bindings::kernel_siginfo,
    action: bindings::k_sigaction,
}

impl Own {
    fn of(signal: &mut Signal<'_>) -> Self {
        Self {
            fate: signal.fate(),
            signr: signal.0.signr,
            info: *signal.info(),
            action: signal.0.action,
        }
    }

    /// Whether `fate` is what becomes of the signal anyway.
    fn is_meant(&self, now: &Signal<'_>, fate: Fate) -> bool {
        let (old, new) = (&self.action.sa, &now.0.action.sa);
        (fate == self.fate || fate == Fate::Deliver)
            && now.0.signr == self.signr
            && old.sa_handler.map(|f| f as usize) == new.sa_handler.map(|f| f as usize)
            && old.sa_flags == new.sa_flags
            && old.sa_restorer.map(|f| f as usize) == new.sa_restorer.map(|f| f as usize)
            && old.sa_mask.sig == new.sa_mask.sig
    }
}

/// Before a signal is taken from the queue.
pub(crate) fn before_dequeue(task: &Task, mut signal: Signal<'_>) -> Next {
    let Some(thread) = thread::get(task) else {
        return Next::Relook;
    };
    loop {
        let has_signal = report_none(task, thread, &mut signal);
        let place = match has_signal {
            true => Where::Inside,
            false => Where::Signals,
        };
        return match stop(task, thread, place) {
            Ended::Killed | Ended::HasWork => Next::Relook,
            Ended::Sigstop => Next::Sigstop,
            Ended::Resumed if has_signal => Next::Signal,
            // Somebody asked for a report during the stop.
            Ended::Resumed if thread.state.lock().pending.wants_report() => continue,
            Ended::Resumed => Next::Relook,
        };
    }
}

/// Makes the reports that somebody asked for, and those of steps. Returns whether there is a signal
/// now.
fn report_none(task: &Task, thread: &Thread, signal: &mut Signal<'_>) -> bool {
    let mut state = thread.state.lock();
    let asked = core::mem::replace(&mut state.pending, Action::Resume).wants_report();
    let handler = core::mem::take(&mut state.handler_set_up);
    let (any_stepped, code) = (state.any_stepped(), state.step_code);
    drop(state);
    if !asked && !handler && !any_stepped {
        return false;
    }
    let mut report = Report::new(task, thread).ending_steps().telling_of_steps();
    let mut has_signal = false;
    let audience = match asked || handler {
        true => Events::QUIESCE,
        // Only those that have stepped.
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
            // Its answer says nothing of signals.
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
        let mut fate = Fate::from_detail(answer);
        // "Deliver" is also what an engine says that has nothing to say.
        if describes_step && fate == Fate::Deliver && signal.still_describes_step(code) {
            fate = Fate::None;
        }
        has_signal = signal.decide(fate, None);
        let detail = match has_signal {
            true => fate.detail(),
            false => detail_of(found),
        };
        Some(with_detail(answer, detail))
    });
    step::settle(task, thread);
    has_signal
}

/// A signal has been taken from the queue.
pub(crate) fn after_dequeue(task: &Task, mut signal: Signal<'_>) -> Next {
    let Some(thread) = thread::get(task) else {
        return Next::Signal;
    };
    let own = Own::of(&mut signal);
    let event = own.fate.event();
    let mut report = Report::new(task, thread).ending_steps();
    report.detail = own.fate.detail();
    let mut asked = false;
    let audience = Events::of_word(event.bit() | Event::Quiesce.bit());
    report.each(audience, Order::Forward, |report, engine| {
        let found = report.found();
        if engine.events().has(event) && engine.ops().report_signal.is_some() {
            asked = true;
            signal.call(found, engine, true)
        } else if engine.events().has(Event::Quiesce) && engine.ops().report_signal.is_none() {
            // Its answer says nothing of signals.
            let answer = report.quiesce(engine, event.bit())?;
            Some(with_detail(answer, detail_of(found)))
        } else {
            None
        }
    });
    step::settle(task, thread);
    if signal.0.immutable {
        *signal.info() = own.info;
        return Next::Signal;
    }
    if asked && report.detail & bindings::UTRACE_SIGNAL_HOLD != 0 {
        // It stays what it was.
        signal.0.hold = true;
        *signal.info() = own.info;
    }
    let left =
        !signal.0.hold && (!asked || signal.decide(Fate::from_detail(report.detail), Some(&own)));
    if !left {
        if thread.state.lock().any_stop() {
            enter_get_signal();
        }
        return Next::Relook;
    }
    match stop(task, thread, Where::Inside) {
        Ended::Resumed => Next::Signal,
        Ended::Killed | Ended::HasWork | Ended::Sigstop => Next::Relook,
    }
}

/// A signal frame has been set up.
pub(crate) fn handler_set_up(task: &Task) {
    if let Some(thread) = thread::get(task) {
        let mut state = thread.state.lock();
        state.handler_set_up = true;
        // The CPU is set up for no step any more. Those that wanted one are told of this instead.
        state.end_steps(task, bindings::TRAP_BRKPT as c_int);
        drop(state);
        enter_get_signal();
    }
}
