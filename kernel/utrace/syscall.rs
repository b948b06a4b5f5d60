// SPDX-License-Identifier: GPL-2.0

//! System calls of the current thread.

use crate::{
    event::{
        Event, //
    },
    report::{
        user_regs,
        Order,
        Report, //
    },
    stop::{
        stop,
        Ended,
        Where, //
    },
    thread,
};

use kernel::{
    bindings,
    prelude::*,
    task::Task,
    uaccess::UserPtr, //
};

/// A system call is about to be executed. Returns whether it is to be.
pub(crate) fn entry(task: &Task) -> bool {
    let Some(thread) = thread::get(task) else {
        return true;
    };
    let mut resumed = 0;
    loop {
        let mut abort = false;
        let mut report = Report::new(task, thread);
        report.tell(Event::SyscallEntry, Order::Backward, |report, engine| {
            let callback = engine.ops().report_syscall_entry?;
            let verdict = match abort {
                true => bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT,
                false => bindings::utrace_syscall_action_UTRACE_SYSCALL_RUN,
            };
            let found = report.action as u32 | verdict | resumed;
            // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
            let answer = unsafe { callback(found, engine.as_ptr(), user_regs()) };
            abort = answer & bindings::UTRACE_SYSCALL_MASK
                == bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT;
            Some(answer)
        });
        report.leave_for_later();
        if report.action != crate::event::Action::Stop {
            return !abort;
        }
        match stop(task, thread, Where::Inside) {
            // What was changed during the stop is to be seen by all.
            Ended::Resumed => resumed = bindings::UTRACE_SYSCALL_RESUMED,
            Ended::Killed | Ended::HasWork | Ended::Sigstop => return false,
        }
    }
}

/// A system call has been executed, or left out.
pub(crate) fn exit(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = Report::new(task, thread);
    report.tell(Event::SyscallExit, Order::Forward, |report, engine| {
        let callback = engine.ops().report_syscall_exit?;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(report.action as u32, engine.as_ptr(), user_regs()) })
    });
    report.leave_for_later();
}

/// The kernel has copied a file name from the current thread's memory.
pub(crate) fn path(task: &Task, from: UserPtr, name: &CStr) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = Report::new(task, thread);
    report.tell(Event::Path, Order::Forward, |_, engine| {
        let callback = engine.ops().report_path?;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        unsafe {
            callback(
                engine.as_ptr(),
                from.as_const_ptr().cast(),
                name.as_char_ptr(),
            )
        };
        None
    });
    report.leave_for_later();
}
