// SPDX-License-Identifier: GPL-2.0

//! System calls of the current thread.

use crate::{
    report::{
        user_regs,
        EventReport,
        Order, //
    },
    stop::{
        stop,
        Ended,
        StopPlace, //
    },
    thread, //
};

use kernel::{
    bindings,
    prelude::*,
    task::Task,
    uaccess::UserPtr,
    utrace_types::{
        Action,
        Event, //
    },
};

/// Reports a system call that is about to be executed. Returns whether it is to be executed.
pub(crate) fn entry(task: &Task) -> bool {
    let Some(thread) = thread::get(task) else {
        return true;
    };
    let mut resumed = 0;
    loop {
        let mut abort = false;
        let mut report = EventReport::new(task, thread);
        report.notify(Event::SyscallEntry, Order::Backward, |report, engine| {
            let callback = engine.ops().report_syscall_entry?;
            let verdict = match abort {
                true => bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT,
                false => bindings::utrace_syscall_action_UTRACE_SYSCALL_RUN,
            };
            let found = report.action as u32 | verdict | resumed;
            // SAFETY: By the invariants of `EngineSpec`, the callback is valid.
            // `EventReport::notify` calls it in the thread of the event, without locks.
            let answer = unsafe { callback(found, engine.as_ptr(), user_regs()) };
            abort = answer & bindings::UTRACE_SYSCALL_MASK
                == bindings::utrace_syscall_action_UTRACE_SYSCALL_ABORT;
            Some(answer)
        });
        report.leave_for_later();
        if report.action != Action::Stop {
            return !abort;
        }
        match stop(task, thread, StopPlace::Inside) {
            // All engines must see the changes that were made during the stop.
            Ended::Resumed => resumed = bindings::UTRACE_SYSCALL_RESUMED,
            Ended::Killed | Ended::HasWork | Ended::Sigstop => return false,
        }
    }
}

/// Reports a system call that has been executed, or aborted.
pub(crate) fn exit(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = EventReport::new(task, thread);
    report.notify(Event::SyscallExit, Order::Forward, |report, engine| {
        let callback = engine.ops().report_syscall_exit?;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        Some(unsafe { callback(report.action as u32, engine.as_ptr(), user_regs()) })
    });
    report.leave_for_later();
}

/// Reports a file name that the kernel has copied from the current thread's memory.
pub(crate) fn path(task: &Task, from: UserPtr, name: &CStr) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = EventReport::new(task, thread);
    report.notify(Event::Path, Order::Forward, |_, engine| {
        let callback = engine.ops().report_path?;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
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
