// SPDX-License-Identifier: GPL-2.0

//! The list of those who are called at one probepoint.

use crate::{
    client::{
        Handler,
        Returning, //
    },
    contain::Calls,
    probe::Probe,
    returns::Returns, //
};

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::Arc,
    threads::ThreadGroup, //
};

/// What a probepoint is to a probe.
#[derive(Clone)]
pub(crate) enum Role {
    /// Where it is. If it wants returns, and they are found by the address that is returned to,
    /// this is who finds them.
    Hit(Option<Arc<Returns>>),
    /// An instruction by which the function returns.
    Exit,
}

/// A probe, and for which process.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) probe: Arc<Probe>,
    pub(crate) group: ThreadGroup,
    role: Role,
}

impl Entry {
    pub(crate) fn new(probe: Arc<Probe>, group: ThreadGroup, role: Role) -> Self {
        Self { probe, group, role }
    }

    /// Whether it is called with interrupts disabled.
    #[inline]
    fn is_for_interrupt(&self) -> bool {
        matches!(self.role, Role::Hit(_)) && self.probe.wants.interrupt
    }

    /// Whether there is something to do in task context.
    #[inline]
    fn is_for_task(&self) -> bool {
        match &self.role {
            Role::Hit(returns) => self.probe.wants.task || returns.is_some(),
            Role::Exit => true,
        }
    }

    /// Whether that is to be done when it is known whether a function is entered here: it may be
    /// left by the same instruction.
    #[inline]
    fn is_last(&self) -> bool {
        self.probe.is_internal
    }
}

/// Returns of a function that are to be noticed, for which of its probes.
struct Expected<'a> {
    returns: &'a Returns,
    newest: u64,
}

/// The probes at a probepoint, in the order of their registration.
pub(crate) struct Clients(KVec<Entry>);

impl Clients {
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    /// Returns a list that has one more at the end.
    pub(crate) fn with(&self, entry: Entry) -> Result<Self> {
        let mut list = KVec::with_capacity(self.0.len() + 1, GFP_KERNEL)?;
        list.extend_from_slice(&self.0, GFP_KERNEL)?;
        list.push(entry, GFP_KERNEL)?;
        Ok(Self(list))
    }

    /// Returns a list of those that `keep` holds for.
    pub(crate) fn retaining(&self, keep: impl Fn(&Entry) -> bool) -> Result<Self> {
        let mut list = KVec::with_capacity(self.0.len(), GFP_KERNEL)?;
        for entry in self.0.iter().filter(|entry| keep(entry)) {
            list.push(entry.clone(), GFP_KERNEL)?;
        }
        Ok(Self(list))
    }

    /// Those that are to fire, for a thread of `group`.
    #[inline]
    fn firing<'a>(
        &'a self,
        group: ThreadGroup,
        calls: &'a Calls,
        of: impl Fn(&Entry) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Entry> {
        self.0
            .iter()
            .filter(move |entry| entry.group == group && of(entry) && calls.fires(&entry.probe))
    }

    /// Calls the handlers that run with interrupts disabled. Returns whether there is more to do.
    #[inline]
    pub(crate) fn hit_in_interrupt(&self, group: ThreadGroup, regs: &mut PtRegs) -> bool {
        let at = regs.ip();
        let mut begun = None;
        let mut task = false;
        for entry in self.0.iter().filter(|entry| entry.group == group) {
            task |= entry.is_for_task();
            if !entry.is_for_interrupt() {
                continue;
            }
            // Most have no such handler, and need not note the context.
            let calls = begun.get_or_insert_with(Calls::begin);
            if calls.fires(&entry.probe) {
                entry.probe.hits.increment();
                calls.call(&entry.probe, Handler::Interrupt, at, regs);
            }
        }
        task
    }

    /// Calls the handlers that run in task context, and sees to the noticing of returns.
    #[inline]
    pub(crate) fn hit(&self, at: usize, group: ThreadGroup, regs: &mut PtRegs) {
        let calls = Calls::begin();
        let mut expected: Option<Expected<'_>> = None;
        for entry in self.firing(group, &calls, |entry| {
            entry.is_for_task() && !entry.is_last()
        }) {
            let probe = &entry.probe;
            match &entry.role {
                Role::Hit(returns) => {
                    if !probe.wants.interrupt {
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
            }
        }
        // A thread that has been sent elsewhere does not call the function.
        if let Some(Expected { returns, newest }) = expected.filter(|_| regs.ip() == at) {
            if returns.expect(at, newest, regs).is_err() {
                self.count_missed(group, &calls, newest);
            }
        }
        for entry in self.firing(group, &calls, Entry::is_last) {
            calls.call(&entry.probe, Handler::Task, at, regs);
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

    /// The function here returns: calls the handlers for that. The instruction pointer is at `at`.
    #[inline]
    pub(crate) fn returned(
        &self,
        group: ThreadGroup,
        newest: u64,
        how: Returning,
        at: usize,
        regs: &mut PtRegs,
    ) {
        let calls = Calls::begin();
        for entry in self.waiting_for_return(group, &calls, newest) {
            entry.probe.returns.increment();
            calls.call(&entry.probe, Handler::Return(how), at, regs);
        }
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "clients_test.rs"]
mod tests;
