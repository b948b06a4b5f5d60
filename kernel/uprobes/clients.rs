// SPDX-License-Identifier: GPL-2.0

//! The list of those who are called at one probepoint.

use crate::{
    client::{
        Handler,
        Returning, //
    },
    contain::Calls,
    entry::{
        Entry,
        InTask,
        Role, //
    },
    returns::{
        Here,
        Returns, //
    },
    sole::{
        Sole,
        SoleFunction,
        SolePlace, //
    },
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace::Guard,
        Arc, //
    },
    threads::ThreadGroup, //
};

/// Returns of a function that are to be noticed, for which of its probes.
struct Expected<'a> {
    returns: &'a Arc<Returns>,
    newest: u64,
}

/// What there is to do at a hit.
// With a tag of its own, which takes no calculation to get at.
#[repr(u8)]
pub(crate) enum Course {
    /// Mostly there is one client, with one handler.
    SoleInInterrupt(Sole),
    SoleInTask(Sole),
    SoleAtExit(Sole),
    SoleFunction(SoleFunction),
    SolePlace(SolePlace),
    General(General),
}

/// What each entry says.
#[derive(Clone, Copy)]
pub(crate) struct General {
    in_interrupt: bool,
    in_task: bool,
    /// Whether there is one that comes last.
    last: bool,
}

impl General {
    const fn nothing() -> Self {
        Self {
            in_interrupt: false,
            in_task: false,
            last: false,
        }
    }

    fn of(entries: &[Entry]) -> Self {
        Self {
            in_interrupt: entries.iter().any(|entry| entry.is_for_interrupt),
            in_task: entries.iter().any(|entry| entry.in_task != InTask::Nothing),
            last: entries.iter().any(|entry| entry.in_task == InTask::Last),
        }
    }
}

impl Course {
    fn of(entries: &[Entry]) -> Self {
        if let [entry] = entries {
            match (&entry.role, entry.is_for_interrupt, entry.in_task) {
                (Role::Hit(None), true, InTask::Nothing) => {
                    return Self::SoleInInterrupt(Sole::of(entry));
                }
                (Role::Hit(None), false, InTask::First) => {
                    return Self::SoleInTask(Sole::of(entry));
                }
                (Role::Exit, ..) => return Self::SoleAtExit(Sole::of(entry)),
                (Role::Hit(Some(returns)), false, _) => {
                    return Self::SoleFunction(SoleFunction::of(entry, returns));
                }
                (Role::Place(place), ..) => {
                    return Self::SolePlace(SolePlace::of(entry, place));
                }
                (Role::Hit(_), ..) => (),
            }
        }
        Self::General(General::of(entries))
    }
}

/// The probes at a probepoint, in the order of their registration.
pub(crate) struct Clients {
    course: Course,
    entries: KVec<Entry>,
}

impl Clients {
    pub(crate) const fn new() -> Self {
        Self {
            course: Course::General(General::nothing()),
            entries: KVec::new(),
        }
    }

    fn of(entries: KVec<Entry>) -> Self {
        Self {
            course: Course::of(&entries),
            entries,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Returns a list that has one more at the end.
    pub(crate) fn with(&self, entry: Entry) -> Result<Self> {
        let mut list = KVec::with_capacity(self.entries.len() + 1, GFP_KERNEL)?;
        list.extend_from_slice(&self.entries, GFP_KERNEL)?;
        list.push(entry, GFP_KERNEL)?;
        Ok(Self::of(list))
    }

    /// Returns a list of those that `keep` holds for.
    pub(crate) fn retaining(&self, keep: impl Fn(&Entry) -> bool) -> Result<Self> {
        let mut list = KVec::with_capacity(self.entries.len(), GFP_KERNEL)?;
        for entry in self.iter().filter(|entry| keep(entry)) {
            list.push(entry.clone(), GFP_KERNEL)?;
        }
        Ok(Self::of(list))
    }

    /// Those that are to fire, for a thread of `group`.
    #[inline]
    fn firing<'a>(
        &'a self,
        group: ThreadGroup,
        calls: &'a Calls,
        of: impl Fn(&Entry) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Entry> {
        self.entries.iter().filter(move |entry| {
            entry.group == group && of(entry) && calls.fires(entry.probe.as_arc_borrow())
        })
    }

    /// What there is to do at a hit.
    #[inline]
    pub(crate) fn course(&self) -> &Course {
        &self.course
    }

    /// Calls the handlers that run with interrupts disabled, as they are if `interrupts_off`.
    /// Returns whether there is more to do.
    #[inline(always)]
    pub(crate) fn hit_in_interrupt(
        &self,
        what: &General,
        group: ThreadGroup,
        interrupts_off: bool,
        regs: &mut PtRegs,
    ) -> bool {
        if what.in_interrupt {
            self.call_in_interrupt(group, interrupts_off, regs);
        }
        what.in_task
    }

    #[inline(never)]
    fn call_in_interrupt(&self, group: ThreadGroup, interrupts_off: bool, regs: &mut PtRegs) {
        let calls = Calls::begin(interrupts_off);
        let at = regs.ip();
        for entry in self.firing(group, &calls, |entry| entry.is_for_interrupt) {
            entry.probe.hits.increment();
            calls.call(entry.probe.as_arc_borrow(), Handler::Interrupt, at, regs);
        }
    }

    /// Calls the handlers that run in task context, and sees to the noticing of returns.
    #[inline(never)]
    pub(crate) fn hit_in_task(
        &self,
        what: &General,
        here: Here<'_>,
        group: ThreadGroup,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let at = here.at;
        let calls = &Calls::begin(false);
        let mut expected: Option<Expected<'_>> = None;
        for entry in self.firing(group, calls, |entry| entry.in_task == InTask::First) {
            let probe = entry.probe.as_arc_borrow();
            match &entry.role {
                Role::Hit(returns) => {
                    if !entry.is_for_interrupt {
                        probe.hits.increment();
                    }
                    if probe.wants.task {
                        calls.call(probe, Handler::Task, at, regs);
                    }
                    if let Some(returns) = returns {
                        expected = Some(Expected {
                            returns,
                            newest: expected.map_or(probe.id, |so_far| so_far.newest.max(probe.id)),
                        });
                    }
                }
                Role::Exit => {
                    probe.returns.increment();
                    calls.call(probe, Handler::Return(Returning::From), at, regs);
                }
                // That comes last.
                Role::Place(_) => (),
            }
        }
        // A thread that has been sent elsewhere does not call the function.
        if let Some(Expected { returns, newest }) = expected.filter(|_| regs.ip() == at) {
            if returns.expect(here, newest, regs, guard).is_err() {
                self.count_missed(group, calls, newest);
            }
        }
        if what.last {
            for entry in self.firing(group, calls, |entry| entry.in_task == InTask::Last) {
                if let Role::Place(place) = &entry.role {
                    place.came_to(at, regs, guard);
                }
            }
        }
    }

    #[cold]
    fn count_missed(&self, group: ThreadGroup, calls: &Calls, newest: u64) {
        for entry in self.waiting_for_return(group, calls, newest) {
            entry.probe.misses.increment();
        }
    }

    /// Those that want returns of calls that were noticed when `newest` was the last one to be
    /// registered.
    #[inline]
    fn waiting_for_return<'a>(
        &'a self,
        group: ThreadGroup,
        calls: &'a Calls,
        newest: u64,
    ) -> impl Iterator<Item = &'a Entry> {
        self.firing(group, calls, move |entry| {
            matches!(entry.role, Role::Hit(Some(_))) && entry.probe.id <= newest
        })
    }

    /// The function here returns: calls the handlers for that.
    ///
    /// The thread is of `group`; `newest` was the newest probe when its call was noticed.
    // Single values, so that who calls this, mostly does not, and has them, need not store them.
    #[inline(never)]
    pub(crate) fn returned(
        &self,
        group: ThreadGroup,
        newest: u64,
        (how, at): (Returning, usize),
        regs: &mut PtRegs,
    ) {
        let calls = Calls::begin(false);
        for entry in self.waiting_for_return(group, &calls, newest) {
            entry.probe.returns.increment();
            calls.call(entry.probe.as_arc_borrow(), Handler::Return(how), at, regs);
        }
    }

    /// As [`Clients::returned`], of a thread that is about to return, faster for a sole client.
    #[inline(always)]
    pub(crate) fn returning_inline(
        &self,
        group: ThreadGroup,
        newest: u64,
        at: usize,
        regs: &mut PtRegs,
    ) {
        match &self.course {
            Course::SoleFunction(function) => function.returning(group, newest, regs),
            Course::SoleInInterrupt(_)
            | Course::SoleInTask(_)
            | Course::SoleAtExit(_)
            | Course::SolePlace(_)
            | Course::General(_) => self.returned(group, newest, (Returning::From, at), regs),
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "clients_test.rs"]
mod tests;
