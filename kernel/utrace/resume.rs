// SPDX-License-Identifier: GPL-2.0

//! The return to user mode: requested reports, and steps.

use crate::{
    jobctl::enter_get_signal,
    report::{
        EventReport,
        Order, //
    },
    step,
    thread, //
};

use kernel::{
    task::Task,
    utrace_types::{
        Action,
        Events, //
    },
};

/// Does the pending work of the current thread, which is on its way to user mode.
pub(crate) fn resume(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut action = thread.state.lock().take_pending();
    if action == Action::Report {
        let mut report = EventReport::new(task, thread).ending_steps();
        let audience = Events::QUIESCE;
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
