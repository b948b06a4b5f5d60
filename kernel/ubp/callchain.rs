// SPDX-License-Identifier: GPL-2.0

//! Callchains of threads at a hit.

use crate::{
    hit::is_in_hit,
    space::Space, //
};

use kernel::{
    current,
    sync::tasks_trace, //
};
use ubp_arch::Vaddr;

/// Returns whether the return address of the current thread's function is at the top of the stack,
/// and the frame pointer is that of the function's caller. This is the case if the owner of a
/// breakpoint is being called, and [the displaced
/// instruction](ubp_arch::ProbedInsn::is_outside_of_frame) is one that functions begin or end with.
///
/// `ip` is the instruction pointer of the current thread in user mode. Context: any, even an NMI.
pub fn is_outside_of_frame(ip: usize) -> bool {
    if !is_in_hit() {
        return false;
    }
    let task = current!();
    let Some(space) = task.mm().and_then(Space::from_mm) else {
        return false;
    };
    // If a handler has moved the thread elsewhere, this lookup finds no breakpoint.
    let guard = tasks_trace::read_lock();
    space
        .armed(Vaddr::new(ip), &guard)
        .is_some_and(|bp| bp.insn().is_outside_of_frame())
}
