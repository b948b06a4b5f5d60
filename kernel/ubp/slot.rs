// SPDX-License-Identifier: GPL-2.0

//! A thread that executes a copy in a slot without being stepped.
//!
//! Nothing records that it does, but its instruction pointer, and that its last trap has no number.
//! Nobody else is to see an address in a slot, and the handlers of the breakpoint, which have been
//! called, are not to be called again for the same execution. So whoever looks at the instruction
//! pointer of the thread gets what [`stream_ip`] makes of it, and before the thread is stopped or
//! gets a signal, it is led out ([`leave`]):
//!
//! ```text
//!                 the jump
//!        +--------------------------------------------------------+
//!        |                                                        v
//!  At the copy --> Behind it --> settle(): at the next instruction, Running
//!   |    |                                                        ^
//!   |    | leave(): a signal waits                                | see crate::step
//!   |    +-----------------------------------------------> Stepping, in the same slot
//!   |
//!   | leave(): the signal must not wait, or the breakpoint has been taken out
//!   +-----------------------------------------------------> Running, at the instruction
//! ```
//!
//! See [`crate::step`] for the signals that must not wait.

use crate::{
    area::Place,
    breakpoint::Breakpoint,
    space::Space,
    step::{
        self,
        TrapNumber, //
    },
};

use kernel::{
    current,
    ptregs::PtRegs,
    sync::{
        tasks_trace::{
            self,
            Guard, //
        },
        Arc, //
    },
    task::Task, //
};
use ubp_arch::{
    SlotAddr,
    Vaddr, //
};

/// Sends the current thread to a slot, from which it comes back by itself.
#[inline]
pub(crate) fn enter(slot: SlotAddr, regs: &mut PtRegs) {
    TrapNumber::current().forget();
    regs.set_ip(slot.as_usize());
}

/// Calls `f` with what is known of the current thread's address space, if it has had breakpoints.
#[inline]
fn with_space<R>(f: impl FnOnce(&Space, &Guard) -> R) -> Option<R> {
    let guard = tasks_trace::read_lock();
    let task = current!();
    let space = Space::of_any(task.mm()?, &guard)?;
    Some(f(space, &guard))
}

/// Returns where in a slot an instruction pointer is.
#[inline]
fn place(space: &Space, ip: usize, guard: &Guard) -> Option<Place> {
    space.area(ip, guard)?.place(ip)
}

/// Returns an instruction pointer of the current thread as the program knows it.
///
/// Context: any, even an NMI.
pub fn stream_ip(ip: usize) -> usize {
    with_space(|space, guard| place(space, ip, guard))
        .flatten()
        .map_or(ip, |place| place.stream().as_usize())
}

/// Returns an instruction pointer of a thread that need not be the current one, as its program
/// knows it.
///
/// Context: does not sleep; takes `task_lock`.
pub(crate) fn stream_ip_of(task: &Task, ip: usize) -> usize {
    let guard = tasks_trace::read_lock();
    task.with_mm(|mm| place(Space::of_any(mm, &guard)?, ip, &guard))
        .flatten()
        .map_or(ip, |place| place.stream().as_usize())
}

/// Takes the current thread out of the slot if it is behind the copy. One that is stepping is not
/// done there: it has yet to come to its trap, or to the breakpoint behind a second copy.
pub(crate) fn settle(regs: &mut PtRegs) {
    if step::is_stepping() {
        return;
    }
    let found = with_space(|space, guard| place(space, regs.ip(), guard)).flatten();
    if let Some(Place::Done { next }) = found {
        regs.set_ip(next.as_usize());
    }
}

/// The current thread has given up a page fault, which it has taken at `regs`, for a signal. If it
/// is in a slot, the signal must not wait for the instruction.
pub(crate) fn fault_interrupted(regs: &PtRegs) {
    let found = with_space(|space, guard| place(space, regs.ip(), guard)).flatten();
    if found.is_some() {
        TrapNumber::current().set_page_fault();
    }
}

/// Takes the current thread, which has a signal, out of the slot, if it is in one and not stepping.
/// Returns whether the signal has to wait, as the thread has to be stepped for that; `may_wait`
/// says whether it can.
pub(crate) fn leave(regs: &mut PtRegs, may_wait: impl FnOnce() -> bool) -> bool {
    let trapped = TrapNumber::current().recall();
    with_space(|space, guard| match place(space, regs.ip(), guard) {
        None => false,
        Some(Place::Done { next }) => {
            regs.set_ip(next.as_usize());
            false
        }
        Some(Place::Insn { at, slot }) => {
            let goes_on = !trapped && may_wait();
            match breakpoint_of(space, slot, at, guard).filter(|_| goes_on) {
                Some(bp) => step::begin_denied(bp, regs),
                None => {
                    regs.set_ip(at.as_usize());
                    false
                }
            }
        }
    })
    .unwrap_or(false)
}

/// Returns the breakpoint that a slot belongs to, unless it has been taken out.
fn breakpoint_of<'a>(
    space: &'a Space,
    slot: SlotAddr,
    at: Vaddr,
    guard: &'a Guard,
) -> Option<&'a Arc<Breakpoint>> {
    space
        .map
        .get(at.as_usize(), guard)
        .filter(|bp| bp.slot().is_some_and(|its| its.addr() == slot))
}
