// SPDX-License-Identifier: GPL-2.0

//! What utrace knows of a thread: its engines, and how far its life has gone.
//!
//! # The life of a thread
//!
//! ```text
//!           PF_EXITING         a zombie            callbacks done       reaped
//!   Live -------------> Exiting -------> Dying -------------------> Dead -----> Reaped
//!                          \                \    reaped meanwhile               ^
//!                           \                `---------------------------------/
//! ```
//!
//! - Engines are attached while it is `Live`.
//! - Reaping may overtake: [`State::reap_due`] says that it has, and the thread itself makes the
//!   last reports when it has made those of its death.
//!
//! # The life of an engine on a thread
//!
//! ```text
//!             attach                  event                callback returns
//!  (nothing) --------> attached/idle -------> attached/called --------------> attached/idle
//!                           |                    |    | returns UTRACE_DETACH
//!                           | detach             |    v
//!                           v                    |  (nothing)
//!                       (nothing)                | detach
//!                                                v
//!                                       detached/called -- callback returns --> (nothing)
//! ```
//!
//! An engine that is detached while its callback executes moves from the list to
//! [`Called::removed`]. Either holds the references to the engine and to its client, so that a
//! callback takes none.

use crate::{
    active::Active,
    engine::{
        Client,
        Engine,
        Owner, //
    },
    event::{
        Action,
        Event,
        Events, //
    },
    process::{
        self,
        Following,
        Live, //
    },
    step::Step,
};

use kernel::{
    bindings,
    new_condvar,
    new_spinlock,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Full,
            Relaxed, //
        },
        Arc,
        CondVar,
        SpinLock,
        SpinLockGuard, //
    },
    task::Task, //
};

use core::ptr;

/// How far the life of a thread has gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Live,
    Exiting,
    Dying,
    Dead,
    Reaped,
}

/// An engine in the list of its thread.
pub(crate) struct Entry {
    pub(crate) engine: Arc<Engine>,
    /// Its owner wants the thread stopped, until it says something else.
    pub(crate) stop_by_owner: bool,
    /// Its last answer wants the thread stopped.
    pub(crate) stop_by_answer: bool,
    /// It wants a step, which is not over.
    step: Option<Step>,
    /// A step that it wanted is over, and it has had no report of that.
    stepped: bool,
    _live: Option<Live>,
    _active: Active,
}

impl Entry {
    pub(crate) fn wants_stop(&self) -> bool {
        self.stop_by_owner || self.stop_by_answer
    }

    /// Whether a report of a step is due to it.
    pub(crate) fn has_stepped(&self) -> bool {
        self.stepped
    }
}

/// The callback that the thread executes.
pub(crate) struct Called {
    /// The number of its engine.
    id: u64,
    /// The address of the `Following` that its engine has, or null.
    following: *const Following,
    /// The entry of its engine, once the engine is detached.
    removed: Option<Entry>,
}

// SAFETY: The pointer is only compared.
unsafe impl Send for Called {}

/// What is protected by the lock of a [`Thread`].
pub(crate) struct State {
    /// In the order of attachment.
    pub(crate) engines: KVec<Entry>,
    pub(crate) next_id: u64,
    /// The callback that the thread executes. It is the only one, because events that a callback
    /// causes are not reported.
    called: Option<Called>,
    pub(crate) phase: Phase,
    pub(crate) reap_due: bool,
    /// [`Event::Exit`] has been reported, or is being so.
    pub(crate) exit_reported: bool,
    /// The reap is being reported, to engines that are not in the list any more.
    pub(crate) reaping: bool,
    /// What is to be done on the way to user mode.
    pub(crate) pending: Action,
    /// A signal frame has been set up, and engines have not been told.
    pub(crate) handler_set_up: bool,
    /// It is in a stop of ours, and stays until no engine wants it to. The thread itself sets and
    /// clears this.
    pub(crate) stopped: bool,
    /// How many stops there have been.
    pub(crate) stops: usize,
    /// `si_code` of the last trap of a step.
    pub(crate) step_code: c_int,
}

impl State {
    pub(crate) fn find(&self, engine: &Engine) -> Option<usize> {
        self.engines
            .iter()
            .position(|entry| ptr::eq(&*entry.engine, engine))
    }

    /// Whether a callback of the engine is, or may be, executing.
    pub(crate) fn is_called(&self, engine: &Engine) -> bool {
        let called = self.called.as_ref();
        self.reaping || called.is_some_and(|called| called.id == engine.id())
    }

    /// Whether the thread executes a callback.
    pub(crate) fn is_in_callback(&self) -> bool {
        self.called.is_some()
    }

    /// Whether the thread executes a callback of an engine with this `Following`.
    pub(crate) fn is_in_callback_of(&self, following: &Following) -> bool {
        let called = self.called.as_ref();
        called.is_some_and(|called| ptr::eq(called.following, following))
    }

    /// The thread is about to execute a callback of the engine, which is in the list.
    pub(crate) fn begin_callback(&mut self, engine: &Engine) {
        self.called = Some(Called {
            id: engine.id(),
            following: engine.following().map_or(ptr::null(), Arc::as_ptr),
            removed: None,
        });
    }

    pub(crate) fn any_stop(&self) -> bool {
        self.engines.iter().any(Entry::wants_stop)
    }

    /// The smallest step that an engine wants.
    pub(crate) fn wanted_step(&self) -> Option<Step> {
        self.engines.iter().filter_map(|entry| entry.step).min()
    }

    /// Notes what step the engine at `at` wants.
    pub(crate) fn want_step(&mut self, task: &Task, at: usize, step: Option<Step>) {
        match self.engines.get_mut(at) {
            Some(entry) if entry.step != step => entry.step = step,
            Some(_) | None => return,
        }
        self.publish_events(task);
    }

    /// Takes the step that an engine wants.
    pub(crate) fn take_step(&mut self, task: &Task, engine: &Engine) -> Option<Step> {
        let at = self.find(engine)?;
        let step = self.engines.get(at)?.step;
        self.want_step(task, at, None);
        step
    }

    /// Ends the steps that engines want. Returns whether there was one: its engine is due a report.
    pub(crate) fn end_steps(&mut self, task: &Task, code: c_int) -> bool {
        let mut any = false;
        for entry in &mut self.engines {
            if entry.step.take().is_some() {
                entry.stepped = true;
                any = true;
            }
        }
        if any {
            self.step_code = code;
            self.publish_events(task);
        }
        any
    }

    /// Whether an engine is due the report of a step.
    pub(crate) fn any_stepped(&self) -> bool {
        self.engines.iter().any(Entry::has_stepped)
    }

    /// Takes that a report of a step is due to an engine.
    pub(crate) fn take_stepped(&mut self, engine: &Engine) -> bool {
        let entry = self.find(engine).and_then(|at| self.engines.get_mut(at));
        entry.is_some_and(|entry| core::mem::take(&mut entry.stepped))
    }

    /// Asks for something to be done on the way to user mode.
    pub(crate) fn request(&mut self, action: Action) {
        self.pending = self.pending.min(action);
    }

    /// What all engines together want to be told of.
    fn events(&self) -> Events {
        self.engines.iter().fold(Events::NONE, |all, entry| {
            // That a signal frame is set up ends a step.
            let step = match entry.step {
                Some(_) => Events::QUIESCE,
                None => Events::NONE,
            };
            all.union(entry.engine.events()).union(step)
        })
    }

    /// Removes an engine from the list. The caller must drop the result without the lock.
    ///
    /// While a callback of the engine executes, [`Called::removed`] keeps the entry.
    pub(crate) fn remove(&mut self, task: &Task, at: usize) -> Option<Entry> {
        let entry = self.engines.remove(at).ok();
        self.publish_events(task);
        if entry.as_ref().is_some_and(|entry| entry.step.is_some()) {
            // What the CPU is set up for is looked at again, see `step::update`.
            task.notify_resume();
        }
        // It may have been this one that holds them.
        task.release_held_signals();
        let entry = entry?;
        match &mut self.called {
            Some(called) if called.id == entry.engine.id() => {
                called.removed = Some(entry);
                None
            }
            Some(_) | None => Some(entry),
        }
    }

    /// Has the call sites see what engines want to be told of.
    pub(crate) fn publish_events(&self, task: &Task) {
        let events = self.events();
        // SAFETY: The field is accessed by single loads and stores only, and lives as long as the
        // task.
        let word = unsafe { Atomic::from_ptr(&raw mut (*task.as_ptr()).utrace_flags) };
        word.store(events.raw(), Relaxed);
        // SAFETY: The task is valid. Bits of `syscall_work` are changed atomically.
        unsafe {
            if events.intersects(Events::SYSCALL) {
                bindings::set_task_syscall_work_utrace(task.as_ptr());
            } else {
                bindings::clear_task_syscall_work_utrace(task.as_ptr());
            }
        }
    }
}

/// What utrace knows of a thread.
#[pin_data]
pub(crate) struct Thread {
    #[pin]
    pub(crate) state: SpinLock<State>,
    /// Woken when a callback has returned.
    #[pin]
    pub(crate) idle: CondVar,
    /// The thread has come to where [`Event::LastExit`] is reported. Changed under `siglock`.
    past_last_exit: Atomic<bool>,
}

impl Thread {
    /// See [`Thread::past_last_exit`]. The caller must hold the thread's `siglock`.
    pub(crate) fn set_past_last_exit(&self) {
        self.past_last_exit.store(true, Relaxed);
    }

    /// See [`Thread::past_last_exit`].
    pub(crate) fn is_past_last_exit(&self) -> bool {
        self.past_last_exit.load(Relaxed)
    }

    /// Ends the callback of the current thread, which has returned or oopsed.
    ///
    /// If its engine was detached, the engine is dropped before any waiter continues, because the
    /// waiter may unload the module that the engine's `release()` belongs to.
    pub(crate) fn end_callback<'a>(
        &'a self,
        mut state: SpinLockGuard<'a, State>,
    ) -> SpinLockGuard<'a, State> {
        while let Some(removed) = state
            .called
            .as_mut()
            .and_then(|called| called.removed.take())
        {
            drop(state);
            drop(removed);
            state = self.state.lock();
        }
        state.called = None;
        self.idle.notify_all();
        state
    }
}

/// `task_struct::utrace`.
///
/// # Invariants
///
/// The pointer that it holds is null, or of an `Arc<Thread>` that it owns until [`free`].
fn slot(task: &Task) -> &Atomic<*mut c_void> {
    // SAFETY: The field is written by atomic operations only, once the task can be found; it
    // lives as long as the task.
    unsafe { Atomic::from_ptr((&raw mut (*task.as_ptr()).utrace).cast()) }
}

/// Returns what utrace knows of `task`, if it had an engine ever.
pub(crate) fn get(task: &Task) -> Option<&Thread> {
    let thread = slot(task).load(Acquire).cast::<Thread>();
    // SAFETY: By the invariants of `slot` it is a valid `Thread`, that lives as long as the task.
    unsafe { thread.as_ref() }
}

/// Returns whether `thread` is what utrace knows of `task`.
pub(crate) fn is_of(thread: &Thread, task: &Task) -> bool {
    ptr::eq(slot(task).load(Acquire).cast(), thread)
}

fn get_or_create(task: &Task) -> Result<Arc<Thread>> {
    if slot(task).load(Acquire).is_null() {
        let new = Arc::pin_init(
            pin_init!(Thread {
                state <- new_spinlock!(State {
                    engines: KVec::new(),
                    next_id: 1,
                    called: None,
                    phase: Phase::Live,
                    reap_due: false,
                    exit_reported: false,
                    reaping: false,
                    pending: Action::Resume,
                    handler_set_up: false,
                    stopped: false,
                    stops: 0,
                    step_code: 0,
                }),
                idle <- new_condvar!(),
                past_last_exit: Atomic::new(false),
            }),
            GFP_KERNEL,
        )?;
        let raw = Arc::into_raw(new).cast_mut().cast::<c_void>();
        if slot(task).cmpxchg(ptr::null_mut(), raw, Full).is_err() {
            // SAFETY: Of `into_raw` above, and it was not stored.
            drop(unsafe { Arc::from_raw(raw.cast::<Thread>()) });
        }
    }
    let raw = slot(task).load(Acquire).cast::<Thread>();
    // SAFETY: By the invariants of `slot`, which is set by now, it is of an `Arc`, which stays.
    let owned = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(raw) });
    Ok((*owned).clone())
}

/// Frees what utrace knows of a task.
///
/// # Safety
///
/// No other reference to `task` exists.
pub(crate) unsafe fn free(task: &Task) {
    let raw = slot(task).xchg(ptr::null_mut(), Full).cast::<Thread>();
    if !raw.is_null() {
        // SAFETY: By the invariants of `slot` this is its `Arc`.
        drop(unsafe { Arc::from_raw(raw) });
    }
}

/// How an engine is to be attached.
pub(crate) struct How {
    /// `UTRACE_ATTACH_` flags.
    pub(crate) flags: u32,
    pub(crate) client: Client,
    /// What a new one wants to be told of, at first.
    pub(crate) events: Events,
}

/// Attaches a new engine, or looks for one, as the flags say.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ENOENT`: there is no such engine, and none is to be created. `EEXIST`: there is one, and it was
/// to be the only one. `EPERM`: the thread never goes to user mode. `ESRCH`: the thread exits.
/// `ENOMEM`.
pub(crate) fn attach(task: &Task, how: How, owner: Owner) -> Result<Arc<Engine>> {
    if task.is_worker() {
        return Err(EPERM);
    }
    if how.flags & bindings::UTRACE_ATTACH_CREATE == 0 {
        let thread = get(task).ok_or(ENOENT)?;
        let state = thread.state.lock();
        return lookup(&state, &how).ok_or(ENOENT);
    }
    let active = match &owner {
        Owner::Caller => Active::new(),
        Owner::Process(following) => following.active.try_clone()?,
    };
    let thread = get_or_create(task)?;
    let engine = Engine::new(how.client, how.events, thread.clone(), owner)?;
    add(task, &thread, &engine, &how, active)?;
    Ok(engine)
}

fn lookup(state: &State, how: &How) -> Option<Arc<Engine>> {
    state
        .engines
        .iter()
        .find(|entry| entry.engine.matches(how.flags, how.client))
        .map(|entry| entry.engine.clone())
}

fn add(task: &Task, thread: &Thread, engine: &Arc<Engine>, how: &How, active: Active) -> Result {
    let mut room: KVec<Entry> = KVec::new();
    loop {
        let mut state = thread.state.lock();
        // `exiting` looks for a `Thread` after PF_EXITING was set, with a barrier in between, as
        // there is one here (the exchange in `get_or_create`): either it finds this one, or the
        // flag is seen here.
        if state.phase != Phase::Live || task.is_exiting() {
            return Err(ESRCH);
        }
        if how.flags & bindings::UTRACE_ATTACH_EXCLUSIVE != 0 && lookup(&state, how).is_some() {
            return Err(EEXIST);
        }
        let of_process = |following| {
            let mut engines = state.engines.iter();
            engines.any(|entry| process::is_of(&entry.engine, following))
        };
        if engine.following().is_some_and(of_process) {
            return Err(EEXIST);
        }
        let len = state.engines.len();
        if len < state.engines.capacity() || len < room.capacity() {
            if len == state.engines.capacity() {
                // The list moves to where there is room.
                for entry in state.engines.drain_all() {
                    let _ = room.push_within_capacity(entry);
                }
                core::mem::swap(&mut state.engines, &mut room);
            }
            let live = match engine.following() {
                None => None,
                Some(following) => Some(Live::new(following).ok_or(ESRCH)?),
            };
            let id = state.next_id;
            engine.set_id(id);
            let entry = Entry {
                engine: engine.clone(),
                stop_by_owner: false,
                stop_by_answer: false,
                step: None,
                stepped: false,
                _live: live,
                _active: active,
            };
            // There is room.
            let _ = state.engines.push_within_capacity(entry);
            state.next_id = id.wrapping_add(1);
            state.publish_events(task);
            return Ok(());
        }
        drop(state);
        room.reserve(len.wrapping_add(2), GFP_KERNEL)?;
    }
}

/// The current thread has begun to exit: it takes no engines from here on.
pub(crate) fn exiting(task: &Task) {
    // Pairs with `add`.
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
    if let Some(thread) = get(task) {
        let mut state = thread.state.lock();
        state.phase = state.phase.max(Phase::Exiting);
    }
}

/// Whether an engine of the current thread wants to be told of an event.
pub(crate) fn wants(task: &Task, event: Event) -> bool {
    // SAFETY: As in `publish_events`.
    let word = unsafe { Atomic::from_ptr(&raw mut (*task.as_ptr()).utrace_flags) };
    Events::of_word(word.load(Relaxed)).has(event)
}
