// SPDX-License-Identifier: GPL-2.0

//! Sets of events.

use crate::{
    bindings,
    prelude::*, //
};

/// An event that [`Engine::quiesce`](super::Engine::quiesce) precedes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Event {
    /// [`Engine::clone`](super::Engine::clone).
    Clone = bindings::utrace_events__UTRACE_EVENT_CLONE,
    /// [`Engine::exec`](super::Engine::exec).
    Exec = bindings::utrace_events__UTRACE_EVENT_EXEC,
    /// [`Engine::exit`](super::Engine::exit).
    Exit = bindings::utrace_events__UTRACE_EVENT_EXIT,
    /// [`Engine::death`](super::Engine::death).
    Death = bindings::utrace_events__UTRACE_EVENT_DEATH,
    /// [`Engine::syscall_entry`](super::Engine::syscall_entry).
    SyscallEntry = bindings::utrace_events__UTRACE_EVENT_SYSCALL_ENTRY,
    /// [`Engine::syscall_exit`](super::Engine::syscall_exit).
    SyscallExit = bindings::utrace_events__UTRACE_EVENT_SYSCALL_EXIT,
    /// A signal for which there is a handler.
    Signal = bindings::utrace_events__UTRACE_EVENT_SIGNAL,
    /// A signal that is about to be ignored.
    SignalIgnored = bindings::utrace_events__UTRACE_EVENT_SIGNAL_IGN,
    /// A signal that is about to stop the process.
    SignalStop = bindings::utrace_events__UTRACE_EVENT_SIGNAL_STOP,
    /// A signal that is about to kill the process.
    SignalTerminate = bindings::utrace_events__UTRACE_EVENT_SIGNAL_TERM,
    /// The same, with a core dump.
    SignalCore = bindings::utrace_events__UTRACE_EVENT_SIGNAL_CORE,
    /// [`Engine::jctl`](super::Engine::jctl).
    JobControl = bindings::utrace_events__UTRACE_EVENT_JCTL,
    /// [`Engine::path`](super::Engine::path).
    Path = bindings::utrace_events__UTRACE_EVENT_PATH,
    /// [`Engine::last_exit`](super::Engine::last_exit).
    LastExit = bindings::utrace_events__UTRACE_EVENT_LAST_EXIT,
}

impl Event {
    const ALL: [Self; 14] = [
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

    /// `UTRACE_EVENT()`.
    const fn bit(self) -> c_ulong {
        1 << self as u32
    }

    /// Finds the event of a `UTRACE_EVENT()`; zero, which is none, has none.
    pub(super) fn from_bit(bit: c_ulong) -> Option<Self> {
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

    /// [`Engine::quiesce`](super::Engine::quiesce), which is also needed for
    /// [`Request::Report`](super::Request::Report) and for steps.
    pub const QUIESCE: Self = Self(1 << bindings::utrace_events__UTRACE_EVENT_QUIESCE);

    /// See [`Event::Death`]. Whoever is told of the death can ask for something to be done when
    /// the zombie goes, so that it takes this one bit less to think of.
    pub const DEATH: Self =
        Self(Event::Death.bit() | 1 << bindings::utrace_events__UTRACE_EVENT_REAP);

    /// Every signal but `SIGKILL`, whatever becomes of it.
    pub const SIGNALS: Self = Self::SIGNAL
        .with(Self::SIGNAL_IGNORED)
        .with(Self::SIGNAL_STOP)
        .with(Self::SIGNAL_TERMINATE)
        .with(Self::SIGNAL_CORE);

    /// Both ends of a system call.
    pub const SYSCALLS: Self = Self::SYSCALL_ENTRY.with(Self::SYSCALL_EXIT);

    /// The events of both.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The events that are not in `other`.
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether all events of `other` are in it.
    pub const fn contain(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether an event of `other` is in it.
    pub const fn intersect(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The bits, as the C API has them.
    pub(super) const fn bits(self) -> c_ulong {
        self.0
    }
}
