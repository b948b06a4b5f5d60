// SPDX-License-Identifier: GPL-2.0

//! Threads that execute a copy in a slot without being stepped.
//!
//! The only traces of such a thread are its instruction pointer, and the missing number of its last
//! trap. No other code may see an address in a slot, and the thread must not call the handlers of
//! the breakpoint twice for the same execution. Therefore readers of the thread's instruction
//! pointer get the original ip from [`original_ip`], and the thread leaves the slot
//! ([`leave_slot`]) before it is stopped or gets a signal:
//!
//! ```text
//!                 the jump
//!        +--------------------------------------------------------+
//!        |                                                        v
//!  At the copy --> Behind it --> fixup_ip(): at the next instruction, Running
//!   |    |                                                        ^
//!   |    | leave_slot(): a signal waits                           | see crate::step
//!   |    +-----------------------------------------------> Stepping, in the same slot
//!   |
//!   | leave_slot(): the signal must not wait, or the breakpoint has been removed
//!   +-----------------------------------------------------> Running, at the instruction
//! ```
//!
//! See [`crate::step`] for the signals that must not wait.

use crate::{
    area::SlotPosition,
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

/// Sends the current thread to a slot, which ends with a jump back to the program.
#[inline]
pub(crate) fn enter(slot: SlotAddr, regs: &mut PtRegs) {
    TrapNumber::current().forget();
    regs.set_ip(slot.as_usize());
}

/// Calls `f` with the space of the current thread's address space, if it has one.
#[inline]
fn with_space<R>(f: impl FnOnce(&Space, &Guard) -> R) -> Option<R> {
    let guard = tasks_trace::read_lock();
    let task = current!();
    let space = Space::from_any_mm(task.mm()?, &guard)?;
    Some(f(space, &guard))
}

/// Returns the place of an instruction pointer in a slot.
#[inline]
fn position(space: &Space, ip: usize, guard: &Guard) -> Option<SlotPosition> {
    space.area(ip, guard)?.position(ip)
}

/// Returns the original ip for an instruction pointer of the current thread.
///
/// Context: any, even an NMI.
pub fn original_ip(ip: usize) -> usize {
    with_space(|space, guard| position(space, ip, guard))
        .flatten()
        .map_or(ip, |position| position.original_ip().as_usize())
}

/// Returns the original ip for an instruction pointer of `task`, which may be another thread.
///
/// Context: does not sleep; takes `task_lock`.
pub(crate) fn original_ip_of(task: &Task, ip: usize) -> usize {
    let guard = tasks_trace::read_lock();
    task.with_mm(|mm| position(Space::from_any_mm(mm, &guard)?, ip, &guard))
        .flatten()
        .map_or(ip, |position| position.original_ip().as_usize())
}

/// Fixes up the instruction pointer of the current thread if it is behind the copy. Does nothing if
/// the thread is stepping: its trap, or the breakpoint behind a second copy, is still to come.
pub(crate) fn fixup_ip(regs: &mut PtRegs) {
    if step::is_stepping() {
        return;
    }
    let found = with_space(|space, guard| position(space, regs.ip(), guard)).flatten();
    if let Some(SlotPosition::BehindCopy { next }) = found {
        regs.set_ip(next.as_usize());
    }
}

/// Lets a signal interrupt a page fault of the current thread, which it has taken at `regs` and
/// given up for the signal. If the thread is in a slot, the signal must not wait for the
/// instruction.
pub(crate) fn fault_interrupted(regs: &PtRegs) {
    let found = with_space(|space, guard| position(space, regs.ip(), guard)).flatten();
    if found.is_some() {
        TrapNumber::current().set_page_fault();
    }
}

/// Takes the current thread, which has a signal, out of its slot, if it is in one and not stepping.
/// Returns whether the signal must wait because the thread has to be stepped. `may_wait` says
/// whether the signal may wait.
pub(crate) fn leave_slot(regs: &mut PtRegs, may_wait: impl FnOnce() -> bool) -> bool {
    let trapped = TrapNumber::current().recall();
    with_space(|space, guard| match position(space, regs.ip(), guard) {
        None => false,
        Some(SlotPosition::BehindCopy { next }) => {
            regs.set_ip(next.as_usize());
            false
        }
        Some(SlotPosition::AtCopy { at, slot }) => {
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

/// Returns the breakpoint that a slot belongs to, unless it has been removed.
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
