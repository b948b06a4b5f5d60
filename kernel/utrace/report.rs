// SPDX-License-Identifier: GPL-2.0

//! Telling the engines of the current thread of an event, one after the other.

use crate::{
    engine::Engine,
    event::{
        detail_of,
        with_action,
        Action,
        Event,
        Events, //
    },
    step::Step,
    thread::{
        self,
        Entry,
        State,
        Thread, //
    },
};

use kernel::{
    bindings,
    sync::Arc,
    task::{
        might_sleep,
        Task, //
    },
};

/// In which order engines are called.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    /// Of attachment.
    Forward,
    Backward,
}

/// One round of calls, and what has come of it so far.
pub(crate) struct Report<'a> {
    pub(crate) task: &'a Task,
    pub(crate) thread: &'a Thread,
    /// The smallest action that an engine has answered.
    pub(crate) action: Action,
    /// What the last answer held besides.
    pub(crate) detail: u32,
    /// An engine that is called wants no step any more, unless it answers one.
    ends_steps: bool,
    /// Engines that are due the report of a step are called as well.
    tells_of_steps: bool,
}

/// What [`Report::each`] calls for an engine; `None` is no call, and no answer.
type Answer = Option<u32>;

impl<'a> Report<'a> {
    pub(crate) fn new(task: &'a Task, thread: &'a Thread) -> Self {
        Self {
            task,
            thread,
            action: Action::Resume,
            detail: 0,
            ends_steps: false,
            tells_of_steps: false,
        }
    }

    /// Makes it a report before the return to user mode: it takes the place of the step that an
    /// engine wanted before.
    pub(crate) fn ending_steps(self) -> Self {
        Self {
            ends_steps: true,
            ..self
        }
    }

    /// Makes it the report in which steps are reported, besides.
    pub(crate) fn telling_of_steps(self) -> Self {
        Self {
            tells_of_steps: true,
            ..self
        }
    }

    /// What a callback finds as its action.
    pub(crate) fn found(&self) -> u32 {
        self.action as u32 | self.detail
    }

    /// Tells of `event`, if there is an engine that wants it, those that want it, and before that
    /// those with [`Event::Quiesce`] of that.
    pub(crate) fn tell(
        &mut self,
        event: Event,
        order: Order,
        mut call: impl FnMut(&mut Self, &Engine) -> Answer,
    ) {
        if !thread::wants(self.task, event) {
            return;
        }
        let audience = Events::of_word(event.bit() | Event::Quiesce.bit());
        self.each(audience, order, |report, engine| {
            let quiesced = match engine.events().has(Event::Quiesce) {
                true => report.quiesce(engine, event.bit()),
                false => None,
            };
            if quiesced.map(Action::from_answer) == Some(Action::Detach) {
                return quiesced;
            }
            // The callback may have changed what the engine wants.
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

    /// Calls `report_quiesce()`, if the engine has it.
    pub(crate) fn quiesce(&mut self, engine: &Engine, event: usize) -> Answer {
        let callback = engine.ops().report_quiesce?;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(self.action as u32, engine.as_ptr(), event) })
    }

    /// Calls `call` with each engine that wants one of the events of `audience`, with no lock
    /// held, and does as it answers. An engine that is attached during the calls is not called.
    ///
    /// Within a callback it calls no engine. A callback may look up a file name of the program, or
    /// create a thread; engines are told of what the program does, not of what an engine does.
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
            entry.engine.events().intersects(audience)
                || (self.tells_of_steps && entry.has_stepped())
        }) {
            let engine = Arc::as_ptr(engine);
            // SAFETY: The list holds a reference. `remove`, if it takes the engine out of the list,
            // hands the reference to `State::called`, which keeps it until `end_callback`. Only
            // this thread calls that, below.
            let engine = unsafe { &*engine };
            state.begin_callback(engine);
            // A step that the owner asks for while the callback executes is a new one, which the
            // answer does not end.
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

    /// Does to the engine as its callback has answered. `step` is the one that the report takes the
    /// place of, which an engine that has not been called keeps.
    fn take_answer(&self, state: &mut State, engine: &Engine, answer: Answer, step: Option<Step>) {
        let Some(at) = state.find(engine) else {
            return;
        };
        let action = answer.map(Action::from_answer);
        if action == Some(Action::Detach) {
            // The result is nothing: `State::called` keeps the entry.
            let _ = state.remove(self.task, at);
            return;
        }
        if let (Some(action), Some(entry)) = (action, state.engines.get_mut(at)) {
            entry.stop_by_answer = action == Action::Stop;
        }
        let wanted = action.map_or(step, Action::step);
        if wanted.is_some() {
            state.want_step(self.task, at, wanted);
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

    /// Sees to what the engines answered on the way to user mode.
    pub(crate) fn leave_for_later(&self) {
        leave_for_later(self.task, self.thread, self.action);
    }
}

/// Ensures what callbacks are promised: that they may sleep, and that the kernel holds no lock.
fn assert_no_lock_is_held() {
    might_sleep();
    #[cfg(CONFIG_LOCKDEP)]
    // SAFETY: It only looks at the locks that the current thread holds.
    unsafe {
        bindings::debug_check_no_locks_held()
    };
}

/// An answer, with the action of another one of the same engine if that is smaller.
fn smaller(answer: u32, other: u32) -> u32 {
    match Action::from_answer(answer) {
        Action::Detach => answer,
        action => with_action(answer, action.min(Action::from_answer(other))),
    }
}

/// Has the current thread do `action` before it is in user mode.
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

/// Where a round of calls has got to. Engines may come and go meanwhile.
struct Cursor {
    order: Order,
    /// The next one has at least, or at most, this number.
    from: u64,
    /// And less than this one.
    end: u64,
}

impl Cursor {
    fn new(state: &State, order: Order) -> Self {
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
        engines: &'a [Entry],
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<&'a Arc<Engine>> {
        let (order, from, end) = (self.order, self.from, self.end);
        let due = |entry: &&Entry| {
            let id = entry.engine.id();
            let ahead = match order {
                Order::Forward => id >= from && id < end,
                Order::Backward => id < from,
            };
            ahead && wanted(entry)
        };
        // The list is in the order of the numbers.
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

/// The registers with which the current thread entered the kernel.
pub(crate) fn user_regs() -> *mut bindings::pt_regs {
    // SAFETY: The current thread entered the kernel from user mode, or is about to go there.
    unsafe { bindings::current_user_regs() }
}
