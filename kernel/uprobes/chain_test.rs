// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the handler chain and of the handler guard.

use super::*;

use crate::{
    consumer::{
        Consumer,
        HandlerMask,
        ProbeSpec, //
    },
    probe::Probe, //
};

use kernel::{
    bindings, new_mutex,
    sync::{
        tasks_trace,
        Arc,
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

/// Record of the handlers that were called, and of the instruction pointer that they found.
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

/// A consumer that records its calls by its name. If the name is a capital letter, the consumer has
/// an interrupt handler as well, which records the capital letter. A return is recorded as `<`. The
/// filter of `x` accepts no thread. The filter of `y` leaves RCU unbalanced.
struct Noting {
    name: char,
    notes: Arc<Notes>,
    handlers: HandlerMask,
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
            // SAFETY: May be called at any time. The handler guard calls `rcu_read_unlock()`.
            unsafe { bindings::rcu_read_lock() };
        }
    }
}

impl Consumer for Noting {
    fn handlers(&self) -> HandlerMask {
        self.handlers
    }

    fn fires_for(&self, _thread: &Task) -> bool {
        if self.name == 'y' {
            // SAFETY: May be called at any time. The handler guard calls `rcu_read_unlock()`.
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

    fn returned(&self, regs: &mut PtRegs) {
        self.note('<', regs);
    }
}

/// Recorded calls.
type Noted = KVec<(char, usize)>;

/// Recorded calls, and the instruction pointer after them.
type Outcome = (Noted, usize);

/// A chain, and the record of its calls.
struct Fixture {
    notes: Arc<Notes>,
    chain: HandlerChain,
    group: ThreadGroup,
}

/// Behaviour of one of the consumers.
#[derive(Clone, Copy, Default)]
struct Odd {
    moves_to: Option<usize>,
    misbehaves: bool,
}

impl Fixture {
    fn new() -> Result<Self> {
        Ok(Self {
            notes: Notes::new()?,
            chain: HandlerChain::new(),
            group: Task::current_group(),
        })
    }

    fn add(
        &mut self,
        name: char,
        function_entry: Option<Arc<dyn ReturnPoint>>,
        odd: Odd,
    ) -> Result<Arc<Probe>> {
        let consumer = Noting {
            name: name.to_ascii_lowercase(),
            notes: self.notes.clone(),
            handlers: HandlerMask {
                task: true,
                interrupt: name.is_ascii_uppercase(),
                returned: function_entry.is_some(),
                filter: true,
            },
            moves_to: odd.moves_to,
            misbehaves: odd.misbehaves,
        };
        let probe = Probe::new(
            Arc::new(consumer, GFP_KERNEL)?,
            ProbeSpec::at(Vaddr::new(AT)),
        )?;
        probe.enable();
        let entry = ChainEntry::new(probe.clone(), self.group, function_entry);
        self.chain = self.chain.with(entry)?;
        Ok(probe)
    }

    /// Creates a chain with consumers for the current thread group.
    fn with_names(names: &str, odd: impl Fn(char) -> Odd) -> Result<Self> {
        let mut this = Self::new()?;
        for name in names.chars() {
            this.add(name, None, odd(name))?;
        }
        Ok(this)
    }

    /// Calls the return handlers for a call of a generation, with or without the fast path. Returns
    /// as [`Fixture::hit`].
    fn return_from(&self, generation: u64, by_chain: bool) -> Result<Outcome> {
        let (chain, group) = (&self.chain, self.group);
        let ended = EndedCall {
            function: AT,
            location: 0,
            generation,
        };
        let guard = tasks_trace::read_lock();
        self.with_regs(|regs| match by_chain {
            true => chain.returned(group, AT, ended, regs, &guard),
            false => chain.returned_fastpath(group, AT, generation, |_| ended, regs, &guard),
        })
    }

    /// Runs a hit by a thread of `group`, as [`Probepoint`](crate::probepoint::Probepoint) does.
    /// Returns the calls and the final instruction pointer.
    fn hit(&self, group: ThreadGroup) -> Result<Outcome> {
        let guard = tasks_trace::read_lock();
        // These tests do not disable interrupts, because consumers take a mutex.
        let calls = HandlerGuard::new(false);
        self.with_regs(|regs| match self.chain.hit_path() {
            HitPath::SingleInInterrupt(single) => {
                single.call(group, calls, HandlerKind::Interrupt, regs)
            }
            HitPath::SingleInTask(single) => single.call(group, calls, HandlerKind::Task, regs),
            HitPath::SingleFunction(function) => function.enter(AT, group, regs, &guard),
            HitPath::SingleReturnPoint(it) => it.reached(group, regs, &guard),
            HitPath::Chain(what) => self.hit_chain(what, group, regs),
        })
    }

    fn hit_chain(&self, what: &ChainContexts, group: ThreadGroup, regs: &mut PtRegs) {
        let chain = &self.chain;
        if chain.hit_in_interrupt(what, group, false, regs) {
            chain.hit_in_task(what, AT, group, regs, &tasks_trace::read_lock());
        }
    }

    /// Disables the fast paths.
    fn disable_fast_paths(&mut self) {
        self.chain.hit_path = HitPath::Chain(ChainContexts::new(
            &self.chain.entries,
            self.chain.file.as_ref(),
            &self.chain.return_points,
        ));
    }

    fn with_regs(&self, f: impl FnOnce(&mut PtRegs)) -> Result<Outcome> {
        let mut raw = KBox::new(bindings::pt_regs::default(), GFP_KERNEL)?;
        // SAFETY: `raw` is valid, and nothing else refers to it.
        let regs = unsafe { PtRegs::from_raw_mut(&mut *raw) };
        regs.set_ip(AT);
        f(regs);
        let calls = core::mem::replace(&mut *self.notes.calls.lock(), KVec::new());
        Ok((calls, regs.ip()))
    }
}

/// Runs a hit of consumers with these names, of which the ones in `moves` set the instruction
/// pointer.
fn run(names: &str, moves: &[(char, usize)]) -> Result<Outcome> {
    let fixture = Fixture::with_names(names, |name| Odd {
        moves_to: moves.iter().find(|(of, _)| *of == name).map(|it| it.1),
        misbehaves: false,
    })?;
    fixture.hit(fixture.group)
}

/// Returns a thread group other than the current one.
fn another_group() -> Result<ThreadGroup> {
    // KUnit runs in a kernel thread, which does not belong to the first process.
    let first = threads::find(1)
        .and_then(|task| Group::from_task(&task))
        .ok_or(ESRCH)?;
    Ok(first.id())
}

/// A return point that has no memory.
struct NoInstances;

impl ReturnPoint for NoInstances {
    fn reached(&self, _generation: u64, _regs: &mut PtRegs, _guard: &Guard) -> Result {
        Err(ENOMEM)
    }
}

fn no_instances() -> Result<Arc<dyn ReturnPoint>> {
    Ok(Arc::new(NoInstances, GFP_KERNEL)?)
}

#[kunit_tests(uprobes_chain)]
mod chain {
    use super::*;

    #[test]
    fn calls_interrupt_handlers_first() -> Result {
        let (calls, ip) = run("aBc", &[])?;
        assert_eq!(&calls[..], &[('B', AT), ('a', AT), ('b', AT), ('c', AT)]);
        assert_eq!(ip, AT);
        Ok(())
    }

    #[test]
    fn changed_ip_is_hidden_from_other_handlers() -> Result {
        let (calls, ip) = run("abc", &[('b', 0x2000)])?;
        assert_eq!(&calls[..], &[('a', AT), ('b', AT), ('c', AT)]);
        assert_eq!(ip, 0x2000);
        Ok(())
    }

    #[test]
    fn last_changed_ip_takes_effect() -> Result {
        let (_, ip) = run("abc", &[('a', 0x3000), ('b', 0x2000)])?;
        assert_eq!(ip, 0x2000);
        Ok(())
    }

    #[test]
    fn skips_other_processes() -> Result {
        let fixture = Fixture::with_names("A", |_| Odd::default())?;
        let (calls, _) = fixture.hit(another_group()?)?;
        assert!(calls.is_empty());
        Ok(())
    }

    #[test]
    fn skips_filtered_consumers() -> Result {
        let (calls, _) = run("aXb", &[])?;
        assert_eq!(&calls[..], &[('a', AT), ('b', AT)]);
        Ok(())
    }

    #[test]
    fn skips_disabled_probes() -> Result {
        let mut fixture = Fixture::new()?;
        let first = fixture.add('a', None, Odd::default())?;
        let second = fixture.add('B', None, Odd::default())?;
        assert!(second.disable());
        assert!(!second.disable());
        let (calls, _) = fixture.hit(fixture.group)?;
        assert_eq!(&calls[..], &[('a', AT)]);
        assert_eq!(first.counts().hits, 1);
        assert_eq!(second.counts().hits, 0);
        Ok(())
    }

    #[test]
    fn counts_hit_with_two_handlers_once() -> Result {
        let mut fixture = Fixture::new()?;
        let probe = fixture.add('B', None, Odd::default())?;
        fixture.hit(fixture.group)?;
        assert_eq!(probe.counts().hits, 1);
        Ok(())
    }

    /// Creates a chain of consumers that want returns. A chain of one has a fast path.
    fn returning(names: &str) -> Result<(Fixture, KVec<Arc<Probe>>)> {
        let mut fixture = Fixture::new()?;
        let mut probes = KVec::new();
        let function_entry = no_instances()?;
        for name in names.chars() {
            let probe = fixture.add(name, Some(function_entry.clone()), Odd::default())?;
            probes.push(probe, GFP_KERNEL)?;
        }
        Ok((fixture, probes))
    }

    #[test]
    fn calls_return_handlers_by_generation() -> Result {
        for names in ["a", "ab", "A", "AB"] {
            let (fixture, probes) = returning(names)?;
            for (before, probe) in probes.iter().enumerate() {
                for by_chain in [true, false] {
                    let (calls, ip) = fixture.return_from(probe.id - 1, by_chain)?;
                    assert_eq!((calls.len(), ip), (before, AT));
                    let (calls, _) = fixture.return_from(probe.id, by_chain)?;
                    assert_eq!(calls.len(), before + 1);
                    assert!(calls.iter().all(|call| *call == ('<', AT)));
                }
            }
            assert_eq!(
                probes[0].counts().returns,
                2 * (2 * probes.len() as u64 - 1)
            );
            assert_eq!(probes[0].counts().hits, 0);
        }
        Ok(())
    }

    #[test]
    fn counts_call_without_instance_as_miss() -> Result {
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
    fn no_return_expected_after_changed_ip() -> Result {
        let mut fixture = Fixture::new()?;
        let odd = Odd {
            moves_to: Some(0x2000),
            misbehaves: false,
        };
        let probe = fixture.add('a', Some(no_instances()?), odd)?;
        let (calls, ip) = fixture.hit(fixture.group)?;
        assert_eq!(&calls[..], &[('a', AT)]);
        assert_eq!((ip, probe.counts().misses), (0x2000, 0));
        Ok(())
    }

    #[test]
    fn fast_paths_match_chain() -> Result {
        /// Runs a hit. Returns the calls, and the instruction pointer and the counts after it.
        fn outcome(
            function_entry: &Option<Arc<dyn ReturnPoint>>,
            moves_to: Option<usize>,
            (is_ours, by_chain): (bool, bool),
        ) -> Result<(Noted, (usize, [u64; 3]))> {
            let mut fixture = Fixture::new()?;
            let odd = Odd {
                moves_to,
                misbehaves: false,
            };
            let probe = fixture.add('a', function_entry.clone(), odd)?;
            assert!(!matches!(fixture.chain.hit_path, HitPath::Chain(_)));
            if by_chain {
                fixture.disable_fast_paths();
            }
            let group = match is_ours {
                true => fixture.group,
                false => another_group()?,
            };
            let (calls, ip) = fixture.hit(group)?;
            let counts = probe.counts();
            Ok((calls, (ip, [counts.hits, counts.returns, counts.misses])))
        }

        for function_entry in [None, Some(no_instances()?)] {
            for moves_to in [None, Some(0x2000)] {
                for is_ours in [true, false] {
                    let fast = outcome(&function_entry, moves_to, (is_ours, false))?;
                    let chained = outcome(&function_entry, moves_to, (is_ours, true))?;
                    assert_eq!(&fast.0[..], &chained.0[..]);
                    assert_eq!(fast.1, chained.1);
                    assert_eq!(fast.0.is_empty(), !is_ours);
                }
            }
        }
        Ok(())
    }

    #[test]
    fn copies_keep_order() -> Result {
        let mut fixture = Fixture::new()?;
        let mut ids = KVec::new();
        for name in "abc".chars() {
            let probe = fixture.add(name, None, Odd::default())?;
            ids.push(probe.id, GFP_KERNEL)?;
        }
        let all = &fixture.chain;
        let without = all.retaining(|entry| entry.probe.id != ids[1], |_| true)?;
        assert!(without.iter().map(|it| it.probe.id).eq([ids[0], ids[2]]));
        assert!(all.iter().map(|it| it.probe.id).eq(ids.iter().copied()));
        assert!(without.retaining(|_| false, |_| true)?.is_empty());
        Ok(())
    }

    #[test]
    fn disarms_probe_of_unbalanced_filter() -> Result {
        let fixture = Fixture::with_names("ayb", |_| Odd::default())?;
        // SAFETY: May be called at any time.
        let depth = || unsafe { bindings::rcu_preempt_depth() };
        let before = depth();
        fixture.hit(fixture.group)?;
        assert_eq!(depth(), before);
        let (second, _) = fixture.hit(fixture.group)?;
        assert_eq!(&second[..], &[('a', AT), ('b', AT)]);
        Ok(())
    }

    #[test]
    fn disarms_probe_of_unbalanced_handler() -> Result {
        let fixture = Fixture::with_names("abc", |name| Odd {
            moves_to: None,
            misbehaves: name == 'b',
        })?;
        // SAFETY: May be called at any time.
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
