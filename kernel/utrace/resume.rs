// SPDX-License-Identifier: GPL-2.0

//! The way to user mode: reports that were asked for, and steps.

use crate::{
    event::{
        Action,
        Event,
        Events, //
    },
    report::{
        Order,
        Report, //
    },
    step,
    thread::{
        self,
        Thread, //
    },
};

use kernel::{
    prelude::*,
    task::Task, //
};

/// The current thread is on its way to user mode.
pub(crate) fn resume(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut action = take_pending(thread);
    if action == Action::Report {
        let mut report = Report::new(task, thread).ending_steps();
        let audience = Events::of_word(Event::Quiesce.bit());
        report.each(audience, Order::Forward, |report, engine| {
            report.quiesce(engine, 0)
        });
        action = report.action;
    }
    if action == Action::Interrupt {
        thread.state.lock().request(Action::Interrupt);
        enter_get_signal();
    }
    step::update(task, thread);
    if thread.state.lock().any_stop() {
        enter_get_signal();
    }
}

/// Takes what is to be done on the way to user mode.
pub(crate) fn take_pending(thread: &Thread) -> Action {
    core::mem::replace(&mut thread.state.lock().pending, Action::Resume)
}

/// Has the current thread go through `get_signal()`, where it stops or reports.
pub(crate) fn enter_get_signal() {
    if let Some(siglock) = current!().lock_own_signals() {
        siglock.enter_get_signal();
    }
}
