// SPDX-License-Identifier: GPL-2.0

//! The interface for modules. See `include/linux/utrace.h`, and `kernel::utrace` for Rust's view.

use crate::{
    control,
    engine::{
        Client,
        Engine,
        Owner, //
    },
    event::{
        Action,
        Events, //
    },
    examine, process, quiesce,
    thread::{
        self,
        How, //
    },
};

use kernel::{
    bindings,
    error::from_result,
    prelude::*,
    sync::aref::ARef,
    task::Task,
    threads, //
};

use core::ptr::NonNull;

/// # Safety
///
/// `task` is a valid task, for the time of the call at least.
unsafe fn borrow<'a>(task: *mut bindings::task_struct) -> &'a Task {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    unsafe { &*task.cast() }
}

/// Returns the task of a `struct pid`.
///
/// # Safety
///
/// `pid` is valid.
unsafe fn task_of(pid: *mut bindings::pid) -> Result<ARef<Task>> {
    // SAFETY: By the requirement on the caller.
    let task = unsafe { bindings::get_pid_task(pid, bindings::pid_type_PIDTYPE_PID) };
    let task = NonNull::new(task).ok_or(ESRCH)?;
    // SAFETY: The reference was taken for us. CAST: `Task` is a transparent wrapper.
    Ok(unsafe { ARef::from_raw(task.cast()) })
}

/// What C functions return that give an error or nothing.
fn status(result: Result) -> c_int {
    from_result(|| result.map(|()| 0))
}

/// # Safety
///
/// `ops`, if not null, and `data` are as [`Client`] says.
unsafe fn attach(
    task: &Task,
    flags: c_int,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> Result<*mut bindings::utrace_engine> {
    const KNOWN: u32 = bindings::UTRACE_ATTACH_MATCH_OPS
        | bindings::UTRACE_ATTACH_MATCH_DATA
        | bindings::UTRACE_ATTACH_CREATE
        | bindings::UTRACE_ATTACH_EXCLUSIVE;
    let flags = flags as u32;
    let needs_ops = bindings::UTRACE_ATTACH_CREATE | bindings::UTRACE_ATTACH_MATCH_OPS;
    if flags & !KNOWN != 0 || (ops.is_null() && flags & needs_ops != 0) {
        return Err(EINVAL);
    }
    let how = How {
        flags,
        // SAFETY: By the requirement on the caller; without ops none is made of it.
        client: unsafe { Client::new(ops, data) },
        events: Events::NONE,
    };
    thread::attach(task, how, Owner::Caller).map(Engine::into_raw)
}

/// # Safety
///
/// See `include/linux/utrace.h`: `target` is valid, and so are `ops` and `data` for as long as an
/// engine has them.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_task(
    target: *mut bindings::task_struct,
    flags: c_int,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_engine {
    // SAFETY: By the requirement on the caller.
    let engine = unsafe { attach(borrow(target), flags, ops, data) };
    engine.unwrap_or_else(|error| error.to_ptr())
}

/// # Safety
///
/// As of [`utrace_attach_task`]; `pid` is valid.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_pid(
    pid: *mut bindings::pid,
    flags: c_int,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_engine {
    // SAFETY: By the requirement on the caller.
    let engine = unsafe { task_of(pid).and_then(|task| attach(&task, flags, ops, data)) };
    engine.unwrap_or_else(|error| error.to_ptr())
}

/// # Safety
///
/// A reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_engine_get(engine: *mut bindings::utrace_engine) {
    // SAFETY: By the requirement on the caller; the reference taken is the new one's.
    let held = core::mem::ManuallyDrop::new(unsafe { Engine::take_raw(engine) });
    let _ = Engine::into_raw((*held).clone());
}

/// # Safety
///
/// A reference to `engine` is held, which is given up.
#[export]
pub(crate) unsafe extern "C" fn utrace_engine_put(engine: *mut bindings::utrace_engine) {
    // SAFETY: By the requirement on the caller.
    drop(unsafe { Engine::take_raw(engine) });
}

fn control(task: &Task, engine: &Engine, action: u32) -> Result {
    control::control(task, engine, Action::from_raw(action)?)
}

fn set_events(task: &Task, engine: &Engine, events: c_ulong) -> Result {
    control::set_events(task, engine, Events::from_raw(events)?)
}

/// # Safety
///
/// `target` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_control(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    action: bindings::utrace_resume_action,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    status(unsafe { control(borrow(target), Engine::from_raw(engine), action) })
}

/// # Safety
///
/// `target` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_events(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    events: c_ulong,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    status(unsafe { set_events(borrow(target), Engine::from_raw(engine), events) })
}

/// # Safety
///
/// A reference to `engine` is held. `target` may be stale.
#[export]
pub(crate) unsafe extern "C" fn utrace_barrier(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    status(control::barrier(target, unsafe {
        Engine::from_raw(engine)
    }))
}

/// # Safety
///
/// `target` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_detach(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
) {
    // SAFETY: By the requirement on the caller.
    unsafe { control::detach(borrow(target), Engine::from_raw(engine)) };
}

/// # Safety
///
/// `pid` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_control_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
    action: bindings::utrace_resume_action,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    status(task.and_then(|task| control(&task, engine, action)))
}

/// # Safety
///
/// `pid` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_events_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
    events: c_ulong,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    status(task.and_then(|task| set_events(&task, engine, events)))
}

/// # Safety
///
/// `pid` is valid, and a reference to `engine` is held.
#[export]
pub(crate) unsafe extern "C" fn utrace_barrier_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    let task = task.map_or(core::ptr::null_mut(), |task| task.as_ptr());
    status(control::barrier(task, engine))
}

/// # Safety
///
/// `target` is valid, a reference to `engine` is held, and `exam` is valid for writes.
#[export]
pub(crate) unsafe extern "C" fn utrace_prepare_examine(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    exam: *mut bindings::utrace_examiner,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let prepared = unsafe { examine::prepare(borrow(target), Engine::from_raw(engine)) };
    // SAFETY: By the requirement on the caller.
    status(prepared.map(|stops| unsafe { exam.write(bindings::utrace_examiner { stops }) }))
}

/// # Safety
///
/// As of [`utrace_prepare_examine`], which has returned zero for `exam`.
#[export]
pub(crate) unsafe extern "C" fn utrace_finish_examine(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    exam: *mut bindings::utrace_examiner,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    status(unsafe { examine::finish(borrow(target), Engine::from_raw(engine), (*exam).stops) })
}

/// # Safety
///
/// `target` is valid, a reference to `engine` is held, and `regs` is valid for writes.
#[export]
pub(crate) unsafe extern "C" fn utrace_get_regs(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let (task, engine) = unsafe { (borrow(target), Engine::from_raw(engine)) };
    // SAFETY: By the requirement on the caller.
    status(examine::get_regs(task, engine).map(|own| unsafe { regs.write(own) }))
}

/// # Safety
///
/// `target` is valid, a reference to `engine` is held, and `regs` is valid.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_regs(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    regs: *const bindings::pt_regs,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let (task, engine) = unsafe { (borrow(target), Engine::from_raw(engine)) };
    // SAFETY: By the requirement on the caller.
    status(examine::set_regs(task, engine, unsafe { &*regs }))
}

/// # Safety
///
/// `target` is valid; `ops` and `data` are so for as long as an engine has them.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_process(
    target: *mut bindings::task_struct,
    events: c_ulong,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_process {
    let attached = (|| {
        let events = Events::from_raw(events)?;
        if ops.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: By the requirement on the caller.
        let (task, client) = unsafe { (borrow(target), Client::new(ops, data)) };
        let room = KBox::new_uninit(GFP_KERNEL)?;
        Ok(KBox::write(room, process::attach(task, client, events)?))
    })();
    match attached {
        Ok(attachment) => KBox::into_raw(attachment).cast(),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// `process` came from [`utrace_attach_process`], without an error, and is not used again.
#[export]
pub(crate) unsafe extern "C" fn utrace_detach_process(process: *mut bindings::utrace_process) {
    // SAFETY: By the requirement on the caller it is of `KBox::into_raw`.
    let attachment = unsafe { KBox::from_raw(process.cast::<process::Attachment>()) };
    KBox::into_inner(attachment).detach();
}

/// Quiesces a process. See `include/linux/utrace.h`.
///
/// # Safety
///
/// May sleep; see [`crate::quiesce`] for what must not be held.
#[export]
pub(crate) unsafe extern "C" fn utrace_quiesce(
    pid: bindings::pid_t,
) -> *mut bindings::utrace_quiesced {
    let quiesced = (|| {
        if pid <= 0 {
            return Err(EINVAL);
        }
        let task = threads::find(pid).ok_or(ESRCH)?;
        if task.is_kernel_thread() {
            return Err(EINVAL);
        }
        Ok(KBox::new(quiesce::quiesce(&task)?, GFP_KERNEL)?)
    })();
    match quiesced {
        Ok(quiesced) => KBox::into_raw(quiesced).cast(),
        Err(error) => error.to_ptr(),
    }
}

/// Lets a process go on that [`utrace_quiesce`] stopped.
///
/// # Safety
///
/// `quiesced` came from [`utrace_quiesce`], without an error, and is not used again.
#[export]
pub(crate) unsafe extern "C" fn utrace_resume(quiesced: *mut bindings::utrace_quiesced) {
    // SAFETY: By the requirement on the caller it is of `KBox::into_raw`.
    drop(unsafe { KBox::from_raw(quiesced.cast::<quiesce::Quiesced>()) });
}
