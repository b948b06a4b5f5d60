// SPDX-License-Identifier: GPL-2.0

//! What is known of each `struct uprobe` that C has registered, and the client that calls its
//! handlers.
//!
//! # Data model
//!
//! What is registered is found by the address of its `struct uprobe`, of which the core changes
//! nothing.
//!
//! ```text
//!               success               unregister            nobody is called any more
//!  Registering ---------> Registered ------------> Ending ------------------------+
//!    |     |                                         |                            |
//!    |     | success, and unregistered meanwhile     | by a handler: tell it      v
//!    |     +---------------------------------------->+----------------> Leaving ---> unknown
//!    | failure                                                                    ^
//!    +----------------------------------------------------------------------------+
//! ```
//!
//! Who unregisters a probe that is not `Registered` waits until it is not known any more; a handler
//! cannot wait. Who registers one that is `Leaving` waits as well: its memory is another one's now.
//!
//! # Locks
//!
//! `KNOWN`, a spinlock, is taken with interrupts disabled by handlers in interrupt context, but not
//! by interrupts. Nothing is allocated, freed or called under it.

use crate::{
    client::{
        Client,
        Handler,
        Returning,
        Spot,
        Wants, //
    },
    registration::Registration, //
};

use kernel::{
    bindings,
    prelude::*,
    ptregs::PtRegs,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    symbol::Symbol,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Completion, //
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
pub(crate) enum Stage {
    Registering {
        /// Somebody has unregistered it already.
        ended: bool,
    },
    Registered(Registration),
    /// By this task; or by nobody who waits for it, which is null.
    Ending(*mut bindings::task_struct),
    /// This task is calling `unregistered`.
    Leaving(*mut bindings::task_struct),
}

/// What is known of a `struct uprobe`.
pub(crate) struct Known {
    pub(crate) stage: Stage,
    client: Arc<CClient>,
}

// SAFETY: The pointer to a task is compared only.
unsafe impl Send for Known {}

/// By the address of the `struct uprobe`.
struct Table(RBTree<usize, Known>);

// SAFETY: Everything that it owns may be sent, and it is accessed under its lock only.
unsafe impl Send for Table {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called before anything else can reach this.
    unsafe(uninit) static KNOWN: SpinLock<Option<Table>> = None;
}

/// Initialises what is known.
///
/// # Safety
///
/// Called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: By the requirement on the caller.
    unsafe { KNOWN.init() };
    *KNOWN.lock() = Some(Table(RBTree::new()));
}

/// Calls `f` with all that are known.
pub(crate) fn with_known<R>(f: impl FnOnce(&mut RBTree<usize, Known>) -> Option<R>) -> Option<R> {
    KNOWN.lock().as_mut().and_then(|table| f(&mut table.0))
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
    /// Nobody is called any more.
    #[pin]
    pub(crate) gone: Completion,
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

    fn key(&self) -> usize {
        self.uprobe as usize
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

    fn set_stage(&self, stage: Stage) {
        with_known(|known| {
            known.get_mut(&self.key())?.stage = stage;
            Some(())
        });
    }

    /// Its registration has succeeded.
    pub(crate) fn has_registered(&self, registration: Registration) {
        let mut registration = Some(registration);
        with_known(|known| {
            let stage = &mut known.get_mut(&self.key())?.stage;
            *stage = match (&*stage, registration.take()) {
                (Stage::Registering { ended: false }, Some(it)) => Stage::Registered(it),
                (_, it) => {
                    registration = it;
                    Stage::Ending(core::ptr::null_mut())
                }
            };
            Some(())
        });
        if let Some(ended) = registration {
            let later = ubp::is_in_hit();
            drop(ended);
            if !later {
                self.ended();
            }
        }
    }

    /// Nobody is called any more: it is not known any more.
    pub(crate) fn forget(&self) {
        // Freed without the lock.
        drop(with_known(|known| known.remove_node(&self.key())));
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
            self.set_stage(Stage::Leaving(Task::current_raw()));
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

/// Makes it known that a client is being registered.
pub(crate) fn make_known(client: &Arc<CClient>) -> Result {
    let known = Known {
        stage: Stage::Registering { ended: false },
        client: client.clone(),
    };
    let mut node = Some(RBTreeNode::new(client.key(), known, GFP_KERNEL)?);
    loop {
        let there = with_known(|known| match known.get(&client.key()) {
            None => {
                known.insert(node.take()?);
                None
            }
            Some(Known { stage, client }) => Some(match stage {
                Stage::Leaving(task) if *task != Task::current_raw() => Ok(client.clone()),
                _ => Err(EBUSY),
            }),
        });
        match there {
            None => return Ok(()),
            Some(leaving) => leaving?.gone.wait_for_completion(),
        }
    }
}

/// What there is to do for who unregisters.
pub(crate) enum Ending {
    /// To unregister it.
    Mine(Registration),
    /// To forget it: the caller has unregistered it.
    Done(Arc<CClient>),
    /// To wait for who does.
    Others(Arc<CClient>),
    Unknown,
}

/// `by` is null for a handler, which waits for nothing.
pub(crate) fn begin_ending(u: *mut bindings::uprobe, by: *mut bindings::task_struct) -> Ending {
    let ending = with_known(|known| {
        let known = known.get_mut(&(u as usize))?;
        match &mut known.stage {
            Stage::Registering { ended } => {
                if !*ended {
                    known.client.by_handler.store(by.is_null(), Relaxed);
                }
                *ended = true;
            }
            Stage::Registered(_) => {
                known.client.by_handler.store(by.is_null(), Relaxed);
                if let Stage::Registered(registration) =
                    core::mem::replace(&mut known.stage, Stage::Ending(by))
                {
                    return Some(Ending::Mine(registration));
                }
            }
            Stage::Ending(task) if !by.is_null() && *task == by => {
                return Some(Ending::Done(known.client.clone()));
            }
            // `unregistered` has no need to do this, and cannot wait for itself.
            Stage::Leaving(task) if *task == Task::current_raw() => return None,
            Stage::Ending(_) | Stage::Leaving(_) => (),
        }
        Some(Ending::Others(known.client.clone()))
    });
    ending.unwrap_or(Ending::Unknown)
}

/// Finds a probe that has a function in a module; and whether it is registered, and not ending.
pub(crate) fn first_of_module(
    module: *mut bindings::module,
) -> Option<(*mut bindings::uprobe, bool)> {
    let look_at = |known: &Known| {
        // SAFETY: It is the caller's caller who says that the module is valid.
        let is_in = |at: &usize| unsafe { bindings::within_module(*at, module) };
        let is_of_module = known.client.functions().iter().any(is_in);
        let is_registered = matches!(known.stage, Stage::Registered(_));
        is_of_module.then_some((known.client.uprobe, is_registered))
    };
    with_known(|known| known.iter().find_map(|(_, known)| look_at(known)))
}
