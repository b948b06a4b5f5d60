// SPDX-License-Identifier: GPL-2.0

//! An address with probes: its breakpoint and its clients.
//!
//! # The life of a probepoint
//!
//! ```text
//!                 first client: breakpoint inserted
//!   New (registry) ----------------------------------> Probed
//!        |                                              |   last client gone: breakpoint removed
//!        | insertion failed                             |   breakpoint found gone by a registrar
//!        v                                              v
//!       Dead (out of the registry) <--------------------+
//! ```
//!
//! A dead probepoint stays dead. A registrar that finds one goes back to the registry, where it is
//! not any more, and makes a new one.

use crate::{
    client::{
        Handler,
        Returning, //
    },
    clients::{
        Clients,
        Course,
        General, //
    },
    contain::Calls,
    entry::{
        Entry,
        GroupReturnPoint,
        ReturnPoint, //
    },
    sole::{
        Sole,
        SoleFunction,
        SoleReturnPoint, //
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
            Published, //
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
    Hit,
    Inserted,
    OnHit,
    Resumed,
    Vaddr, //
};

/// An address of an address space.
type Key = (usize, Vaddr);

/// Finds the probepoint of an address.
struct Registry(RBTree<Key, Arc<Probepoint>>);

// SAFETY: Everything that it owns may be sent, and it is accessed under its lock only.
unsafe impl Send for Registry {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called before any other function reaches the registry.
    unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Initialises the registry.
///
/// # Safety
///
/// Called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: This is the only call, and the first use, by the safety requirements.
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
    // The probepoint keeps the address space from being freed, and so the number from being reused.
    (mm.as_raw() as usize, at)
}

/// Returns the probepoint of an address; a new one, if there is none.
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

/// Takes a probepoint that is dead out of the registry.
fn forget(probepoint: &Probepoint) {
    let key = key(&probepoint.mm, probepoint.at);
    let gone = with_registry(|registry| {
        // A registrar may have made a new one already.
        let found = registry.get(&key)?;
        if core::ptr::eq(Arc::as_ptr(found), probepoint) {
            registry.remove(&key)
        } else {
            None
        }
    });
    drop(gone);
}

/// Calls `f` with each probepoint of an address space, no lock held.
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

/// An address of an address space where there are probes.
#[pin_data]
pub(crate) struct Probepoint {
    /// Keeps the address space from being taken for another one.
    pub(crate) mm: ARef<Mm>,
    pub(crate) at: Vaddr,
    /// Changed under `state`.
    clients: Published<Clients>,
    #[pin]
    state: Mutex<State>,
    /// The breakpoint has gone, by itself or because the probepoint is dead.
    gone: Atomic<bool>,
}

/// What [`Probepoint::add`] did.
pub(crate) enum Added {
    Yes,
    /// The probepoint is dead.
    Dead,
}

/// What becomes of the text when the last client goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Text {
    /// The breakpoint is removed.
    Restored,
    /// The breakpoint stays, because the address space goes before a thread can execute it. UBP
    /// frees it with the address space.
    Abandoned,
}

impl Probepoint {
    pub(crate) fn new(mm: &Mm, at: Vaddr) -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                mm: mm.into(),
                at,
                clients: Published::empty(BUILT_IN),
                state <- new_mutex!(State::New),
                gone: Atomic::new(false),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Makes a longer list, by `with`. With the first member, the breakpoint is inserted.
    fn add(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        with: impl Fn(&Clients) -> Result<Clients>,
    ) -> Result<Added> {
        let mut state = self.state.lock();
        match &*state {
            State::Dead => return Ok(Added::Dead),
            State::Probed(_) if self.is_gone() => {
                self.die(&mut state, Text::Restored);
                return Ok(Added::Dead);
            }
            State::Probed(_) => {
                let list = self.read(with)?;
                self.clients.publish(list, GFP_KERNEL_ACCOUNT)?;
            }
            State::New => {
                // The client is there before the first hit.
                let added = with(&Clients::new())
                    .and_then(|list| Ok(self.clients.publish(list, GFP_KERNEL_ACCOUNT)?))
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

    /// Removes the probe with this number. Its handlers may still be executing when this returns.
    pub(crate) fn remove_probe(&self, id: u64) {
        self.retain(Text::Restored, |entry| entry.probe.id != id, |_| true);
    }

    /// Removes a return breakpoint, which may still be executing when this returns.
    pub(crate) fn remove_return_point(&self, point: &dyn ReturnPoint) {
        self.retain(Text::Restored, |_| true, |it| !it.is(point));
    }

    /// Removes what a process has here.
    pub(crate) fn remove_group(&self, group: ThreadGroup, text: Text) {
        self.retain(text, |it| it.group != group, |it| it.group != group);
    }

    /// Keeps what `keep` and `keep_point` hold for. With the last member of the list, the
    /// breakpoint goes, as `text` says.
    fn retain(
        &self,
        text: Text,
        keep: impl Fn(&Entry) -> bool,
        keep_point: impl Fn(&GroupReturnPoint) -> bool,
    ) {
        let mut state = self.state.lock();
        if matches!(*state, State::Dead) {
            return;
        }
        loop {
            let left = self.read(|clients| clients.retaining(&keep, &keep_point));
            let done = match left {
                Ok(list) if list.is_empty() => {
                    self.die(&mut state, text);
                    return;
                }
                Ok(list) => self.clients.publish(list, GFP_KERNEL_ACCOUNT).is_ok(),
                Err(_) => false,
            };
            if done {
                return;
            }
            // Memory for a shorter list comes back.
            fsleep(Delta::from_millis(1));
        }
    }

    /// Makes the probepoint dead, from any state.
    fn die(&self, state: &mut State, text: Text) {
        self.clients.clear();
        self.gone.store(true, Relaxed);
        // The breakpoint refers back to this.
        let was = core::mem::replace(state, State::Dead);
        if let (State::Probed(inserted), Text::Restored) = (was, text) {
            // If the page cannot be had, the breakpoint stays; its hits find no clients, and
            // try to remove it.
            let _ = inserted.remove();
        }
        forget(self);
    }

    /// Returns whether the breakpoint has gone, by itself or with the last client.
    #[inline]
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Relaxed)
    }

    /// Returns the clients as they are now, if there are any.
    #[inline(always)]
    pub(crate) fn clients<'a>(&'a self, guard: &'a Guard) -> Option<&'a Clients> {
        self.clients.read(guard)
    }

    // What follows is apart, so that each saves the registers that it needs itself. The arguments
    // stay in the registers in which `hit` has got them.

    /// A hit, whoever is to be told of it.
    #[inline(never)]
    fn hit_general<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        clients: &'h Clients,
        what: &'h General,
    ) -> Resumed {
        let group = Task::current_group();
        if !clients.hit_in_interrupt(what, group, true, regs) {
            return hit.resume(regs);
        }
        hit.in_task(regs, |regs, guard| {
            clients.hit_in_task(what, self.at.as_usize(), group, regs, guard);
        })
    }

    /// A hit for a sole client, which is `AT_EXIT` or not, of a function.
    // One for each, as a handler that is not known here takes 35 instructions more.
    #[inline(never)]
    fn hit_sole<'h, const AT_EXIT: bool>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        sole: &'h Sole,
    ) -> Resumed {
        let group = Task::current_group();
        let handler = if AT_EXIT {
            Handler::Return(Returning::From)
        } else {
            Handler::Task
        };
        hit.in_task(regs, |regs, _| {
            sole.call(group, Calls::begin(false), handler, regs);
        })
    }

    /// A hit at the entry of a function.
    #[inline(never)]
    fn hit_function<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        function: &'h SoleFunction,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, |regs, guard| {
            function.enter(self.at.as_usize(), group, regs, guard);
        })
    }

    /// A hit at a return breakpoint.
    #[inline(never)]
    fn hit_return_point<'h>(
        &'h self,
        hit: Hit<'h>,
        regs: &mut PtRegs,
        point: &'h SoleReturnPoint,
    ) -> Resumed {
        let group = Task::current_group();
        hit.in_task(regs, |regs, guard| {
            point.reached(group, regs, guard);
        })
    }

    /// Calls `f` with the clients as they are now.
    pub(crate) fn read<R>(&self, f: impl FnOnce(&Clients) -> R) -> R {
        match self.clients(&kernel::sync::tasks_trace::read_lock()) {
            Some(clients) => f(clients),
            None => f(&Clients::new()),
        }
    }
}

/// Adds what `entry` makes for the probepoint of an address, where its consumer is called as soon
/// as its probe is enabled. Returns the probepoint, which may have others.
///
/// Context: may sleep; takes `mmap_lock`. Does not wait for a server of userfaults or of a file
/// system, so the caller may hold locks that others wait for.
///
/// # Errors
///
/// As of [`register`](crate::register), and of `entry`. `EAGAIN`: the text is absent. The caller
/// must fault it in, by [`ubp::fault_in`], with no lock held, because the probed process may be the
/// one that serves the fault, and a handler, an exit or an unregistration may wait for the lock.
pub(crate) fn place(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    entry: impl Fn(&Arc<Probepoint>) -> Result<Entry>,
) -> Result<Arc<Probepoint>> {
    place_with(mm, at, |probepoint, list| list.with(entry(probepoint)?))
}

/// Adds a return breakpoint of a process at an address. Otherwise as [`place`].
pub(crate) fn place_return_point(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    group: ThreadGroup,
    point: &Arc<dyn ReturnPoint>,
) -> Result<Arc<Probepoint>> {
    place_with(mm, at, |_, list| {
        list.with_return_point(GroupReturnPoint {
            group,
            point: point.clone(),
        })
    })
}

fn place_with(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    with: impl Fn(&Arc<Probepoint>, &Clients) -> Result<Clients>,
) -> Result<Arc<Probepoint>> {
    loop {
        let probepoint = find_or_add(mm, at)?;
        match probepoint.add(mm, |list| with(&probepoint, list))? {
            Added::Yes => return Ok(probepoint),
            Added::Dead => (),
        }
    }
}

// SAFETY: `hit`, and those to which it leaves that, return what giving up the hit gives, and do
// nothing after that.
unsafe impl OnHit for Probepoint {
    #[inline]
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed {
        let Some(clients) = self.clients.read_in(hit.section()) else {
            return hit.remove(regs);
        };
        match clients.course() {
            Course::SoleInInterrupt(sole) => {
                let calls = Calls::begin(true);
                sole.call(Task::current_group(), calls, Handler::Interrupt, regs);
                hit.resume(regs)
            }
            Course::SoleFunction(function) => self.hit_function(hit, regs, function),
            Course::SoleReturnPoint(point) => self.hit_return_point(hit, regs, point),
            Course::SoleInTask(sole) => self.hit_sole::<false>(hit, regs, sole),
            Course::SoleAtExit(sole) => self.hit_sole::<true>(hit, regs, sole),
            Course::General(what) => self.hit_general(hit, regs, clients, what),
        }
    }

    fn gone(&self) {
        self.gone.store(true, Relaxed);
    }
}
