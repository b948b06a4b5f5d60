// SPDX-License-Identifier: GPL-2.0

//! What engines are told of, and what they answer.

use crate::step::Step;

use kernel::{
    bindings,
    prelude::*, //
};

/// An event. The numbers are `enum utrace_events`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub(crate) enum Event {
    Quiesce = bindings::utrace_events__UTRACE_EVENT_QUIESCE,
    Reap = bindings::utrace_events__UTRACE_EVENT_REAP,
    Clone = bindings::utrace_events__UTRACE_EVENT_CLONE,
    Exec = bindings::utrace_events__UTRACE_EVENT_EXEC,
    Exit = bindings::utrace_events__UTRACE_EVENT_EXIT,
    Death = bindings::utrace_events__UTRACE_EVENT_DEATH,
    SyscallEntry = bindings::utrace_events__UTRACE_EVENT_SYSCALL_ENTRY,
    SyscallExit = bindings::utrace_events__UTRACE_EVENT_SYSCALL_EXIT,
    Signal = bindings::utrace_events__UTRACE_EVENT_SIGNAL,
    SignalIgn = bindings::utrace_events__UTRACE_EVENT_SIGNAL_IGN,
    SignalStop = bindings::utrace_events__UTRACE_EVENT_SIGNAL_STOP,
    SignalTerm = bindings::utrace_events__UTRACE_EVENT_SIGNAL_TERM,
    SignalCore = bindings::utrace_events__UTRACE_EVENT_SIGNAL_CORE,
    Jctl = bindings::utrace_events__UTRACE_EVENT_JCTL,
    Path = bindings::utrace_events__UTRACE_EVENT_PATH,
    LastExit = bindings::utrace_events__UTRACE_EVENT_LAST_EXIT,
}

impl Event {
    /// `UTRACE_EVENT()`.
    pub(crate) const fn bit(self) -> usize {
        1 << self as u32
    }
}

/// A set of events, as in `utrace_engine::flags`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Events(usize);

impl Events {
    pub(crate) const NONE: Self = Self(0);
    pub(crate) const SYSCALL: Self = Self(Event::SyscallEntry.bit() | Event::SyscallExit.bit());
    pub(crate) const QUIESCE: Self = Self(Event::Quiesce.bit());

    const ALL: usize = (1 << bindings::utrace_events__UTRACE_NEVENTS) - 1;

    /// Fails with `EINVAL` if a bit has no meaning.
    pub(crate) fn from_raw(raw: usize) -> Result<Self> {
        if raw & !Self::ALL == 0 {
            Ok(Self(raw))
        } else {
            Err(EINVAL)
        }
    }

    /// The bits of a word that holds nothing else.
    pub(crate) const fn of_word(raw: usize) -> Self {
        Self(raw & Self::ALL)
    }

    pub(crate) const fn raw(self) -> usize {
        self.0
    }

    pub(crate) const fn has(self, event: Event) -> bool {
        self.0 & event.bit() != 0
    }

    pub(crate) const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(crate) const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// What is to become of a thread: `enum utrace_resume_action`. The smallest wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub(crate) enum Action {
    Stop = bindings::utrace_resume_action_UTRACE_STOP,
    Interrupt = bindings::utrace_resume_action_UTRACE_INTERRUPT,
    Report = bindings::utrace_resume_action_UTRACE_REPORT,
    SingleStep = bindings::utrace_resume_action_UTRACE_SINGLESTEP,
    BlockStep = bindings::utrace_resume_action_UTRACE_BLOCKSTEP,
    Resume = bindings::utrace_resume_action_UTRACE_RESUME,
    Detach = bindings::utrace_resume_action_UTRACE_DETACH,
}

impl Action {
    /// Takes it from what a callback returns. The one number without a meaning is `Resume`.
    pub(crate) fn from_answer(answer: u32) -> Self {
        Self::from_raw(answer & bindings::UTRACE_RESUME_MASK).unwrap_or(Self::Resume)
    }

    pub(crate) fn from_raw(raw: u32) -> Result<Self> {
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

    /// Whether engines are to be asked again before the thread is in user mode.
    pub(crate) fn wants_report(self) -> bool {
        self <= Self::Report
    }

    /// The step that is asked for, if it is one.
    pub(crate) fn step(self) -> Option<Step> {
        match self {
            Self::SingleStep => Some(Step::Instruction),
            Self::BlockStep => Some(Step::Block),
            Self::Stop | Self::Interrupt | Self::Report | Self::Resume | Self::Detach => None,
        }
    }

    /// Whether it needs an engine that is told of [`Event::Quiesce`].
    pub(crate) fn needs_quiesce(self) -> bool {
        matches!(self, Self::Report | Self::SingleStep | Self::BlockStep)
    }
}

/// What an answer holds besides the [`Action`].
pub(crate) fn detail_of(answer: u32) -> u32 {
    answer & !bindings::UTRACE_RESUME_MASK
}

/// The detail of an answer, with another action.
pub(crate) fn with_action(answer: u32, action: Action) -> u32 {
    detail_of(answer) | action as u32
}

/// The action of an answer, with another detail.
pub(crate) fn with_detail(answer: u32, detail: u32) -> u32 {
    answer & bindings::UTRACE_RESUME_MASK | detail
}

#[cfg(CONFIG_UTRACE_KUNIT_TEST)]
#[kunit_tests(utrace_event)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_action_wins() {
        let order = [
            Action::Stop,
            Action::Interrupt,
            Action::Report,
            Action::SingleStep,
            Action::BlockStep,
            Action::Resume,
            Action::Detach,
        ];
        for (number, action) in order.into_iter().enumerate() {
            assert_eq!(action as usize, number);
            assert_eq!(Action::from_raw(number as u32), Ok(action));
            assert_eq!(Action::from_answer(0x170 | number as u32), action);
        }
        assert!(order.is_sorted());
        assert_eq!(Action::from_raw(7), Err(EINVAL));
        assert_eq!(Action::from_answer(7), Action::Resume);
        assert_eq!(detail_of(0x175), 0x170);
    }

    #[test]
    fn only_known_events_are_taken() {
        let all = Events::from_raw(0xffff).unwrap_or(Events::NONE);
        assert!(all.has(Event::Quiesce) && all.has(Event::LastExit));
        assert_eq!(Events::from_raw(0x10000), Err(EINVAL));
        assert_eq!(all.without(all), Events::NONE);
        assert!(!Events::NONE.union(Events::SYSCALL).has(Event::Path));
    }
}
