// SPDX-License-Identifier: GPL-2.0

//! The callbacks that the C API calls, and how they reach an engine's methods.
//!
//! There is one `struct utrace_engine_ops` for all engines written in Rust, here, and not in the
//! engine's module. What C keeps of an engine is a [`Shared`]. So whatever C does after an engine's
//! owner was dropped, it does without code or data of the module: only memory is left to be freed.

use super::{
    action::Action,
    events::Event,
    exit::{
        Death,
        JobControl,
        WaitStatus, //
    },
    reap::Key,
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
        Shared, //
    },
    signal::{
        Occasion,
        Slot, //
    },
};

use crate::{
    bindings, current,
    prelude::*,
    str::CStr,
    sync::{
        Arc,
        ArcBorrow, //
    },
    task::Task,
    uaccess::UserPtr,
};

/// What a callback answers if the engine is over.
fn leave(found: u32) -> u32 {
    Action::Detach.answer(found)
}

/// Returns what C code has as the data of an engine.
///
/// # Safety
///
/// `engine` is an engine with [`OPS`], and is valid for `'a`.
unsafe fn shared<'a>(engine: *mut bindings::utrace_engine) -> ArcBorrow<'a, Shared> {
    // SAFETY: With these callbacks the data is of `Shared::into_data`; the engine owns it until
    // `release`.
    unsafe { ArcBorrow::from_raw((*engine).data.cast_const().cast()) }
}

/// Calls a method of the engine, and returns what the callback is to answer.
///
/// # Safety
///
/// This is a callback of `engine`, one with [`OPS`], in the thread that the event is of. `regs`
/// are the registers with which the thread entered the kernel.
unsafe fn report(
    found: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
    method: impl FnOnce(&dyn Callbacks, Report<'_>) -> u32,
) -> u32 {
    // SAFETY: By the requirement on the caller.
    let Some(callbacks) = (unsafe { shared(engine).callbacks() }) else {
        return leave(found);
    };
    let thread = current!();
    // SAFETY: By the requirement on the caller. The registers of a thread that is in a callback are
    // not accessed by others: a debugger has to stop it first, and another engine is called later.
    let report = unsafe { Report::new(thread, found, regs) };
    method(&*callbacks, report)
}

/// Returns the registers with which the current thread entered the kernel.
fn regs() -> *mut bindings::pt_regs {
    // SAFETY: Every thread that was attached to has them at this place.
    unsafe { bindings::current_user_regs() }
}

/// The callbacks of all engines that are written in Rust.
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
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn quiesce(
    action: u32,
    engine: *mut bindings::utrace_engine,
    event: c_ulong,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let before = Event::from_bit(event);
        callbacks.quiesce(&mut report, before).answer(action)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn signal(
    action: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
    info: *mut bindings::kernel_siginfo,
    _orig_ka: *const bindings::k_sigaction,
    return_ka: *mut bindings::k_sigaction,
) -> u32 {
    let mut slot = Slot {
        bits: action & !bindings::UTRACE_RESUME_MASK,
        // SAFETY: By the requirement on the caller it is valid, and ours during the call.
        info: unsafe { &mut *info },
        // SAFETY: As above.
        action: unsafe { &mut *return_ka },
    };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let answer = match Occasion::new(&mut slot) {
            // C has this callback called instead of the other, as there is one.
            Occasion::Report(_) | Occasion::Step(_) if !callbacks.wants_signals() => {
                callbacks.quiesce(&mut report, None)
            }
            occasion => callbacks.signal(&mut report, occasion),
        };
        answer.answer(slot.bits)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn clone(
    action: u32,
    engine: *mut bindings::utrace_engine,
    clone_flags: c_ulong,
    child: *mut bindings::task_struct,
) -> u32 {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    let child = unsafe { &*child.cast::<Task>() };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        let flags = CloneFlags(clone_flags);
        callbacks.clone(&mut report, flags, child).answer(action)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
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
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn exec(
    action: u32,
    engine: *mut bindings::utrace_engine,
    _fmt: *const bindings::linux_binfmt,
    bprm: *const bindings::linux_binprm,
    regs: *mut bindings::pt_regs,
) -> u32 {
    // SAFETY: By the requirement on the caller it is valid during the call.
    let image = unsafe { Image::from_raw(bprm) };
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        callbacks.exec(&mut report, &image).answer(action)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
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
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn syscall_exit(
    action: u32,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
) -> u32 {
    let method = |callbacks: &dyn Callbacks, report: Report<'_>| {
        let mut exit = SyscallExit::new(report);
        callbacks.syscall_exit(&mut exit).answer(action)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs, method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn exit(
    action: u32,
    engine: *mut bindings::utrace_engine,
    orig_code: c_long,
    code: *mut c_long,
) -> u32 {
    // SAFETY: By the requirement on the caller it is valid, and ours during the call.
    let mut exit = Exit::new(orig_code, unsafe { &mut *code });
    let method = |callbacks: &dyn Callbacks, mut report: Report<'_>| {
        callbacks.exit(&mut report, &mut exit).answer(action)
    };
    // SAFETY: By the requirement on the caller.
    unsafe { report(action, engine, regs(), method) }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn last_exit(engine: *mut bindings::utrace_engine, code: c_long) {
    // SAFETY: By the requirement on the caller.
    if let Some(callbacks) = unsafe { shared(engine).callbacks() } {
        callbacks.last_exit(current!(), WaitStatus::from_long(code));
    }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn death(
    engine: *mut bindings::utrace_engine,
    group_dead: bool,
    signal: c_int,
) -> u32 {
    // SAFETY: By the requirement on the caller.
    let shared = Arc::from(unsafe { shared(engine) });
    // SAFETY: As above.
    let Some(callbacks) = (unsafe { shared.callbacks() }) else {
        return Action::Detach as u32;
    };
    let thread = current!();
    let at_reap = callbacks.death(thread, Death::new(group_dead, signal));
    // The method itself may have dropped the owner, which has cancelled what was due.
    let expected = !shared.is_over()
        && shared
            .reaps
            .expect(Key::of(engine), at_reap, (&shared, &callbacks, thread));
    if expected {
        Action::Resume as u32
    } else {
        Action::Detach as u32
    }
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn reap(engine: *mut bindings::utrace_engine, _task: *mut bindings::task_struct) {
    // SAFETY: By the requirement on the caller.
    unsafe { shared(engine) }.reaps.reap(Key::of(engine));
}

/// # Safety
///
/// The C API calls it for an engine with [`OPS`], as it says.
unsafe extern "C" fn path(
    engine: *mut bindings::utrace_engine,
    uptr: *const c_char,
    name: *const c_char,
) {
    // SAFETY: By the requirement on the caller.
    if let Some(callbacks) = unsafe { shared(engine).callbacks() } {
        // SAFETY: By the requirement on the caller it is a string, during the call.
        let name = unsafe { CStr::from_char_ptr(name) };
        let at = UserPtr::from_ptr(uptr.cast_mut().cast());
        callbacks.path(current!(), at, name);
    }
}

/// # Safety
///
/// As above; `data` is of the last of its engines.
unsafe extern "C" fn release(data: *mut c_void) {
    // SAFETY: By the requirement on the caller nobody else takes it back.
    drop(unsafe { Shared::from_data(data) });
}
