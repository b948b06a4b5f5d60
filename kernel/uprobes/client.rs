// SPDX-License-Identifier: GPL-2.0

//! Clients, and the list of those at one probepoint.

use kernel::{
    prelude::*,
    ptregs::PtRegs,
    sync::Arc,
    threads::ThreadGroup, //
};

/// Who is called when a thread hits a probe.
///
/// Both handlers get the registers of the thread, with the instruction pointer at the probe, and
/// may change them. If a handler moves the instruction pointer, the thread goes on there, and the
/// probed instruction is not executed; the other handlers are still called.
pub trait Client: Send + Sync {
    /// Called in the context of the thread, as a system call is: may sleep, and access user memory.
    fn hit(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Called before that, with interrupts disabled. Must not sleep, nor fault.
    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        let _ = regs;
    }

    /// Whether [`Client::hit`] is to be called.
    fn wants_task(&self) -> bool {
        true
    }

    /// Whether [`Client::hit_in_interrupt`] is to be called.
    fn wants_interrupt(&self) -> bool {
        false
    }
}

/// A client, and for which process it is.
#[derive(Clone)]
pub(crate) struct Entry {
    /// Of the registration.
    pub(crate) id: u64,
    pub(crate) group: ThreadGroup,
    client: Arc<dyn Client>,
    interrupt: bool,
    task: bool,
}

impl Entry {
    pub(crate) fn new(id: u64, group: ThreadGroup, client: Arc<dyn Client>) -> Self {
        Self {
            id,
            group,
            interrupt: client.wants_interrupt(),
            task: client.wants_task(),
            client,
        }
    }
}

/// The clients at a probepoint, in the order of their registration.
pub(crate) struct Clients(KVec<Entry>);

impl Clients {
    pub(crate) const fn new() -> Self {
        Self(KVec::new())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
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

    /// Calls the handlers that run with interrupts disabled. Returns whether there are others.
    #[inline]
    pub(crate) fn hit_in_interrupt(&self, group: ThreadGroup, regs: &mut PtRegs) -> bool {
        let at = regs.ip();
        let mut task = false;
        for entry in self.0.iter().filter(|entry| entry.group == group) {
            task |= entry.task;
            if entry.interrupt {
                call(at, regs, |regs| entry.client.hit_in_interrupt(regs));
            }
        }
        task
    }

    /// Calls the handlers that run in task context.
    #[inline]
    pub(crate) fn hit(&self, at: usize, group: ThreadGroup, regs: &mut PtRegs) {
        for entry in &self.0 {
            if entry.group == group && entry.task {
                call(at, regs, |regs| entry.client.hit(regs));
            }
        }
    }
}

/// Calls a handler with the instruction pointer at the probe, wherever an earlier one has moved it.
/// The last move counts.
#[inline]
fn call(at: usize, regs: &mut PtRegs, handler: impl FnOnce(&mut PtRegs)) {
    let moved = regs.ip();
    regs.set_ip(at);
    handler(regs);
    if regs.ip() == at {
        regs.set_ip(moved);
    }
}
