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
/// What such a CPU executed in user mode before the call it therefore does not execute any more:
/// it is, or was, in the kernel. Sleeps not, but waits; interrupts must be enabled, and no lock
/// may be held that is also taken with interrupts disabled.
pub fn interrupt_cpus(mask: &Cpumask) {
    extern "C" fn nothing(_info: *mut c_void) {}

    // SAFETY: `nothing` may run in any context and uses no argument, and `mask` is a valid mask
    // for the time of the call, which waits for the last use of it.
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

/// Has this CPU take an interrupt as soon as it can, as one on which a thread is about to go to
/// user mode with interrupts disabled. With a single CPU that is the next tick's.
pub fn interrupt_self() {
    // SAFETY: May be called from any context.
    unsafe { bindings::interrupt_this_cpu() };
}
