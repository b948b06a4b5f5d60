// SPDX-License-Identifier: GPL-2.0

//! Cross-CPU calls.
//!
//! C header: [`include/linux/smp.h`](srctree/include/linux/smp.h)

use crate::{
    bindings,
    cpumask::Cpumask,
    prelude::*, //
};

/// Waits until every online CPU of `mask` has taken an interrupt that was sent after the call.
///
/// Such a CPU no longer executes the user-mode code that it executed before the call, since it is,
/// or was, in the kernel. The function waits without sleeping. Interrupts must be enabled, and the
/// caller must not hold a lock that is also taken with interrupts disabled.
pub fn interrupt_cpus(mask: &Cpumask) {
    extern "C" fn nothing(_info: *mut c_void) {}

    // SAFETY: `nothing` may run in any context and uses no argument. `mask` is valid until the call
    // returns, and the call waits for the last use of it.
    unsafe {
        bindings::on_each_cpu_cond_mask(
            None,
            Some(nothing),
            core::ptr::null_mut(),
            true,
            mask.as_raw(),
        )
    };
}

/// Makes this CPU take an interrupt as soon as it can, for example before a thread that has
/// interrupts disabled goes to user mode. On a single-CPU kernel this is the next tick's interrupt.
pub fn interrupt_self() {
    // SAFETY: The function may be called from any context.
    unsafe { bindings::interrupt_this_cpu() };
}
