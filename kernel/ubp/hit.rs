// SPDX-License-Identifier: GPL-2.0

//! What happens when a thread executes an `int3`.
//!
//! 1. The trap handler calls [`int3`] directly, with interrupts disabled.
//! 2. The address is looked up in the address space's map. If there is no breakpoint of ours, and
//!    the text holds an `int3`, that is somebody else's, and leads to SIGTRAP as ever. If it does
//!    not, the breakpoint was taken out while the thread was on its way here, which then executes
//!    the instruction that is there now. So it does if another breakpoint has been inserted at the
//!    address meanwhile.
//! 3. The owner is called; first with interrupts disabled, then, if it asks for that, in task
//!    context.
//! 4. Unless the owner has moved the instruction pointer, the displaced instruction is emulated, or
//!    the thread is sent to its copy in a slot (see [`crate::slot`]).
//!
//! Nothing of this allocates, takes a lock, writes to a cache line that CPUs share, or looks at
//! mappings. Exceptions, all of them rare: a thread that is to be stepped in a slot takes a
//! reference to the breakpoint; step 2 takes the mmap lock when it finds nothing; and so does the
//! first hit for which an emulation is not exact, to get a slot.

use crate::{
    breakpoint::{
        Breakpoint,
        State,
        Then, //
    },
    insert::{
        disarm,
        make_slot_late,
        take_out_outdated, //
    },
    private_text, slot,
    space::Space,
    step,
};

use kernel::{
    current,
    mm::MmWithUser,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        tasks_trace,
        Arc, //
    },
    task::Task,
    trap::{
        force_step_trap,
        Trap, //
    },
    uaccess::UserPtr,
    user_thread, //
};
use ubp_arch::{
    CurrentThread,
    Emulated,
    Mode,
    Vaddr,
    BREAKPOINT,
    BREAKPOINT_SIZE, //
};

/// Handles an `int3` of the current thread. Returns whether it was, or had been, one of ours.
#[inline]
pub(crate) fn int3(regs: &mut PtRegs, trap: &mut Trap) -> bool {
    let task = current!();
    let Some(mm) = task.mm() else { return false };
    let Some(space) = Space::of(mm) else {
        return false;
    };
    let at = Vaddr::new(regs.ip().wrapping_sub(BREAKPOINT_SIZE));
    let guard = tasks_trace::read_lock();
    let Some(bp) = space.armed(at, &guard) else {
        drop(guard);
        return trap.with_interrupts(|| {
            step::finish_by_breakpoint(regs) || restart_if_removed(space, mm, regs, at)
        });
    };

    regs.set_ip(at.as_usize());
    if Mode::of(regs) != Some(bp.insn().mode()) {
        trap.with_interrupts(|| in_other_mode(space, mm, bp));
        return true;
    }
    set_in_hit(true);
    let then = bp.owner().hit_in_interrupt(regs, &guard);
    trap.with_interrupts(|| {
        match then {
            Then::Resume => (),
            Then::Task => bp.owner().hit(regs, &guard),
            Then::Remove => {
                // On failure the next hit tries again.
                let _ = disarm(space, mm, bp);
            }
        }
        set_in_hit(false);
        if regs.ip() == at.as_usize() {
            resume(space, mm, bp, regs);
        }
    });
    true
}

/// `int $3` in its form of two bytes, which leads to the same trap.
const LONG_BREAKPOINT: (Option<u8>, Option<u8>) = (Some(0xcd), Some(0x03));

#[inline]
fn set_in_hit(in_hit: bool) {
    // SAFETY: Only the current thread accesses its own state.
    unsafe { (*Task::current_raw()).ubp.in_hit = in_hit };
}

/// Returns whether the caller has been called by [`crate::OnHit`], so that it must not wait for
/// hits to end.
pub fn is_in_hit() -> bool {
    // SAFETY: Only the current thread accesses its own state.
    unsafe { (*Task::current_raw()).ubp.in_hit }
}

/// Waits until the owners of breakpoints that have been taken out are called no more. A caller that
/// has been called by one does not wait: it would be for itself.
///
/// Somebody waits for this, who has had text and static keys changed, which interrupts the CPUs as
/// much as an expedited grace period does.
///
/// Context: may sleep.
pub fn wait_for_hits() {
    if !is_in_hit() {
        tasks_trace::synchronize_expedited();
    }
}

/// There was no breakpoint at `at`, where a thread has executed an `int3`. Finds out whether there
/// had been one.
///
/// Between the trap and the lookup the breakpoint may have been taken out, others may have come and
/// gone, and the next may be there now. So text and map are compared with breakpoints kept from
/// coming and going.
#[cold]
fn restart_if_removed(space: &Space, mm: &MmWithUser, regs: &mut PtRegs, at: Vaddr) -> bool {
    let before = Vaddr::new(at.as_usize().wrapping_sub(1));
    let foreign = mm.mmap_write_lock_killable().is_ok_and(|mmap| {
        let byte = |at: Vaddr| match user_thread::peek_u8(UserPtr::from_addr(at.as_usize())) {
            Ok(byte) => Some(byte),
            Err(_) => private_text::read_byte(&mmap, at),
        };
        match (byte(before), byte(at)) {
            (_, Some(BREAKPOINT)) => {
                let present = space.present(at, &tasks_trace::read_lock()).cloned();
                match present.map(|bp| bp.state()) {
                    Some(State::Armed) => false,
                    // On failure the thread comes here again, unless it has been killed.
                    Some(State::Outdated) => {
                        let _ = take_out_outdated(space, &mmap, at);
                        false
                    }
                    _ => true,
                }
            }
            LONG_BREAKPOINT => true,
            // If the text cannot be read, neither can it be executed: the thread will find out.
            _ => false,
        }
    });
    if !foreign {
        regs.set_ip(at.as_usize());
    }
    !foreign
}

/// The thread executes code of another kind than its process began with, as emulators of other
/// systems do: what the breakpoint displaces is another instruction than was analysed. There is no
/// probing that.
#[cold]
fn in_other_mode(space: &Space, mm: &MmWithUser, bp: &Arc<Breakpoint>) {
    // On failure the thread comes here again, unless it has been killed.
    let _ = disarm(space, mm, bp);
}

/// Makes up for the instruction that the breakpoint displaces.
#[inline]
fn resume(space: &Space, mm: &MmWithUser, bp: &Arc<Breakpoint>, regs: &mut PtRegs) {
    match bp.insn().emulate(regs, &mut CurrentThread::new()) {
        Emulated::Done { deliver_trap: true } => force_step_trap(regs),
        Emulated::Done {
            deliver_trap: false,
        } => (),
        Emulated::Boost(_) => {
            if let Some(slot) = bp.slot() {
                slot::enter(slot, regs);
            }
        }
        Emulated::Step(insn) => {
            let made = match bp.slot() {
                Some(_) => Ok(()),
                None => make_slot_late(space, mm, bp),
            };
            match made {
                Ok(()) => step::begin(bp, insn, regs),
                // The thread executes what is there now.
                Err(ENOENT) => (),
                // The thread is not to pay for it. If this fails too, it comes here again.
                Err(_) => drop(disarm(space, mm, bp)),
            }
        }
    }
}
