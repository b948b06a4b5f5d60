// SPDX-License-Identifier: GPL-2.0

//! Traps of the current thread from user mode.
//!
//! C headers: [`include/linux/irqflags.h`](srctree/include/linux/irqflags.h),
//! [`include/linux/sched/signal.h`](srctree/include/linux/sched/signal.h)

use crate::{
    bindings,
    mm::MmWithUser,
    prelude::*,
    task::Task,
    types::NotThreadSafe, //
};

/// Proof that the current thread is in a trap from user mode, with interrupts disabled.
///
/// Such a trap runs on the thread's own stack. Like a page fault, it may enable interrupts and
/// sleep.
///
/// # Invariants
///
/// The current thread has entered the kernel from user mode. Interrupts are disabled while a value
/// exists, except during [`Trap::with_interrupts`].
pub struct Trap(NotThreadSafe);

impl Trap {
    /// Creates the proof.
    ///
    /// # Safety
    ///
    /// The current thread must be in a trap that it took in user mode. Interrupts must be disabled
    /// and must have been enabled in user mode, and no lock may be held.
    #[inline]
    pub unsafe fn new() -> Self {
        // INVARIANT: The caller guarantees that the thread came from user mode and that interrupts
        // are disabled.
        Self(NotThreadSafe)
    }

    /// Returns the address space of the current thread.
    #[inline]
    pub fn mm(&self) -> &MmWithUser {
        // SAFETY: By the type invariants, the thread came from user mode, and so it has an address
        // space. It is a user of that address space until it gives it up, which it does not do in
        // this trap.
        unsafe { MmWithUser::from_raw((*Task::current_raw()).mm) }
    }

    /// Calls `f` with interrupts enabled. `f` may sleep and access user memory.
    #[inline]
    pub fn with_interrupts<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants, interrupts are disabled, and this kind of trap may enable
        // them.
        unsafe { bindings::local_irq_enable() };
        let ret = f();
        // SAFETY: Interrupts were disabled when this function was called, and have been enabled
        // above.
        //
        // INVARIANT: Interrupts are disabled again.
        unsafe { bindings::local_irq_disable() };
        ret
    }
}

/// The CPU's vector of a page fault.
#[cfg(CONFIG_X86_64)]
pub const PAGE_FAULT: usize = 14;

/// Sends the current thread the signal of a page fault that cannot be resolved.
///
/// Must be called with interrupts enabled.
#[cfg(CONFIG_X86_64)]
pub fn force_fault(addr: usize, write: bool) {
    // Bits of the error code of a page fault.
    const X86_PF_WRITE: c_ulong = 1 << 1;
    const X86_PF_USER: c_ulong = 1 << 2;
    let error_code = X86_PF_USER | if write { X86_PF_WRITE } else { 0 };
    // SAFETY: The fields are valid as long as the current thread, and no one else writes to them.
    unsafe {
        let thread = &raw mut (*Task::current_raw()).thread;
        (*thread).cr2 = addr;
        (*thread).error_code = error_code;
        (*thread).trap_nr = PAGE_FAULT;
    }
    // SAFETY: `force_sig_fault()` may be called for the current thread at any time.
    unsafe {
        bindings::force_sig_fault(
            bindings::SIGSEGV as c_int,
            bindings::SEGV_MAPERR as c_int,
            addr as *mut c_void,
        )
    };
}

/// Sends the current thread the signal of a single-step.
///
/// Must be called with interrupts enabled.
#[cfg(CONFIG_X86_64)]
pub fn force_step_trap(regs: &mut crate::ptregs::PtRegs) {
    // The single-step bit of DR6.
    const DR_STEP: c_ulong = 1 << 14;

    // SAFETY: The field is valid as long as the current thread, and only the current thread writes
    // to it. The debug trap handler leaves the same value for `PTRACE_PEEKUSER`.
    unsafe { (*Task::current_raw()).thread.virtual_dr6 = DR_STEP };
    // SAFETY: By the type invariants of `PtRegs`, `regs` is valid.
    unsafe { bindings::send_sigtrap(regs.as_ptr(), 0, bindings::TRAP_TRACE as c_int) };
}

/// Returns the number of the current thread's last trap, which the signals of traps report.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn trap_nr() -> usize {
    // SAFETY: The field is valid as long as the current thread, and no one else writes to it.
    unsafe { (*Task::current_raw()).thread.trap_nr }
}

/// Sets the number of the current thread's last trap.
///
/// A caller can set an invalid number to detect later whether there was a trap.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn set_trap_nr(nr: usize) {
    // SAFETY: The field is valid as long as the current thread, and no one else writes to it.
    unsafe { (*Task::current_raw()).thread.trap_nr = nr };
}
