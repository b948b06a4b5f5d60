// SPDX-License-Identifier: GPL-2.0

//! Hooks for the rest of the kernel, of `include/linux/uprobes.h`.
//!
//! Some of these hooks are only needed by C's implementation. They do nothing here.

use crate::{
    c_registry,
    files,
    follow,
    probepoint,
    process, //
};

use kernel::{
    bindings,
    mm::{
        virt::VmaRef,
        Mm,
        MmWithUser, //
    },
    prelude::*,
    ptregs::PtRegs,
    task::Task, //
};

/// Initialises uprobes, at boot.
///
/// # Safety
///
/// Must be called once, before there is user mode.
#[export]
unsafe extern "C" fn uprobes_init() {
    // SAFETY: The caller ensures that this is the only call. Nothing else in this crate has been
    // called before, because only threads in user mode are probed.
    unsafe {
        files::init();
        probepoint::init();
        process::init();
    }
    c_registry::init();
}

/// Prepares the copy of an address space, which `fork()` is about to make.
///
/// # Safety
///
/// `oldmm` and `newmm` must be valid and have users. The mmap lock of `oldmm` must be held for
/// writing.
#[export]
unsafe extern "C" fn uprobe_dup_mmap(
    oldmm: *mut bindings::mm_struct,
    newmm: *mut bindings::mm_struct,
) {
    // SAFETY: The caller ensures that both are valid and have users.
    let (oldmm, newmm) = unsafe { (MmWithUser::from_raw(oldmm), MmWithUser::from_raw(newmm)) };
    files::copying(oldmm, newmm);
    // SAFETY: The caller holds the mmap lock of `oldmm` for writing.
    unsafe { ubp::fork_start(oldmm, newmm) };
}

/// Prepares `child`, which the current thread has created and which has not run yet. Attaches the
/// probes that follow `fork()` to its process, and places those of files in it.
///
/// # Safety
///
/// `child` must be valid. The caller must not hold a lock.
#[export]
unsafe extern "C" fn uprobe_copy_process(child: *mut bindings::task_struct, flags: u64) {
    // SAFETY: The caller ensures that `child` is valid and does not run yet. The thread has copied
    // the pointer to its own record.
    unsafe { (*child).utask = core::ptr::null_mut() };
    if flags & u64::from(bindings::CLONE_THREAD) != 0 {
        return;
    }
    // SAFETY: The caller ensures that `child` is valid. CAST: `Task` is a transparent wrapper.
    let child = unsafe { &*child.cast::<Task>() };
    follow::inherit(child);
}

/// Frees the breakpoints of an address space that has no users any more.
///
/// # Safety
///
/// `mm` must be valid, with an `mm_users` of zero.
#[export]
unsafe extern "C" fn uprobe_clear_state(mm: *mut bindings::mm_struct) {
    // SAFETY: The caller ensures that `mm` is valid.
    let mm = unsafe { Mm::from_raw(mm) };
    if ubp::is_probed(mm) {
        files::space_ended(mm);
    }
    // SAFETY: The caller ensures that `mm` has no users.
    unsafe { ubp::clear(mm) };
}

/// Called by a thread that gives up its address space.
///
/// # Safety
///
/// `task` must be the current task.
#[export]
unsafe extern "C" fn uprobe_free_utask(_task: *mut bindings::task_struct) {
    ubp::abandon();
    files::free_current();
}

/// Returns whether the pending signals of the current thread have to wait.
///
/// # Safety
///
/// Must be called by the signal code, on the way to user mode.
#[export]
unsafe extern "C" fn uprobe_deny_signal() -> bool {
    // SAFETY: The signal code calls this on the way to user mode.
    unsafe { ubp::deny_signal() }
}

/// Returns the address in the program of the instruction that has raised an exception.
///
/// # Safety
///
/// `regs` must be the registers that the exception has saved.
#[export]
unsafe extern "C" fn uprobe_get_trap_addr(regs: *mut bindings::pt_regs) -> c_ulong {
    // SAFETY: The caller ensures that `regs` points to the registers that the exception has saved.
    ubp::original_ip(unsafe { PtRegs::from_raw_mut(regs) }.ip())
}

/// Does nothing: `TIF_UPROBE` is never set here.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_notify_resume(_regs: *mut bindings::pt_regs) {}

/// Called when a file has been mapped. See [`files`].
///
/// # Safety
///
/// `vma` must be a valid mapping of a file, and the mmap lock of its address space must be held for
/// writing.
#[export]
unsafe extern "C" fn uprobe_mmap(vma: *mut bindings::vm_area_struct) -> c_int {
    // SAFETY: The caller holds the mmap lock, which keeps the mapping.
    files::mapped(unsafe { VmaRef::from_raw(vma) });
    0
}

/// Does nothing when mappings change: breakpoints belong to pages. See `ubp_unmap()`.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_munmap(
    _vma: *mut bindings::vm_area_struct,
    _start: c_ulong,
    _end: c_ulong,
) {
}

/// Does nothing before `fork()` copies an address space: the mmap lock serialises.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_start_dup_mmap() {}

/// Does nothing after `fork()` has copied an address space.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_end_dup_mmap() {}

/// Returns an invalid address: return probes do not replace return addresses.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_get_trampoline_vaddr() -> c_ulong {
    c_ulong::MAX
}

/// Returns whether the top of the current thread's stack is a return address: whether the thread is
/// at the entry of a function, or at an instruction by which the function returns. Unwinders with
/// frame pointers call this, to find the caller. A handler of a probe at the instruction must be
/// executing.
///
/// # Safety
///
/// `regs` must be the registers of the current thread in user mode.
#[export]
unsafe extern "C" fn is_uprobe_at_func_entry(regs: *mut bindings::pt_regs) -> bool {
    // SAFETY: The caller ensures that `regs` is valid. The field is read through the pointer
    // because the handler that is executing holds a reference to the registers.
    ubp::is_outside_of_frame(unsafe { (&raw const (*regs).ip).read() })
}
