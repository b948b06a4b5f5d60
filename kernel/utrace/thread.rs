// SPDX-License-Identifier: GPL-2.0

//! State of a thread: its engines, and the phase of its life.
//!
//! # The life of a thread
//!
//! ```text
//!           PF_EXITING         a zombie            callbacks done       reaped
//!   Live -------------> Exiting -------> Dying -------------------> Dead -----> Reaped
//!                          \                \    reap_due is set                ^
//!                           \                `---------------------------------/
//! ```
//!
//! - Engines can be attached only while the thread is `Live`.
//! - Another thread may reap this one before its callbacks are done. That thread sets
//!   [`ThreadState::reap_due`], and this thread reports the reap after it has reported its death.
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
//! [`Called::removed`]. Both hold the references to the engine and to its data, so a callback
//! takes no reference.

use crate::{
    engine::Engine,
    hooks::Active,
    jobctl,
    process::{
        ProcessEngines,
        UseGuard, //
    },
    step::Step, //
};

use kernel::{
    bindings, new_condvar, new_spinlock,
    prelude::*,
    siglock::Siglock,
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
    task::Task,
    utrace_types::{
        Action,
        Event,
        Events, //
    },
};

use core::ptr;

/// The phase of a thread's life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Phase {
    Live,
    Exiting,
    Dying,
    Dead,
    Reaped,
}

/// An engine in the list of its thread.
pub(crate) struct AttachedEngine {
    pub(crate) engine: Arc<Engine>,
    /// The owner wants the thread stopped, until it requests another action.
    pub(crate) stop_by_owner: bool,
    /// The last answer of the engine wants the thread stopped.
    pub(crate) stop_by_answer: bool,
    /// The step that the engine wants, if it is not over.
    step: Option<Step>,
    /// A step that the engine wanted is over, but has not been reported to it.
    stepped: bool,
    _live: Option<UseGuard>,
    _active: Active,
}

impl AttachedEngine {
    pub(crate) fn new(engine: Arc<Engine>, live: Option<UseGuard>, active: Active) -> Self {
        Self {
            engine,
            stop_by_owner: false,
            stop_by_answer: false,
            step: None,
            stepped: false,
            _live: live,
            _active: active,
        }
    }

    pub(crate) fn is_stop_requested(&self) -> bool {
        self.stop_by_owner || self.stop_by_answer
    }

    /// Returns whether a step is to be reported to the engine.
    pub(crate) fn has_stepped(&self) -> bool {
        self.stepped
    }
}

/// The callback that the thread executes.
pub(crate) struct Called {
    /// The id of its engine.
    id: u64,
    /// The address of the engine's `ProcessEngines`, or null.
    shared: *const ProcessEngines,
    /// The entry of its engine, once the engine is detached.
    removed: Option<AttachedEngine>,
}

// SAFETY: The pointer is only compared.
unsafe impl Send for Called {}

/// The state of a [`Thread`], protected by its lock.
pub(crate) struct ThreadState {
    /// The engines, in the order of attachment.
    pub(crate) engines: KVec<AttachedEngine>,
    pub(crate) next_id: u64,
    /// The callback that the thread executes. It is the only one, because events that a callback
    /// causes are not reported.
    called: Option<Called>,
    pub(crate) phase: Phase,
    pub(crate) reap_due: bool,
    /// [`Event::Exit`] has been reported, or is being reported.
    pub(crate) exit_reported: bool,
    /// The reap is being reported, to engines that are not in the list any more.
    pub(crate) reaping: bool,
    /// The action to take before the return to user mode.
    pub(crate) pending: Action,
    /// A signal frame has been set up, but this was not reported yet.
    pub(crate) handler_set_up: bool,
    /// The thread is in a utrace stop, until no engine wants it stopped. Only the thread itself
    /// sets and clears this.
    pub(crate) stopped: bool,
    /// The number of stops so far.
    pub(crate) stops: usize,
    /// `si_code` of the last trap of a step.
    pub(crate) step_code: c_int,
}

impl ThreadState {
    pub(crate) fn find(&self, engine: &Engine) -> Option<usize> {
        self.engines
            .iter()
            .position(|entry| ptr::eq(&*entry.engine, engine))
    }

    /// Returns whether a callback of the engine is executing, or may be.
    pub(crate) fn is_called(&self, engine: &Engine) -> bool {
        let called = self.called.as_ref();
        self.reaping || called.is_some_and(|called| called.id == engine.id())
    }

    /// Returns whether the thread executes a callback.
    pub(crate) fn is_in_callback(&self) -> bool {
        self.called.is_some()
    }

    /// Returns whether the thread executes a callback of an engine with this `ProcessEngines`.
    pub(crate) fn is_in_callback_of(&self, shared: &ProcessEngines) -> bool {
        let called = self.called.as_ref();
        called.is_some_and(|called| ptr::eq(called.shared, shared))
    }

    /// Marks the thread as executing a callback of the engine, which must be in the list.
    pub(crate) fn begin_callback(&mut self, engine: &Engine) {
        self.called = Some(Called {
            id: engine.id(),
            shared: engine.process_engines().map_or(ptr::null(), Arc::as_ptr),
            removed: None,
        });
    }

    pub(crate) fn any_stop(&self) -> bool {
        self.engines.iter().any(AttachedEngine::is_stop_requested)
    }

    /// Returns the smallest step that an engine wants.
    pub(crate) fn smallest_step(&self) -> Option<Step> {
        self.engines.iter().filter_map(|entry| entry.step).min()
    }

    /// Sets the step that the engine at `at` wants.
    pub(crate) fn set_step(&mut self, task: &Task, at: usize, step: Option<Step>) {
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
        self.set_step(task, at, None);
        step
    }

    /// Ends the steps that engines want, and marks each as to be reported. Returns whether there
    /// was one.
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

    /// Returns whether a step is to be reported to an engine.
    pub(crate) fn any_stepped(&self) -> bool {
        self.engines.iter().any(AttachedEngine::has_stepped)
    }

    /// Takes the mark that a step is to be reported to an engine.
    pub(crate) fn take_stepped(&mut self, engine: &Engine) -> bool {
        let entry = self.find(engine).and_then(|at| self.engines.get_mut(at));
        entry.is_some_and(|entry| core::mem::take(&mut entry.stepped))
    }

    /// Takes the action that is pending for the way to user mode.
    pub(crate) fn take_pending(&mut self) -> Action {
        core::mem::replace(&mut self.pending, Action::Resume)
    }

    /// Requests an action to be taken before the return to user mode.
    pub(crate) fn request(&mut self, action: Action) {
        self.pending = self.pending.min(action);
    }

    /// Returns the union of the events of all engines.
    fn events(&self) -> Events {
        self.engines.iter().fold(Events::NONE, |all, entry| {
            // The set-up of a signal frame ends a step.
            let step = match entry.step {
                Some(_) => Events::QUIESCE,
                None => Events::NONE,
            };
            all.with(entry.engine.events()).with(step)
        })
    }

    /// Removes an engine from the list. The caller must drop the result without the lock held.
    ///
    /// While a callback of the engine executes, [`Called::removed`] keeps the entry.
    pub(crate) fn remove(&mut self, task: &Task, at: usize) -> Option<AttachedEngine> {
        let entry = self.engines.remove(at).ok();
        self.publish_events(task);
        if entry.as_ref().is_some_and(|entry| entry.step.is_some()) {
            // `step::update` sets the CPU up again for the remaining steps.
            task.notify_resume();
        }
        // The engine may be the one that holds signals.
        jobctl::release_held_signals(task);
        let entry = entry?;
        match &mut self.called {
            Some(called) if called.id == entry.engine.id() => {
                called.removed = Some(entry);
                None
            }
            Some(_) | None => Some(entry),
        }
    }

    /// Updates the word that the call sites read, with the events of all engines.
    pub(crate) fn publish_events(&self, task: &Task) {
        let events = self.events();
        // SAFETY: All accesses to the field are single loads and stores, and it lives as long as
        // the task.
        let word = unsafe { Atomic::from_ptr(&raw mut (*task.as_ptr()).utrace_flags) };
        word.store(events.bits(), Relaxed);
        // SAFETY: `task` is valid because it is a reference. Bits of `syscall_work` are changed
        // atomically.
        unsafe {
            if events.intersect(Events::SYSCALLS) {
                bindings::set_task_syscall_work_utrace(task.as_ptr());
            } else {
                bindings::clear_task_syscall_work_utrace(task.as_ptr());
            }
        }
    }
}

/// The state of a thread with engines.
#[pin_data]
pub(crate) struct Thread {
    #[pin]
    pub(crate) state: SpinLock<ThreadState>,
    /// Notified when a callback has returned.
    #[pin]
    pub(crate) idle: CondVar,
    /// The thread has passed the point where [`Event::LastExit`] is reported. Changed under
    /// `siglock`.
    past_last_exit: Atomic<bool>,
}

impl Thread {
    /// Sets [`Thread::past_last_exit`]. `_siglock` is the thread's.
    pub(crate) fn set_past_last_exit(&self, _siglock: &Siglock<'_>) {
        self.past_last_exit.store(true, Relaxed);
    }

    /// Returns [`Thread::past_last_exit`].
    pub(crate) fn is_past_last_exit(&self) -> bool {
        self.past_last_exit.load(Relaxed)
    }

    /// Ends the callback of the current thread, which has returned or oopsed.
    ///
    /// If its engine was detached, the engine is dropped before any waiter continues, because the
    /// waiter may unload the module that the engine's `release()` belongs to.
    pub(crate) fn end_callback<'a>(
        &'a self,
        mut state: SpinLockGuard<'a, ThreadState>,
    ) -> SpinLockGuard<'a, ThreadState> {
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

/// Returns `task_struct::utrace`.
///
/// # Invariants
///
/// The pointer in it is null, or from an `Arc<Thread>` that it owns until [`free`].
fn slot(task: &Task) -> &Atomic<*mut c_void> {
    // SAFETY: Once other threads can find the task, the field is written only by atomic operations.
    // It lives as long as the task.
    unsafe { Atomic::from_ptr((&raw mut (*task.as_ptr()).utrace).cast()) }
}

/// Returns the [`Thread`] of `task`, if it ever had an engine.
pub(crate) fn get(task: &Task) -> Option<&Thread> {
    let thread = slot(task).load(Acquire).cast::<Thread>();
    // SAFETY: By the invariants of `slot`, the pointer is null or a valid `Thread` that lives as
    // long as the task.
    unsafe { thread.as_ref() }
}

/// Returns whether `thread` is the [`Thread`] of `task`.
pub(crate) fn is_of(thread: &Thread, task: &Task) -> bool {
    ptr::eq(slot(task).load(Acquire).cast(), thread)
}

pub(crate) fn get_or_create(task: &Task) -> Result<Arc<Thread>> {
    if slot(task).load(Acquire).is_null() {
        let new = Arc::pin_init(
            pin_init!(Thread {
                state <- new_spinlock!(ThreadState {
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
            // SAFETY: `raw` is from `into_raw` above, and it was not stored.
            drop(unsafe { Arc::from_raw(raw.cast::<Thread>()) });
        }
    }
    let raw = slot(task).load(Acquire).cast::<Thread>();
    // SAFETY: `slot` is set now. By its invariants, the pointer is from an `Arc`, which it
    // continues to own.
    let owned = core::mem::ManuallyDrop::new(unsafe { Arc::from_raw(raw) });
    Ok((*owned).clone())
}

/// Frees the [`Thread`] of a task.
///
/// # Safety
///
/// No other reference to `task` may exist.
pub(crate) unsafe fn free(task: &Task) {
    let raw = slot(task).xchg(ptr::null_mut(), Full).cast::<Thread>();
    if !raw.is_null() {
        // SAFETY: By the invariants of `slot`, `raw` is from an `Arc` that it owned, and it was
        // taken out above.
        drop(unsafe { Arc::from_raw(raw) });
    }
}

/// Marks the current thread as exiting: no engine can be attached to it any more.
pub(crate) fn exiting(task: &Task) {
    // Pairs with `attach::add`.
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
    if let Some(thread) = get(task) {
        let mut state = thread.state.lock();
        state.phase = state.phase.max(Phase::Exiting);
    }
}

/// Returns whether an event is enabled for an engine of the current thread.
pub(crate) fn is_enabled(task: &Task, event: Event) -> bool {
    // SAFETY: All accesses to the field are single loads and stores, and it lives as long as the
    // task.
    let word = unsafe { Atomic::from_ptr(&raw mut (*task.as_ptr()).utrace_flags) };
    Events::from_bits_truncate(word.load(Relaxed)).has(event)
}
