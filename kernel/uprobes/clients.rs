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
        GroupReturnPoint,
        ReturnPoint,
        Role, //
    },
    sole::{
        Sole,
        SoleFunction,
        SoleReturnPoint, //
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

/// The entry of a function, and the newest consumer that wants its return.
struct Expected<'a> {
    entrance: &'a Arc<dyn ReturnPoint>,
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
    SoleReturnPoint(SoleReturnPoint),
    General(General),
}

/// What each entry says.
#[derive(Clone, Copy)]
pub(crate) struct General {
    in_interrupt: bool,
    in_task: bool,
    /// Whether there are return breakpoints.
    at_return: bool,
}

impl General {
    const fn nothing() -> Self {
        Self {
            in_interrupt: false,
            in_task: false,
            at_return: false,
        }
    }

    fn of(entries: &[Entry], return_points: &[GroupReturnPoint]) -> Self {
        let at_return = !return_points.is_empty();
        Self {
            in_interrupt: entries.iter().any(|entry| entry.is_for_interrupt),
            in_task: at_return || entries.iter().any(|entry| entry.is_for_task),
            at_return,
        }
    }
}

impl Course {
    fn of(entries: &[Entry], return_points: &[GroupReturnPoint]) -> Self {
        match (entries, return_points) {
            ([], [point]) => return Self::SoleReturnPoint(SoleReturnPoint::of(point)),
            ([entry], []) => match (&entry.role, entry.is_for_interrupt, entry.is_for_task) {
                (Role::Hit(None), true, false) => {
                    return Self::SoleInInterrupt(Sole::of(entry));
                }
                (Role::Hit(None), false, true) => {
                    return Self::SoleInTask(Sole::of(entry));
                }
                (Role::Exit, ..) => return Self::SoleAtExit(Sole::of(entry)),
                (Role::Hit(Some(entrance)), false, _) => {
                    return Self::SoleFunction(SoleFunction::of(entry, entrance));
                }
                (Role::Hit(_), ..) => (),
            },
            _ => (),
        }
        Self::General(General::of(entries, return_points))
    }
}

/// Copies those that `keep` holds for, with room for `more`.
fn copied<T: Clone>(list: &[T], more: usize, keep: impl Fn(&T) -> bool) -> Result<KVec<T>> {
    let mut copy = KVec::with_capacity(list.len() + more, GFP_KERNEL_ACCOUNT)?;
    for item in list.iter().filter(|item| keep(item)) {
        copy.push(item.clone(), GFP_KERNEL_ACCOUNT)?;
    }
    Ok(copy)
}

/// The consumers at a probepoint, in the order of their registration, and the return breakpoints
/// there.
pub(crate) struct Clients {
    course: Course,
    entries: KVec<Entry>,
    /// One a process at most.
    return_points: KVec<GroupReturnPoint>,
}

impl Clients {
    pub(crate) const fn new() -> Self {
        Self {
            course: Course::General(General::nothing()),
            entries: KVec::new(),
            return_points: KVec::new(),
        }
    }

    fn of(entries: KVec<Entry>, return_points: KVec<GroupReturnPoint>) -> Self {
        Self {
            course: Course::of(&entries, &return_points),
            entries,
            return_points,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.return_points.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// Returns a list that has one more consumer at the end.
    pub(crate) fn with(&self, entry: Entry) -> Result<Self> {
        let points = copied(&self.return_points, 0, |_| true)?;
        let mut entries = copied(&self.entries, 1, |_| true)?;
        entries.push(entry, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::of(entries, points))
    }

    /// Returns a list that has one more return breakpoint.
    pub(crate) fn with_return_point(&self, point: GroupReturnPoint) -> Result<Self> {
        let mut points = copied(&self.return_points, 1, |_| true)?;
        points.push(point, GFP_KERNEL_ACCOUNT)?;
        Ok(Self::of(copied(&self.entries, 0, |_| true)?, points))
    }

    /// Returns a list of those that `keep` and `keep_point` hold for.
    pub(crate) fn retaining(
        &self,
        keep: impl Fn(&Entry) -> bool,
        keep_point: impl Fn(&GroupReturnPoint) -> bool,
    ) -> Result<Self> {
        let entries = copied(&self.entries, 0, keep)?;
        Ok(Self::of(
            entries,
            copied(&self.return_points, 0, keep_point)?,
        ))
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

    /// Calls the handlers that run in task context, and then the return probes.
    #[inline(never)]
    pub(crate) fn hit_in_task(
        &self,
        what: &General,
        at: usize,
        group: ThreadGroup,
        regs: &mut PtRegs,
        guard: &Guard,
    ) {
        let calls = &Calls::begin(false);
        let mut expected: Option<Expected<'_>> = None;
        for entry in self.firing(group, calls, |entry| entry.is_for_task) {
            let probe = entry.probe.as_arc_borrow();
            match &entry.role {
                Role::Hit(entrance) => {
                    if !entry.is_for_interrupt {
                        probe.hits.increment();
                    }
                    if probe.wants.task {
                        calls.call(probe, Handler::Task, at, regs);
                    }
                    if let Some(entrance) = entrance {
                        expected = Some(Expected {
                            entrance,
                            newest: expected.map_or(probe.id, |so_far| so_far.newest.max(probe.id)),
                        });
                    }
                }
                Role::Exit => {
                    probe.returns.increment();
                    calls.call(probe, Handler::Return(Returning::From), at, regs);
                }
            }
        }
        // A thread that has been sent elsewhere does not call the function.
        if let Some(Expected { entrance, newest }) = expected.filter(|_| regs.ip() == at) {
            if entrance.reached(newest, regs, guard).is_err() {
                self.count_missed(group, calls, newest);
            }
        }
        // The instruction may be one by which the function that has been entered returns.
        if what.at_return {
            for point in self.return_points.iter().filter(|it| it.group == group) {
                let _ = point.point.reached(0, regs, guard);
            }
        }
    }

    /// Counts a return of the function here that cannot be detected, of a call that was made when
    /// `newest` was the newest probe.
    #[cold]
    pub(crate) fn missed(&self, group: ThreadGroup, newest: u64) {
        self.count_missed(group, &Calls::begin(false), newest);
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
            | Course::SoleReturnPoint(_)
            | Course::General(_) => self.returned(group, newest, (Returning::From, at), regs),
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "clients_test.rs"]
mod tests;
