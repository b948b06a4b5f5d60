// SPDX-License-Identifier: GPL-2.0

//! What happens when a thread executes an `int3`.
//!
//! 1. The trap handler calls [`int3()`] directly, with interrupts disabled.
//! 2. The address is looked up in the address space's map. If there is no breakpoint of ours, and
//!    the text holds an `int3`, that is somebody else's, and leads to SIGTRAP as ever. If it does
//!    not, the breakpoint was taken out while the thread was on its way here, which then executes
//!    the instruction that is there now. So it does if another breakpoint has been inserted at the
//!    address meanwhile.
//! 3. The owner gets the [`Hit`], with which it goes on as it likes.
//!
//! Nothing of this allocates, takes a lock, writes to a cache line that CPUs share, or looks at
//! mappings. Exceptions, all of them rare: a thread that is to be stepped in a slot takes a
//! reference to the breakpoint; step 2 takes the mmap lock when it finds nothing; and so does the
//! first hit for which an emulation is not exact, to get a slot.

use crate::{
    breakpoint::State,
    hit::Hit,
    insert::take_out_executed,
    private_text,
    space::Space,
    step, //
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

/// Handles an `int3` of the current thread. Returns whether it was, or had been, one of ours.
#[inline]
pub(crate) fn int3(regs: &mut PtRegs, trap: Trap) -> bool {
    let at = breakpoint_address(regs);
    let hit = match Hit::new(trap, |trap, guard| Space::of(trap.mm())?.armed(at, guard)) {
        Ok(hit) => hit,
        Err(trap) => return not_armed(regs, trap),
    };
    regs.set_ip(at.as_usize());
    // Wherever the thread goes on, it is not behind the `int3`.
    regs.forget_software_event();
    // Either is the last thing that is done here, so that it takes no frame to come back to.
    if hit.insn().is_of_usual_segment(regs) {
        hit.tell_owner(regs).done()
    } else {
        hit.in_other_segment(regs).done()
    }
}

/// Where the `int3` is that a thread has executed.
#[inline]
fn breakpoint_address(regs: &PtRegs) -> Vaddr {
    Vaddr::new(regs.ip().wrapping_sub(BREAKPOINT_SIZE))
}

/// `int $3` in its form of two bytes, which leads to the same trap.
const LONG_BREAKPOINT: (Option<u8>, Option<u8>) = (Some(0xcd), Some(0x03));

/// No breakpoint is armed where a thread has executed an `int3`. Returns whether that was ours, or
/// had been.
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

/// There was no breakpoint where a thread has executed an `int3`. Finds out whether there had been
/// one.
///
/// Between the trap and the lookup the breakpoint may have been taken out, others may have come and
/// gone, and the next may be there now. So text and map are compared with breakpoints kept from
/// coming and going.
#[cold]
fn restart_if_removed(regs: &mut PtRegs) -> bool {
    let at = breakpoint_address(regs);
    let task = current!();
    let Some((mm, space)) = task.mm().and_then(|mm| Some((mm, Space::of(mm)?))) else {
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

/// Returns whether the `int3` that a thread has executed at `at` is there, and is not ours.
fn is_foreign(space: &Space, mmap: &MmapWrite<'_>, at: Vaddr) -> bool {
    let before = Vaddr::new(at.as_usize().wrapping_sub(1));
    match (byte(mmap, before), byte(mmap, at)) {
        (_, Some(BREAKPOINT)) => {
            let known = space.known(at, &tasks_trace::read_lock()).cloned();
            match known.map(|bp| bp.state()) {
                Some(State::Armed) => false,
                Some(State::Outdated | State::Lost) => {
                    // On failure the thread comes here again, unless it has been killed. An `int3`
                    // that is still there afterwards is the program's own.
                    take_out_executed(space, mmap, at).is_ok() && byte(mmap, at) == Some(BREAKPOINT)
                }
                Some(State::Covered | State::Gone) | None => true,
            }
        }
        LONG_BREAKPOINT => true,
        // If the text is not present, the thread faults it in, or finds out that it cannot.
        _ => false,
    }
}

/// Reads one byte of text that is present.
///
/// It is read through the page tables and not by an access to its address, because a page that is
/// being discarded may be there for a CPU, in its TLB, when it is not in the page tables any more.
/// [`MmapWrite::vma_lookup`] keeps others out that discard pages under the lock of a mapping.
fn byte(mmap: &MmapWrite<'_>, at: Vaddr) -> Option<u8> {
    if mmap.vma_lookup(at.as_usize())?.is_private() {
        private_text::read_byte(mmap, at)
    } else {
        user_thread::peek::<u8>(UserPtr::from_addr(at.as_usize())).ok()
    }
}
