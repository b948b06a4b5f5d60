// SPDX-License-Identifier: GPL-2.0

//! The current thread, when a trap has brought it from user mode into the kernel.
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

/// Evidence that the current thread is in a trap from user mode, with interrupts disabled.
///
/// Such a trap runs on the thread's own stack and may, as a page fault does, enable interrupts and
/// sleep.
///
/// # Invariants
///
/// The current thread has come from user mode. Interrupts are disabled while a value exists and
/// [`Trap::with_interrupts`] is not executing.
pub struct Trap(NotThreadSafe);

impl Trap {
    /// Tells of a trap.
    ///
    /// # Safety
    ///
    /// The current thread is in a trap that it took in user mode; interrupts are disabled and were
    /// enabled in user mode, and no lock is held.
    #[inline]
    pub unsafe fn new() -> Self {
        // INVARIANT: By the requirement on the caller.
        Self(NotThreadSafe)
    }

    /// Returns the address space of the current thread.
    #[inline]
    pub fn mm(&self) -> &MmWithUser {
        // SAFETY: By the type invariants the thread executes in user mode, and so in an address
        // space, of which it is a user until it gives it up; it does not in this trap.
        unsafe { MmWithUser::from_raw((*Task::current_raw()).mm) }
    }

    /// Calls `f` with interrupts enabled: it may sleep, and access user memory.
    #[inline]
    pub fn with_interrupts<R>(&mut self, f: impl FnOnce() -> R) -> R {
        // SAFETY: By the type invariants interrupts are disabled, and the trap is of a kind that
        // may enable them.
        unsafe { bindings::local_irq_enable() };
        let ret = f();
        // SAFETY: Enabled above.
        //
        // INVARIANT: Disabled again.
        unsafe { bindings::local_irq_disable() };
        ret
    }
}

/// The CPU's number of a page fault.
#[cfg(CONFIG_X86_64)]
pub const PAGE_FAULT: usize = 14;

/// Sends the current thread the signal of an access to memory that is not to be had.
///
/// Must be called with interrupts enabled.
#[cfg(CONFIG_X86_64)]
pub fn force_fault(addr: usize, write: bool) {
    // The CPU's bits in the error code of a page fault.
    const X86_PF_WRITE: c_ulong = 1 << 1;
    const X86_PF_USER: c_ulong = 1 << 2;
    let error_code = X86_PF_USER | if write { X86_PF_WRITE } else { 0 };
    // SAFETY: These are fields of the current thread, which nobody else writes to.
    unsafe {
        let thread = &raw mut (*Task::current_raw()).thread;
        (*thread).cr2 = addr;
        (*thread).error_code = error_code;
        (*thread).trap_nr = PAGE_FAULT;
    }
    // SAFETY: May be called for the current thread at any time.
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
    // The bit of DR6 for a single-step.
    const DR_STEP: c_ulong = 1 << 14;

    // SAFETY: The field is valid as long as the current thread, which alone writes to it. The debug
    // trap of the CPU leaves the same for `PTRACE_PEEKUSER`.
    unsafe { (*Task::current_raw()).thread.virtual_dr6 = DR_STEP };
    // SAFETY: `regs` is valid, and of the current thread by its type's invariants.
    unsafe { bindings::send_sigtrap(regs.as_ptr(), 0, bindings::TRAP_TRACE as c_int) };
}

/// The number of the current thread's last trap, which a signal that a trap sends carries along.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn trap_nr() -> usize {
    // SAFETY: A field of the current thread, which nobody else writes to.
    unsafe { (*Task::current_raw()).thread.trap_nr }
}

/// Sets the number of the current thread's last trap.
///
/// Setting it to a number that no trap has tells later whether there was one.
#[cfg(CONFIG_X86_64)]
#[inline]
pub fn set_trap_nr(nr: usize) {
    // SAFETY: As above.
    unsafe { (*Task::current_raw()).thread.trap_nr = nr };
}
