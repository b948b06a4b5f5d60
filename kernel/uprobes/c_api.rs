// SPDX-License-Identifier: GPL-2.0

//! The API for modules written in C. See `struct uprobe` in `include/linux/uprobes.h`.
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
    process::Process,
    registration::{
        register,
        Registration, //
    },
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

type CHandler = Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::pt_regs)>;

/// See the top.
enum Stage {
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
struct Known {
    stage: Stage,
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
fn with_known<R>(f: impl FnOnce(&mut RBTree<usize, Known>) -> Option<R>) -> Option<R> {
    KNOWN.lock().as_mut().and_then(|table| f(&mut table.0))
}

/// The client that calls the handlers of a `struct uprobe`.
///
/// # Invariants
///
/// `uprobe` is valid until the client has been unregistered, and, if that was done by a handler,
/// [`Client::ended`] has called `unregistered`.
#[pin_data]
struct CClient {
    uprobe: *mut bindings::uprobe,
    handler: CHandler,
    handler_in_interrupt: CHandler,
    return_handler: CHandler,
    filter: Option<unsafe extern "C" fn(*mut bindings::uprobe, *mut bindings::task_struct) -> bool>,
    unregistered: Option<unsafe extern "C" fn(*mut bindings::uprobe)>,
    /// It was a handler who unregistered it.
    by_handler: Atomic<bool>,
    /// Nobody is called any more.
    #[pin]
    gone: Completion,
}

// SAFETY: The pointer is passed to the handlers only, which are called from any thread by the
// rules of the API.
unsafe impl Send for CClient {}
// SAFETY: As above; several threads may call the handlers at the same time.
unsafe impl Sync for CClient {}

/// The fields of a `struct uprobe`, which handlers may read while this is done.
struct Fields {
    pid: bindings::pid_t,
    spot: Spot,
}

impl CClient {
    /// # Safety
    ///
    /// `u` is valid for reads, and stays so for as long as the type invariants say.
    unsafe fn new(u: *mut bindings::uprobe) -> Result<(Arc<Self>, Fields)> {
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
                handler: raw.handler,
                handler_in_interrupt: raw.handler_in_interrupt,
                return_handler: raw.return_handler,
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

    fn call(&self, handler: CHandler, regs: &mut PtRegs) {
        if let Some(handler) = handler {
            // SAFETY: By the type invariants `uprobe` is valid, and so are the registers.
            unsafe { handler(self.uprobe, regs.as_ptr()) };
        }
    }

    /// The addresses of its functions.
    fn functions(&self) -> [usize; 5] {
        let handler = |handler: CHandler| handler.map_or(0, |handler| handler as usize);
        [
            handler(self.handler),
            handler(self.handler_in_interrupt),
            handler(self.return_handler),
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
    fn has_registered(&self, registration: Registration) {
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
    fn forget(&self) {
        // Freed without the lock.
        drop(with_known(|known| known.remove_node(&self.key())));
        self.gone.complete_all();
    }
}

impl Client for CClient {
    fn wants(&self) -> Wants {
        Wants {
            task: self.handler.is_some(),
            interrupt: self.handler_in_interrupt.is_some(),
            returned: self.return_handler.is_some(),
            filter: self.filter.is_some(),
        }
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

/// Registers the probe `u` in the process that `find` finds by the number in it.
///
/// # Safety
///
/// As of [`register_uprobe`].
unsafe fn register_in(
    u: *mut bindings::uprobe,
    find: impl FnOnce(bindings::pid_t) -> Result<Arc<Process>>,
) -> Result {
    if u.is_null() {
        return Err(EINVAL);
    }
    // SAFETY: By the requirement on the caller.
    let (client, fields) = unsafe { CClient::new(u) }?;
    make_known(&client)?;
    let registered =
        find(fields.pid).and_then(|process| register(&process, fields.spot, client.clone()));
    match registered {
        Ok(registration) => {
            client.has_registered(registration);
            Ok(())
        }
        Err(error) => {
            client.forget();
            Err(error)
        }
    }
}

/// Makes it known that a client is being registered.
fn make_known(client: &Arc<CClient>) -> Result {
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

/// Registers a probe.
///
/// # Safety
///
/// `u` is null or valid, its fields are not changed by others during the call, and if it succeeds,
/// `u` stays valid and as it is until it has been unregistered. Its functions may be called as
/// `include/linux/uprobes.h` says. May sleep.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe(u: *mut bindings::uprobe) -> c_int {
    // SAFETY: By the requirement on the caller.
    let registered = unsafe { register_in(u, Process::from_pid) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers a probe in the process of a thread, whatever `u->pid` is.
///
/// # Safety
///
/// As of [`register_uprobe`], and `task` is valid.
#[export]
pub(crate) unsafe extern "C" fn register_uprobe_task(
    u: *mut bindings::uprobe,
    task: *mut bindings::task_struct,
) -> c_int {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    let registered = unsafe { register_in(u, |_| Process::of(&*task.cast::<Task>())) };
    registered.map_or_else(|error| error.to_errno(), |()| 0)
}

/// Registers several probes, or none.
///
/// # Safety
///
/// `us` is valid for reads of `num` pointers, to each of which the requirements of
/// [`register_uprobe`] apply.
#[export]
pub(crate) unsafe extern "C" fn register_uprobes(
    us: *mut *mut bindings::uprobe,
    num: c_uint,
) -> c_int {
    for i in 0..num as usize {
        // SAFETY: By the requirement on the caller.
        let registered = unsafe { register_uprobe(*us.add(i)) };
        if registered != 0 {
            // SAFETY: As above: these have been registered.
            unsafe { unregister_uprobes(us, i as c_uint) };
            return registered;
        }
    }
    0
}

/// What there is to do for who unregisters.
enum Ending {
    /// To unregister it.
    Mine(Registration),
    /// To forget it: the caller has unregistered it.
    Done(Arc<CClient>),
    /// To wait for who does.
    Others(Arc<CClient>),
    Unknown,
}

/// `by` is null for a handler, which waits for nothing.
fn begin_ending(u: *mut bindings::uprobe, by: *mut bindings::task_struct) -> Ending {
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

/// Unregisters a probe. When it returns, no handler of it is executing, nor will be; unless it is
/// called by a handler, any probe's.
///
/// # Safety
///
/// `u` is null or any pointer that has not been registered, or that is still valid. May sleep, if
/// the caller is not a handler.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobe(u: *mut bindings::uprobe) {
    // SAFETY: By the requirement on the caller.
    unsafe { unregister_uprobes(&mut { u }, 1) };
}

/// Unregisters several probes, for one wait.
///
/// # Safety
///
/// `us` is valid for reads of `num` pointers, to each of which the requirements of
/// [`unregister_uprobe`] apply.
#[export]
pub(crate) unsafe extern "C" fn unregister_uprobes(us: *mut *mut bindings::uprobe, num: c_uint) {
    // SAFETY: By the requirement on the caller.
    let each = || (0..num as usize).map(|i| unsafe { *us.add(i) });
    if ubp::is_in_hit() {
        for u in each() {
            // Dropping the registration has it ended later, which ends in `CClient::ended()`.
            drop(begin_ending(u, core::ptr::null_mut()));
        }
        return;
    }
    // In order to allocate nothing, those that are the caller's to end are remembered by their
    // stage; a second walk forgets them.
    let me = Task::current_raw();
    let mine = each().filter_map(|u| match begin_ending(u, me) {
        Ending::Mine(registration) => Some(registration),
        Ending::Done(_) | Ending::Others(_) | Ending::Unknown => None,
    });
    Registration::unregister_all(mine);
    for u in each() {
        match begin_ending(u, me) {
            Ending::Done(client) => client.forget(),
            Ending::Others(client) => client.gone.wait_for_completion(),
            Ending::Mine(registration) => drop(registration),
            Ending::Unknown => (),
        }
    }
}

/// Tells what has come of a probe so far.
///
/// # Safety
///
/// `counts` is valid for a write.
#[export]
pub(crate) unsafe extern "C" fn uprobe_read_counts(
    u: *mut bindings::uprobe,
    counts: *mut bindings::uprobe_counts,
) -> c_int {
    let read = with_known(|known| match &known.get(&(u as usize))?.stage {
        Stage::Registered(registration) => Some(registration.counts()),
        Stage::Registering { .. } | Stage::Ending(_) | Stage::Leaving(_) => None,
    });
    let Some(read) = read else {
        return ENOENT.to_errno();
    };
    let read = bindings::uprobe_counts {
        hits: read.hits as u64,
        returns: read.returns as u64,
        misses: read.misses as u64,
    };
    // SAFETY: By the requirement on the caller.
    unsafe { counts.write(read) };
    0
}

/// A module is going, and its exit function has been called: unregisters what it has left.
///
/// # Safety
///
/// `module` is valid.
#[export]
pub(crate) unsafe extern "C" fn uprobes_module_going(module: *mut bindings::module) {
    let mut left = 0;
    while let Some((uprobe, is_registered)) = first_of_module(module) {
        left += u32::from(is_registered);
        // SAFETY: It is known, and so still there.
        unsafe { unregister_uprobe(uprobe) };
    }
    if left != 0 {
        // SAFETY: By the requirement on the caller; a name is a string.
        let name = unsafe { CStr::from_char_ptr((*module).name.as_ptr().cast()) };
        pr_warn!("module {} has left {} probe(s), which are gone now\n", name, left);
    }
}

/// Finds a probe that has a function in a module; and whether it is registered, and not ending.
fn first_of_module(module: *mut bindings::module) -> Option<(*mut bindings::uprobe, bool)> {
    let look_at = |known: &Known| {
        // SAFETY: It is the caller's caller who says that the module is valid.
        let is_in = |at: &usize| unsafe { bindings::within_module(*at, module) };
        let is_of_module = known.client.functions().iter().any(is_in);
        let is_registered = matches!(known.stage, Stage::Registered(_));
        is_of_module.then_some((known.client.uprobe, is_registered))
    };
    with_known(|known| known.iter().find_map(|(_, known)| look_at(known)))
}
