// SPDX-License-Identifier: GPL-2.0

//! UbpCallSites for the traps, and for the call sites in mm; see `include/linux/ubp.h`.

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
    static_key::{
        CallSites,
        DeferredKey, //
    },
    sync::tasks_trace,
    task::Task,
    trap::Trap, //
};

extern "C" {
    /// See `include/linux/ubp.h`.
    #[link_name = "ubp_active"]
    static KEY: DeferredKey;
}

/// The call sites of this crate.
pub(crate) struct UbpCallSites;

impl CallSites for UbpCallSites {
    fn key() -> &'static DeferredKey {
        // SAFETY: `exports.c` defines the key.
        unsafe { &KEY }
    }
}

/// Handles an `int3` from user mode.
///
/// # Safety
///
/// Must be called by the trap handler, in the context that [`Trap::new`] requires, with the
/// registers that the trap saved.
#[export]
pub(crate) unsafe extern "C" fn __ubp_int3(regs: *mut bindings::pt_regs) -> bool {
    // SAFETY: `exc_int3()` passes the registers that a trap in user mode has saved, and does not
    // access them during the call. Interrupts are disabled, and no lock is held.
    let (regs, trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    int3::int3(regs, trap)
}

/// Handles a debug trap from user mode. `step` says whether the trap flag caused it, and `others`
/// whether there were other causes. Returns whether the trap flag was set for a step of UBP only.
///
/// # Safety
///
/// As for [`__ubp_int3`].
#[export]
pub(crate) unsafe extern "C" fn __ubp_debug(
    regs: *mut bindings::pt_regs,
    step: bool,
    others: bool,
) -> bool {
    // SAFETY: `exc_debug_user()` passes the registers that a trap in user mode has saved, and does
    // not access them during the call. Interrupts are disabled, and no lock is held.
    let (regs, mut trap) = unsafe { (PtRegs::from_raw_mut(regs), Trap::new()) };
    step::debug(regs, step, others, &mut trap)
}

/// Returns the original ip for an instruction pointer of the current thread.
///
/// # Safety
///
/// None.
#[export]
pub(crate) unsafe extern "C" fn __ubp_original_ip(ip: c_ulong) -> c_ulong {
    slot::original_ip(ip)
}

/// Returns the original ip for an instruction pointer of a thread.
///
/// # Safety
///
/// `task` must be valid.
#[export]
pub(crate) unsafe extern "C" fn __ubp_task_ip(
    task: *mut bindings::task_struct,
    ip: c_ulong,
) -> c_ulong {
    // SAFETY: `task` is valid because the caller holds a reference to it. CAST: `Task` is a
    // transparent wrapper of `struct task_struct`.
    slot::original_ip_of(unsafe { &*task.cast::<Task>() }, ip)
}

/// Fixes up the instruction pointer of the current thread on its way to user mode, before other
/// code looks at it.
///
/// # Safety
///
/// `regs` must be null, or point to the registers with which the thread returns to user mode.
#[export]
pub(crate) unsafe extern "C" fn __ubp_fixup_ip(regs: *mut bindings::pt_regs) {
    // KVM_RUN and io_uring's workers call resume_user_mode_work() without registers, because they
    // are not on the way to user mode: there is no instruction pointer to fix up.
    if regs.is_null() {
        return;
    }
    step::end_forgotten();
    // SAFETY: `exit_to_user_mode_loop()` passes the registers that the current thread is going to
    // load, and does not access them until resume_user_mode_work() has returned.
    slot::fixup_ip(unsafe { PtRegs::from_raw_mut(regs) });
}

/// Handles a page fault in user mode that the current thread has given up for a signal.
///
/// # Safety
///
/// Must be called in the page fault.
#[export]
pub(crate) unsafe extern "C" fn __ubp_fault_interrupted() {
    // SAFETY: The thread has come from user mode, and the page fault handler does not access the
    // registers during the call.
    slot::fault_interrupted(unsafe { PtRegs::from_current() });
}

/// Aborts the step of the current thread, which is on its way to user mode, because the kernel has
/// changed the instruction pointer. Does not sleep.
///
/// # Safety
///
/// `regs` must point to the registers with which the thread returns to user mode.
#[export]
pub(crate) unsafe extern "C" fn __ubp_abort_xol(regs: *mut bindings::pt_regs) {
    // SAFETY: The rseq code passes the registers with which the current thread returns to user
    // mode, and does not access them during the call.
    step::abort_xol(unsafe { PtRegs::from_raw_mut(regs) });
}

/// Marks the breakpoints of a range as lost, because its pages lose their private contents. Does
/// not sleep.
///
/// # Safety
///
/// `mm` must be valid.
#[export]
pub(crate) unsafe extern "C" fn __ubp_unmap(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) {
    // SAFETY: `mm` is valid because `__zap_vma_range()` passes the address space of a mapping.
    let mm = unsafe { Mm::from_raw(mm) };
    let guard = tasks_trace::read_lock();
    let Some(space) = Space::from_any_mm(mm, &guard) else {
        return;
    };
    for bp in space.present_in(start, end, &guard) {
        bp.set_lost();
    }
}

/// Removes the breakpoints of a range, because its pages are about to be moved to other addresses.
/// Returns 0, or an error if they must not be moved.
///
/// # Safety
///
/// `mm` must be valid, its `mm_users` must not be zero, and its mmap lock must be held for writing.
#[export]
pub(crate) unsafe extern "C" fn __ubp_move(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> c_int {
    // SAFETY: `mm` is valid and has users because `prep_move_vma()` passes the address space of the
    // current thread.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let Some(space) = Space::from_mm(mm) else {
        return 0;
    };
    // SAFETY: `mremap()` holds the mmap lock for writing during the call.
    let mmap = unsafe { MmapWrite::held(mm) };
    match insert::take_out_range(space, &mmap, start, end) {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Returns whether there are breakpoints in a range.
///
/// # Safety
///
/// `mm` must be valid, and its `mm_users` must not be zero.
#[export]
pub(crate) unsafe extern "C" fn __ubp_probed(
    mm: *mut bindings::mm_struct,
    start: c_ulong,
    end: c_ulong,
) -> bool {
    // SAFETY: `mm` is valid and has users because `userfaultfd_move()` holds a reference from
    // `mmget_not_zero()`.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    let guard = tasks_trace::read_lock();
    let probed = Space::from_mm(mm).is_some_and(|space| {
        let probed = space.present_in(start, end, &guard).next().is_some();
        probed
    });
    probed
}

/// Replaces the `int3`s in bytes that have been read at `addr` by the displaced bytes, before the
/// bytes are shown to a reader.
///
/// # Safety
///
/// `mm` must be valid, and its `mm_users` must not be zero. `buf` must be valid for reads and
/// writes of `len` bytes, and nothing else may access them.
#[export]
pub(crate) unsafe extern "C" fn __ubp_hide(
    mm: *mut bindings::mm_struct,
    addr: c_ulong,
    buf: *mut c_void,
    len: usize,
) {
    // SAFETY: `mm` is valid and has users because it is the current thread's, or the caller holds a
    // reference to it. The caller passes `len` bytes at `buf`, which only it accesses.
    let (mm, bytes) = unsafe {
        (
            MmWithUser::from_raw(mm),
            core::slice::from_raw_parts_mut(buf.cast::<u8>(), len),
        )
    };
    if let Some(space) = Space::from_mm(mm) {
        access::hide(space, addr, bytes);
    }
}

/// Copies bytes to the page that is mapped at `addr`, as `copy_to_user_page()` does with the same
/// arguments.
///
/// # Safety
///
/// The mmap lock of the mapping's address space must be held, and its `mm_users` must not be zero.
/// `src` must be valid for reads of `len` bytes that nothing changes, and `dst` for writes of `len`
/// bytes.
#[export]
pub(crate) unsafe extern "C" fn __ubp_write(
    vma: *mut bindings::vm_area_struct,
    page: *mut bindings::page,
    addr: c_ulong,
    dst: *mut c_void,
    src: *const c_void,
    len: usize,
) {
    // SAFETY: `vma` is valid because `__access_remote_vm()` holds the mmap lock, and `mm_users` is
    // not zero because its callers hold a reference. `src` holds `len` bytes, which nothing changes
    // during the call.
    let (mm, bytes) = unsafe {
        (
            MmWithUser::from_raw((*vma).vm_mm),
            core::slice::from_raw_parts(src.cast::<u8>(), len),
        )
    };
    let copy = |offset: usize, part: &[u8]| {
        // SAFETY: `__access_remote_vm()` has mapped `page` at `dst` and holds the mmap lock, which
        // keeps `vma`. The part is within the `len` bytes at `src` and `dst`.
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
    match Space::from_mm(mm) {
        Some(space) => access::write(space, addr, bytes, copy),
        None => copy(0, bytes),
    }
}

/// Removes all breakpoints before the process of the current thread is dumped. The other threads of
/// the process wait for the dump.
///
/// # Safety
///
/// `mm` must be the address space of the current thread.
#[export]
pub(crate) unsafe extern "C" fn __ubp_coredump(mm: *mut bindings::mm_struct) {
    // SAFETY: `mm` is valid and has users because `vfs_coredump()` passes the address space of the
    // current thread.
    let mm = unsafe { MmWithUser::from_raw(mm) };
    if let Some(space) = Space::from_mm(mm) {
        // The dump contains the program's text. On failure it contains the remaining `int3`s.
        let _ = insert::take_out_range(space, &mm.mmap_write_lock(), 0, usize::MAX);
    }
}

/// Restores the text of a probed process that `fork()` has copied. Returns 0, or the error of
/// `fork()`.
///
/// # Safety
///
/// `mm` must be valid and have users, and no thread but the caller may use it.
#[export]
pub(crate) unsafe extern "C" fn __ubp_dup_mm(mm: *mut bindings::mm_struct) -> c_int {
    // SAFETY: `dup_mm()` passes a valid `mm` and is its first user, and no thread uses `mm` before
    // `fork()` has returned.
    match unsafe { fork::fork_finish(MmWithUser::from_raw(mm)) } {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}
