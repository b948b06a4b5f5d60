// SPDX-License-Identifier: GPL-2.0

//! The way to user mode: reports that were asked for, and steps.

use crate::{
    active::activate,
    event::{
        Action,
        Event,
        Events, //
    },
    report::{
        Order,
        Report, //
    },
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    bindings,
    task::Task, //
};

/// The current thread is on its way to user mode.
pub(crate) fn resume(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut action = take_pending(thread);
    if action == Action::Report {
        let mut report = Report::new(task, thread);
        let audience = Events::of_word(Event::Quiesce.bit());
        report.each(audience, Order::Forward, |report, engine| {
            report.quiesce(engine, 0)
        });
        action = report.action;
        if action > Action::BlockStep {
            disarm(task, thread);
        }
    }
    match action {
        Action::Interrupt => {
            thread.state.lock().request(Action::Interrupt);
            enter_get_signal(task);
        }
        Action::SingleStep => arm(task, thread, Step::Instruction),
        Action::BlockStep => arm(task, thread, Step::Block),
        // They have been asked just now.
        Action::Report => (),
        Action::Stop | Action::Resume | Action::Detach => (),
    }
    if thread.state.lock().any_stop() {
        enter_get_signal(task);
    }
}

/// Takes what is to be done on the way to user mode.
pub(crate) fn take_pending(thread: &Thread) -> Action {
    core::mem::replace(&mut thread.state.lock().pending, Action::Resume)
}

/// Has the current thread go through `get_signal()`, where it stops or reports.
pub(crate) fn enter_get_signal(task: &Task) {
    if let Some(mut siglock) = task.lock_signals() {
        siglock.enter_get_signal();
    }
}

/// After what the CPU is to trap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Instruction,
    Block,
}

fn arm(task: &Task, thread: &Thread, step: Step) {
    // SAFETY: Steps are set up for the current thread, which is on its way to user mode.
    unsafe {
        if step == Step::Block && bindings::arch_has_block_step() {
            bindings::user_enable_block_step(task.as_ptr());
        } else {
            bindings::user_enable_single_step(task.as_ptr());
        }
    }
    let active = activate();
    let mut state = thread.state.lock();
    let old = state.stepping.replace(active);
    state.publish_events(task);
    drop(state);
    drop(old);
}

/// Ends the steps of the current thread, if they are ours.
pub(crate) fn disarm(task: &Task, thread: &Thread) {
    let mut state = thread.state.lock();
    let old = state.stepping.take();
    state.publish_events(task);
    drop(state);
    if old.is_some() {
        // SAFETY: As in `arm`.
        unsafe { bindings::user_disable_single_step(task.as_ptr()) };
    }
}
