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
    chain::HandlerChain,
    entry::{
        ChainEntry,
        FilePlace,
        GroupFunction,
        GroupReturnPoint,
        ReturnPoint, //
    },
    BUILT_IN, //
};

use kernel::{
    mm::{
        virt::VmaRef,
        Mm,
        MmWithUser, //
    },
    new_mutex,
    prelude::*,
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
    threads::ThreadGroup,
    time::{
        delay::fsleep,
        Delta, //
    },
};
use registry::{
    find_or_add,
    forget, //
};
use ubp::{
    Inserted,
    Vaddr, //
};

mod hit;
mod registry;

pub(crate) use registry::{
    for_each,
    init, //
};

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
        is_wanted: impl FnOnce(&VmaRef) -> bool,
        with: impl Fn(&HandlerChain) -> Result<HandlerChain>,
    ) -> Result<Added> {
        let mut state = self.state.lock();
        match &*state {
            State::Dead => return Ok(Added::Dead),
            State::Probed(_) if self.is_gone() => {
                if let Some(place) = self.read(|chain| chain.file().cloned()) {
                    place.lost();
                }
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
                    .and_then(|()| Ok(ubp::insert(mm, self.at, self.clone(), is_wanted)?));
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
        self.reduce(Text::Restored, |chain| {
            chain.retaining(|entry| entry.probe.id != id, |_| true)
        });
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
        self.reduce(Text::Restored, |chain| {
            chain.retaining(|_| true, |it| !it.is(point))
        });
    }

    /// Removes the entries and the return breakpoint of a process. `text` says what happens to the
    /// breakpoint, if these are the last ones.
    pub(crate) fn remove_group(&self, group: ThreadGroup, text: Text) {
        self.reduce(text, |chain| chain.without_group(group));
    }

    /// Removes the probe of a file, if `place` is it. `text` says what happens to the breakpoint,
    /// if nothing else needs it.
    pub(crate) fn remove_file(&self, place: &dyn FilePlace, text: Text) {
        self.reduce(text, |chain| chain.without_file(place));
    }

    /// Adds the function at the probepoint, as a process knows it, to the probe of the file.
    pub(crate) fn add_function(&self, function: GroupFunction) -> Result {
        let state = self.state.lock();
        if matches!(*state, State::Dead) {
            return Err(ESRCH);
        }
        let chain = self.read(|chain| chain.with_function(function))?;
        Ok(self.chain.publish(chain, GFP_KERNEL)?)
    }

    /// Publishes the chain that `less` makes from the current one by removing entries. If nothing
    /// is left, removes the breakpoint, as `text` says.
    fn reduce(&self, text: Text, less: impl Fn(&HandlerChain) -> Result<HandlerChain>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Dead) {
            return;
        }
        loop {
            let left = self.read(&less);
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
    place_with(
        mm,
        at,
        |_| true,
        |probepoint, chain| chain.with(entry(probepoint)?),
    )
}

/// Adds the probe of a file to the chain of an address, if `is_wanted` holds for the mapping there.
/// See [`place`].
///
/// # Errors
///
/// As for [`place`], and for [`ubp::insert`].
pub(crate) fn place_file(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    place: &Arc<dyn FilePlace>,
    is_wanted: impl Fn(&VmaRef) -> bool,
) -> Result<Arc<Probepoint>> {
    place_with(mm, at, is_wanted, |_, chain| chain.with_file(place))
}

/// Adds a return breakpoint of a process to the chain of an address. See [`place`].
pub(crate) fn place_return_point(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    group: ThreadGroup,
    point: &Arc<dyn ReturnPoint>,
) -> Result<Arc<Probepoint>> {
    place_with(
        mm,
        at,
        |_| true,
        |_, chain| {
            chain.with_return_point(GroupReturnPoint {
                group,
                point: point.clone(),
            })
        },
    )
}

fn place_with(
    mm: &ARef<MmWithUser>,
    at: Vaddr,
    is_wanted: impl Fn(&VmaRef) -> bool,
    with: impl Fn(&Arc<Probepoint>, &HandlerChain) -> Result<HandlerChain>,
) -> Result<Arc<Probepoint>> {
    loop {
        let probepoint = find_or_add(mm, at)?;
        match probepoint.add(mm, &is_wanted, |chain| with(&probepoint, chain))? {
            Added::Yes => return Ok(probepoint),
            Added::Dead => (),
        }
    }
}
