// SPDX-License-Identifier: GPL-2.0

//! Reports of an event to the engines of the current thread.

use crate::{
    engine::Engine,
    step::Step,
    thread::{
        self,
        AttachedEngine,
        Thread,
        ThreadState, //
    },
};

use kernel::{
    bindings,
    sync::Arc,
    task::{
        might_sleep,
        Task, //
    },
    utrace_types::{
        Action,
        Event,
        Events, //
    },
};

/// Returns the bits of an answer besides the [`Action`].
pub(crate) fn detail_of(answer: u32) -> u32 {
    answer & !bindings::UTRACE_RESUME_MASK
}

/// The order in which engines are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// The order of attachment.
    Forward,
    Backward,
}

/// A round of calls, and its results so far.
pub(crate) struct EventReport<'a> {
    pub(crate) task: &'a Task,
    pub(crate) thread: &'a Thread,
    /// The smallest action that an engine has answered.
    pub(crate) action: Action,
    /// The other bits of the last answer.
    pub(crate) detail: u32,
    /// An engine that is called loses the step that it wanted, unless it answers with one.
    ends_steps: bool,
    /// Engines that have a step to be reported are called as well.
    reports_steps: bool,
}

/// The result of a call in [`EventReport::each`]; `None` means that the engine was not called.
type Answer = Option<u32>;

impl<'a> EventReport<'a> {
    pub(crate) fn new(task: &'a Task, thread: &'a Thread) -> Self {
        Self {
            task,
            thread,
            action: Action::Resume,
            detail: 0,
            ends_steps: false,
            reports_steps: false,
        }
    }

    /// Makes this a report before the return to user mode, which replaces the step that an engine
    /// wanted before.
    pub(crate) fn ending_steps(self) -> Self {
        Self {
            ends_steps: true,
            ..self
        }
    }

    /// Makes this a report that includes steps.
    pub(crate) fn reporting_steps(self) -> Self {
        Self {
            reports_steps: true,
            ..self
        }
    }

    /// Returns the action argument for a callback.
    pub(crate) fn found(&self) -> u32 {
        self.action as u32 | self.detail
    }

    /// Reports `event`, if it is enabled for an engine, to these engines, and before that to the
    /// engines with [`Event::Quiesce`].
    pub(crate) fn notify(
        &mut self,
        event: Event,
        order: Order,
        mut call: impl FnMut(&mut Self, &Engine) -> Answer,
    ) {
        if !thread::is_enabled(self.task, event) {
            return;
        }
        let audience = Events::from_event(event).with(Events::QUIESCE);
        self.each(audience, order, |report, engine| {
            let quiesced = match engine.events().has(Event::Quiesce) {
                true => report.quiesce(engine, event.bit()),
                false => None,
            };
            if quiesced.map(Action::from_answer) == Some(Action::Detach) {
                return quiesced;
            }
            // The callback may have changed the engine's events.
            if !engine.events().has(event) {
                return quiesced;
            }
            report.fold(quiesced);
            match (call(report, engine), quiesced) {
                (Some(answer), Some(quiesced)) => Some(smaller(answer, quiesced)),
                (answer, quiesced) => answer.or(quiesced),
            }
        });
    }

    /// Calls `report_quiesce()`, if the engine has that callback.
    pub(crate) fn quiesce(&mut self, engine: &Engine, event: usize) -> Answer {
        let callback = engine.ops().report_quiesce?;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid and may be called with
        // its data. It is called in the thread of the event, without locks.
        Some(unsafe { callback(self.action as u32, engine.as_ptr(), event) })
    }

    /// Calls `call` with each engine that has an event of `audience` enabled, with no lock held,
    /// and applies the answers. An engine that is attached during the calls is not called.
    ///
    /// If the thread is in a callback already, no engine is called. A callback may look up a file
    /// name of the program, or create a thread, but only events that the program causes are
    /// reported.
    pub(crate) fn each(
        &mut self,
        audience: Events,
        order: Order,
        mut call: impl FnMut(&mut Self, &Engine) -> Answer,
    ) {
        let thread = self.thread;
        if thread.state.lock().is_in_callback() {
            return;
        }
        assert_no_lock_is_held();
        let mut state = thread.state.lock();
        let mut cursor = Cursor::new(&state, order);
        while let Some(engine) = cursor.next(&state.engines, |entry| {
            entry.engine.events().intersect(audience) || (self.reports_steps && entry.has_stepped())
        }) {
            let engine = Arc::as_ptr(engine);
            // SAFETY: The list holds a reference. If `remove` takes the engine out of the list, it
            // moves the reference to `ThreadState::called`, which keeps it until `end_callback`.
            // Only this thread calls that, below.
            let engine = unsafe { &*engine };
            state.begin_callback(engine);
            // A step that the owner requests while the callback executes is a new one. The answer
            // does not end it.
            let step = match self.ends_steps {
                true => state.take_step(self.task, engine),
                false => None,
            };
            drop(state);
            let answer = call(self, engine);
            self.fold(answer);
            state = thread.state.lock();
            self.take_answer(&mut state, engine, answer, step);
            state = thread.end_callback(state);
        }
    }

    /// Applies the answer of a callback to its engine. `step` is the step that the report replaces;
    /// an engine that has not been called keeps it.
    fn take_answer(
        &self,
        state: &mut ThreadState,
        engine: &Engine,
        answer: Answer,
        step: Option<Step>,
    ) {
        let Some(at) = state.find(engine) else {
            return;
        };
        let action = answer.map(Action::from_answer);
        if action == Some(Action::Detach) {
            // The result is `None`, as `ThreadState::called` keeps the entry.
            let _ = state.remove(self.task, at);
            return;
        }
        if let (Some(action), Some(entry)) = (action, state.engines.get_mut(at)) {
            entry.stop_by_answer = action == Action::Stop;
        }
        let wanted = action.map_or(step, Step::from_action);
        if wanted.is_some() {
            state.set_step(self.task, at, wanted);
        }
    }

    fn fold(&mut self, answer: Answer) {
        if let Some(answer) = answer {
            let action = Action::from_answer(answer);
            if action != Action::Detach {
                self.action = self.action.min(action);
            }
            self.detail = detail_of(answer);
        }
    }

    /// Requests the actions of the answers for the way to user mode.
    pub(crate) fn leave_for_later(&self) {
        leave_for_later(self.task, self.thread, self.action);
    }
}

/// Checks that callbacks may sleep, and that the kernel holds no lock, as callbacks rely on.
fn assert_no_lock_is_held() {
    might_sleep();
    #[cfg(CONFIG_LOCKDEP)]
    // SAFETY: `debug_check_no_locks_held()` only reads the locks of the current thread.
    unsafe {
        bindings::debug_check_no_locks_held()
    };
}

/// Returns an answer with the smaller of its action and that of another answer of the same engine.
fn smaller(answer: u32, other: u32) -> u32 {
    match Action::from_answer(answer) {
        Action::Detach => answer,
        action => action.min(Action::from_answer(other)).answer(answer),
    }
}

/// Requests `action` for the way of the current thread to user mode.
pub(crate) fn leave_for_later(task: &Task, thread: &Thread, action: Action) {
    let mut state = thread.state.lock();
    let later = state.any_stop() || action < Action::Resume;
    if action == Action::Interrupt || action == Action::Report {
        state.request(action);
    }
    drop(state);
    if later {
        task.notify_resume();
    }
}

/// The position of a round of calls. Engines may be attached and detached during the round.
struct Cursor {
    order: Order,
    /// The next engine has at least this id (forward), or a smaller one (backward).
    from: u64,
    /// Engines with this id or a larger one are not called.
    end: u64,
}

impl Cursor {
    fn new(state: &ThreadState, order: Order) -> Self {
        let end = state.next_id;
        Self {
            order,
            from: match order {
                Order::Forward => 0,
                Order::Backward => end,
            },
            end,
        }
    }

    fn next<'a>(
        &mut self,
        engines: &'a [AttachedEngine],
        wanted: impl Fn(&AttachedEngine) -> bool,
    ) -> Option<&'a Arc<Engine>> {
        let (order, from, end) = (self.order, self.from, self.end);
        let due = |entry: &&AttachedEngine| {
            let id = entry.engine.id();
            let ahead = match order {
                Order::Forward => id >= from && id < end,
                Order::Backward => id < from,
            };
            ahead && wanted(entry)
        };
        // The list is in the order of the ids.
        let found = match order {
            Order::Forward => engines.iter().find(due),
            Order::Backward => engines.iter().rev().find(due),
        }?;
        self.from = match order {
            Order::Forward => found.engine.id().wrapping_add(1),
            Order::Backward => found.engine.id(),
        };
        Some(&found.engine)
    }
}

/// Returns the registers with which the current thread entered the kernel.
pub(crate) fn user_regs() -> *mut bindings::pt_regs {
    // SAFETY: The current thread entered the kernel from user mode, or is about to go there.
    unsafe { bindings::current_user_regs() }
}
