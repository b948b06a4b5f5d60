// SPDX-License-Identifier: GPL-2.0

//! Lookup of the breakpoint for an `int3`.
//!
//! 1. The trap handler calls [`int3()`] directly, with interrupts disabled.
//! 2. [`int3()`] looks up the address in the map of the address space. If the map has an armed
//!    breakpoint there, its owner gets the [`Hit`], and decides how to handle it.
//! 3. Otherwise [`int3()`] compares text and map under the mmap lock. An `int3` in the text that
//!    the map does not have is *foreign*: it belongs to the program or to a debugger, and leads to
//!    SIGTRAP as usual. If the text holds no `int3`, the breakpoint was removed after the thread
//!    had trapped. If the map has a breakpoint now, it was inserted after the lookup. In both cases
//!    the thread executes the text again.
//!
//! Steps 1 and 2 do not allocate, take a lock, write to a cache line that CPUs share, or look at
//! mappings, with two rare exceptions: a thread that is to be stepped in an XOL slot takes a
//! reference to the breakpoint, and the first hit for which an emulation is not exact takes the
//! mmap lock to get a slot.

use crate::{
    breakpoint::BreakpointState,
    hit::Hit,
    insert::take_out_executed,
    space::Space,
    step,
    text, //
};

use kernel::{
    current,
    mm::write::MmapWrite,
    ptregs::PtRegs,
    sync::tasks_trace,
    trap::Trap,
    uaccess::UserPtr,
    user_thread, //
};
use ubp_arch::{
    Vaddr,
    BREAKPOINT,
    BREAKPOINT_SIZE, //
};

/// Handles an `int3` of the current thread. Returns whether it is or was an `int3` of UBP.
#[inline]
pub(crate) fn int3(regs: &mut PtRegs, trap: Trap) -> bool {
    let at = breakpoint_address(regs);
    let hit = match Hit::new(trap, |trap, guard| {
        Space::from_mm(trap.mm())?.armed(at, guard)
    }) {
        Ok(hit) => hit,
        Err(trap) => return not_armed(regs, trap),
    };
    regs.set_ip(at.as_usize());
    // The thread never resumes behind the `int3`, so a trap flag must not trap for the `int3`.
    regs.forget_software_event();
    // Both calls are tail calls, so that this function needs no stack frame.
    if hit.insn().is_of_usual_segment(regs) {
        hit.notify_owner(regs).done()
    } else {
        hit.in_other_segment(regs).done()
    }
}

/// Returns the address of the `int3` that a thread has executed.
#[inline]
fn breakpoint_address(regs: &PtRegs) -> Vaddr {
    Vaddr::new(regs.ip().wrapping_sub(BREAKPOINT_SIZE))
}

/// The two-byte form of `int $3`, which leads to the same trap.
const LONG_BREAKPOINT: (Option<u8>, Option<u8>) = (Some(0xcd), Some(0x03));

/// Handles an `int3` of the current thread where no breakpoint is armed. Returns whether the `int3`
/// is or was one of UBP.
#[cold]
#[inline(never)]
fn not_armed(regs: &mut PtRegs, mut trap: Trap) -> bool {
    let is_ours =
        trap.with_interrupts(|| step::finish_second_copy(regs) || restart_if_removed(regs));
    if is_ours {
        regs.forget_software_event();
    }
    is_ours
}

/// Makes the current thread execute the text again, unless the `int3` that it has executed is
/// foreign. Returns whether the thread does so.
///
/// Between the trap and the lookup the breakpoint may have been removed, other breakpoints may have
/// been inserted and removed, and another one may be there now. Therefore text and map are compared
/// under the lock that excludes insertion and removal. If the thread has been killed and does not
/// get the lock, the result does not matter.
#[cold]
fn restart_if_removed(regs: &mut PtRegs) -> bool {
    let at = breakpoint_address(regs);
    let task = current!();
    let Some((mm, space)) = task.mm().and_then(|mm| Some((mm, Space::from_mm(mm)?))) else {
        return false;
    };
    let foreign = mm
        .mmap_write_lock_killable()
        .is_ok_and(|mmap| is_foreign(space, &mmap, at));
    if !foreign {
        regs.set_ip(at.as_usize());
    }
    !foreign
}

/// Returns whether the `int3` that a thread has executed at `at` is still in the text, and is
/// foreign.
fn is_foreign(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> bool {
    let before = Vaddr::new(at.as_usize().wrapping_sub(1));
    match (byte(mmap, before), byte(mmap, at)) {
        (_, Some(BREAKPOINT)) => {
            let known = space.known(at, &tasks_trace::read_lock()).cloned();
            match known.map(|bp| bp.state()) {
                Some(BreakpointState::Armed) => false,
                Some(BreakpointState::Stale | BreakpointState::Lost) => {
                    // On failure the thread executes the `int3` again, unless it has been killed.
                    // An `int3` that remains afterwards is the program's own.
                    take_out_executed(space, mmap, at).is_ok() && byte(mmap, at) == Some(BREAKPOINT)
                }
                Some(BreakpointState::Overwritten | BreakpointState::Removed) | None => true,
            }
        }
        LONG_BREAKPOINT => true,
        // If the text is not present, the thread faults it in, or gets the signal of the fault.
        _ => false,
    }
}

/// Reads one byte of text that is present.
///
/// In a private mapping, where breakpoints are, the byte is read through the page tables and not by
/// an access to its address, because the TLB of a CPU may still have a page that is being discarded
/// and is no longer in the page tables. [`MmapWrite::vma_lookup`] excludes threads that discard
/// pages under the lock of a mapping.
fn byte(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<u8> {
    if mmap.vma_lookup(at.as_usize())?.is_private() {
        text::read_byte(mmap, at)
    } else {
        user_thread::peek::<u8>(UserPtr::from_addr(at.as_usize())).ok()
    }
}
