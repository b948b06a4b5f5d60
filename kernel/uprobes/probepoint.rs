// SPDX-License-Identifier: GPL-2.0

//! Probepoints: addresses with probes, each with a breakpoint and a handler chain.
//!
//! # The life of a probepoint
//!
//! ```text
//!                 first entry: breakpoint inserted
//!   New (registry) ---------------------------------> Probed
//!        |                                              |  last entry removed: breakpoint removed
//!        | insertion failed                             |  place() finds breakpoint removed
//!        v                                              v
//!       Dead (not in the registry) <--------------------+
//! ```
//!
//! A dead probepoint stays dead. If [`place`] finds one, it looks in the registry again, which no
//! longer has the dead one, and adds a new one.

use crate::{
    chain::{
        ChainContexts,
        HandlerChain,
        HitPath, //
    },
    consumer::HandlerKind,
    entry::{
        ChainEntry,
        GroupReturnPoint,
        ReturnPoint, //
    },
    guard::HandlerGuard,
    single::{
        SingleConsumer,
        SingleFunction,
        SingleReturnPoint, //
    },
    BUILT_IN, //
};

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            Guard,
            RcuPointer, //
        },
        Arc,
        Mutex, //
    },
    task::Task,
    threads::ThreadGroup,
    time::{
        delay::fsleep,
        Delta, //
    },
};
use ubp::{
    BreakpointOwner,
    Hit,
    Inserted,
    Resumed,
    Vaddr, //
};

/// Key of a probepoint: address of the `mm_struct`, and address in the address space.
type Key = (usize, Vaddr);

/// The probepoints, by their addresses.
struct Registry(RBTree<Key, Arc<Probepoint>>);

// SAFETY: The tree owns its nodes. Their keys and values are `Send`, and the mutex around this
// serialises all accesses.
unsafe impl Send for Registry {}

kernel::sync::global_lock! {
    // SAFETY: `uprobes_init()` calls `init` at boot, before any process can be probed.
    unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Initialises the registry.
///
/// # Safety
///
/// Must be called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller ensures that this is the only call, and that nothing has used the lock.
    unsafe { REGISTRY.init() };
    *REGISTRY.lock() = Some(Registry(RBTree::new()));
}

/// Calls `f` with the registry locked.
fn with_registry<R>(f: impl FnOnce(&mut RBTree<Key, Arc<Probepoint>>) -> R) -> Result<R> {
    (REGISTRY.lock().as_mut())
        .map(|registry| f(&mut registry.0))
        .ok_or(ENODEV)
}

fn key(mm: &Mm, at: Vaddr) -> Key {
    // The reference that the probepoint holds ensures that the pointer is not reused.
    (mm.as_raw() as usize, at)
}

/// Returns the probepoint of an address. Creates it if there is none.
fn find_or_add(mm: &MmWithUser, at: Vaddr) -> Result<Arc<Probepoint>> {
    let key = key(mm, at);
    if let Some(found) = with_registry(|registry| registry.get(&key).cloned())? {
        return Ok(found);
    }
    let new = Probepoint::new(mm, at)?;
    let node = RBTreeNode::new(key, new.clone(), GFP_KERNEL_ACCOUNT)?;
    with_registry(|registry| match registry.get(&key) {
        Some(found) => found.clone(),
        None => {
            registry.insert(node);
            new
        }
    })
}

/// Removes a dead probepoint from the registry.
fn forget(probepoint: &Probepoint) {
    let key = key(&probepoint.mm, probepoint.at);
    let gone = with_registry(|registry| {
        // `find_or_add()` may have added a new one already.
        let found = registry.get(&key)?;
        if core::ptr::eq(Arc::as_ptr(found), probepoint) {
            registry.remove(&key)
        } else {
            None
        }
    });
    drop(gone);
}

/// Calls `f` for each probepoint of an address space, with no lock held.
pub(crate) fn for_each(mm: &Mm, mut f: impl FnMut(&Arc<Probepoint>)) {
    let mut next = key(mm, Vaddr::new(0));
    loop {
        let found = with_registry(|registry| {
            let cursor = registry.cursor_lower_bound(&next)?;
            let (key, probepoint) = cursor.current();
            (key.0 == next.0).then(|| (*key, probepoint.clone()))
        });
        let Ok(Some((key, probepoint))) = found else {
            return;
        };
        f(&probepoint);
        match key.1.checked_add(1) {
            Some(at) => next = (key.0, at),
            None => return,
        }
    }
}

enum State {
    New,
    Probed(Inserted),
    Dead,
}

/// An address of an address space that has probes.
#[pin_data]
pub(crate) struct Probepoint {
    /// Reference that ensures that the address space is not reused for another one.
    pub(crate) mm: ARef<Mm>,
    pub(crate) at: Vaddr,
    /// Changed with `state` locked.
    chain: RcuPointer<HandlerChain>,
    #[pin]
    state: Mutex<State>,
    /// Whether the breakpoint has been removed, with its page of text or because the probepoint is
    /// dead.
    gone: Atomic<bool>,
}

/// Result of [`Probepoint::add`].
pub(crate) enum Added {
    Yes,
    /// The probepoint is dead.
    Dead,
}

/// Fate of the text when the last chain entry is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// The breakpoint is removed.
    Restored,
    /// The breakpoint stays, because the address space is freed before a thread can execute it, and
    /// UBP frees the breakpoint with the address space.
    Abandoned,
}

impl Probepoint {
    pub(crate) fn new(mm: &Mm, at: Vaddr) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mm: mm.into(),
                at,
                chain: RcuPointer::empty(BUILT_IN),
                state <- new_mutex!(State::New),
                gone: Atomic::new(false),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Publishes the chain that `with` makes from the current one by adding an entry. Inserts the
    /// breakpoint for the first entry.
    fn add(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        with: impl Fn(&HandlerChain) -> Result<HandlerChain>,
    ) -> Result<Added> {
        let mut state = self.state.lock();
        match &*state {
            State::Dead => return Ok(Added::Dead),
            State::Probed(_) if self.is_gone() => {
                self.die(&mut state, Text::Restored);
                return Ok(Added::Dead);
            }
            State::Probed(_) => {
                let chain = self.read(with)?;
                self.chain.publish(chain, GFP_KERNEL_ACCOUNT)?;
            }
            State::New => {
                // The chain is published before the breakpoint, so that the first hit finds it.
                let added = with(&HandlerChain::new())
                    .and_then(|chain| Ok(self.chain.publish(chain, GFP_KERNEL_ACCOUNT)?))
                    .and_then(|()| Ok(ubp::insert(mm, self.at, self.clone())?));
                match added {
                    Ok(inserted) => *state = State::Probed(inserted),
                    Err(error) => {
                        self.die(&mut state, Text::Restored);
                        return Err(error);
                    }
                }
            }
        }
        Ok(Added::Yes)
    }

    /// Removes the entries of the probe with the number `id`. Its handlers may still be executing
    /// when this returns.
    pub(crate) fn remove_probe(&self, id: u64) {
        self.retain(Text::Restored, |entry| entry.probe.id != id, |_| true);
    }

    /// Returns the number of bytes of arguments that the displaced instruction pops, if there is a
    /// breakpoint, and it is at a return instruction.
    ///
    /// Context: may sleep.
    pub(crate) fn return_release(&self) -> Option<usize> {
        match &*self.state.lock() {
            State::Probed(inserted) => inserted.return_release(),
            State::New | State::Dead => None,
        }
    }

    /// Removes a return breakpoint. Threads may still be executing its code when this returns.
    pub(crate) fn remove_return_point(&self, point: &dyn ReturnPoint) {
        self.retain(Text::Restored, |_| true, |it| !it.is(point));
    }

    /// Removes the entries and the return breakpoint of a process. `text` says what happens to the
    /// breakpoint, if these are the last ones.
    pub(crate) fn remove_group(&self, group: ThreadGroup, text: Text) {
        self.retain(text, |it| it.group != group, |it| it.group != group);
    }

    /// Removes the entries that `keep` does not hold for, and the return breakpoints that
    /// `keep_point` does not hold for. With the last of them, removes the breakpoint, as `text`
    /// says.
    fn retain(
        &self,
        text: Text,
        keep: impl Fn(&ChainEntry) -> bool,
        keep_point: impl Fn(&GroupReturnPoint) -> bool,
    ) {
        let mut state = self.state.lock();
        if matches!(*state, State::Dead) {
            return;
        }
        loop {
            let left = self.read(|chain| chain.retaining(&keep, &keep_point));
            let done = match left {
                Ok(chain) if chain.is_empty() => {
                    self.die(&mut state, text);
                    return;
                }
                Ok(chain) => self.chain.publish(chain, GFP_KERNEL_ACCOUNT).is_ok(),
                Err(_) => false,
            };
            if done {
                return;
            }
            // Retries until there is memory, since removal must not fail. The chain is short.
            fsleep(Delta::from_millis(1));
        }
    }

    /// Makes the probepoint dead, from any state.
    fn die(&self, state: &mut State, text: Text) {
        self.chain.clear();
        self.gone.store(true, Relaxed);
        // Drops the breakpoint, because it holds a reference to this.
        let was = core::mem::replace(state, State::Dead);
        if let (State::Probed(inserted), Text::Restored) = (was, text) {
            // If the page of text is not available, the breakpoint stays. A hit of it finds no
            // chain and tries to remove it.
            let _ = inserted.remove();
        }
        forget(self);
    }

    /// Returns whether the breakpoint has been removed, with its page of text or with the last
    /// chain entry.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Returns the current chain, if there is one.
    // Inlined into the fast path of returns.
    #[inline(always)]
    pub(crate) fn handler_chain<'a>(&'a self, guard: &'a Guard) -> Option<&'a HandlerChain> {
        self.chain.read(guard)
    }

    // The functions for the hit paths are not inlined, so that each saves only the registers that
    // it needs. They take `hit` and `regs` as `BreakpointOwner::hit` does, so that it can tail-call
    // them.

    /// Handles a hit by calling the handlers of the chain.
    #[inline(never)]
    fn hit_chain<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        chain: &'h HandlerChain,
        contexts: &'h ChainContexts,
    ) -> Resumed {
        let group = Task::current_group();
        if !chain.hit_in_interrupt(contexts, group, true, regs) {
            return hit.resume(regs);
        }
        hit.in_task(regs, move |regs, guard| {
            chain.hit_in_task(contexts, self.at.as_usize(), group, regs, guard);
        })
    }

    /// Handles a hit for a single consumer with a handler for task context.
    #[inline(never)]
    fn hit_single<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        single: &'h SingleConsumer,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, _| {
            single.call(group, HandlerGuard::new(false), HandlerKind::Task, regs);
        })
    }

    /// Handles a hit for a single consumer at the entry of a function.
    #[inline(never)]
    fn hit_function<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        function: &'h SingleFunction,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, guard| {
            function.enter(self.at.as_usize(), group, regs, guard);
        })
    }

    /// Handles a hit for a single return breakpoint.
    #[inline(never)]
    fn hit_return_point<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        point: &'h SingleReturnPoint,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, move |regs, guard| {
            point.reached(group, regs, guard);
        })
    }

    /// Calls `f` with the current chain, which may be empty.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&HandlerChain) -> R) -> R {
        match self.handler_chain(&kernel::sync::tasks_trace::read_lock()) {
            Some(chain) => f(chain),
            None => f(&HandlerChain::new()),
        }
    }
}

/// Adds the entry that `entry` makes to the chain of an address, and returns the probepoint. The
/// consumer is called as soon as its probe is enabled.
///
/// Context: may sleep; takes `mmap_lock`. The caller may hold locks that others wait for, because
/// this does not wait for the server of a userfaultfd or of a file system.
///
/// # Errors
///
/// As for [`register`](crate::register), and the errors of `entry`. `EAGAIN`: the text is absent.
/// The caller must fault it in, by [`ubp::fault_in`], with no lock held, because the probed process
/// may serve the fault, and a handler, an exit or an unregistration may wait for the lock.
pub(crate) fn place(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    entry: impl Fn(&Arc<Probepoint>) -> Result<ChainEntry>,
) -> Result<Arc<Probepoint>> {
    place_with(mm, at, |probepoint, chain| chain.with(entry(probepoint)?))
}

/// Adds a return breakpoint of a process to the chain of an address. See [`place`].
pub(crate) fn place_return_point(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    group: ThreadGroup,
    point: &Arc<dyn ReturnPoint>,
) -> Result<Arc<Probepoint>> {
    place_with(mm, at, |_, chain| {
        chain.with_return_point(GroupReturnPoint {
            group,
            point: point.clone(),
        })
    })
}

fn place_with(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    with: impl Fn(&Arc<Probepoint>, &HandlerChain) -> Result<HandlerChain>,
) -> Result<Arc<Probepoint>> {
    loop {
        let probepoint = find_or_add(mm, at)?;
        match probepoint.add(mm, |chain| with(&probepoint, chain))? {
            Added::Yes => return Ok(probepoint),
            Added::Dead => (),
        }
    }
}

// SAFETY: `hit`, and each function that it calls for a hit path, consumes the `Hit` last, and
// returns the `Resumed` that it gets for it.
unsafe impl BreakpointOwner for Probepoint {
    #[inline]
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed {
        let Some(chain) = self.chain.read_in(hit.read_token()) else {
            return hit.remove(regs);
        };
        match chain.hit_path() {
            HitPath::SingleInInterrupt(single) => {
                let handler_guard = HandlerGuard::new(true);
                let group = Task::current_group();
                single.call(group, handler_guard, HandlerKind::Interrupt, regs);
                hit.resume(regs)
            }
            HitPath::SingleFunction(function) => self.hit_function(hit, regs, function),
            HitPath::SingleReturnPoint(point) => self.hit_return_point(hit, regs, point),
            HitPath::SingleInTask(single) => self.hit_single(hit, regs, single),
            HitPath::Chain(contexts) => self.hit_chain(hit, regs, chain, contexts),
        }
    }

    fn removed(&self) {
        self.gone.store(true, Relaxed);
    }
}
