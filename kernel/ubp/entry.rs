// SPDX-License-Identifier: GPL-2.0

//! What C calls: the traps, and the call sites in mm. See `include/linux/ubp.h`.

use crate::{
    access,
    fork,
    insert,
    int3,
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
    let (regs, trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    int3::int3(regs, trap)
}

/// Handles a debug trap from user mode; `step` says whether it was by the trap flag, `others`
/// whether it was for other reasons. Returns whether it was by the trap flag for a step of ours
/// only.
///
/// # Safety
///
/// As of [`__ubp_int3`].
#[export]
pub(crate) unsafe extern "C" fn __ubp_debug(
    regs: *mut bindings::pt_regs,
    step: bool,
    others: bool,
) -> bool {
    // SAFETY: By the requirement on the caller.
    let (regs, mut trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    step::debug(regs, step, others, &mut trap)
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
/// `regs` is null, or points to the registers with which the thread goes to user mode.
#[export]
pub(crate) unsafe extern "C" fn __ubp_settle(regs: *mut bindings::pt_regs) {
    // KVM_RUN and io_uring's workers call resume_user_mode_work() without registers, because they
    // are not on the way to user mode: there is no instruction pointer to fix up.
    if regs.is_null() {
        return;
    }
    step::end_forgotten();
    // SAFETY: `exit_to_user_mode_loop()` passes the registers that the current thread is going to
    // load, and does not access them until resume_user_mode_work() has returned.
    slot::settle(unsafe { PtRegs::from_raw_mut(regs) });
}

/// A page fault that the current thread has taken in user mode was given up for a signal.
///
/// # Safety
///
/// Called in the page fault.
#[export]
pub(crate) unsafe extern "C" fn __ubp_fault_interrupted() {
    // SAFETY: The thread has come from user mode, and the page fault handler does not access the
    // registers during the call.
    slot::fault_interrupted(unsafe { PtRegs::of_current() });
}

/// The instruction pointer of the current thread, which is on its way to user mode, has been
/// changed by the kernel: what the thread was executing is aborted. Does not sleep.
///
/// # Safety
///
/// `regs` points to the registers with which the thread goes to user mode.
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
    for bp in space.present_in(start, end, &guard) {
        bp.set_lost();
    }
}

/// The pages of a range are about to be moved to other addresses. Returns 0, or an error if they
/// must not be.
///
/// # Safety
///
/// `mm` is valid, its `mm_users` is not zero, and its mmap lock is held for writing.
#[export]
pub(crate) unsafe extern "C" fn __ubp_move(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: By the requirement on the caller.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let Some(space) = Space::of(mm) else {
        return 0;
    };
    // SAFETY: By the requirement on the caller.
    let mmap = unsafe { MmapWrite::held(mm) };
    match insert::take_out_range(space, &mmap, start, end) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Says whether there are breakpoints in a range.
///
/// # Safety
///
/// `mm` is valid, and its `mm_users` is not zero.
#[export]
pub(crate) unsafe extern "C" fn __ubp_probed(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> bool {
    // SAFETY: By the requirement on the caller.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let guard = tasks_trace::read_lock();
    let probed = Space::of(mm).is_some_and(|space| {
        let probed = space.present_in(start, end, &guard).next().is_some();
        probed
    });
    probed
}

/// Bytes that have been read at `addr` are about to be shown to somebody.
///
/// # Safety
///
/// `mm` is valid, and its `mm_users` is not zero. `buf` is valid for reads and writes of `len`
/// bytes, and nobody else accesses them.
#[export]
pub(crate) unsafe extern "C" fn __ubp_hide(
    mm: *mut bindings::mm_struct,
    addr: c_ulong,
    buf: *mut c_void,
    len: usize,
) {
    // SAFETY: By the requirement on the caller.
    let (mm, bytes) = unsafe {
        (
            MmWithUser::from_raw(mm),
            core::slice::from_raw_parts_mut(buf.cast::<u8>(), len),
        )
    };
    if let Some(space) = Space::of(mm) {
        access::hide(space, addr, bytes);
    }
}

/// Copies bytes to the page that is mapped at `addr`, as `copy_to_user_page()`, whose arguments
/// these are.
///
/// # Safety
///
/// The mmap lock of the mapping's address space is held, whose `mm_users` is not zero. `src` is
/// valid for reads of `len` bytes, which nobody changes, and `dst` for writes.
#[export]
pub(crate) unsafe extern "C" fn __ubp_write(
    vma: *mut bindings::vm_area_struct,
    page: *mut bindings::page,
    addr: c_ulong,
    dst: *mut c_void,
    src: *const c_void,
    len: usize,
) {
    // SAFETY: By the requirement on the caller.
    let (mm, bytes) = unsafe {
        (
            MmWithUser::from_raw((*vma).vm_mm),
            core::slice::from_raw_parts(src.cast::<u8>(), len),
        )
    };
    let copy = |offset: usize, part: &[u8]| {
        // SAFETY: By the requirement on the caller; the part is within the whole.
        unsafe {
            bindings::copy_to_user_page(
                vma,
                page,
                addr.wrapping_add(offset),
                dst.byte_add(offset),
                part.as_ptr().cast(),
                part.len(),
            );
        }
    };
    match Space::of(mm) {
        Some(space) => access::write(space, addr, bytes, copy),
        None => copy(0, bytes),
    }
}

/// The process of the current thread is going to be dumped; its other threads wait for that.
///
/// # Safety
///
/// `mm` is that of the current thread.
#[export]
pub(crate) unsafe extern "C" fn __ubp_coredump(mm: *mut bindings::mm_struct) {
    // SAFETY: By the requirement on the caller.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    if let Some(space) = Space::of(mm) {
        // On failure the dump has the rest of the `int3`s, and those who read it are not worse off
        // than the program.
        let _ = access::before_dump(mm, space);
    }
}

/// `fork()` has copied the text of a probed process. Returns 0, or the error of `fork()`.
///
/// # Safety
///
/// `mm` is valid, has users, and no thread but the caller uses it.
#[export]
pub(crate) unsafe extern "C" fn __ubp_dup_mm(mm: *mut bindings::mm_struct) -> c_int {
    // SAFETY: `dup_mm()` passes a valid `mm` whose first user it is, and no thread uses it before
    // `fork()` has returned.
    match unsafe { fork::fork_finish(MmWithUser::from_raw(mm)) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
