// SPDX-License-Identifier: GPL-2.0

//! Events in the life of a thread, from clone to reap.

use crate::{
    process,
    report::{
        user_regs,
        EventReport,
        Order, //
    },
    stop::{
        stop,
        StopPlace, //
    },
    thread::{
        self,
        AttachedEngine,
        Phase,
        Thread, //
    },
};

use kernel::{
    bindings,
    prelude::*,
    sync::rcu,
    task::Task,
    threads::Group,
    utrace_types::{
        Event,
        Events, //
    },
};

/// Prepares the creation of `child` by the current thread. No other thread can find the child yet.
///
/// # Errors
///
/// `ENOMEM` if there is no memory.
pub(crate) fn prepare_clone(task: &Task, child: &Task, flags: u64) -> Result {
    match thread::get(task) {
        Some(thread) if is_of_same_process(flags) => process::inherit(thread, child),
        Some(_) | None => Ok(()),
    }
}

/// Undoes [`prepare_clone`] for a `child` that is not created.
pub(crate) fn cancel_clone(child: &Task) {
    if let Some(thread) = thread::get(child) {
        let engines = core::mem::replace(&mut thread.state.lock().engines, KVec::new());
        drop(engines);
    }
}

/// Returns whether the flags of a clone request a thread, not a process.
fn is_of_same_process(flags: u64) -> bool {
    flags & u64::from(bindings::CLONE_THREAD) != 0
}

/// Reports that the current thread has created `child`, which has not run.
pub(crate) fn cloned(task: &Task, child: &Task, flags: u64) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    if is_of_same_process(flags) {
        process::complete_inheritance(thread, child);
    }
    let mut report = EventReport::new(task, thread);
    report.notify(Event::Clone, Order::Forward, |report, engine| {
        let callback = engine.ops().report_clone?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        Some(unsafe { callback(found, engine.as_ptr(), flags as c_ulong, child.as_ptr()) })
    });
    report.leave_for_later();
}

/// Stops the current thread, if an engine wants it, after a vfork() and before the wait for the
/// child.
///
/// The stop precedes that wait, because the wait may last as long as the child lives. It follows
/// the wake-up of the child, because a child that has not been woken cannot be killed or frozen.
pub(crate) fn vforked(task: &Task) {
    if let Some(thread) = thread::get(task) {
        let _ = stop(task, thread, StopPlace::Inside);
    }
}

/// Reports that the current thread has a new image.
pub(crate) fn exec(task: &Task, bprm: *const bindings::linux_binprm) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    // SAFETY: `mm` is valid because the current thread has just got its new address space, with its
    // format.
    let format = unsafe { (*(*task.as_ptr()).mm).__bindgen_anon_1.binfmt };
    let mut report = EventReport::new(task, thread);
    report.notify(Event::Exec, Order::Forward, |report, engine| {
        let callback = engine.ops().report_exec?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        Some(unsafe { callback(found, engine.as_ptr(), format, bprm, user_regs()) })
    });
    report.leave_for_later();
}

/// Reports that the current thread begins to exit, with the status `code`. Returns the status to
/// exit with.
pub(crate) fn exit(task: &Task, code: c_long) -> c_long {
    let Some(thread) = thread::get(task) else {
        return code;
    };
    // An oops in a callback for this event makes the thread begin to exit again.
    if core::mem::replace(&mut thread.state.lock().exit_reported, true) {
        return code;
    }
    let mut now = code;
    let mut report = EventReport::new(task, thread);
    report.notify(Event::Exit, Order::Forward, |report, engine| {
        let callback = engine.ops().report_exit?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        Some(unsafe { callback(found, engine.as_ptr(), code, &mut now) })
    });
    // The thread exits next, however the stop ends.
    let _ = stop(task, thread, StopPlace::Inside);
    if now != code {
        change_group_exit_code(task, code, now);
    }
    now
}

/// Ends the callback in which the current thread has oopsed, if it was in one, because the thread
/// never returns to it. Waiters for the callback continue.
///
/// A thread that had not begun to exit exits now, with the usual reports and detachments. A thread
/// that had begun to exit is never reaped, and its engines stay until they are detached.
pub(crate) fn oopsed(task: &Task) {
    if let Some(thread) = thread::get(task) {
        drop(thread.end_callback(thread.state.lock()));
    }
}

/// Changes the exit status of the process from `old` to `new`, if it exits as a whole.
fn change_group_exit_code(task: &Task, old: c_long, new: c_long) {
    if let Some(siglock) = task.lock_signals() {
        siglock.replace_group_exit_code(old as c_int, new as c_int);
    }
}

/// Reports the exit of the last thread of a process, if the current thread is that. `PF_EXITING` is
/// set, and `code` is the thread's exit status.
pub(crate) fn last_exit(task: &Task, code: c_long) {
    thread::exiting(task);
    let Some(thread) = thread::get(task) else {
        return;
    };
    if !thread::is_enabled(task, Event::LastExit) {
        return;
    }
    let Some(code) = status_of_process(task, thread, code) else {
        return;
    };
    let mut report = EventReport::new(task, thread);
    report.notify(Event::LastExit, Order::Forward, |_, engine| {
        let callback = engine.ops().report_last_exit?;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        unsafe { callback(engine.as_ptr(), code) };
        None
    });
}

/// Returns the status of the process if the current thread is the last one whose engines get
/// [`Event::LastExit`].
///
/// `signal_struct::live` is not enough to decide this. It also counts workers of the kernel, which
/// may exit after all other threads. And a thread that began to exit before an attachment has no
/// engine of that attachment. `siglock` orders threads that get here at the same time, so exactly
/// one of them finds that all others have passed.
fn status_of_process(task: &Task, thread: &Thread, code: c_long) -> Option<c_long> {
    let group = Group::from_task(task)?;
    let siglock = task.lock_signals()?;
    thread.set_past_last_exit(&siglock);
    let rcu = rcu::read_lock();
    let is_gone = |other: &Task| {
        other.is_worker()
            || (other.is_exiting()
                && thread::get(other).is_none_or(|thread| {
                    thread.is_past_last_exit() || !thread::is_enabled(other, Event::LastExit)
                }))
    };
    let status = siglock.group_exit_code().map(|code| code as c_long);
    group
        .threads(&rcu)
        .all(is_gone)
        .then(|| status.unwrap_or(code))
}

/// Reports that the current thread is dead.
pub(crate) fn death(task: &Task, group_dead: bool, signal: c_int) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    thread.state.lock().phase = Phase::Dying;
    let mut report = EventReport::new(task, thread);
    report.notify(Event::Death, Order::Forward, |_, engine| {
        let callback = engine.ops().report_death?;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
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

/// Reports the reap of `task`, which is about to disappear: its parent has waited for it, or no
/// process waits for it.
pub(crate) fn reap(task: &Task) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut state = thread.state.lock();
    match state.phase {
        Phase::Dead => (),
        // The thread itself reports the reap after it has reported its death.
        Phase::Live | Phase::Exiting | Phase::Dying => {
            state.reap_due = true;
            return;
        }
        Phase::Reaped => return,
    }
    drop(state);
    last_reports(task, thread);
}

/// Reports the reap, and drops all engines.
fn last_reports(task: &Task, thread: &Thread) {
    let mut state = thread.state.lock();
    state.phase = Phase::Reaped;
    let engines = core::mem::replace(&mut state.engines, KVec::new());
    state.publish_events(task);
    // Makes `barrier` and `detach` wait for all of these engines.
    state.reaping = true;
    drop(state);
    for entry in &engines {
        report_reap(task, entry);
    }
    // Drop the engines before waiters continue, as in `Thread::end_callback`.
    drop(engines);
    let mut state = thread.state.lock();
    state.reaping = false;
    thread.idle.notify_all();
}

fn report_reap(task: &Task, entry: &AttachedEngine) {
    let engine = &entry.engine;
    let wanted = Events::from_event(Event::Reap);
    if !engine.events().intersect(wanted) {
        return;
    }
    if let Some(callback) = engine.ops().report_reap {
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. It may be called in any
        // thread. It must not sleep, which `non_block_start()` lets the kernel check.
        unsafe {
            bindings::non_block_start();
            callback(engine.as_ptr(), task.as_ptr());
            bindings::non_block_end();
        }
    }
}

/// Reports that a stop of the process begins for the current thread, or has ended.
pub(crate) fn jctl(task: &Task, kind: c_int, notify: c_int) {
    let Some(thread) = thread::get(task) else {
        return;
    };
    let mut report = EventReport::new(task, thread);
    report.notify(Event::JobControl, Order::Forward, |report, engine| {
        let callback = engine.ops().report_jctl?;
        let found = report.action as u32;
        // SAFETY: By the invariants of `EngineSpec`, the callback is valid. `EventReport::notify`
        // calls it in the thread of the event, without locks.
        Some(unsafe { callback(found, engine.as_ptr(), kind, notify) })
    });
    report.leave_for_later();
}
