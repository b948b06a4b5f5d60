// SPDX-License-Identifier: GPL-2.0

//! Trace events of system calls; see `include/trace/events/utrace.h`.

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
    /// `args` must be valid for reads of six values.
    unsafe fn utrace_sys_enter(nr: c_int, compat: bool, ip: c_ulong, args: *const c_ulong);

    /// # Safety
    ///
    /// This function has no requirements on its caller.
    unsafe fn utrace_sys_exit(nr: c_int, compat: bool, ip: c_ulong, result: c_long);

    /// # Safety
    ///
    /// `name` must be valid for reads of `len` bytes.
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

/// Records the beginning of a system call of the current thread.
pub(crate) fn enter(regs: &PtRegs) {
    let call = Call::from_current(regs);

    // SAFETY: `call.args` has six elements.
    unsafe {
        utrace_sys_enter(
            call.nr,
            is_compat(call.table),
            regs.ip(),
            call.args.as_ptr(),
        )
    };
}

/// Records the end of a system call of the current thread.
pub(crate) fn exit(regs: &PtRegs) {
    let call = Call::from_current(regs);

    // SAFETY: `utrace_sys_exit()` has no requirements on its caller.
    unsafe {
        utrace_sys_exit(
            call.nr,
            is_compat(call.table),
            regs.ip(),
            result_of_current(regs),
        )
    };
}

/// Records a file name that the kernel has copied for the system call of the current thread.
pub(crate) fn path(regs: &PtRegs, ptr: UserPtr, name: &CStr) {
    let call = Call::from_current(regs);
    let ptr = ptr.as_const_ptr() as usize;
    // `index` is less than six.
    let arg = call.position(ptr).map_or(-1, |index| index as c_int);

    // SAFETY: `name` is a `CStr` of this length.
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
