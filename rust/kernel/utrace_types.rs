// SPDX-License-Identifier: GPL-2.0

//! Types that utrace and its API for Rust share: events, actions, and dispositions of signals.
//!
//! Engines are the subject of [`kernel::utrace`](crate::utrace), which exports these types.
//!
//! C header: [`include/linux/utrace.h`](srctree/include/linux/utrace.h)

use crate::{
    bindings,
    prelude::*, //
};

/// An event: `enum utrace_events`.
///
/// [`Engine::quiesce`](crate::utrace::Engine::quiesce) precedes each event except
/// [`Event::Quiesce`] itself and [`Event::Reap`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Event {
    /// [`Engine::quiesce`](crate::utrace::Engine::quiesce).
    Quiesce = bindings::utrace_events__UTRACE_EVENT_QUIESCE,
    /// The zombie of a thread is gone; see [`AtReap`](crate::utrace::AtReap).
    Reap = bindings::utrace_events__UTRACE_EVENT_REAP,
    /// [`Engine::clone`](crate::utrace::Engine::clone).
    Clone = bindings::utrace_events__UTRACE_EVENT_CLONE,
    /// [`Engine::exec`](crate::utrace::Engine::exec).
    Exec = bindings::utrace_events__UTRACE_EVENT_EXEC,
    /// [`Engine::exit`](crate::utrace::Engine::exit).
    Exit = bindings::utrace_events__UTRACE_EVENT_EXIT,
    /// [`Engine::death`](crate::utrace::Engine::death).
    Death = bindings::utrace_events__UTRACE_EVENT_DEATH,
    /// [`Engine::syscall_entry`](crate::utrace::Engine::syscall_entry).
    SyscallEntry = bindings::utrace_events__UTRACE_EVENT_SYSCALL_ENTRY,
    /// [`Engine::syscall_exit`](crate::utrace::Engine::syscall_exit).
    SyscallExit = bindings::utrace_events__UTRACE_EVENT_SYSCALL_EXIT,
    /// A signal for which there is a handler.
    Signal = bindings::utrace_events__UTRACE_EVENT_SIGNAL,
    /// A signal that is about to be ignored.
    SignalIgnored = bindings::utrace_events__UTRACE_EVENT_SIGNAL_IGN,
    /// A signal that is about to stop the process.
    SignalStop = bindings::utrace_events__UTRACE_EVENT_SIGNAL_STOP,
    /// A signal that is about to kill the process.
    SignalTerminate = bindings::utrace_events__UTRACE_EVENT_SIGNAL_TERM,
    /// A signal that is about to kill the process, with a core dump.
    SignalCore = bindings::utrace_events__UTRACE_EVENT_SIGNAL_CORE,
    /// [`Engine::jctl`](crate::utrace::Engine::jctl).
    JobControl = bindings::utrace_events__UTRACE_EVENT_JCTL,
    /// [`Engine::path`](crate::utrace::Engine::path).
    Path = bindings::utrace_events__UTRACE_EVENT_PATH,
    /// [`Engine::last_exit`](crate::utrace::Engine::last_exit).
    LastExit = bindings::utrace_events__UTRACE_EVENT_LAST_EXIT,
}

impl Event {
    const ALL: [Self; 16] = [
        Self::Quiesce,
        Self::Reap,
        Self::Clone,
        Self::Exec,
        Self::Exit,
        Self::Death,
        Self::SyscallEntry,
        Self::SyscallExit,
        Self::Signal,
        Self::SignalIgnored,
        Self::SignalStop,
        Self::SignalTerminate,
        Self::SignalCore,
        Self::JobControl,
        Self::Path,
        Self::LastExit,
    ];

    /// Returns the bit of `UTRACE_EVENT()`.
    pub const fn bit(self) -> c_ulong {
        1 << self as u32
    }

    /// Returns the event of a `UTRACE_EVENT()`, or `None` for zero.
    pub fn from_bit(bit: c_ulong) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.bit() == bit)
    }
}

/// A set of events.
///
/// ```
/// use kernel::utrace::Events;
///
/// const EVENTS: Events = Events::EXEC.with(Events::EXIT);
/// assert!(EVENTS.contain(Events::EXEC) && !EVENTS.contain(Events::DEATH));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Events(c_ulong);

macro_rules! sets {
    ($($name:ident = $event:ident;)*) => {
        $(
            #[doc = concat!("See [`Event::", stringify!($event), "`].")]
            pub const $name: Self = Self(Event::$event.bit());
        )*
    };
}

impl Events {
    sets! {
        CLONE = Clone;
        EXEC = Exec;
        EXIT = Exit;
        SYSCALL_ENTRY = SyscallEntry;
        SYSCALL_EXIT = SyscallExit;
        SIGNAL = Signal;
        SIGNAL_IGNORED = SignalIgnored;
        SIGNAL_STOP = SignalStop;
        SIGNAL_TERMINATE = SignalTerminate;
        SIGNAL_CORE = SignalCore;
        JOB_CONTROL = JobControl;
        PATH = Path;
        LAST_EXIT = LastExit;
    }

    /// No event.
    pub const NONE: Self = Self(0);

    /// [`Engine::quiesce`](crate::utrace::Engine::quiesce), which is also needed for
    /// [`Request::Report`](crate::utrace::Request::Report) and for steps.
    pub const QUIESCE: Self = Self(Event::Quiesce.bit());

    /// See [`Event::Death`]. This includes the bit of the reap, because an engine that gets the
    /// death may request work at the reap.
    pub const DEATH: Self = Self(Event::Death.bit() | Event::Reap.bit());

    /// Every signal but `SIGKILL`, with any disposition.
    pub const SIGNALS: Self = Self::SIGNAL
        .with(Self::SIGNAL_IGNORED)
        .with(Self::SIGNAL_STOP)
        .with(Self::SIGNAL_TERMINATE)
        .with(Self::SIGNAL_CORE);

    /// Both ends of a system call.
    pub const SYSCALLS: Self = Self::SYSCALL_ENTRY.with(Self::SYSCALL_EXIT);

    const ALL: c_ulong = (1 << bindings::utrace_events__UTRACE_NEVENTS) - 1;

    /// Converts the bits of the C API.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown bit.
    pub fn from_bits(bits: c_ulong) -> Result<Self> {
        if bits & !Self::ALL == 0 {
            Ok(Self(bits))
        } else {
            Err(EINVAL)
        }
    }

    /// Converts the known bits of a word of the C API.
    pub const fn from_bits_truncate(bits: c_ulong) -> Self {
        Self(bits & Self::ALL)
    }

    /// Returns the set that contains one event.
    pub const fn from_event(event: Event) -> Self {
        Self(event.bit())
    }

    /// Returns whether the set contains an event.
    pub const fn has(self, event: Event) -> bool {
        self.0 & event.bit() != 0
    }

    /// Returns the union of both sets.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Returns the events that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Returns whether all events of `other` are in this set.
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Returns whether an event of `other` is in this set.
    pub const fn intersect(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the bits of the C API.
    pub const fn bits(self) -> c_ulong {
        self.0
    }
}

/// An engine's answer to an event: how the thread continues.
///
/// If engines, or an engine and a caller of
/// [`OnThread::control`](crate::utrace::OnThread::control), request different actions, the first
/// one in this list wins. [`Action::Stop`] lasts until the engine, or its owner, requests another
/// action; all other actions are for once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
#[must_use]
pub enum Action {
    /// The thread stays in the kernel.
    Stop = bindings::utrace_resume_action_UTRACE_STOP,
    /// It reports [`Engine::quiesce`](crate::utrace::Engine::quiesce) at once. A system call in
    /// which it sleeps is interrupted, as by a signal.
    Interrupt = bindings::utrace_resume_action_UTRACE_INTERRUPT,
    /// It reports before it returns to user mode.
    Report = bindings::utrace_resume_action_UTRACE_REPORT,
    /// It reports after one instruction; see
    /// [`SignalEvent::Step`](crate::utrace::SignalEvent::Step).
    SingleStep = bindings::utrace_resume_action_UTRACE_SINGLESTEP,
    /// It reports after the next branch.
    BlockStep = bindings::utrace_resume_action_UTRACE_BLOCKSTEP,
    /// It continues.
    Resume = bindings::utrace_resume_action_UTRACE_RESUME,
    /// It continues, without this engine.
    Detach = bindings::utrace_resume_action_UTRACE_DETACH,
}

impl Action {
    /// Converts an `enum utrace_resume_action`.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an unknown number.
    pub fn from_raw(raw: u32) -> Result<Self> {
        Ok(match raw {
            bindings::utrace_resume_action_UTRACE_STOP => Self::Stop,
            bindings::utrace_resume_action_UTRACE_INTERRUPT => Self::Interrupt,
            bindings::utrace_resume_action_UTRACE_REPORT => Self::Report,
            bindings::utrace_resume_action_UTRACE_SINGLESTEP => Self::SingleStep,
            bindings::utrace_resume_action_UTRACE_BLOCKSTEP => Self::BlockStep,
            bindings::utrace_resume_action_UTRACE_RESUME => Self::Resume,
            bindings::utrace_resume_action_UTRACE_DETACH => Self::Detach,
            _ => return Err(EINVAL),
        })
    }

    /// Extracts the action from the argument or the return value of a callback. The one number
    /// without a meaning becomes [`Action::Resume`].
    pub fn from_answer(answer: u32) -> Self {
        Self::from_raw(answer & bindings::UTRACE_RESUME_MASK).unwrap_or(Self::Resume)
    }

    /// Returns a callback's answer: this action, and the bits of `found` besides its action.
    pub fn answer(self, found: u32) -> u32 {
        self as u32 | found & !bindings::UTRACE_RESUME_MASK
    }
}

/// The disposition of a signal: how the thread handles it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Disposition {
    /// The action that the process has set for it is taken; for most engines, its handler runs.
    Deliver,
    /// The signal is ignored.
    Ignore,
    /// The process is killed.
    Terminate,
    /// The process is killed, with a core dump.
    Core,
    /// The process stops, as by `SIGSTOP`.
    Stop,
    /// The process stops, unless its process group is orphaned.
    Tstp,
    /// The signal stays in the queue.
    Hold,
}

impl Disposition {
    /// Extracts the disposition from the argument or the return value of a callback, apart from
    /// [`Disposition::Hold`]. Returns `None` if there is no signal.
    pub fn from_answer(answer: u32) -> Option<Self> {
        Some(match answer & bindings::UTRACE_SIGNAL_MASK {
            bindings::utrace_signal_action_UTRACE_SIGNAL_DELIVER => Self::Deliver,
            bindings::utrace_signal_action_UTRACE_SIGNAL_IGN => Self::Ignore,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TERM => Self::Terminate,
            bindings::utrace_signal_action_UTRACE_SIGNAL_CORE => Self::Core,
            bindings::utrace_signal_action_UTRACE_SIGNAL_STOP => Self::Stop,
            bindings::utrace_signal_action_UTRACE_SIGNAL_TSTP => Self::Tstp,
            _ => return None,
        })
    }

    /// Returns the bits of the C API.
    pub fn bits(self) -> u32 {
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
