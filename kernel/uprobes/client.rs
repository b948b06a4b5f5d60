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

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[kunit_tests(uprobes_clients)]
mod tests {
    use super::*;

    use kernel::{
        bindings, new_mutex,
        sync::Mutex,
        task::Task,
        threads::{
            self,
            Group, //
        },
    };

    /// Notes who has been called, and what the instruction pointer was.
    #[pin_data]
    struct Notes {
        #[pin]
        calls: Mutex<KVec<(char, usize)>>,
    }

    struct Noting {
        name: char,
        notes: Arc<Notes>,
        interrupt: bool,
        task: bool,
        moves_to: Option<usize>,
    }

    impl Noting {
        fn note(&self, name: char, regs: &mut PtRegs) {
            let _ = self.notes.calls.lock().push((name, regs.ip()), GFP_KERNEL);
            if let Some(ip) = self.moves_to {
                regs.set_ip(ip);
            }
        }
    }

    impl Client for Noting {
        fn hit(&self, regs: &mut PtRegs) {
            self.note(self.name, regs);
        }

        fn hit_in_interrupt(&self, regs: &mut PtRegs) {
            self.note(self.name.to_ascii_uppercase(), regs);
        }

        fn wants_task(&self) -> bool {
            self.task
        }

        fn wants_interrupt(&self) -> bool {
            self.interrupt
        }
    }

    const AT: usize = 0x1000;

    /// Adds clients of the current thread group, of which a name in capitals wants the interrupt
    /// handler, too, and runs a hit. Returns the calls and the final instruction pointer.
    fn run(names: &str, moves: &[(char, usize)]) -> Result<(KVec<(char, usize)>, usize)> {
        let notes = Arc::pin_init(
            pin_init!(Notes { calls <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )?;
        let group = Task::current_group();
        let mut clients = Clients::new();
        for (id, name) in names.chars().enumerate() {
            let client = Arc::new(
                Noting {
                    name: name.to_ascii_lowercase(),
                    notes: notes.clone(),
                    interrupt: name.is_ascii_uppercase(),
                    task: true,
                    moves_to: moves
                        .iter()
                        .find(|(who, _)| *who == name)
                        .map(|(_, to)| *to),
                },
                GFP_KERNEL,
            )?;
            clients = clients.with(Entry::new(id as u64, group, client))?;
        }
        let mut raw = KBox::new(bindings::pt_regs::default(), GFP_KERNEL)?;
        // SAFETY: A made-up set of registers, which nobody else knows.
        let regs = unsafe { PtRegs::from_raw_mut(&mut *raw) };
        regs.set_ip(AT);
        if clients.hit_in_interrupt(group, regs) {
            clients.hit(AT, group, regs);
        }
        let calls = core::mem::replace(&mut *notes.calls.lock(), KVec::new());
        Ok((calls, regs.ip()))
    }

    #[test]
    fn clients_are_called_in_order_interrupt_first() -> Result {
        let (calls, ip) = run("aBc", &[])?;
        assert_eq!(&calls[..], &[('B', AT), ('a', AT), ('b', AT), ('c', AT)]);
        assert_eq!(ip, AT);
        Ok(())
    }

    #[test]
    fn a_moved_instruction_pointer_is_not_seen_by_others_and_stays() -> Result {
        let (calls, ip) = run("abc", &[('b', 0x2000)])?;
        assert_eq!(&calls[..], &[('a', AT), ('b', AT), ('c', AT)]);
        assert_eq!(ip, 0x2000);
        Ok(())
    }

    #[test]
    fn the_last_move_counts() -> Result {
        let (_, ip) = run("abc", &[('a', 0x3000), ('b', 0x2000)])?;
        assert_eq!(ip, 0x2000);
        Ok(())
    }

    #[test]
    fn other_groups_are_passed_over() -> Result {
        let notes = Arc::pin_init(
            pin_init!(Notes { calls <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )?;
        let client = Arc::new(
            Noting {
                name: 'x',
                notes: notes.clone(),
                interrupt: true,
                task: true,
                moves_to: None,
            },
            GFP_KERNEL,
        )?;
        let own = Task::current_group();
        // KUnit runs in a kernel thread, which is not the first process.
        let first = threads::find(1)
            .and_then(|task| Group::of(&task))
            .ok_or(ESRCH)?;
        let other = first.id();
        let clients = Clients::new().with(Entry::new(0, other, client))?;
        let mut raw = KBox::new(bindings::pt_regs::default(), GFP_KERNEL)?;
        // SAFETY: A made-up set of registers, which nobody else knows.
        let regs = unsafe { PtRegs::from_raw_mut(&mut *raw) };
        assert!(!clients.hit_in_interrupt(own, regs));
        assert!(notes.calls.lock().is_empty());
        Ok(())
    }

    #[test]
    fn lists_are_copied_with_and_without() -> Result {
        let notes = Arc::pin_init(
            pin_init!(Notes { calls <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )?;
        let group = Task::current_group();
        let mut clients = Clients::new();
        for id in 0..3 {
            let client = Arc::new(
                Noting {
                    name: 'a',
                    notes: notes.clone(),
                    interrupt: false,
                    task: true,
                    moves_to: None,
                },
                GFP_KERNEL,
            )?;
            clients = clients.with(Entry::new(id, group, client))?;
        }
        let left = clients.retaining(|entry| entry.id != 1)?;
        assert!(left.0.iter().map(|entry| entry.id).eq([0, 2]));
        assert!(clients.0.iter().map(|entry| entry.id).eq([0, 1, 2]));
        assert!(left.retaining(|_| false)?.is_empty());
        Ok(())
    }
}
