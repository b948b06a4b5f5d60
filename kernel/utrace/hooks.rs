// SPDX-License-Identifier: GPL-2.0

//! Hooks for the call sites in the rest of the kernel; see `include/linux/utrace_hooks.h`.

use crate::{
    c_api::borrow,
    lifecycle,
    quiesce,
    resume,
    signal::{
        self,
        Next,
        UtraceSignal, //
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
    static_key::{
        CallSites,
        DeferredKey,
        Enabled, //
    },
    uaccess::UserPtr, //
};

extern "C" {
    /// See `include/linux/utrace_hooks.h`.
    #[link_name = "utrace_active"]
    static KEY: DeferredKey;
}

/// The call sites of utrace.
pub struct UtraceCallSites;

impl CallSites for UtraceCallSites {
    fn key() -> &'static DeferredKey {
        // SAFETY: `exports.c` defines the key.
        unsafe { &KEY }
    }
}

/// A reference that keeps the call sites switched on.
///
/// Code that needs the call sites with `mmap_lock` held must take a reference to an existing one,
/// because none can be made there.
pub type Active = Enabled<UtraceCallSites>;

/// Initialises utrace.
///
/// # Safety
///
/// Must be called once, at boot, before there is user mode.
#[export]
pub(crate) unsafe extern "C" fn utrace_init() {
    // SAFETY: The caller ensures that this is called once, at boot, before there is user mode.
    unsafe { quiesce::init() };
}

/// Frees the state of a task.
///
/// # Safety
///
/// `task` must be a valid task, and the last reference to it must be gone.
#[export]
pub(crate) unsafe extern "C" fn __utrace_free_task(task: *mut bindings::task_struct) {
    // SAFETY: The caller ensures that `task` is valid, and that no reference to it is left.
    unsafe { thread::free(borrow(task)) };
}

/// Ensures that `child`, which becomes visible, does not miss the quiescence of its address space.
///
/// # Safety
///
/// `child` must be a valid task that has not run. `tasklist_lock` must be held for writing.
#[export]
pub(crate) unsafe extern "C" fn __utrace_clone_locked(child: *mut bindings::task_struct) {
    // SAFETY: The caller ensures that `child` is valid.
    quiesce::clone_locked(unsafe { borrow(child) });
}

/// Prepares the creation of `child` by the current thread. Returns 0, or an error with which
/// clone() must fail.
///
/// # Safety
///
/// `child` must be a valid task that no other thread can find. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_prepare_clone(
    child: *mut bindings::task_struct,
    clone_flags: u64,
) -> c_int {
    // SAFETY: The caller ensures that `child` is valid.
    let child = unsafe { borrow(child) };
    from_result(|| lifecycle::prepare_clone(current!(), child, clone_flags).map(|()| 0))
}

/// Undoes [`__utrace_prepare_clone`] for a `child` that is not created.
///
/// # Safety
///
/// `child` must be a valid task that no other thread has found. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_cancel_clone(child: *mut bindings::task_struct) {
    // SAFETY: The caller ensures that `child` is valid.
    lifecycle::cancel_clone(unsafe { borrow(child) });
}

/// Reports that the current thread has created `child`.
///
/// # Safety
///
/// `child` must be a valid task that has not run. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_clone(
    child: *mut bindings::task_struct,
    clone_flags: u64,
) {
    // SAFETY: The caller ensures that `child` is valid.
    lifecycle::cloned(current!(), unsafe { borrow(child) }, clone_flags);
}

/// Stops the current thread, if an engine wants it, between vfork() and the wait for the child.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_vfork() {
    lifecycle::vforked(current!());
}

/// Reports that the current thread has a new image.
///
/// # Safety
///
/// `bprm` must be valid. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exec(bprm: *const bindings::linux_binprm) {
    lifecycle::exec(current!(), bprm);
}

/// Reports that the current thread begins to exit.
///
/// # Safety
///
/// `code` must be valid. `PF_EXITING` must not be set yet, and no lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exit(code: *mut c_long) {
    // SAFETY: The caller ensures that `code` is valid.
    unsafe { *code = lifecycle::exit(current!(), *code) };
}

/// Reports the exit of the last thread of a process, if the current thread is that.
///
/// # Safety
///
/// `PF_EXITING` must be set, and no lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_last_exit(code: c_long) {
    lifecycle::last_exit(current!(), code);
}

/// Cleans up after the current thread, which has oopsed and will exit.
///
/// # Safety
///
/// Interrupts and preemption must be enabled.
#[export]
pub(crate) unsafe extern "C" fn __utrace_oopsed() {
    lifecycle::oopsed(current!());
}

/// Reports the death of the current thread, which is a zombie, or past that state.
///
/// # Safety
///
/// `task` must be the current task. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_death(
    task: *mut bindings::task_struct,
    group_dead: bool,
    signal: c_int,
) {
    // SAFETY: The caller ensures that `task` is the current task, which is valid.
    lifecycle::death(unsafe { borrow(task) }, group_dead, signal);
}

/// Reports the reap of a dead task, which is about to disappear.
///
/// # Safety
///
/// `task` must be valid, and dead. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_release_task(task: *mut bindings::task_struct) {
    // SAFETY: The caller ensures that `task` is valid.
    lifecycle::reap(unsafe { borrow(task) });
}

/// Does the pending work of the current thread before it returns to user mode. `TIF_NOTIFY_RESUME`
/// is cleared.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_resume_user_mode() {
    let task = current!();
    resume::resume(task);
    quiesce::wait_while_quiesced(task);
}

/// Reports a system call that is about to be executed. Returns whether it is to be executed.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn utrace_syscall_entry(_regs: *mut bindings::pt_regs) -> bool {
    syscall::entry(current!())
}

/// Reports a system call that has been executed, or aborted.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn utrace_syscall_exit(_regs: *mut bindings::pt_regs) {
    syscall::exit(current!());
}

/// Makes reports and stops before `get_signal()` takes a signal from the queue.
///
/// # Safety
///
/// `signal` must be valid, and its `siginfo` must be valid for writes. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_get_signal(
    signal: *mut bindings::utrace_signal,
) -> bindings::utrace_next {
    // SAFETY: The caller ensures that `signal` and its `siginfo` are valid. `signal` is on the
    // stack of `get_signal()`, so nothing else accesses it.
    signal::before_dequeue(current!(), unsafe { UtraceSignal::from_raw(signal) }) as Next as u32
}

/// Reports a signal that `get_signal()` has taken from the queue.
///
/// # Safety
///
/// As for [`__utrace_get_signal`], and all fields of `signal` must be set.
#[export]
pub(crate) unsafe extern "C" fn __utrace_signal(
    signal: *mut bindings::utrace_signal,
) -> bindings::utrace_next {
    // SAFETY: The caller ensures that `signal` and its `siginfo` are valid. `signal` is on the
    // stack of `get_signal()`, so nothing else accesses it.
    signal::after_dequeue(current!(), unsafe { UtraceSignal::from_raw(signal) }) as Next as u32
}

/// Handles the set-up of a signal frame for the current thread.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_signal_handler() {
    signal::handler_set_up(current!());
}

/// Handles a trap of the current thread after a step, or at the end of a system call that it
/// stepped over. Returns whether the trap is for engines only.
///
/// # Safety
///
/// Interrupts must be enabled, and no lock may be held. The current thread must have come from user
/// mode.
#[export]
pub(crate) unsafe extern "C" fn __utrace_step_trap(code: c_int) -> bool {
    step::trapped(current!(), code)
}

/// Reports that job control stops the current thread, or has continued its process.
///
/// # Safety
///
/// No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_jctl(kind: c_int, notify: c_int) {
    lifecycle::jctl(current!(), kind, notify);
}

/// Reports a file name that the kernel has copied from the current thread's memory.
///
/// # Safety
///
/// `name` must be a NUL-terminated string. No lock may be held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_getname(from: *const c_char, name: *const c_char) {
    // SAFETY: The caller ensures that `name` is a NUL-terminated string.
    let name = unsafe { CStr::from_char_ptr(name) };
    let from = UserPtr::from_addr(from as usize);
    syscall::path(current!(), from, name);
}
