// SPDX-License-Identifier: GPL-2.0

//! What the call sites in the rest of the kernel call. See `include/linux/utrace_hooks.h`.

use crate::{
    lifecycle,
    quiesce,
    resume,
    signal::{
        self,
        Next,
        Signal, //
    },
    step,
    syscall,
    thread, //
};

use kernel::{
    bindings,
    current,
    error::from_result,
    ffi::c_long,
    prelude::*,
    task::Task,
    uaccess::UserPtr, //
};

/// Initialises utrace.
///
/// # Safety
///
/// Called once, at boot, before there is user mode.
#[export]
pub(crate) unsafe extern "C" fn utrace_init() {
    // SAFETY: By the requirement on the caller.
    unsafe { quiesce::init() };
}

/// # Safety
///
/// `task` is a valid task, for the time of the call at least.
unsafe fn borrow<'a>(task: *mut bindings::task_struct) -> &'a Task {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    unsafe { &*task.cast() }
}

/// Frees what utrace has for a task.
///
/// # Safety
///
/// The last reference to `task` is gone.
#[export]
pub(crate) unsafe extern "C" fn __utrace_free_task(task: *mut bindings::task_struct) {
    // SAFETY: By the requirement on the caller.
    unsafe { thread::free(borrow(task)) };
}

/// `child` becomes visible.
///
/// # Safety
///
/// `child` is a valid task that has not run. `tasklist_lock` is held for writing.
#[export]
pub(crate) unsafe extern "C" fn __utrace_clone_locked(child: *mut bindings::task_struct) {
    // SAFETY: By the requirement on the caller.
    quiesce::clone_locked(unsafe { borrow(child) });
}

/// The current thread is about to create `child`. Returns 0 or an error, with which it must fail.
///
/// # Safety
///
/// `child` is a valid task that no other thread can find. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_prepare_clone(
    child: *mut bindings::task_struct,
    clone_flags: u64,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let child = unsafe { borrow(child) };
    from_result(|| lifecycle::prepare_clone(current!(), child, clone_flags).map(|()| 0))
}

/// `child` was not created.
///
/// # Safety
///
/// `child` is a valid task that no other thread has found. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_cancel_clone(child: *mut bindings::task_struct) {
    // SAFETY: By the requirement on the caller.
    lifecycle::cancel_clone(unsafe { borrow(child) });
}

/// The current thread has created `child`.
///
/// # Safety
///
/// `child` is a valid task that has not run. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_clone(
    child: *mut bindings::task_struct,
    clone_flags: u64,
) {
    // SAFETY: By the requirement on the caller.
    lifecycle::cloned(current!(), unsafe { borrow(child) }, clone_flags);
}

/// The current thread has created a child by vfork(), and is about to wait for it.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_vfork() {
    lifecycle::vforked(current!());
}

/// The current thread has a new image.
///
/// # Safety
///
/// `bprm` is valid. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exec(bprm: *const bindings::linux_binprm) {
    lifecycle::exec(current!(), bprm);
}

/// The current thread begins to exit.
///
/// # Safety
///
/// `code` is valid. `PF_EXITING` is not set yet, and no lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exit(code: *mut c_long) {
    // SAFETY: By the requirement on the caller.
    unsafe { *code = lifecycle::exit(current!(), *code) };
}

/// The current thread exits, and perhaps its process.
///
/// # Safety
///
/// `PF_EXITING` is set, and no lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_last_exit(code: c_long) {
    lifecycle::last_exit(current!(), code);
}

/// The current thread has oopsed, and will exit.
///
/// # Safety
///
/// Interrupts and preemption are enabled.
#[export]
pub(crate) unsafe extern "C" fn __utrace_oopsed() {
    lifecycle::oopsed(current!());
}

/// The current thread is a zombie, or more.
///
/// # Safety
///
/// `task` is the current task. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_death(
    task: *mut bindings::task_struct,
    group_dead: bool,
    signal: c_int,
) {
    // SAFETY: By the requirement on the caller.
    lifecycle::death(unsafe { borrow(task) }, group_dead, signal);
}

/// A dead task is about to disappear.
///
/// # Safety
///
/// `task` is valid, and dead. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_release_task(task: *mut bindings::task_struct) {
    // SAFETY: By the requirement on the caller.
    lifecycle::reap(unsafe { borrow(task) });
}

/// The current thread is about to return to user mode, with `TIF_NOTIFY_RESUME` cleared.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_resume_user_mode(_regs: *mut bindings::pt_regs) {
    let task = current!();
    resume::resume(task);
    quiesce::pass_gate(task);
}

/// A system call is about to be executed. Returns whether it is to be.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_syscall_entry(_regs: *mut bindings::pt_regs) -> bool {
    syscall::entry(current!())
}

/// A system call has been executed, or left out.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_syscall_exit(_regs: *mut bindings::pt_regs) {
    syscall::exit(current!());
}

/// `get_signal()` is about to take a signal from the queue.
///
/// # Safety
///
/// `signal` is valid, and so is its `siginfo` for writes. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_get_signal(
    signal: *mut bindings::utrace_signal,
) -> bindings::utrace_next {
    // SAFETY: By the requirement on the caller.
    signal::before_dequeue(current!(), unsafe { Signal::from_raw(signal) }) as Next as u32
}

/// `get_signal()` has taken a signal from the queue.
///
/// # Safety
///
/// As of [`__utrace_get_signal`]; all of `signal` is set.
#[export]
pub(crate) unsafe extern "C" fn __utrace_signal(
    signal: *mut bindings::utrace_signal,
) -> bindings::utrace_next {
    // SAFETY: By the requirement on the caller.
    signal::after_dequeue(current!(), unsafe { Signal::from_raw(signal) }) as Next as u32
}

/// A signal frame has been set up for the current thread.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_signal_handler() {
    signal::handler_set_up(current!());
}

/// The current thread has trapped after a step, or at the end of a system call that it stepped
/// over. Returns whether that is for engines only.
///
/// # Safety
///
/// Interrupts are enabled, and no lock is held. The current thread came from user mode.
#[export]
pub(crate) unsafe extern "C" fn __utrace_step_trap(code: c_int) -> bool {
    step::trapped(current!(), code)
}

/// Job control stops the current thread, or has let the process go on.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_jctl(kind: c_int, notify: c_int) {
    lifecycle::jctl(current!(), kind, notify);
}

/// The kernel has copied a file name from the current thread's memory.
///
/// # Safety
///
/// `name` is a string. No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_getname(from: *const c_char, name: *const c_char) {
    // SAFETY: By the requirement on the caller.
    let name = unsafe { CStr::from_char_ptr(name) };
    let from = UserPtr::from_addr(from as usize);
    syscall::path(current!(), from, name);
}
