// SPDX-License-Identifier: GPL-2.0

//! Requests of the owner of an engine.

use crate::{
    engine::Engine,
    jobctl::{
        self,
        ENTER_UTRACE, //
    },
    step::Step,
    thread::{
        self,
        Phase, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    task::Task,
    utrace_types::{
        Action,
        Event,
        Events, //
    },
};

use core::ptr;

fn is_current(task: &Task) -> bool {
    ptr::eq(task.as_ptr(), Task::current_raw())
}

/// Returns whether an action requires an engine with [`Event::Quiesce`] enabled.
fn needs_quiesce(action: Action) -> bool {
    matches!(
        action,
        Action::Report | Action::SingleStep | Action::BlockStep
    )
}

/// Requests an action. `Ok` means that it is done, or is sure to be done.
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EINPROGRESS` if, with [`Action::Stop`], the thread has not stopped yet, or if, with
/// [`Action::Detach`], a callback is executing. `EALREADY` if it is too late to detach, because
/// [`Event::Death`] has been or is being reported. `ESRCH` if the engine is detached, or the thread
/// is dead. `EINVAL` if the engine does not have [`Event::Quiesce`] enabled. `EOPNOTSUPP` if the
/// CPU cannot step.
pub(crate) fn control(task: &Task, engine: &Engine, action: Action) -> Result {
    let thread = engine.thread();
    if !thread::is_of(thread, task) {
        return Err(ESRCH);
    }
    // SAFETY: `arch_has_single_step()` only tests a feature of the CPU.
    let can_step = unsafe { bindings::arch_has_single_step() };
    if matches!(action, Action::SingleStep | Action::BlockStep) && !can_step {
        return Err(EOPNOTSUPP);
    }
    let mut state = thread.state.lock();
    let at = state.find(engine).ok_or(ESRCH)?;
    match state.phase {
        Phase::Live | Phase::Exiting => (),
        Phase::Dying | Phase::Dead if action == Action::Detach => return Err(EALREADY),
        Phase::Dying | Phase::Dead | Phase::Reaped => return Err(ESRCH),
    }
    if needs_quiesce(action) && !engine.events().has(Event::Quiesce) {
        return Err(EINVAL);
    }
    let called = state.is_called(engine);
    let mut gone = None;
    if action == Action::Detach {
        gone = state.remove(task, at);
    } else if let Some(entry) = state.engines.get_mut(at) {
        entry.stop_by_owner = action == Action::Stop;
        entry.stop_by_answer = false;
    }
    match action {
        Action::Stop if !state.stopped => state.request(Action::Report),
        Action::Stop | Action::Resume | Action::Detach => (),
        Action::Interrupt | Action::Report => state.request(action),
        Action::SingleStep | Action::BlockStep => {
            state.set_step(task, at, Step::from_action(action))
        }
    }
    let was_stopped = state.stopped;
    let wake = was_stopped && !state.any_stop();
    drop(state);
    drop(gone);

    match action {
        Action::Stop if was_stopped => (),
        Action::Stop => return stop_soon(task),
        Action::Interrupt => interrupt(task),
        Action::Report | Action::SingleStep | Action::BlockStep => task.notify_resume(),
        Action::Resume | Action::Detach => (),
    }
    if wake {
        jobctl::wake_from_stop(task);
    }
    if action == Action::Detach && called {
        return Err(EINPROGRESS);
    }
    Ok(())
}

/// Makes the thread stop before it is in user mode, without waking it.
fn stop_soon(task: &Task) -> Result {
    task.notify_resume();
    if let Some(siglock) = task.lock_signals() {
        if siglock.in_group_stop() {
            // The thread wakes up in `get_signal()`, and enters utrace there before anything else.
            siglock.set(ENTER_UTRACE);
            return Ok(());
        }
    }
    Err(EINPROGRESS)
}

/// Makes the thread report at once.
///
/// A thread that exits, or writes a core dump, does not enter `get_signal()` any more. Its waits,
/// and the writes of the dump, must not be cut short for nothing; signals do not do that either.
fn interrupt(task: &Task) {
    if let Some(siglock) = task.lock_signals() {
        if siglock.takes_signals() {
            siglock.set(ENTER_UTRACE);
            siglock.wake_up();
        }
    }
}

/// Changes the events that are enabled for an engine.
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EINPROGRESS` if the change is done, but a callback for a disabled event is executing.
/// `EALREADY` if the thread is dead, and it is too late to enable or disable the report of its
/// death. `ESRCH` if the engine is detached, or the thread was reaped.
pub(crate) fn set_events(task: &Task, engine: &Engine, events: Events) -> Result {
    const DEATH: Events = Events::from_event(Event::Death);
    const DEATH_OR_QUIESCE: Events = DEATH.with(Events::QUIESCE);

    let thread = engine.thread();
    if !thread::is_of(thread, task) {
        return Err(ESRCH);
    }
    let state = thread.state.lock();
    state.find(engine).ok_or(ESRCH)?;
    let old = engine.events();
    let (given_up, taken_up) = (old.without(events), events.without(old));
    let too_late = match state.phase {
        Phase::Live | Phase::Exiting => false,
        Phase::Dying | Phase::Dead | Phase::Reaped => {
            given_up.intersect(DEATH) || taken_up.intersect(DEATH_OR_QUIESCE)
        }
    };
    if too_late {
        return Err(EALREADY);
    }
    engine.set_events(events, &state);
    state.publish_events(task);
    if given_up != Events::NONE && state.is_called(engine) && !is_current(task) {
        return Err(EINPROGRESS);
    }
    Ok(())
}

/// Waits for all callbacks of the engine that are executing when this is called. `task` is only
/// compared.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH` if the engine was detached, and no callback is executing. `ERESTARTSYS` if a signal is
/// pending.
pub(crate) fn barrier(task: *const bindings::task_struct, engine: &Engine) -> Result {
    let thread = engine.thread();
    let mut state = thread.state.lock();
    if ptr::eq(task, Task::current_raw()) {
        return Ok(());
    }
    if state.find(engine).is_none() && !state.is_called(engine) {
        return Err(ESRCH);
    }
    while state.is_called(engine) {
        if thread.idle.wait_interruptible(&mut state) {
            return Err(ERESTARTSYS);
        }
    }
    Ok(())
}

/// Detaches an engine in any state of its thread. When this returns, no callback is executing or
/// will be, except one that the caller is in. If the engine is detached already, this only waits.
///
/// Context: may sleep, as it waits for a callback.
pub(crate) fn detach(task: &Task, engine: &Engine) {
    let thread = engine.thread();
    let mut state = thread.state.lock();
    let at = state.find(engine);
    let gone = at.and_then(|at| state.remove(task, at));
    if !is_current(task) {
        while state.is_called(engine) {
            thread.idle.wait(&mut state);
        }
    }
    let wake = state.stopped && !state.any_stop();
    drop(state);
    drop(gone);
    if wake {
        jobctl::wake_from_stop(task);
    }
}
