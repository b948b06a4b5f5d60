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
    places::Place,
    probe::Probe,
    returns::{
        Here,
        Returns, //
    },
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace::Guard,
        Arc,
        ArcBorrow, //
    },
    threads::ThreadGroup, //
};

/// Returns of a function that are to be noticed, for which of its probes.
struct Expected<'a> {
    returns: &'a Arc<Returns>,
    newest: u64,
}

/// A return that has been noticed.
#[derive(Clone, Copy)]
pub(crate) struct Return {
    /// Of the thread.
    pub(crate) group: ThreadGroup,
    /// The newest probe there was when the call was noticed.
    pub(crate) newest: u64,
    pub(crate) how: Returning,
    /// Where the instruction pointer is.
    pub(crate) at: usize,
}

/// The only one who is called.
pub(crate) struct Sole {
    probe: Arc<Probe>,
    group: ThreadGroup,
}

impl Sole {
    fn of(entry: &Entry) -> Self {
        Self {
            probe: entry.probe.clone(),
            group: entry.group,
        }
    }

    /// The probe, if it is to fire for a thread of `group`.
    #[inline(always)]
    fn firing(&self, group: ThreadGroup, calls: &Calls) -> Option<ArcBorrow<'_, Probe>> {
        let probe = self.probe.as_arc_borrow();
        (self.group == group && calls.fires(probe)).then_some(probe)
    }

    /// Calls its handler, if the probe is to fire for a thread of `group`.
    #[inline(always)]
    pub(crate) fn call(
        &self,
        group: ThreadGroup,
        calls: Calls,
        handler: Handler,
        regs: &mut PtRegs,
    ) {
        let Some(probe) = self.firing(group, &calls) else {
            return;
        };
        match handler {
            Handler::Interrupt | Handler::Task => probe.hits.increment(),
            Handler::Return(_) => probe.returns.increment(),
            Handler::Filter => (),
        }
        calls.call_sole(probe, handler, regs);
    }
}

/// The only one who is called, of a function whose returns are noticed.
struct SoleFunction {
    sole: Sole,
    /// Whether it has a handler for the entry.
    at_entry: bool,
    returns: Arc<Returns>,
}

impl SoleFunction {
    /// A thread of `group` enters the function that is here.
    #[inline(always)]
    fn enter(&self, here: Here<'_>, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        let calls = Calls::begin(false);
        let Some(probe) = self.sole.firing(group, &calls) else {
            return;
        };
        probe.hits.increment();
        if self.at_entry {
            calls.call_sole(probe, Handler::Task, regs);
            // A thread that has been sent elsewhere does not call the function.
            if regs.ip() != here.at {
                return;
            }
        }
        let expected = self.returns.expect(here, probe.id, regs, guard);
        if expected.is_err() {
            self.miss(group);
        }
    }

    #[cold]
    fn miss(&self, group: ThreadGroup) {
        // It may have been disarmed by now.
        if let Some(probe) = self.sole.firing(group, &Calls::begin(false)) {
            probe.misses.increment();
        }
    }

    /// The function returns.
    #[inline(always)]
    fn returned(&self, ret: Return, regs: &mut PtRegs) {
        let calls = Calls::begin(false);
        let newer = self.sole.probe.id > ret.newest;
        let Some(probe) = self.sole.firing(ret.group, &calls).filter(|_| !newer) else {
            return;
        };
        probe.returns.increment();
        calls.call_at(probe, Handler::Return(ret.how), ret.at, regs);
    }
}

/// The only one who is called, where functions of others return.
struct SolePlace {
    sole: Sole,
    place: Arc<Place>,
}

/// What there is to do at a hit.
// With a tag of its own, which takes no calculation to get at.
#[repr(u8)]
enum Course {
    /// Mostly there is one client, with one handler, and these are the fast ways.
    SoleInInterrupt(Sole),
    SoleInTask(Sole),
    SoleAtExit(Sole),
    SoleFunction(SoleFunction),
    SolePlace(SolePlace),
    /// What each entry says.
    General {
        in_interrupt: bool,
        in_task: bool,
        /// Whether there is one that comes last.
        last: bool,
    },
}

impl Course {
    const NOTHING: Self = Self::General {
        in_interrupt: false,
        in_task: false,
        last: false,
    };

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
                    return Self::SoleFunction(SoleFunction {
                        sole: Sole::of(entry),
                        at_entry: entry.probe.wants.task,
                        returns: returns.clone(),
                    });
                }
                (Role::Place(place), ..) => {
                    return Self::SolePlace(SolePlace {
                        sole: Sole::of(entry),
                        place: place.clone(),
                    });
                }
                (Role::Hit(_), ..) => (),
            }
        }
        Self::General {
            in_interrupt: entries.iter().any(|entry| entry.is_for_interrupt),
            in_task: entries.iter().any(|entry| entry.in_task != InTask::Nothing),
            last: entries.iter().any(|entry| entry.in_task == InTask::Last),
        }
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
            course: Course::NOTHING,
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

    /// The only one who is called, if that is with interrupts disabled.
    #[inline]
    pub(crate) fn sole_in_interrupt(&self) -> Option<&Sole> {
        match &self.course {
            Course::SoleInInterrupt(sole) => Some(sole),
            Course::SoleInTask(_)
            | Course::SoleAtExit(_)
            | Course::SoleFunction(_)
            | Course::SolePlace(_)
            | Course::General { .. } => None,
        }
    }

    /// Calls the handlers that run with interrupts disabled, as they are if `interrupts_off`.
    /// Returns whether there is more to do.
    #[inline(always)]
    pub(crate) fn hit_in_interrupt(
        &self,
        group: ThreadGroup,
        interrupts_off: bool,
        regs: &mut PtRegs,
    ) -> bool {
        match self.course {
            Course::SoleInTask(_)
            | Course::SoleAtExit(_)
            | Course::SoleFunction(_)
            | Course::SolePlace(_) => true,
            Course::SoleInInterrupt(_) => {
                self.call_in_interrupt(group, interrupts_off, regs);
                false
            }
            Course::General {
                in_interrupt,
                in_task,
                ..
            } => {
                if in_interrupt {
                    self.call_in_interrupt(group, interrupts_off, regs);
                }
                in_task
            }
        }
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
    #[inline]
    pub(crate) fn hit(&self, here: Here<'_>, group: ThreadGroup, regs: &mut PtRegs, guard: &Guard) {
        let exit = Handler::Return(Returning::From);
        match &self.course {
            Course::SoleInInterrupt(_) => (),
            Course::SoleInTask(sole) => {
                sole.call(group, Calls::begin(false), Handler::Task, regs);
            }
            Course::SoleAtExit(sole) => sole.call(group, Calls::begin(false), exit, regs),
            Course::SoleFunction(function) => function.enter(here, group, regs, guard),
            Course::SolePlace(SolePlace { sole, place }) => {
                if sole.firing(group, &Calls::begin(false)).is_some() {
                    place.came_to_inline(here.at, regs, guard);
                }
            }
            Course::General { last, .. } => {
                self.call_in_task(here, group, *last, regs, guard);
            }
        }
    }

    #[inline(never)]
    fn call_in_task(
        &self,
        here: Here<'_>,
        group: ThreadGroup,
        any_last: bool,
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
        if any_last {
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
    #[inline(always)]
    pub(crate) fn returned(&self, ret: Return, regs: &mut PtRegs) {
        if let Course::SoleFunction(function) = &self.course {
            return function.returned(ret, regs);
        }
        self.returned_to_all(ret, regs);
    }

    #[inline(never)]
    fn returned_to_all(&self, ret: Return, regs: &mut PtRegs) {
        let calls = Calls::begin(false);
        let handler = Handler::Return(ret.how);
        for entry in self.waiting_for_return(ret.group, &calls, ret.newest) {
            entry.probe.returns.increment();
            calls.call(entry.probe.as_arc_borrow(), handler, ret.at, regs);
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "clients_test.rs"]
mod tests;
