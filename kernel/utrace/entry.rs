// SPDX-License-Identifier: GPL-2.0

//! What C calls: the call sites in fork, exec, exit and on the way to user mode, and the API for
//! modules written in C. See `include/linux/utrace.h`.

use crate::{
    engine::Exit,
    quiesce,
    thread::{
        self,
        Audience, //
    },
};

use kernel::{
    bindings,
    current,
    ffi::c_long,
    prelude::*,
    task::Task,
    threads, //
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
    let child = unsafe { borrow(child) };
    let parent = current!();
    if clone_flags & u64::from(bindings::CLONE_THREAD) != 0 {
        thread::inherit(parent, child);
    }
    thread::report(parent, Audience::All, |engine| {
        engine.clone(parent, child, clone_flags)
    });
}

/// The current thread has a new image.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exec() {
    let task = current!();
    thread::report(task, Audience::All, |engine| engine.exec(task));
}

/// The current thread exits.
///
/// # Safety
///
/// `PF_EXITING` is set, and no lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_exit(code: c_long, group_dead: bool) {
    let task = current!();
    // Pairs with `thread::attach_following`.
    kernel::sync::barrier::smp_mb(kernel::sync::barrier::Full);
    let exit = Exit {
        code,
        last: group_dead,
    };
    thread::report(task, Audience::All, |engine| engine.exit(task, exit));
    thread::exited(task);
}

/// The current thread is about to return to user mode, with `TIF_NOTIFY_RESUME` cleared.
///
/// # Safety
///
/// No lock is held.
#[export]
pub(crate) unsafe extern "C" fn __utrace_resume_user_mode(_regs: *mut bindings::pt_regs) {
    let task = current!();
    thread::report(task, Audience::Quiescing, |engine| engine.quiesce(task));
    quiesce::pass_gate(task);
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
