// SPDX-License-Identifier: GPL-2.0

//! What the rest of the kernel calls, of `include/linux/uprobes.h`, where it knows of uprobes.
//!
//! Some of these call sites are of use to probes by file only. There is nothing to do for them.

use crate::{
    c_known,
    follow,
    probepoint,
    watch, //
};

use kernel::{
    bindings,
    mm::{
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
/// Called once, before there is user mode.
#[export]
unsafe extern "C" fn uprobes_init() {
    // SAFETY: This is the only call, and nothing can be probed before it, by the safety
    // requirements.
    unsafe {
        probepoint::init();
        watch::init();
    }
    c_known::init();
}

/// `oldmm` is about to be copied to `newmm`.
///
/// # Safety
///
/// Both are valid and have users; the mmap lock of `oldmm` is held for writing.
#[export]
unsafe extern "C" fn uprobe_dup_mmap(
    oldmm: *mut bindings::mm_struct,
    newmm: *mut bindings::mm_struct,
) {
    // SAFETY: By the requirement on the caller.
    unsafe { ubp::fork_start(MmWithUser::from_raw(oldmm), MmWithUser::from_raw(newmm)) };
}

/// The current thread has created `child`, which has not run.
///
/// # Safety
///
/// `child` is valid; no lock is held.
#[export]
unsafe extern "C" fn uprobe_copy_process(child: *mut bindings::task_struct, flags: u64) {
    if flags & u64::from(bindings::CLONE_THREAD) != 0 {
        return;
    }
    // SAFETY: By the requirement on the caller. CAST: `Task` is a transparent wrapper.
    let child = unsafe { &*child.cast::<Task>() };
    follow::inherit(child);
}

/// `mm` has no user left.
///
/// # Safety
///
/// `mm` is valid, and its `mm_users` is zero.
#[export]
unsafe extern "C" fn uprobe_clear_state(mm: *mut bindings::mm_struct) {
    // SAFETY: By the requirement on the caller.
    unsafe { ubp::clear(Mm::from_raw(mm)) };
}

/// A thread gives up its address space.
///
/// # Safety
///
/// `task` is the current one.
#[export]
unsafe extern "C" fn uprobe_free_utask(_task: *mut bindings::task_struct) {
    ubp::abandon();
}

/// Says whether the pending signals of the current thread are to wait.
///
/// # Safety
///
/// Called on the way to user mode, by the signal code.
#[export]
unsafe extern "C" fn uprobe_deny_signal() -> bool {
    // SAFETY: By the requirement on the caller.
    unsafe { ubp::deny_signal() }
}

/// Where the program has the instruction that has raised an exception.
///
/// # Safety
///
/// `regs` are those that the exception has saved.
#[export]
unsafe extern "C" fn uprobe_get_trap_addr(regs: *mut bindings::pt_regs) -> c_ulong {
    // SAFETY: By the requirement on the caller.
    ubp::stream_ip(unsafe { PtRegs::from_raw_mut(regs) }.ip())
}

/// `TIF_UPROBE` is for C's uprobes, and nobody sets it here.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_notify_resume(_regs: *mut bindings::pt_regs) {}

/// A file has been mapped: nothing to do, probes are not by file.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_mmap(_vma: *mut bindings::vm_area_struct) -> c_int {
    0
}

/// The layout of mappings changes: nothing to do, breakpoints are of pages. See `ubp_unmap()`.
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

/// `fork()` begins to copy an address space: nothing to do, the mmap lock serialises.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_start_dup_mmap() {}

/// `fork()` has copied an address space.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_end_dup_mmap() {}

/// Return addresses are not replaced.
///
/// # Safety
///
/// None.
#[export]
unsafe extern "C" fn uprobe_get_trampoline_vaddr() -> c_ulong {
    c_ulong::MAX
}

/// Returns whether the current thread is at an instruction where the return address is on the top
/// of the stack, which frame pointer unwinders then take for the caller: the entry of a function,
/// or an instruction by which it returns. The handlers of a probe there must be executing.
///
/// # Safety
///
/// `regs` are the registers of the current thread in user mode.
#[export]
unsafe extern "C" fn is_uprobe_at_func_entry(regs: *mut bindings::pt_regs) -> bool {
    // SAFETY: `regs` is valid by the safety requirements. The field is read through the pointer
    // because the handler that is executing holds a reference to the registers.
    ubp::is_outside_of_frame(unsafe { (&raw const (*regs).ip).read() })
}
