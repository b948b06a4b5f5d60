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
    process::Live,
    step::Step,
    thread::{
        self,
        Called,
        Entry,
        State,
        Thread, //
    },
};

use kernel::{
    bindings,
    sync::Arc,
    task::Task, //
};

use core::ptr;

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
    /// held, and does as it answers. One that is attached meanwhile is not called.
    pub(crate) fn each(
        &mut self,
        audience: Events,
        order: Order,
        mut call: impl FnMut(&mut Self, &Engine) -> Answer,
    ) {
        let mut cursor = Cursor::new(&self.thread.state.lock(), order);
        while let Some((engine, live, step)) = self.begin(&mut cursor, audience) {
            let answer = call(self, &engine);
            let gone = self.take_answer(&engine, answer, step);
            // Who waits for the callback may be about to unload the module that it is of, so
            // nothing of the engine is left to be dropped when they go on.
            drop((gone, engine, live));
            self.end();
        }
    }

    /// Chooses the next engine. Returns with it the step that the report takes the place of. A step
    /// that the owner asks for while the callback executes is a new one, which the answer does not
    /// end.
    fn begin(
        &self,
        cursor: &mut Cursor,
        audience: Events,
    ) -> Option<(Arc<Engine>, Option<Live>, Option<Step>)> {
        let mut state = self.thread.state.lock();
        let entry = cursor.next(&mut state.engines, |entry| {
            entry.engine.events().intersects(audience)
                || (self.tells_of_steps && entry.has_stepped())
        })?;
        let engine = entry.engine.clone();
        state.called = Some(Called {
            id: engine.id(),
            following: engine.following().map_or(ptr::null(), Arc::as_ptr),
        });
        let live = engine.following().and_then(Live::new);
        let step = match self.ends_steps {
            true => state.take_step(self.task, &engine),
            false => None,
        };
        Some((engine, live, step))
    }

    fn end(&self) {
        let mut state = self.thread.state.lock();
        state.called = None;
        self.thread.idle.notify_all();
    }

    /// Returns the entry of an engine that is to be detached, for its drop without the lock. `step`
    /// is the one that [`Report::begin`] has taken, which an engine that has not been called keeps.
    fn take_answer(
        &mut self,
        engine: &Engine,
        answer: Answer,
        step: Option<Step>,
    ) -> Option<Entry> {
        let action = answer.map(Action::from_answer);
        self.fold(answer);
        let mut state = self.thread.state.lock();
        let at = state.find(engine)?;
        if action == Some(Action::Detach) {
            return state.remove(self.task, at);
        }
        if let Some(action) = action {
            state.engines.get_mut(at)?.stop_by_answer = action == Action::Stop;
        }
        let wanted = action.map_or(step, Action::step);
        if wanted.is_some() {
            state.want_step(self.task, at, wanted);
        }
        None
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
        engines: &'a mut [Entry],
        wanted: impl Fn(&Entry) -> bool,
    ) -> Option<&'a mut Entry> {
        let (order, from, end) = (self.order, self.from, self.end);
        let due = |entry: &&mut Entry| {
            let id = entry.engine.id();
            let ahead = match order {
                Order::Forward => id >= from && id < end,
                Order::Backward => id < from,
            };
            ahead && wanted(entry)
        };
        // The list is in the order of the numbers.
        let found = match order {
            Order::Forward => engines.iter_mut().find(due),
            Order::Backward => engines.iter_mut().rev().find(due),
        }?;
        self.from = match order {
            Order::Forward => found.engine.id().wrapping_add(1),
            Order::Backward => found.engine.id(),
        };
        Some(found)
    }
}

/// The registers with which the current thread entered the kernel.
pub(crate) fn user_regs() -> *mut bindings::pt_regs {
    // SAFETY: The current thread entered the kernel from user mode, or is about to go there.
    unsafe { bindings::current_user_regs() }
}
