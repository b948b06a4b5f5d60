// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the list of clients, and of what becomes of handlers that misbehave.

use super::*;

use crate::{
    client::{
        Client,
        Spot,
        Wants, //
    },
    probe::Probe, //
};

use kernel::{
    bindings, new_mutex,
    sync::{
        tasks_trace,
        Mutex, //
    },
    task::Task,
    threads::{
        self,
        Group,
        ThreadGroup, //
    },
};
use ubp::Vaddr;

const AT: usize = 0x1000;

/// Notes who has been called, and what the instruction pointer was.
#[pin_data]
struct Notes {
    #[pin]
    calls: Mutex<Noted>,
}

impl Notes {
    fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { calls <- new_mutex!(KVec::new()) }),
            GFP_KERNEL,
        )
    }
}

/// A client that notes its calls. One whose name is a capital letter has an interrupt handler,
/// too, which is noted by that; a return is noted as `<`. The filter of `x` lets nobody pass, that
/// of `y` misbehaves.
struct Noting {
    name: char,
    notes: Arc<Notes>,
    wants: Wants,
    moves_to: Option<usize>,
    misbehaves: bool,
}

impl Noting {
    fn note(&self, name: char, regs: &mut PtRegs) {
        let _ = self.notes.calls.lock().push((name, regs.ip()), GFP_KERNEL);
        if let Some(ip) = self.moves_to {
            regs.set_ip(ip);
        }
        if self.misbehaves {
            // SAFETY: That it is not ended here is the test.
            unsafe { bindings::rcu_read_lock() };
        }
    }
}

impl Client for Noting {
    fn wants(&self) -> Wants {
        self.wants
    }

    fn fires_for(&self, _thread: &Task) -> bool {
        if self.name == 'y' {
            // SAFETY: That it is not ended here is the test.
            unsafe { bindings::rcu_read_lock() };
        }
        self.name != 'x'
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.note(self.name, regs);
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        self.note(self.name.to_ascii_uppercase(), regs);
    }

    fn returned(&self, regs: &mut PtRegs, _how: Returning) {
        self.note('<', regs);
    }
}

/// Calls that were noted.
type Noted = KVec<(char, usize)>;

/// Calls, and what the instruction pointer is after them.
type Outcome = (Noted, usize);

/// A list of clients, and what they note.
struct Fixture {
    notes: Arc<Notes>,
    clients: Clients,
    group: ThreadGroup,
}

/// What is different about one of the clients.
#[derive(Clone, Copy, Default)]
struct Odd {
    moves_to: Option<usize>,
    misbehaves: bool,
}

impl Fixture {
    fn new() -> Result<Self> {
        Ok(Self {
            notes: Notes::new()?,
            clients: Clients::new(),
            group: Task::current_group(),
        })
    }

    fn add(&mut self, name: char, role: Role, odd: Odd) -> Result<Arc<Probe>> {
        let client = Noting {
            name: name.to_ascii_lowercase(),
            notes: self.notes.clone(),
            wants: Wants {
                task: true,
                interrupt: name.is_ascii_uppercase(),
                returned: matches!(role, Role::Exit | Role::Hit(Some(_))),
                filter: true,
            },
            moves_to: odd.moves_to,
            misbehaves: odd.misbehaves,
        };
        let probe = Probe::new(Arc::new(client, GFP_KERNEL)?, Spot::at(Vaddr::new(AT)))?;
        probe.go_live();
        let entry = Entry::new(probe.clone(), self.group, role);
        self.clients = self.clients.with(entry)?;
        Ok(probe)
    }

    /// Adds clients of the current thread group.
    fn of(names: &str, odd: impl Fn(char) -> Odd) -> Result<Self> {
        let mut this = Self::new()?;
        for name in names.chars() {
            this.add(name, Role::Hit(None), odd(name))?;
        }
        Ok(this)
    }

    /// Has the function return, from a call that was noted when `newest` was the newest probe.
    /// Returns as [`Fixture::hit`].
    fn return_from(&self, newest: u64, how: Returning) -> Result<Outcome> {
        self.with_regs(|regs| match how {
            Returning::From => (self.clients).returning_inline(self.group, newest, AT, regs),
            Returning::To => (self.clients).returned(self.group, newest, (how, AT), regs),
        })
    }

    /// Runs a hit by a thread of `group`, as [`Probepoint`](crate::probepoint::Probepoint) does.
    /// Returns the calls and the final instruction pointer.
    fn hit(&self, group: ThreadGroup) -> Result<Outcome> {
        let guard = tasks_trace::read_lock();
        // Interrupts are not disabled in these tests, so that clients may take a mutex.
        let calls = Calls::begin(false);
        let exit = Handler::Return(Returning::From);
        self.with_regs(|regs| match self.clients.course() {
            Course::SoleInInterrupt(sole) => sole.call(group, calls, Handler::Interrupt, regs),
            Course::SoleInTask(sole) => sole.call(group, calls, Handler::Task, regs),
            Course::SoleAtExit(sole) => sole.call(group, calls, exit, regs),
            Course::SoleFunction(function) => function.enter(AT, group, regs, &guard),
            Course::SoleReturnPoint(it) => it.reached(group, regs, &guard),
            Course::General(what) => self.hit_generally(what, group, regs),
        })
    }

    fn hit_generally(&self, what: &General, group: ThreadGroup, regs: &mut PtRegs) {
        let clients = &self.clients;
        if clients.hit_in_interrupt(what, group, false, regs) {
            clients.hit_in_task(what, AT, group, regs, &tasks_trace::read_lock());
        }
    }

    /// Has the list go the general way, also where there is a faster one.
    fn generalize(&mut self) {
        self.clients.course = Course::General(General::of(
            &self.clients.entries,
            &self.clients.return_points,
        ));
    }

    fn with_regs(&self, f: impl FnOnce(&mut PtRegs)) -> Result<Outcome> {
        let mut raw = KBox::new(bindings::pt_regs::default(), GFP_KERNEL)?;
        // SAFETY: A made-up set of registers, which nobody else knows.
        let regs = unsafe { PtRegs::from_raw_mut(&mut *raw) };
        regs.set_ip(AT);
        f(regs);
        let calls = core::mem::replace(&mut *self.notes.calls.lock(), KVec::new());
        Ok((calls, regs.ip()))
    }
}

/// Hits that many clients with these names; those in `moves` move the instruction pointer.
fn run(names: &str, moves: &[(char, usize)]) -> Result<Outcome> {
    let fixture = Fixture::of(names, |name| Odd {
        moves_to: moves.iter().find(|(who, _)| *who == name).map(|it| it.1),
        misbehaves: false,
    })?;
    fixture.hit(fixture.group)
}

/// Of a thread group other than that of the current task.
fn another_group() -> Result<ThreadGroup> {
    // KUnit runs in a kernel thread, which is not the first process.
    let first = threads::find(1)
        .and_then(|task| Group::of(&task))
        .ok_or(ESRCH)?;
    Ok(first.id())
}

/// A function, and a return breakpoint, for which there is no memory.
struct NoInstances;

impl ReturnPoint for NoInstances {
    fn reached(&self, _generation: u64, _regs: &mut PtRegs, _guard: &Guard) -> Result {
        Err(ENOMEM)
    }
}

fn no_instances() -> Result<Arc<dyn ReturnPoint>> {
    Ok(Arc::new(NoInstances, GFP_KERNEL)?)
}

#[kunit_tests(uprobes_clients)]
mod list {
    use super::*;

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
        let fixture = Fixture::of("A", |_| Odd::default())?;
        let (calls, _) = fixture.hit(another_group()?)?;
        assert!(calls.is_empty());
        Ok(())
    }

    #[test]
    fn clients_that_do_not_want_the_thread_are_passed_over() -> Result {
        let (calls, _) = run("aXb", &[])?;
        assert_eq!(&calls[..], &[('a', AT), ('b', AT)]);
        Ok(())
    }

    #[test]
    fn silenced_clients_are_passed_over() -> Result {
        let mut fixture = Fixture::new()?;
        let first = fixture.add('a', Role::Hit(None), Odd::default())?;
        let second = fixture.add('B', Role::Hit(None), Odd::default())?;
        assert!(second.silence());
        assert!(!second.silence());
        let (calls, _) = fixture.hit(fixture.group)?;
        assert_eq!(&calls[..], &[('a', AT)]);
        assert_eq!(first.counts().hits, 1);
        assert_eq!(second.counts().hits, 0);
        Ok(())
    }

    #[test]
    fn a_hit_with_two_handlers_counts_once() -> Result {
        let mut fixture = Fixture::new()?;
        let probe = fixture.add('B', Role::Hit(None), Odd::default())?;
        fixture.hit(fixture.group)?;
        assert_eq!(probe.counts().hits, 1);
        Ok(())
    }

    #[test]
    fn an_exit_is_a_return_and_no_hit() -> Result {
        let mut fixture = Fixture::new()?;
        let probe = fixture.add('A', Role::Exit, Odd::default())?;
        let (calls, _) = fixture.hit(fixture.group)?;
        assert_eq!(&calls[..], &[('<', AT)]);
        assert_eq!((probe.counts().hits, probe.counts().returns), (0, 1));
        Ok(())
    }

    /// One has a way of its own.
    fn returning(names: &str) -> Result<(Fixture, KVec<Arc<Probe>>)> {
        let mut fixture = Fixture::new()?;
        let mut probes = KVec::new();
        let entrance = no_instances()?;
        for name in names.chars() {
            let role = Role::Hit(Some(entrance.clone()));
            probes.push(fixture.add(name, role, Odd::default())?, GFP_KERNEL)?;
        }
        Ok((fixture, probes))
    }

    #[test]
    fn returns_are_told_to_those_who_were_there_at_the_call() -> Result {
        for names in ["a", "ab", "A", "AB"] {
            let (fixture, probes) = returning(names)?;
            for (before, probe) in probes.iter().enumerate() {
                for how in [Returning::From, Returning::To] {
                    let (calls, ip) = fixture.return_from(probe.id - 1, how)?;
                    assert_eq!((calls.len(), ip), (before, AT));
                    let (calls, _) = fixture.return_from(probe.id, how)?;
                    assert_eq!(calls.len(), before + 1);
                    assert!(calls.iter().all(|call| *call == ('<', AT)));
                }
            }
            assert_eq!(probes[0].counts().returns, 2 * (2 * probes.len() - 1));
            assert_eq!(probes[0].counts().hits, 0);
        }
        Ok(())
    }

    #[test]
    fn a_call_that_cannot_be_noted_is_missed() -> Result {
        for names in ["a", "ab", "A"] {
            let (fixture, probes) = returning(names)?;
            let (calls, _) = fixture.hit(fixture.group)?;
            assert_eq!(calls.len(), if names == "a" { 1 } else { 2 });
            for probe in &probes {
                let counts = probe.counts();
                assert_eq!((counts.hits, counts.returns, counts.misses), (1, 0, 1));
            }
            fixture.hit(another_group()?)?;
            assert_eq!(probes[0].counts().hits, 1);
        }
        Ok(())
    }

    #[test]
    fn a_call_that_a_handler_prevents_is_none() -> Result {
        let mut fixture = Fixture::new()?;
        let odd = Odd {
            moves_to: Some(0x2000),
            misbehaves: false,
        };
        let role = Role::Hit(Some(no_instances()?));
        let probe = fixture.add('a', role, odd)?;
        let (calls, ip) = fixture.hit(fixture.group)?;
        assert_eq!(&calls[..], &[('a', AT)]);
        assert_eq!((ip, probe.counts().misses), (0x2000, 0));
        Ok(())
    }

    #[test]
    fn a_sole_client_is_told_what_it_would_be_told_among_others() -> Result {
        /// The calls of a hit; the instruction pointer and the counts after it.
        fn outcome(
            role: &Role,
            moves_to: Option<usize>,
            (is_ours, is_general): (bool, bool),
        ) -> Result<(Noted, (usize, [usize; 3]))> {
            let mut fixture = Fixture::new()?;
            let odd = Odd {
                moves_to,
                misbehaves: false,
            };
            let probe = fixture.add('a', role.clone(), odd)?;
            assert!(!matches!(fixture.clients.course, Course::General(_)));
            if is_general {
                fixture.generalize();
            }
            let group = match is_ours {
                true => fixture.group,
                false => another_group()?,
            };
            let (calls, ip) = fixture.hit(group)?;
            let counts = probe.counts();
            Ok((calls, (ip, [counts.hits, counts.returns, counts.misses])))
        }

        let entrance = no_instances()?;
        for role in [Role::Hit(None), Role::Exit, Role::Hit(Some(entrance))] {
            for moves_to in [None, Some(0x2000)] {
                for is_ours in [true, false] {
                    let fast = outcome(&role, moves_to, (is_ours, false))?;
                    let general = outcome(&role, moves_to, (is_ours, true))?;
                    assert_eq!(&fast.0[..], &general.0[..]);
                    assert_eq!(fast.1, general.1);
                    assert_eq!(fast.0.is_empty(), !is_ours);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn lists_are_copied_with_and_without() -> Result {
        let mut fixture = Fixture::new()?;
        let mut ids = KVec::new();
        for name in "abc".chars() {
            let probe = fixture.add(name, Role::Hit(None), Odd::default())?;
            ids.push(probe.id, GFP_KERNEL)?;
        }
        let all = &fixture.clients;
        let without = all.retaining(|entry| entry.probe.id != ids[1], |_| true)?;
        assert!(without.iter().map(|it| it.probe.id).eq([ids[0], ids[2]]));
        assert!(all.iter().map(|it| it.probe.id).eq(ids.iter().copied()));
        assert!(without.retaining(|_| false, |_| true)?.is_empty());
        Ok(())
    }

    #[test]
    fn a_filter_that_leaves_rcu_unbalanced_is_asked_no_more() -> Result {
        let fixture = Fixture::of("ayb", |_| Odd::default())?;
        // SAFETY: May be asked at any time.
        let depth = || unsafe { bindings::rcu_preempt_depth() };
        let before = depth();
        fixture.hit(fixture.group)?;
        assert_eq!(depth(), before);
        let (second, _) = fixture.hit(fixture.group)?;
        assert_eq!(&second[..], &[('a', AT), ('b', AT)]);
        Ok(())
    }

    #[test]
    fn a_handler_that_leaves_rcu_unbalanced_is_called_no_more() -> Result {
        let fixture = Fixture::of("abc", |name| Odd {
            moves_to: None,
            misbehaves: name == 'b',
        })?;
        // SAFETY: May be asked at any time.
        let depth = || unsafe { bindings::rcu_preempt_depth() };
        let before = depth();
        let (first, _) = fixture.hit(fixture.group)?;
        let (second, _) = fixture.hit(fixture.group)?;
        assert_eq!(depth(), before);
        assert_eq!(&first[..], &[('a', AT), ('b', AT), ('c', AT)]);
        assert_eq!(&second[..], &[('a', AT), ('c', AT)]);
        Ok(())
    }
}
