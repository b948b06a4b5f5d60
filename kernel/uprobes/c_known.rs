// SPDX-License-Identifier: GPL-2.0

//! What is known of each `struct uprobe` that C has registered, and the client that calls its
//! handlers.
//!
//! # Data model
//!
//! A map finds what is registered by the address of its `struct uprobe`, of which the core changes
//! nothing. An entry has a stage:
//!
//! ```text
//!               success               unregister            no handler is executing
//!  Registering ---------> Registered ------------> Ending ------------------------+
//!    |     |                                         |                            |
//!    |     | unregister, and then success            | by a handler: notify       v
//!    |     +--> Discarded ---------------------------+----------------> Leaving ---> unknown
//!    | failure                                                                    ^
//!    +----------------------------------------------------------------------------+
//! ```
//!
//! unregister_uprobe() on a probe that is in another stage than `Registered` waits until the probe
//! is unknown; a handler cannot wait. register_uprobe() on one that is `Leaving` waits as well,
//! because its `unregistered` may have freed the memory, which may be reused by now.
//!
//! # Locking
//!
//! Handlers find entries, and change their stages, with interrupts disabled, so that takes no lock:
//! the map is read under Tasks Trace RCU, and a stage is an atomic. Entries are added and removed
//! in task context, under the lock of the map.

use crate::{
    client::{
        Client,
        Handler,
        Returning,
        Spot,
        Wants, //
    },
    probe::Probe,
    registration::end_all,
    BUILT_IN, //
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::PtRegs,
    symbol::Symbol,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            AtomicType,
            Full,
            Relaxed,
            Release, //
        },
        tasks_trace::{
            self,
            Map, //
        },
        Arc,
        Completion,
        SetOnce, //
    },
    task::Task, //
};
use ubp::Vaddr;

type CHandler = unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::pt_regs);

/// In place of a handler that there is not.
///
/// # Safety
///
/// None.
unsafe extern "C" fn no_handler(_: *mut bindings::uprobe, _: *mut bindings::pt_regs) {}

/// See the top.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Stage {
    Registering,
    Discarded,
    /// By a handler, which `unregistered` is called for.
    DiscardedByHandler,
    Registered,
    Ending,
    Leaving,
}

// SAFETY: A `Stage` has the size and the alignment of an `i32`, by its representation, and each of
// its values is one of an `i32`.
unsafe impl AtomicType for Stage {
    type Repr = i32;
}

/// A task, to be compared. No task has 0.
fn this_task() -> usize {
    Task::current_raw() as usize
}

/// What is known of a `struct uprobe`.
pub(crate) struct Known {
    stage: Atomic<Stage>,
    /// The task that is `Ending` the probe and waits for that, or that calls `unregistered`; or 0.
    by: Atomic<usize>,
    /// Set before the stage is `Registered`.
    probe: SetOnce<Arc<Probe>>,
    client: Arc<CClient>,
}

/// By the address of the `struct uprobe`.
static KNOWN: SetOnce<Pin<KBox<Map<Known>>>> = SetOnce::new();

/// Initialises what is known. If there is no memory for that, nothing can be registered.
pub(crate) fn init() {
    if let Ok(map) = KBox::pin_init(Map::new(BUILT_IN), GFP_KERNEL) {
        KNOWN.populate(map);
    }
}

/// Returns what `f` makes of what is known of a `struct uprobe`, if anything is.
///
/// Context: any. `f` must not wait for handlers.
pub(crate) fn with_known<R>(
    u: *mut bindings::uprobe,
    f: impl FnOnce(&Known) -> Option<R>,
) -> Option<R> {
    let guard = tasks_trace::read_lock();
    f(KNOWN.as_ref()?.get(u as usize, &guard)?)
}

/// Calls `f` with all that are known, one after the other, and returns what is not `None`. Between
/// the calls no lock is held.
pub(crate) fn each<R>(f: impl Fn(&Known) -> Option<R>) -> impl Iterator<Item = R> {
    let mut next = 0;
    core::iter::from_fn(move || loop {
        let guard = tasks_trace::read_lock();
        let (at, known) = KNOWN.as_ref()?.first(next..=usize::MAX, &guard)?;
        next = at.checked_add(1)?;
        if let Some(found) = f(known) {
            return Some(found);
        }
    })
}

/// The caller that ends a probe, of several that may unregister it.
pub(crate) enum Ending {
    /// This caller must end the probe, and must call [`CClient::finish`] after that.
    Mine(Arc<Probe>),
    /// Another caller ends the probe. [`CClient::finish`] waits for that.
    Others,
}

impl Known {
    /// Begins to unregister the probe. `by_handler` says whether the caller is a handler.
    ///
    /// Context: any.
    pub(crate) fn begin_ending(&self, by_handler: bool) -> Ending {
        loop {
            let stage = self.stage.load(Acquire);
            let next = match stage {
                Stage::Registering if by_handler => Stage::DiscardedByHandler,
                Stage::Registering => Stage::Discarded,
                Stage::Registered => Stage::Ending,
                Stage::Discarded | Stage::DiscardedByHandler | Stage::Ending | Stage::Leaving => {
                    return Ending::Others
                }
            };
            if self.stage.cmpxchg(stage, next, Full).is_err() {
                continue;
            }
            return match self.probe.as_ref() {
                Some(probe) if next == Stage::Ending => {
                    self.client.by_handler.store(by_handler, Relaxed);
                    // Only this task looks for itself here.
                    self.by
                        .store(if by_handler { 0 } else { this_task() }, Relaxed);
                    Ending::Mine(probe.clone())
                }
                _ => Ending::Others,
            };
        }
    }

    /// Returns the probe, if it is registered.
    pub(crate) fn registered(&self) -> Option<&Probe> {
        let is_registered = self.stage.load(Acquire) == Stage::Registered;
        self.probe
            .as_ref()
            .filter(|_| is_registered)
            .map(|probe| &**probe)
    }

    pub(crate) fn client(&self) -> &Arc<CClient> {
        &self.client
    }

    /// Whether a function of the client is in a module.
    ///
    /// # Safety
    ///
    /// `module` is valid.
    pub(crate) unsafe fn is_of_module(&self, module: *mut bindings::module) -> bool {
        self.client.functions().iter().any(|at| {
            // SAFETY: `module` is valid by the safety requirements; `at` is compared only.
            unsafe { bindings::within_module(*at, module) }
        })
    }
}

/// The client that calls the handlers of a `struct uprobe`.
///
/// # Invariants
///
/// `uprobe` is valid until the client has been unregistered, and, if that was done by a handler,
/// [`Client::ended`] has called `unregistered`.
#[pin_data]
pub(crate) struct CClient {
    uprobe: *mut bindings::uprobe,
    wants: Wants,
    handler: CHandler,
    handler_in_interrupt: CHandler,
    return_handler: CHandler,
    filter: Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::task_struct) -> bool>,
    unregistered: Option<unsafe extern "C" fn(*mut bindings::uprobe)>,
    /// It was a handler who unregistered it.
    by_handler: Atomic<bool>,
    /// It is not known any more.
    #[pin]
    gone: Completion,
}

// SAFETY: The pointer is passed to the handlers only, which are called from any thread by the
// rules of the API.
unsafe impl Send for CClient {}
// SAFETY: As above; several threads may call the handlers at the same time.
unsafe impl Sync for CClient {}

/// The fields of a `struct uprobe`, which handlers may read while this is done.
pub(crate) struct Fields {
    pub(crate) pid: bindings::pid_t,
    pub(crate) spot: Spot,
}

impl CClient {
    /// # Safety
    ///
    /// `u` is valid for reads, and stays so for as long as the type invariants say.
    pub(crate) unsafe fn new(u: *mut bindings::uprobe) -> Result<(Arc<Self>, Fields)> {
        // Not by reference: others may have one.
        //
        // SAFETY: By the requirement on the caller.
        let raw = unsafe { u.read() };
        if raw.flags & !bindings::UPROBE_FOLLOW_FORK != 0 {
            return Err(EINVAL);
        }
        let fields = Fields {
            pid: raw.pid,
            spot: Spot {
                at: Vaddr::new(raw.vaddr),
                size: (raw.size != 0).then_some(raw.size),
                follow: raw.flags & bindings::UPROBE_FOLLOW_FORK != 0,
            },
        };
        // INVARIANT: By the requirement on the caller.
        let client = Arc::pin_init(
            pin_init!(Self {
                uprobe: u,
                wants: Wants {
                    task: raw.handler.is_some(),
                    interrupt: raw.handler_in_interrupt.is_some(),
                    returned: raw.return_handler.is_some(),
                    filter: raw.filter.is_some(),
                },
                handler: raw.handler.unwrap_or(no_handler),
                handler_in_interrupt: raw.handler_in_interrupt.unwrap_or(no_handler),
                return_handler: raw.return_handler.unwrap_or(no_handler),
                filter: raw.filter,
                unregistered: raw.unregistered,
                by_handler: Atomic::new(false),
                gone <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        Ok((client, fields))
    }

    #[inline]
    fn call(&self, handler: CHandler, regs: &mut PtRegs) {
        // SAFETY: By the type invariants `uprobe` is valid, and so are the registers.
        unsafe { handler(self.uprobe, regs.as_ptr()) };
    }

    /// The addresses of its functions.
    fn functions(&self) -> [usize; 5] {
        [
            self.handler as usize,
            self.handler_in_interrupt as usize,
            self.return_handler as usize,
            self.filter.map_or(0, |filter| filter as usize),
            self.unregistered.map_or(0, |function| function as usize),
        ]
    }

    /// Makes it known that the client is being registered.
    ///
    /// # Errors
    ///
    /// `EBUSY`: its `struct uprobe` is registered already. `ENOMEM`. `ENODEV`.
    pub(crate) fn make_known(self: &Arc<Self>) -> Result {
        loop {
            let known = Known {
                stage: Atomic::new(Stage::Registering),
                by: Atomic::new(0),
                probe: SetOnce::new(),
                client: self.clone(),
            };
            let map = KNOWN.as_ref().ok_or(ENODEV)?;
            match map.insert(self.uprobe as usize, known, GFP_KERNEL) {
                Err(EEXIST) => (),
                inserted => return inserted,
            }
            let leaving = with_known(self.uprobe, |there| {
                let leaves = there.stage.load(Acquire) == Stage::Leaving;
                let by_another = there.by.load(Relaxed) != this_task();
                Some((leaves && by_another).then(|| there.client.clone()))
            });
            match leaving {
                Some(Some(client)) => client.gone.wait_for_completion(),
                Some(None) => return Err(EBUSY),
                // It has gone since.
                None => (),
            }
        }
    }

    /// Its registration has succeeded.
    pub(crate) fn has_registered(&self, probe: Arc<Probe>) {
        let discarded = with_known(self.uprobe, |known| {
            known.probe.populate(probe.clone());
            let stage = known
                .stage
                .cmpxchg(Stage::Registering, Stage::Registered, Full);
            let was = stage.err()?;
            known.stage.store(Stage::Ending, Release);
            Some(was)
        });
        if let Some(was) = discarded {
            let by_handler = was == Stage::DiscardedByHandler;
            self.by_handler.store(by_handler, Relaxed);
            let later = ubp::is_in_hit();
            end_all(core::iter::once(probe));
            if !later {
                self.ended();
            }
        }
    }

    /// Forgets the client, if the caller has ended it; else waits for whoever ends it.
    ///
    /// Does nothing if another client has been registered since, or for a caller that is
    /// `unregistered` itself, which cannot wait for its own end.
    pub(crate) fn finish(&self) {
        let is_mine = with_known(self.uprobe, |known| {
            let is_by_me = known.by.load(Relaxed) == this_task();
            match known.stage.load(Acquire) {
                _ if !core::ptr::eq(&*known.client, self) => None,
                Stage::Registering | Stage::Registered => None,
                Stage::Leaving if is_by_me => None,
                stage => Some(stage == Stage::Ending && is_by_me),
            }
        });
        match is_mine {
            Some(true) => self.forget(),
            Some(false) => self.gone.wait_for_completion(),
            None => (),
        }
    }

    /// No handler is executing, or will be: it is not known any more.
    pub(crate) fn forget(&self) {
        if let Some(map) = KNOWN.as_ref() {
            map.remove(self.uprobe as usize);
        }
        self.gone.complete_all();
    }
}

impl Client for CClient {
    fn wants(&self) -> Wants {
        self.wants
    }

    fn fires_for(&self, thread: &Task) -> bool {
        self.filter.is_none_or(|filter| {
            // SAFETY: By the type invariants `uprobe` is valid, and so is the thread.
            unsafe { filter(self.uprobe, thread.as_ptr()) }
        })
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.call(self.handler, regs);
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        self.call(self.handler_in_interrupt, regs);
    }

    fn returned(&self, regs: &mut PtRegs, _how: Returning) {
        self.call(self.return_handler, regs);
    }

    fn ended(&self) {
        // Somebody else who has unregistered it, while it was being registered, waits for it.
        let by_handler = self.by_handler.load(Relaxed);
        if let Some(unregistered) = self.unregistered.filter(|_| by_handler) {
            with_known(self.uprobe, |known| {
                known.by.store(this_task(), Relaxed);
                known.stage.store(Stage::Leaving, Release);
                Some(())
            });
            // SAFETY: By the type invariants `uprobe` is valid until now.
            unsafe { unregistered(self.uprobe) };
        }
        self.forget();
    }

    fn symbol(&self, handler: Handler) -> Symbol {
        let [task, interrupt, returned, filter, _] = self.functions();
        Symbol(match handler {
            Handler::Filter => filter,
            Handler::Task => task,
            Handler::Interrupt => interrupt,
            Handler::Return(_) => returned,
        })
    }
}
