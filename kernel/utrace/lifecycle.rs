// SPDX-License-Identifier: GPL-2.0

//! From clone to reap.

use crate::{
    event::{
        Event,
        Events, //
    },
    process,
    report::{
        user_regs,
        Order,
        Report, //
    },
    stop::{
        stop,
        Where, //
    },
    thread::{
        self,
        Entry,
        Phase,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::rcu,
    task::Task,
    threads::Group, //
};

/// The current thread is about to create `child`, which no other thread can find yet.
///
/// # Errors
///
/// `ENOMEM`.
pub(crate) fn prepare_clone(task: &Task, child: &Task, flags: u64) -> Result {
    match thread::get(task) {
        Some(thread) if is_of_same_process(flags) => process::inherit(thread, child),
        Some(_) | None => Ok(()),
    }
}

/// `child` is not created after [`prepare_clone`].
pub(crate) fn cancel_clone(child: &Task) {
    if let Some(thread) = thread::get(child) {
        let engines = core::mem::replace(&mut thread.state.lock().engines, KVec::new());
        drop(engines);
    }
}

/// Whether the flags of a clone ask for a thread, not for a process.
fn is_of_same_process(flags: u64) -> bool {
    flags & u64::from(bindings::CLONE_THREAD) != 0
}

/// The current thread has created `child`, which has not run.
pub(crate) fn cloned(task: &Task, child: &Task, flags: u64) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    if is_of_same_process(flags) {
        process::complete_inheritance(thread, child);
    }
    let mut report = Report::new(task, thread);
    report.tell(Event::Clone, Order::Forward, |report, engine| {
        let callback = engine.ops().report_clone?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(found, engine.as_ptr(), flags as c_ulong, child.as_ptr()) })
    });
    report.leave_for_later();
}

/// The current thread has created a child by vfork(), and waits for it next.
///
/// A stop comes before that wait, which may last for as long as the child lives, and after the
/// child was woken: a child that was not cannot be killed or frozen.
pub(crate) fn vforked(task: &Task) {
    if let Some(thread) = thread::get(task) {
        let _ = stop(task, thread, Where::Inside);
    }
}

/// The current thread has a new image.
pub(crate) fn exec(task: &Task, bprm: *const bindings::linux_binprm) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    // SAFETY: The current thread has just got its address space, and its format.
    let format = unsafe { (*(*task.as_ptr()).mm).__bindgen_anon_1.binfmt };
    let mut report = Report::new(task, thread);
    report.tell(Event::Exec, Order::Forward, |report, engine| {
        let callback = engine.ops().report_exec?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(found, engine.as_ptr(), format, bprm, user_regs()) })
    });
    report.leave_for_later();
}

/// The current thread begins to exit, with the status `code`. Returns the status to exit with.
pub(crate) fn exit(task: &Task, code: c_long) -> c_long {
    let Some(thread) = thread::get(task) else {
        return code;
    };
    // An oops in a callback for this event makes the thread begin to exit again.
    if core::mem::replace(&mut thread.state.lock().exit_reported, true) {
        return code;
    }
    let mut now = code;
    let mut report = Report::new(task, thread);
    report.tell(Event::Exit, Order::Forward, |report, engine| {
        let callback = engine.ops().report_exit?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(found, engine.as_ptr(), code, &mut now) })
    });
    // However it ends, what is left is to exit.
    let _ = stop(task, thread, Where::Inside);
    if now != code {
        change_group_exit_code(task, code, now);
    }
    now
}

/// Ends the callback in which the current thread has oopsed, if it was in one, because the thread
/// never returns to it. Those who wait for the callback continue.
///
/// A thread that had not begun to exit exits now, with the reports and the detachments of that. One
/// that had is never reaped, and its engines stay until they are detached.
pub(crate) fn oopsed(task: &Task) {
    if let Some(thread) = thread::get(task) {
        drop(thread.end_callback(thread.state.lock()));
    }
}

/// If the process as a whole exits with `old`, has it exit with `new`.
fn change_group_exit_code(task: &Task, old: c_long, new: c_long) {
    if let Some(siglock) = task.lock_signals() {
        siglock.replace_group_exit_code(old as c_int, new as c_int);
    }
}

/// The current thread has `PF_EXITING` set, and exits with the status `code`.
pub(crate) fn last_exit(task: &Task, code: c_long) {
    thread::exiting(task);
    let Some(thread) = thread::get(task) else {
        return;
    };
    if !thread::wants(task, Event::LastExit) {
        return;
    }
    let Some(code) = status_of_process(task, thread, code) else {
        return;
    };
    let mut report = Report::new(task, thread);
    report.tell(Event::LastExit, Order::Forward, |_, engine| {
        let callback = engine.ops().report_last_exit?;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        unsafe { callback(engine.as_ptr(), code) };
        None
    });
}

/// Returns the status of the process if the current thread is the last one whose engines get
/// [`Event::LastExit`].
///
/// `signal_struct::live` does not say that. It counts workers of the kernel as well, which may exit
/// after all other threads; and a thread which began to exit before an attachment has no engine of
/// that. `siglock` orders threads that come here at the same time, so that exactly one of them
/// finds that all others have come.
fn status_of_process(task: &Task, thread: &Thread, code: c_long) -> Option<c_long> {
    let group = Group::of(task)?;
    let siglock = task.lock_signals()?;
    thread.set_past_last_exit();
    let rcu = rcu::read_lock();
    let is_gone = |other: &Task| {
        other.is_worker()
            || (other.is_exiting()
                && thread::get(other).is_none_or(|thread| {
                    thread.is_past_last_exit() || !thread::wants(other, Event::LastExit)
                }))
    };
    let status = siglock.group_exit_code().map(|code| code as c_long);
    group
        .threads(&rcu)
        .all(is_gone)
        .then(|| status.unwrap_or(code))
}

/// The current thread is dead.
pub(crate) fn death(task: &Task, group_dead: bool, signal: c_int) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    thread.state.lock().phase = Phase::Dying;
    let mut report = Report::new(task, thread);
    report.tell(Event::Death, Order::Forward, |_, engine| {
        let callback = engine.ops().report_death?;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(engine.as_ptr(), group_dead, signal) })
    });
    let mut state = thread.state.lock();
    if !state.reap_due {
        state.phase = Phase::Dead;
        return;
    }
    drop(state);
    last_reports(task, thread);
}

/// `task` has been waited for, or nobody waits for it: it is about to disappear.
pub(crate) fn reap(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut state = thread.state.lock();
    match state.phase {
        Phase::Dead => (),
        // The thread itself comes here when its death has been reported.
        Phase::Live | Phase::Exiting | Phase::Dying => {
            state.reap_due = true;
            return;
        }
        Phase::Reaped => return,
    }
    drop(state);
    last_reports(task, thread);
}

/// Reports the reap, and lets all engines go.
fn last_reports(task: &Task, thread: &Thread) {
    let mut state = thread.state.lock();
    state.phase = Phase::Reaped;
    let engines = core::mem::replace(&mut state.engines, KVec::new());
    state.publish_events(task);
    // `barrier` and `detach` by others wait for them all.
    state.reaping = true;
    drop(state);
    for entry in &engines {
        report_reap(task, entry);
    }
    // Before waiters continue, as in `Thread::end_callback`.
    drop(engines);
    let mut state = thread.state.lock();
    state.reaping = false;
    thread.idle.notify_all();
}

fn report_reap(task: &Task, entry: &Entry) {
    let engine = &entry.engine;
    let wanted = Events::of_word(Event::Reap.bit());
    if !engine.events().intersects(wanted) {
        return;
    }
    if let Some(callback) = engine.ops().report_reap {
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for; it is
        // told that it must not sleep, and so are those who look for that.
        unsafe {
            bindings::non_block_start();
            callback(engine.as_ptr(), task.as_ptr());
            bindings::non_block_end();
        }
    }
}

/// A stop of the process begins for the current thread, or has ended.
pub(crate) fn jctl(task: &Task, kind: c_int, notify: c_int) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = Report::new(task, thread);
    report.tell(Event::Jctl, Order::Forward, |report, engine| {
        let callback = engine.ops().report_jctl?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `Client`. The context is the one that it asks for.
        Some(unsafe { callback(found, engine.as_ptr(), kind, notify) })
    });
    report.leave_for_later();
}
