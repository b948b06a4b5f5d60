// SPDX-License-Identifier: GPL-2.0

//! Registry of the `struct uprobe`s that C has registered, and the consumer that calls their
//! handlers.
//!
//! # Data model
//!
//! The registry finds a [`CProbe`] by the address of the `struct uprobe`, which the core does not
//! change. A `CProbe` has a stage:
//!
//! ```text
//!               success               unregister               no handler is executing
//!  Registering ---------> Registered ------------> Unregistering -------------------+
//!    |     |                                         |                              |
//!    |     | unregister, and then success            | after a handler's call:      v
//!    |     +--> Discarded ---------------------------+ `unregistered` -> Releasing -> removed
//!    | failure                                                                      ^
//!    +------------------------------------------------------------------------------+
//! ```
//!
//! unregister_uprobe() on a probe in another stage than `Registered` waits until the probe is
//! removed from the registry, unless the caller is a handler. register_uprobe() on a `struct
//! uprobe` that is `Releasing` waits as well, because `unregistered` may have freed the memory,
//! which may be reused by now.
//!
//! # Locking
//!
//! Handlers look up probes and change their stages with interrupts disabled, without a lock: they
//! read the map under Tasks Trace RCU, and a stage is an atomic. Probes are added and removed in
//! task context, under the lock of the map.

use crate::{
    consumer::{
        Consumer,
        HandlerKind,
        HandlerMask,
        ProbeSpec, //
    },
    probe::Probe,
    registration::unregister_probes,
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

/// Placeholder for an absent handler.
///
/// # Safety
///
/// None.
unsafe extern "C" fn no_handler(_: *mut bindings::uprobe, _: *mut bindings::pt_regs) {}

/// Stage of a [`CProbe`]; see the top of this file.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(i32)]
enum Stage {
    Registering,
    /// Unregistered while it is being registered.
    Discarded,
    /// The same, by a handler, so that `unregistered` is called.
    DiscardedByHandler,
    Registered,
    Unregistering,
    /// `unregistered` is being called.
    Releasing,
}

// SAFETY: `Stage` is `repr(i32)`, so it has the size and the alignment of an `i32`, and each of its
// values is a valid `i32`.
unsafe impl AtomicType for Stage {
    type Repr = i32;
}

/// Returns a value that identifies the current task. It is not 0.
fn this_task() -> usize {
    Task::current_raw() as usize
}

/// A `struct uprobe` in the registry.
pub(crate) struct CProbe {
    stage: Atomic<Stage>,
    /// The task that unregisters the probe and waits, or that calls `unregistered`; or 0.
    by: Atomic<usize>,
    /// Set before the stage becomes `Registered`.
    probe: SetOnce<Arc<Probe>>,
    consumer: Arc<CConsumer>,
}

/// The registry, by the address of the `struct uprobe`.
static C_PROBES: SetOnce<Pin<KBox<Map<CProbe>>>> = SetOnce::new();

/// Initialises the registry. Without memory for it, registrations fail.
pub(crate) fn init() {
    if let Ok(map) = KBox::pin_init(Map::new(BUILT_IN), GFP_KERNEL) {
        C_PROBES.populate(map);
    }
}

/// Calls `f` with the probe of a `struct uprobe` and returns the result, if the registry has it.
///
/// Context: any. `f` must not wait for handlers.
pub(crate) fn with_c_probe<R>(
    u: *mut bindings::uprobe,
    f: impl FnOnce(&CProbe) -> Option<R>,
) -> Option<R> {
    let guard = tasks_trace::read_lock();
    f(C_PROBES.as_ref()?.get(u as usize, &guard)?)
}

/// Returns an iterator that calls `f` with each probe of the registry, and has the values that it
/// returns. No lock is held between the calls.
pub(crate) fn filter_map_all<R>(f: impl Fn(&CProbe) -> Option<R>) -> impl Iterator<Item = R> {
    let mut next = 0;
    core::iter::from_fn(move || loop {
        let guard = tasks_trace::read_lock();
        let (at, c_probe) = C_PROBES.as_ref()?.first(next..=usize::MAX, &guard)?;
        next = at.checked_add(1)?;
        if let Some(found) = f(c_probe) {
            return Some(found);
        }
    })
}

/// The caller that unregisters a probe, of several that may try.
pub(crate) enum Unregistrar {
    /// This caller must unregister the probe, and call [`CConsumer::finish_unregistration`] then.
    Caller(Arc<Probe>),
    /// Another caller unregisters it. [`CConsumer::finish_unregistration`] waits for that.
    Other,
}

impl CProbe {
    /// Begins to unregister the probe, for a caller that is a handler if `by_handler`.
    ///
    /// Context: any.
    pub(crate) fn begin_unregistration(&self, by_handler: bool) -> Unregistrar {
        loop {
            let stage = self.stage.load(Acquire);
            let next = match stage {
                Stage::Registering if by_handler => Stage::DiscardedByHandler,
                Stage::Registering => Stage::Discarded,
                Stage::Registered => Stage::Unregistering,
                Stage::Discarded
                | Stage::DiscardedByHandler
                | Stage::Unregistering
                | Stage::Releasing => return Unregistrar::Other,
            };
            if self.stage.cmpxchg(stage, next, Full).is_err() {
                continue;
            }
            return match self.probe.as_ref() {
                Some(probe) if next == Stage::Unregistering => {
                    self.consumer.by_handler.store(by_handler, Relaxed);
                    // Relaxed, because a task only compares `by` with itself.
                    self.by
                        .store(if by_handler { 0 } else { this_task() }, Relaxed);
                    Unregistrar::Caller(probe.clone())
                }
                _ => Unregistrar::Other,
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

    pub(crate) fn consumer(&self) -> &Arc<CConsumer> {
        &self.consumer
    }

    /// Returns whether a function of the consumer is in a module.
    ///
    /// # Safety
    ///
    /// `module` must be valid.
    pub(crate) unsafe fn is_of_module(&self, module: *mut bindings::module) -> bool {
        self.consumer.functions().iter().any(|at| {
            // SAFETY: The caller ensures that `module` is valid; `at` is only compared.
            unsafe { bindings::within_module(*at, module) }
        })
    }
}

/// The consumer that calls the handlers of a `struct uprobe`.
///
/// # Invariants
///
/// `uprobe` is valid until the consumer has been unregistered; if a handler has unregistered it,
/// until [`Consumer::unregistered`] has called `unregistered`.
#[pin_data]
pub(crate) struct CConsumer {
    uprobe: *mut bindings::uprobe,
    handlers: HandlerMask,
    handler: CHandler,
    handler_in_interrupt: CHandler,
    return_handler: CHandler,
    filter: Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::task_struct) -> bool>,
    unregistered: Option<unsafe extern "C" fn(*mut bindings::uprobe)>,
    /// Whether a handler has unregistered the consumer.
    by_handler: Atomic<bool>,
    /// Completed when the probe has been removed from the registry.
    #[pin]
    gone: Completion,
}

// SAFETY: The pointer is only passed to the handlers, which must be callable from any thread, as
// `include/linux/uprobes.h` says.
unsafe impl Send for CConsumer {}
// SAFETY: The handlers must be callable by several threads at the same time, as
// `include/linux/uprobes.h` says. The other fields are `Sync`.
unsafe impl Sync for CConsumer {}

/// Fields of a `struct uprobe` that say where to register it.
pub(crate) struct Fields {
    pub(crate) pid: bindings::pid_t,
    pub(crate) spec: ProbeSpec,
}

impl CConsumer {
    /// Creates the consumer of a `struct uprobe`.
    ///
    /// # Safety
    ///
    /// `u` must be valid for reads, for as long as the type invariants require.
    pub(crate) unsafe fn new(u: *mut bindings::uprobe) -> Result<(Arc<Self>, Fields)> {
        // Not by reference, because handlers may have a reference.
        //
        // SAFETY: The caller ensures that `u` is valid for reads.
        let raw = unsafe { u.read() };
        if raw.flags & !bindings::UPROBE_FOLLOW_FORK != 0 {
            return Err(EINVAL);
        }
        let fields = Fields {
            pid: raw.pid,
            spec: ProbeSpec {
                at: Vaddr::new(raw.vaddr),
                size: (raw.size != 0).then_some(raw.size),
                follow: raw.flags & bindings::UPROBE_FOLLOW_FORK != 0,
            },
        };
        // INVARIANT: The caller ensures that `u` stays valid until the consumer is unregistered.
        let consumer = Arc::pin_init(
            pin_init!(Self {
                uprobe: u,
                handlers: HandlerMask {
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
        Ok((consumer, fields))
    }

    #[inline]
    fn call(&self, handler: CHandler, regs: &mut PtRegs) {
        // SAFETY: By the type invariants `uprobe` is valid, and `regs` is a reference.
        unsafe { handler(self.uprobe, regs.as_ptr()) };
    }

    /// Returns the addresses of the functions; 0 for an absent one.
    fn functions(&self) -> [usize; 5] {
        [
            self.handler as usize,
            self.handler_in_interrupt as usize,
            self.return_handler as usize,
            self.filter.map_or(0, |filter| filter as usize),
            self.unregistered.map_or(0, |function| function as usize),
        ]
    }

    /// Adds the probe to the registry, where its stage is `Registering`.
    ///
    /// # Errors
    ///
    /// `EBUSY`: the `struct uprobe` is registered already. `ENOMEM`. `ENODEV`.
    pub(crate) fn register_c_probe(self: &Arc<Self>) -> Result {
        loop {
            let c_probe = CProbe {
                stage: Atomic::new(Stage::Registering),
                by: Atomic::new(0),
                probe: SetOnce::new(),
                consumer: self.clone(),
            };
            let map = C_PROBES.as_ref().ok_or(ENODEV)?;
            match map.insert(self.uprobe as usize, c_probe, GFP_KERNEL) {
                Err(EEXIST) => (),
                inserted => return inserted,
            }
            let releasing = with_c_probe(self.uprobe, |there| {
                let is_releasing = there.stage.load(Acquire) == Stage::Releasing;
                let by_another = there.by.load(Relaxed) != this_task();
                Some((is_releasing && by_another).then(|| there.consumer.clone()))
            });
            match releasing {
                Some(Some(consumer)) => consumer.gone.wait_for_completion(),
                Some(None) => return Err(EBUSY),
                // The probe has been removed since.
                None => (),
            }
        }
    }

    /// Completes a registration that has succeeded, or unregisters the probe if another caller has
    /// discarded it.
    pub(crate) fn complete_registration(&self, probe: Arc<Probe>) {
        let discarded = with_c_probe(self.uprobe, |c_probe| {
            c_probe.probe.populate(probe.clone());
            let stage = c_probe
                .stage
                .cmpxchg(Stage::Registering, Stage::Registered, Full);
            let was = stage.err()?;
            c_probe.stage.store(Stage::Unregistering, Release);
            Some(was)
        });
        if let Some(was) = discarded {
            let by_handler = was == Stage::DiscardedByHandler;
            self.by_handler.store(by_handler, Relaxed);
            let later = ubp::is_in_hit();
            unregister_probes(core::iter::once(probe));
            if !later {
                self.unregistered();
            }
        }
    }

    /// Removes the probe from the registry, if the caller has unregistered it; otherwise waits for
    /// the caller that does.
    ///
    /// Does nothing if the `struct uprobe` has been registered again, or if `unregistered` is the
    /// caller, which cannot wait for itself.
    pub(crate) fn finish_unregistration(&self) {
        let is_mine = with_c_probe(self.uprobe, |c_probe| {
            let is_by_me = c_probe.by.load(Relaxed) == this_task();
            match c_probe.stage.load(Acquire) {
                _ if !core::ptr::eq(&*c_probe.consumer, self) => None,
                Stage::Registering | Stage::Registered => None,
                Stage::Releasing if is_by_me => None,
                stage => Some(stage == Stage::Unregistering && is_by_me),
            }
        });
        match is_mine {
            Some(true) => self.remove_c_probe(),
            Some(false) => self.gone.wait_for_completion(),
            None => (),
        }
    }

    /// Removes the probe from the registry. No handler may be executing or be called any more.
    pub(crate) fn remove_c_probe(&self) {
        if let Some(map) = C_PROBES.as_ref() {
            map.remove(self.uprobe as usize);
        }
        self.gone.complete_all();
    }
}

impl Consumer for CConsumer {
    fn handlers(&self) -> HandlerMask {
        self.handlers
    }

    fn fires_for(&self, thread: &Task) -> bool {
        self.filter.is_none_or(|filter| {
            // SAFETY: By the type invariants `uprobe` is valid, and `thread` is a reference.
            unsafe { filter(self.uprobe, thread.as_ptr()) }
        })
    }

    fn hit(&self, regs: &mut PtRegs) {
        self.call(self.handler, regs);
    }

    fn hit_in_interrupt(&self, regs: &mut PtRegs) {
        self.call(self.handler_in_interrupt, regs);
    }

    fn returned(&self, regs: &mut PtRegs) {
        self.call(self.return_handler, regs);
    }

    fn unregistered(&self) {
        // A caller that is no handler, and has discarded the probe, waits in
        // `finish_unregistration`; `unregistered` is not called then.
        let by_handler = self.by_handler.load(Relaxed);
        if let Some(unregistered) = self.unregistered.filter(|_| by_handler) {
            with_c_probe(self.uprobe, |c_probe| {
                c_probe.by.store(this_task(), Relaxed);
                c_probe.stage.store(Stage::Releasing, Release);
                Some(())
            });
            // SAFETY: By the type invariants `uprobe` is valid until this call.
            unsafe { unregistered(self.uprobe) };
        }
        self.remove_c_probe();
    }

    fn symbol(&self, kind: HandlerKind) -> Symbol {
        let [task, interrupt, returned, filter, _] = self.functions();
        Symbol(match kind {
            HandlerKind::Filter => filter,
            HandlerKind::Task => task,
            HandlerKind::Interrupt => interrupt,
            HandlerKind::Return => returned,
        })
    }
}
