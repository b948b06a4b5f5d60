// SPDX-License-Identifier: GPL-2.0

//! What the owner of an engine asks for.

use crate::{
    engine::Engine,
    event::{
        Action,
        Event,
        Events, //
    },
    thread::{
        self,
        Phase, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    siglock::Jobctl,
    task::Task, //
};

use core::ptr;

fn is_current(task: &Task) -> bool {
    ptr::eq(task.as_ptr(), Task::current_raw())
}

/// Asks for an action. `Ok` says that it is done, or under way for certain.
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EINPROGRESS`: with [`Action::Stop`], the thread has not stopped yet; with [`Action::Detach`], a
/// callback is executing. `EALREADY`: it is too late to detach, [`Event::Death`] has been or is
/// being reported. `ESRCH`: the engine is detached, or the thread is dead. `EINVAL`: the engine
/// is not told of [`Event::Quiesce`]. `EOPNOTSUPP`: the CPU has no steps.
pub(crate) fn control(task: &Task, engine: &Engine, action: Action) -> Result {
    let thread = engine.thread();
    if !thread::is_of(thread, task) {
        return Err(ESRCH);
    }
    // SAFETY: It only looks at what the CPU can do.
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
    if action.needs_quiesce() && !engine.events().has(Event::Quiesce) {
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
        Action::SingleStep | Action::BlockStep => state.want_step(task, at, action.step()),
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
        task.wake_from_stop();
    }
    if action == Action::Detach && called {
        return Err(EINPROGRESS);
    }
    Ok(())
}

/// The thread is to stop before it is in user mode, without being woken for that.
fn stop_soon(task: &Task) -> Result {
    task.notify_resume();
    if let Some(siglock) = task.lock_signals() {
        if siglock.in_group_stop() {
            // It wakes up in `get_signal()`, and comes here before anything else.
            siglock.set(Jobctl::Utrace);
            return Ok(());
        }
    }
    Err(EINPROGRESS)
}

/// The thread is to report at once.
///
/// One that exits, or writes a core dump, does not get to `get_signal()` any more. Its waits, and
/// the writes of the dump, must not be cut short for nothing; no signal would do that either.
fn interrupt(task: &Task) {
    if let Some(siglock) = task.lock_signals() {
        if siglock.takes_signals() {
            siglock.set(Jobctl::Utrace);
            siglock.wake_up();
        }
    }
}

/// Changes what an engine is told of.
///
/// Context: does not sleep.
///
/// # Errors
///
/// `EINPROGRESS`: it is done, but a callback of those that were given up is executing. `EALREADY`:
/// the thread is dead, and it is too late to be told of its death, or not to be told of it.
/// `ESRCH`: the engine is detached, or the thread reaped.
pub(crate) fn set_events(task: &Task, engine: &Engine, events: Events) -> Result {
    const DEATH: Events = Events::of_word(Event::Death.bit());
    const DEATH_OR_QUIESCE: Events = Events::of_word(Event::Death.bit() | Event::Quiesce.bit());

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
            given_up.intersects(DEATH) || taken_up.intersects(DEATH_OR_QUIESCE)
        }
    };
    if too_late {
        return Err(EALREADY);
    }
    engine.set_events(events);
    state.publish_events(task);
    if given_up != Events::NONE && state.is_called(engine) && !is_current(task) {
        return Err(EINPROGRESS);
    }
    Ok(())
}

/// Waits until no callback of the engine is executing that was when this was called. `task` is only
/// compared.
///
/// Context: may sleep.
///
/// # Errors
///
/// `ESRCH`: the engine was detached, and no callback is executing. `ERESTARTSYS`: a signal has
/// come.
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

/// Detaches an engine, whatever its thread does. When it returns, no callback is executing, nor
/// will be, unless the caller is one. Nothing if it is detached already, but for the wait.
///
/// Context: may sleep; a callback is waited for.
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
        task.wake_from_stop();
    }
}
