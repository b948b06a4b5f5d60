// SPDX-License-Identifier: GPL-2.0

//! The trace events. See `include/trace/events/utrace.h`.

use kernel::{
    ffi::{
        c_char,
        c_int,
        c_long,
        c_ulong, //
    },
    ptregs::PtRegs,
    str::{
        CStr,
        CStrExt as _, //
    },
    syscall::{
        result_of_current,
        Call,
        Table, //
    },
    tracepoint::declare_trace,
    uaccess::UserPtr, //
};

declare_trace! {
    /// # Safety
    ///
    /// `args` is valid for reads of six values.
    unsafe fn utrace_sys_enter(nr: c_int, compat: bool, ip: c_ulong, args: *const c_ulong);

    /// # Safety
    ///
    /// None.
    unsafe fn utrace_sys_exit(nr: c_int, compat: bool, ip: c_ulong, result: c_long);

    /// # Safety
    ///
    /// `name` is valid for reads of `len` bytes.
    unsafe fn utrace_sys_path(
        nr: c_int,
        compat: bool,
        arg: c_int,
        ptr: c_ulong,
        name: *const c_char,
        len: usize,
    );
}

fn is_compat(table: Table) -> bool {
    match table {
        Table::Native => false,
        Table::Ia32 => true,
    }
}

/// The current thread begins a system call.
pub(crate) fn enter(regs: &PtRegs) {
    let call = Call::of_current(regs);

    // SAFETY: There are six arguments.
    unsafe {
        utrace_sys_enter(
            call.nr,
            is_compat(call.table),
            regs.ip(),
            call.args.as_ptr(),
        )
    };
}

/// The current thread is at the end of a system call.
pub(crate) fn exit(regs: &PtRegs) {
    let call = Call::of_current(regs);

    // SAFETY: No requirements.
    unsafe {
        utrace_sys_exit(
            call.nr,
            is_compat(call.table),
            regs.ip(),
            result_of_current(regs),
        )
    };
}

/// The kernel has copied a file name for the system call of the current thread.
pub(crate) fn path(regs: &PtRegs, ptr: UserPtr, name: &CStr) {
    let call = Call::of_current(regs);
    let ptr = ptr.as_const_ptr() as usize;
    // There are six arguments at most.
    let arg = call.position(ptr).map_or(-1, |index| index as c_int);

    // SAFETY: `name` is a string of this length.
    unsafe {
        utrace_sys_path(
            call.nr,
            is_compat(call.table),
            arg,
            ptr,
            name.as_char_ptr(),
            name.count_bytes(),
        )
    };
}
