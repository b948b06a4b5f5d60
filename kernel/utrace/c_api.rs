// SPDX-License-Identifier: GPL-2.0

//! The C API for modules, declared in `include/linux/utrace.h`. `kernel::utrace` is the API for
//! Rust.

use crate::{
    attach::{
        self,
        AttachRequest, //
    },
    control,
    engine::{
        Engine,
        EngineSpec, //
    },
    examine,
    process::{
        self,
        ProcessEngines, //
    },
    quiesce, //
};

use kernel::{
    bindings,
    error::from_result,
    prelude::*,
    sync::{
        aref::ARef,
        Arc, //
    },
    task::Task,
    threads,
    utrace_types::{
        Action,
        Events, //
    },
};

use core::ptr::NonNull;

/// # Safety
///
/// `task` must be a valid task, and must stay valid during `'a`.
pub(crate) unsafe fn borrow<'a>(task: *mut bindings::task_struct) -> &'a Task {
    // SAFETY: The caller ensures that `task` is valid during `'a`. CAST: `Task` is a transparent
    // wrapper.
    unsafe { &*task.cast() }
}

/// Returns the task of a `struct pid`.
///
/// # Safety
///
/// `pid` must be valid.
unsafe fn task_of(pid: *mut bindings::pid) -> Result<ARef<Task>> {
    // SAFETY: The caller ensures that `pid` is valid.
    let task = unsafe { bindings::get_pid_task(pid, bindings::pid_type_PIDTYPE_PID) };
    let task = NonNull::new(task).ok_or(ESRCH)?;
    // SAFETY: `get_pid_task()` has taken a reference for us. CAST: `Task` is a transparent wrapper.
    Ok(unsafe { ARef::from_raw(task.cast()) })
}

/// Returns 0 or the error, as C functions without another result do.
fn status(result: Result) -> c_int {
    from_result(|| result.map(|()| 0))
}

/// # Safety
///
/// If `ops` is not null, `ops` and `data` must satisfy the type invariants of [`EngineSpec`].
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
    let request = AttachRequest {
        flags,
        // SAFETY: The caller ensures that `ops` and `data` are valid. If `ops` is null,
        // `UTRACE_ATTACH_CREATE` is not set, so no engine gets this value.
        spec: unsafe { EngineSpec::new(ops, data) },
        events: Events::NONE,
    };
    attach::attach(task, request, None).map(Engine::into_raw)
}

/// # Safety
///
/// `target` must be valid. `ops` and `data` must stay valid as long as an engine has them. See
/// `include/linux/utrace.h`.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_task(
    target: *mut bindings::task_struct,
    flags: c_int,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_engine {
    // SAFETY: The caller ensures that `target` is valid, and that `ops` and `data` stay valid.
    let engine = unsafe { attach(borrow(target), flags, ops, data) };
    engine.unwrap_or_else(|error| error.to_ptr())
}

/// # Safety
///
/// As for [`utrace_attach_task`], and `pid` must be valid.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_pid(
    pid: *mut bindings::pid,
    flags: c_int,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_engine {
    // SAFETY: The caller ensures that `pid` is valid, and that `ops` and `data` stay valid.
    let engine = unsafe { task_of(pid).and_then(|task| attach(&task, flags, ops, data)) };
    engine.unwrap_or_else(|error| error.to_ptr())
}

/// # Safety
///
/// The caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_engine_get(engine: *mut bindings::utrace_engine) {
    // SAFETY: The caller holds a reference, which `ManuallyDrop` leaves in place. The clone is the
    // new reference.
    let held = core::mem::ManuallyDrop::new(unsafe { Engine::take_raw(engine) });
    let _ = Engine::into_raw((*held).clone());
}

/// # Safety
///
/// The caller must own a reference to `engine`, which this function drops.
#[export]
pub(crate) unsafe extern "C" fn utrace_engine_put(engine: *mut bindings::utrace_engine) {
    // SAFETY: The caller owns a reference and gives it up.
    drop(unsafe { Engine::take_raw(engine) });
}

fn control(task: &Task, engine: &Engine, action: u32) -> Result {
    control::control(task, engine, Action::from_raw(action)?)
}

fn set_events(task: &Task, engine: &Engine, events: c_ulong) -> Result {
    control::set_events(task, engine, Events::from_bits(events)?)
}

/// # Safety
///
/// `target` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_control(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    action: bindings::utrace_resume_action,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    status(unsafe { control(borrow(target), Engine::from_raw(engine), action) })
}

/// # Safety
///
/// `target` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_events(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    events: c_ulong,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    status(unsafe { set_events(borrow(target), Engine::from_raw(engine), events) })
}

/// # Safety
///
/// The caller must hold a reference to `engine`. `target` may be stale.
#[export]
pub(crate) unsafe extern "C" fn utrace_barrier(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
) -> c_int {
    // SAFETY: The caller holds a reference to `engine`.
    status(control::barrier(target, unsafe {
        Engine::from_raw(engine)
    }))
}

/// # Safety
///
/// `target` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_detach(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
) {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    unsafe { control::detach(borrow(target), Engine::from_raw(engine)) };
}

/// # Safety
///
/// `pid` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_control_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
    action: bindings::utrace_resume_action,
) -> c_int {
    // SAFETY: The caller ensures that `pid` is valid, and holds a reference to `engine`.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    status(task.and_then(|task| control(&task, engine, action)))
}

/// # Safety
///
/// `pid` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_events_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
    events: c_ulong,
) -> c_int {
    // SAFETY: The caller ensures that `pid` is valid, and holds a reference to `engine`.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    status(task.and_then(|task| set_events(&task, engine, events)))
}

/// # Safety
///
/// `pid` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_barrier_pid(
    pid: *mut bindings::pid,
    engine: *mut bindings::utrace_engine,
) -> c_int {
    // SAFETY: The caller ensures that `pid` is valid, and holds a reference to `engine`.
    let (task, engine) = unsafe { (task_of(pid), Engine::from_raw(engine)) };
    let task = task.map_or(core::ptr::null_mut(), |task| task.as_ptr());
    status(control::barrier(task, engine))
}

/// # Safety
///
/// `target` must be valid, the caller must hold a reference to `engine`, and `exam` must be valid
/// for writes.
#[export]
pub(crate) unsafe extern "C" fn utrace_prepare_examine(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    exam: *mut bindings::utrace_examiner,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    let prepared = unsafe { examine::prepare(borrow(target), Engine::from_raw(engine)) };
    // SAFETY: The caller ensures that `exam` is valid for writes.
    status(prepared.map(|stops| unsafe { exam.write(bindings::utrace_examiner { stops }) }))
}

/// # Safety
///
/// As for [`utrace_prepare_examine`], which must have returned zero for `exam`.
#[export]
pub(crate) unsafe extern "C" fn utrace_finish_examine(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    exam: *mut bindings::utrace_examiner,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    // `utrace_prepare_examine()` has initialised `exam`.
    status(unsafe { examine::finish(borrow(target), Engine::from_raw(engine), (*exam).stops) })
}

/// # Safety
///
/// `target` must be valid, the caller must hold a reference to `engine`, and `regs` must be valid
/// for writes.
#[export]
pub(crate) unsafe extern "C" fn utrace_get_regs(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    regs: *mut bindings::pt_regs,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    let (task, engine) = unsafe { (borrow(target), Engine::from_raw(engine)) };
    // SAFETY: The caller ensures that `regs` is valid for writes.
    status(examine::get_regs(task, engine).map(|own| unsafe { regs.write(own) }))
}

/// # Safety
///
/// `target` and `regs` must be valid, and the caller must hold a reference to `engine`.
#[export]
pub(crate) unsafe extern "C" fn utrace_set_regs(
    target: *mut bindings::task_struct,
    engine: *mut bindings::utrace_engine,
    regs: *const bindings::pt_regs,
) -> c_int {
    // SAFETY: The caller ensures that `target` is valid, and holds a reference to `engine`.
    let (task, engine) = unsafe { (borrow(target), Engine::from_raw(engine)) };
    // SAFETY: The caller ensures that `regs` is valid.
    status(examine::set_regs(task, engine, unsafe { &*regs }))
}

/// # Safety
///
/// `target` must be valid. `ops` and `data` must stay valid as long as an engine has them.
#[export]
pub(crate) unsafe extern "C" fn utrace_attach_process(
    target: *mut bindings::task_struct,
    events: c_ulong,
    ops: *const bindings::utrace_engine_ops,
    data: *mut c_void,
) -> *mut bindings::utrace_process {
    let attached = (|| {
        let events = Events::from_bits(events)?;
        if ops.is_null() {
            return Err(EINVAL);
        }
        // SAFETY: The caller ensures that `target` is valid, and that `ops`, not null, and `data`
        // stay valid.
        let (task, spec) = unsafe { (borrow(target), EngineSpec::new(ops, data)) };
        process::attach(task, spec, events)
    })();
    match attached {
        Ok(process) => Arc::into_raw(process).cast_mut().cast(),
        Err(error) => error.to_ptr(),
    }
}

/// # Safety
///
/// `process` must be the result of a [`utrace_attach_process`] that succeeded, and must not be used
/// again.
#[export]
pub(crate) unsafe extern "C" fn utrace_detach_process(process: *mut bindings::utrace_process) {
    // SAFETY: `process` is from `Arc::into_raw` in `utrace_attach_process()`, and the caller gives
    // it up.
    let process = unsafe { Arc::from_raw(process.cast::<ProcessEngines>()) };
    process.detach();
}

/// Quiesces a process. See `include/linux/utrace.h`.
///
/// # Safety
///
/// Must be called where sleeping is allowed; see [`crate::quiesce`] for the locks that must not be
/// held.
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

/// Resumes a process that [`utrace_quiesce`] has stopped.
///
/// # Safety
///
/// `quiesced` must be the result of a [`utrace_quiesce`] that succeeded, and must not be used
/// again.
#[export]
pub(crate) unsafe extern "C" fn utrace_resume(quiesced: *mut bindings::utrace_quiesced) {
    // SAFETY: `quiesced` is from `KBox::into_raw` in `utrace_quiesce()`, and the caller gives it
    // up.
    drop(unsafe { KBox::from_raw(quiesced.cast::<quiesce::Quiesced>()) });
}
