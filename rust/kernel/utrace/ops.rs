// SPDX-License-Identifier: GPL-2.0

//! Callbacks for the C API, and their way to the methods of an engine.
//!
//! All engines written in Rust share one `struct utrace_engine_ops`, which is in this file and not
//! in the engine's module. The data of the C engine is an [`EngineShared`]. So the C API uses no
//! code and no data of the module once the engine's owner was dropped: it only frees memory.

use super::{
    exit::{
        Death,
        JobControl,
        WaitStatus, //
    },
    reap::EngineKey,
    report::{
        CloneFlags,
        Exit,
        Image,
        Report,
        SyscallEntry,
        SyscallExit, //
    },
    shared::{
        Callbacks,
        EngineShared, //
    },
    signal::{
        SignalEvent,
        SignalReport, //
    },
    Action,
    Event, //
};

use crate::{
    bindings,
    current,
    prelude::*,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow, //
    },
    task::Task,
    uaccess::UserPtr, //
};

/// Returns the answer of a callback if the engine is closed.
fn leave(found: u32) -> u32 {
    Action::Detach.answer(found)
}

/// Returns the [`EngineShared`] that is the data of a C engine.
///
/// # Safety
///
/// `engine` must have [`OPS`], and must be valid for `'a`.
unsafe fn shared<'a>(engine: *mut bindings::utrace_engine) -> ArcBorrow<'a, EngineShared> {
    // SAFETY: The data of an engine with `OPS` is from `EngineShared::into_data`, and the engine
    // owns that reference until `release`.
    unsafe { ArcBorrow::from_raw((*engine).data.cast_const().cast()) }
}

/// Calls a method of the engine, and returns the answer of the callback.
///
/// # Safety
///
/// Must be called by a callback of `engine`, in the thread of the event. `engine` must be valid and
/// have [`OPS`]. `regs` must point to the registers with which the thread entered the kernel.
unsafe fn report(
    found: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
    method: impl FnOnce(&dyn Callbacks, Report<'_>) -> u32,
) -> u32 {
    // SAFETY: The caller passes a valid engine with `OPS`, and is its callback in this thread.
    let Some(callbacks) = (unsafe { shared(engine).callbacks() }) else {
        return leave(found);
    };
    let thread = current!();
    // SAFETY: The caller passes the registers with which this thread entered the kernel. Nothing
    // else accesses them while the thread is in a callback: a debugger has to stop the thread
    // first, and other engines are called later.
    let report = unsafe { Report::new(thread, found, regs) };
    method(&*callbacks, report)
}

/// Returns the registers with which the current thread entered the kernel.
fn regs() -> *mut bindings::pt_regs {
    // SAFETY: Every thread that engines can be attached to has its user registers at this place.
    unsafe { bindings::current_user_regs() }
}

/// The callbacks of all engines written in Rust.
pub(super) static OPS: bindings::utrace_engine_ops = bindings::utrace_engine_ops {
    report_quiesce: Some(quiesce),
    report_signal: Some(signal),
    report_clone: Some(clone),
    report_jctl: Some(jctl),
    report_exec: Some(exec),
    report_syscall_entry: Some(syscall_entry),
    report_syscall_exit: Some(syscall_exit),
    report_exit: Some(exit),
    report_last_exit: Some(last_exit),
    report_death: Some(death),
    report_reap: Some(reap),
    report_path: Some(path),
    release: Some(release),
};

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn quiesce(
    action: u32,
    engine: *mut bindings::utrace_engine,
    event: c_ulong,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let before = Event::from_bit(event);
        callbacks.quiesce(&mut report, before).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`;
    // `regs()` are the registers of this thread.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn signal(
    action: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
    info: *mut bindings::kernel_siginfo,
    _orig_ka: *const bindings::k_sigaction,
    return_ka: *mut bindings::k_sigaction,
) -> u32 {
    let mut signal_report = SignalReport {
        bits: action & !bindings::UTRACE_RESUME_MASK,
        // SAFETY: utrace passes a valid `info`, and does not access it during the call.
        info: unsafe { &mut *info },
        // SAFETY: utrace passes a valid `return_ka`, and does not access it during the call.
        action: unsafe { &mut *return_ka },
    };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let answer = match SignalEvent::new(&mut signal_report) {
            // The C API calls this callback instead of `report_quiesce()`, because it is set.
            SignalEvent::Report(_) | SignalEvent::Step(_) if !callbacks.has_signal_events() => {
                callbacks.quiesce(&mut report, None)
            }
            event => callbacks.signal(&mut report, event),
        };
        answer.answer(signal_report.bits)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS` and
    // the registers of this thread.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn clone(
    action: u32,
    engine: *mut bindings::utrace_engine,
    clone_flags: c_ulong,
    child: *mut bindings::task_struct,
) -> u32 {
    // SAFETY: utrace passes a child that is valid during the call. CAST: `Task` is a transparent
    // wrapper.
    let child = unsafe { &*child.cast::<Task>() };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let flags = CloneFlags(clone_flags);
        callbacks.clone(&mut report, flags, child).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`;
    // `regs()` are the registers of this thread.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn jctl(
    action: u32,
    engine: *mut bindings::utrace_engine,
    kind: c_int,
    notify: c_int,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let jctl = JobControl::new(kind, notify);
        callbacks.jctl(&mut report, jctl).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`;
    // `regs()` are the registers of this thread.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn exec(
    action: u32,
    engine: *mut bindings::utrace_engine,
    _fmt: *const bindings::linux_binfmt,
    bprm: *const bindings::linux_binprm,
    regs: *mut bindings::pt_regs,
) -> u32 {
    // SAFETY: utrace passes a `bprm` with a loaded program, which is valid during the call.
    let image = unsafe { Image::from_raw(bprm) };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        callbacks.exec(&mut report, &image).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS` and
    // the registers of this thread.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn syscall_entry(
    action: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, report: Report<'_>| {
        let mut entry = SyscallEntry::new(report, action);
        let answer = callbacks.syscall_entry(&mut entry);
        entry.answer(answer)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS` and
    // the registers of this thread.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn syscall_exit(
    action: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, report: Report<'_>| {
        let mut exit = SyscallExit::new(report);
        callbacks.syscall_exit(&mut exit).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS` and
    // the registers of this thread.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn exit(
    action: u32,
    engine: *mut bindings::utrace_engine,
    orig_code: c_long,
    code: *mut c_long,
) -> u32 {
    // SAFETY: utrace passes a valid `code`, and does not access it during the call.
    let mut exit = Exit::new(orig_code, unsafe { &mut *code });
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        callbacks.exit(&mut report, &mut exit).answer(action)
    };
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`;
    // `regs()` are the registers of this thread.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn last_exit(engine: *mut bindings::utrace_engine, code: c_long) {
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`.
    if let Some(callbacks) = unsafe { shared(engine).callbacks() } {
        callbacks.last_exit(current!(), WaitStatus::from_long(code));
    }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn death(
    engine: *mut bindings::utrace_engine,
    group_dead: bool,
    signal: c_int,
) -> u32 {
    // SAFETY: utrace calls this with a valid engine that has `OPS`.
    let shared = Arc::from(unsafe { shared(engine) });
    // SAFETY: utrace calls this in the thread of the event, and the callback executes in it.
    let Some(callbacks) = (unsafe { shared.callbacks() }) else {
        return Action::Detach as u32;
    };
    let thread = current!();
    let at_reap = callbacks.death(thread, Death::new(group_dead, signal));
    // The method itself may have dropped the owner, which has cancelled the pending work.
    let expected = !shared.is_over()
        && shared.reaps.expect(
            EngineKey::from_engine(engine),
            at_reap,
            (&shared, &callbacks, thread),
        );
    if expected {
        Action::Resume as u32
    } else {
        Action::Detach as u32
    }
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn reap(engine: *mut bindings::utrace_engine, _task: *mut bindings::task_struct) {
    // SAFETY: utrace calls this with a valid engine that has `OPS`.
    unsafe { shared(engine) }
        .reaps
        .reap(EngineKey::from_engine(engine));
}

/// # Safety
///
/// Must be called only by utrace, for an engine with [`OPS`], as `struct utrace_engine_ops`
/// documents.
unsafe extern "C" fn path(
    engine: *mut bindings::utrace_engine,
    uptr: *const c_char,
    name: *const c_char,
) {
    // SAFETY: utrace calls this in the thread of the event, with a valid engine that has `OPS`.
    if let Some(callbacks) = unsafe { shared(engine).callbacks() } {
        // SAFETY: utrace passes a NUL-terminated `name`, which is valid during the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        let at = UserPtr::from_ptr(uptr.cast_mut().cast());
        callbacks.path(current!(), at, name);
    }
}

/// # Safety
///
/// Must be called only by utrace, as `struct utrace_engine_ops` documents, with the data of engines
/// that have [`OPS`], for the last of these engines.
unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: `data` is from `EngineShared::into_data`, as the engines had `OPS`. utrace calls this
    // once, for the last of them, so nothing else takes the reference back.
    drop(unsafe { EngineShared::from_data(data) });
}
