// SPDX-License-Identifier: GPL-2.0

//! What C calls: the traps, and the call sites in mm. See `include/linux/ubp.h`.

use crate::{
    hit,
    insert,
    slot,
    space::Space,
    step, //
};

use kernel::{
    bindings,
    mm::{
        write::MmapWrite,
        Mm,
        MmWithUser, //
    },
    prelude::*,
    ptregs::PtRegs,
    sync::tasks_trace,
    task::Task,
    trap::Trap, //
};

/// Handles an `int3` from user mode.
///
/// # Safety
///
/// Called by the trap handler, in the context that [`Trap::new`] requires, with the registers that
/// the trap saved.
#[export]
pub(crate) unsafe extern "C" fn __ubp_int3(regs: *mut bindings::pt_regs) -> bool {
    // SAFETY: By the requirement on the caller.
    let (regs, mut trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    hit::int3(regs, &mut trap)
}

/// Handles a debug trap from user mode; `step` says whether it was by the trap flag. Returns
/// whether that was for a step of ours only.
///
/// # Safety
///
/// As of [`__ubp_int3`].
#[export]
pub(crate) unsafe extern "C" fn __ubp_debug(regs: *mut bindings::pt_regs, step: bool) -> bool {
    // SAFETY: By the requirement on the caller.
    let (regs, mut trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    step::debug(regs, step, &mut trap)
}

/// Returns an instruction pointer of the current thread as its program knows it.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn __ubp_stream_ip(ip: c_ulong) -> c_ulong {
    slot::stream_ip(ip)
}

/// Returns an instruction pointer of a thread as its program knows it.
///
/// # Safety
///
/// `task` is valid.
#[export]
pub(crate) unsafe extern "C" fn __ubp_task_ip(
    task: *mut bindings::task_struct,
    ip: c_ulong,
) -> c_ulong {
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    slot::stream_ip_of(unsafe { &*task.cast::<Task>() }, ip)
}

/// The current thread is about to be looked at on its way to user mode.
///
/// # Safety
///
/// `regs` are those that it goes to user mode with.
#[export]
pub(crate) unsafe extern "C" fn __ubp_settle(regs: *mut bindings::pt_regs) {
    // SAFETY: By the requirement on the caller.
    slot::settle(unsafe { PtRegs::from_raw_mut(regs) });
}

/// The instruction pointer of the current thread, which is on its way to user mode, has been
/// changed by the kernel: what the thread was executing is aborted. Does not sleep.
///
/// # Safety
///
/// As of [`__ubp_settle`].
#[export]
pub(crate) unsafe extern "C" fn __ubp_moved_away(regs: *mut bindings::pt_regs) {
    // SAFETY: By the requirement on the caller.
    step::moved_away(unsafe { PtRegs::from_raw_mut(regs) });
}

/// The pages of a range lose what is private in them. Does not sleep.
///
/// # Safety
///
/// `mm` is valid.
#[export]
pub(crate) unsafe extern "C" fn __ubp_unmap(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: By the requirement on the caller.
    let mm = unsafe { Mm::from_raw(mm) };
    let guard = tasks_trace::read_lock();
    let Some(space) = Space::of_any(mm, &guard) else {
        return;
    };
    for bp in space.armed_in(start, end, &guard) {
        bp.set_gone();
    }
}

/// The pages of a range are about to be moved to other addresses.
///
/// # Safety
///
/// `mm` is valid, its `mm_users` is not zero, and its mmap lock is held for writing.
#[export]
pub(crate) unsafe extern "C" fn __ubp_move(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: By the requirement on the caller.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let Some(space) = Space::of(mm) else {
        return;
    };
    // SAFETY: By the requirement on the caller.
    let mmap = unsafe { MmapWrite::held(mm) };
    insert::take_out_range(space, &mmap, start, end);
}
