// SPDX-License-Identifier: GPL-2.0

//! Execution of a displaced instruction by the CPU, on a copy in an XOL slot.
//!
//! Most instructions do the same at any address, once an operand relative to the instruction
//! pointer is adjusted. Their copy is followed by a jump to the next instruction of the program, so
//! that the thread only has to be sent to the slot ([`XolStep::boost`]). This also works for a
//! conditional jump, since its copy itself leads to the target. A relative call is replaced by a
//! push of the return address and a jump to the target; this replacement does not push to a shadow
//! stack.
//!
//! A repeated instruction that must finish before a signal is delivered would trap after each
//! iteration if it were stepped. Therefore its slot holds a second copy, followed by a breakpoint
//! ([`XolStep::begin_in_second_copy`]).
//!
//! With the other instructions, and if the program is being stepped, the thread is sent to the slot
//! with the trap flag set, and comes back by the debug trap after one instruction. The effects of
//! the slot's address and of the trap flag are then corrected before anyone else can see them:
//!
//! - the instruction pointer, unless the instruction has set it to an absolute address;
//! - the return address that a call has pushed, on the stack and on the shadow stack. A relative
//!   call cannot be copied: a call to a nearby address, which has the same effect on both stacks,
//!   is stepped instead, and the thread is sent to the real target afterwards;
//! - the trap flag in a word that `pushf` has pushed.
//!
//! The reads and writes of `ret` and of indirect jumps need no correction, even with a shadow
//! stack, because all addresses are the program's.

use super::{
    decode::{
        Decoded,
        OpcodeMap,
        Prefixes, //
    },
    image::{
        branch_if,
        push_return,
        Relative,
        SECOND,
        SLOT_SIZE, //
    },
    Mode,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE, //
};
use crate::{
    Fault,
    Finished,
    SlotAddr,
    ThreadAccess,
    Vaddr,
    Width, //
};
use kernel::ptregs::{
    flags,
    PtRegs, //
};

/// The corrections that are necessary after the copy has been executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum After {
    /// The next instruction follows.
    Next,
    /// The next instruction follows, but there may be more iterations before it.
    Repeat,
    /// The instruction has set the instruction pointer.
    Branch,
    /// The instruction has set the instruction pointer, or the next instruction follows.
    BranchIf { target: usize },
    /// The instruction has set the instruction pointer, and pushed a return address.
    Call,
    /// The slot holds another call instead of this one. A call pushes to a shadow stack unless it
    /// goes to the next instruction: that is the CPU's rule.
    CallTo { target: usize, shadowed: bool },
    /// A word of `size` bytes with the flags has been pushed.
    PushFlags { size: u8 },
    /// The flags have been popped.
    PopFlags,
}

/// Whether a thread that is sent to the copy comes back by itself: by the jump behind the copy, or
/// because the instruction itself leads to an address of the program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Boost {
    Always,
    /// Only if the thread has no shadow stack.
    Unshadowed,
    Never,
}

/// An instruction that is executed from a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XolStep {
    pub(super) at: Vaddr,
    pub(super) next: usize,
    pub(super) width: Width,
    pub(super) len: u8,
    pub(super) code: [u8; MAX_INSN_SIZE],
    pub(super) relative: Option<Relative>,
    pub(super) after: After,
}

/// The state of a thread that [`XolStep::begin`] has changed.
#[must_use = "the step must be finished or aborted"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepState {
    slot: SlotAddr,
    trap_flag: bool,
    block_step: bool,
    is_forgotten: bool,
}

impl StepState {
    /// Returns the slot in which the thread is.
    #[inline]
    pub fn slot(&self) -> SlotAddr {
        self.slot
    }

    /// Returns whether [`XolStep::forget`] has ended the step.
    #[inline]
    pub fn is_forgotten(&self) -> bool {
        self.is_forgotten
    }
}

impl XolStep {
    pub(super) fn new(
        insn: &Decoded,
        bytes: &[u8; MAX_INSN_SIZE],
        at: Vaddr,
        width: Width,
        next: usize,
        target: usize,
    ) -> Self {
        let after = after(insn, next, target);
        let (code, len) = match after {
            After::CallTo { .. } => push_return(width, next),
            After::BranchIf { .. } => branch_if(insn.opcode),
            _ => (*bytes, insn.len),
        };
        Self {
            at,
            next,
            width,
            len,
            code,
            relative: insn.is_ip_relative().then_some(Relative {
                offset: insn.displacement_offset,
                is_32bit: insn.address_size == 4,
            }),
            after,
        }
    }

    /// Returns whether nothing has to be corrected after the copy, so that the thread need not be
    /// stepped.
    pub(super) fn boost(&self) -> Boost {
        match self.after {
            After::Next | After::Repeat | After::Branch | After::BranchIf { .. } => Boost::Always,
            After::CallTo { .. } => Boost::Unshadowed,
            After::Call | After::PushFlags { .. } | After::PopFlags => Boost::Never,
        }
    }

    /// Returns whether a jump follows the copy in a slot.
    pub(super) fn is_followed_by_jump(&self) -> bool {
        self.boost() != Boost::Never && self.after != After::Branch
    }

    /// Returns the address at which the program continues when the thread is behind the copy.
    pub fn behind(&self) -> usize {
        match self.after {
            After::CallTo { target, .. } => target,
            After::Next
            | After::Repeat
            | After::Branch
            | After::BranchIf { .. }
            | After::Call
            | After::PushFlags { .. }
            | After::PopFlags => self.next,
        }
    }

    /// Returns the offset in the slot at which a stepped thread begins.
    #[inline]
    fn start(&self) -> usize {
        match self.after {
            After::CallTo { .. } => SECOND,
            _ => 0,
        }
    }

    /// Sends the thread to the slot, from which it returns by a debug trap. The thread may already
    /// be in the slot.
    ///
    /// `slot` must hold the [`XolStep::slot_image`] for it. This function, [`XolStep::finish`] and
    /// [`XolStep::abort`] must be called with interrupts enabled.
    #[inline]
    pub fn begin(
        &self,
        regs: &mut PtRegs,
        slot: SlotAddr,
        thread: &mut impl ThreadAccess,
    ) -> StepState {
        let block_step = thread.block_step();
        if block_step {
            // With block stepping, the CPU would not trap after most instructions.
            thread.set_block_step(false);
        }
        let state = StepState {
            slot,
            trap_flag: regs.flags() & flags::TF != 0,
            block_step,
            is_forgotten: false,
        };
        regs.set_flags(regs.flags() | flags::TF);
        regs.set_ip(slot.as_usize().wrapping_add(self.start()));
        state
    }

    /// Sends the thread to the second copy in the slot, if there is one. The thread returns from it
    /// by a breakpoint ([`XolStep::finish_second_copy`]), and is not stepped.
    pub fn begin_in_second_copy(&self, regs: &mut PtRegs, slot: SlotAddr) -> Option<StepState> {
        if !self.has_second_copy() {
            return None;
        }
        regs.set_ip(slot.as_usize().wrapping_add(SECOND));
        Some(StepState {
            slot,
            trap_flag: false,
            block_step: false,
            is_forgotten: false,
        })
    }

    /// Takes the thread out of the slot, and returns `true`, if it has executed the second copy,
    /// and possibly the breakpoint behind it.
    pub fn finish_second_copy(&self, state: StepState, regs: &mut PtRegs) -> bool {
        let behind = SECOND + usize::from(self.len);
        let offset = regs.ip().wrapping_sub(state.slot.as_usize());
        let is_behind = offset == behind || offset == behind + BREAKPOINT_SIZE;
        if !is_behind || !self.has_second_copy() {
            return false;
        }
        regs.set_ip(self.next);
        true
    }

    /// Takes the thread out of the slot after the debug trap.
    ///
    /// `regs` must be as the trap has saved them.
    #[inline]
    pub fn finish(
        &self,
        state: StepState,
        regs: &mut PtRegs,
        thread: &mut impl ThreadAccess,
    ) -> Finished {
        let slot = state.slot.as_usize();
        if self.has_second_copy() {
            // Someone else steps the thread, and does not know about the second copy.
            let offset = regs.ip().wrapping_sub(slot);
            if (SECOND..SLOT_SIZE).contains(&offset) {
                regs.set_ip(slot.wrapping_add(offset - SECOND));
            }
        }
        if self.after == After::Repeat && regs.ip() == slot {
            return Finished::Again;
        }
        if let Err(fault) = self.correct_stacks(state, regs, thread) {
            if !self.has_pushed_to_shadow_stack(thread) {
                // The CPU executes the copy again, and raises the fault in user mode.
                regs.set_ip(slot.wrapping_add(self.start()));
                return Finished::Again;
            }
            self.abort(state, regs, thread);
            return Finished::Fault(fault);
        }

        let branched = match self.after {
            After::Next | After::Repeat | After::PushFlags { .. } | After::PopFlags => {
                let distance = regs.ip().wrapping_sub(slot);
                // A thread outside of the slot has also executed the jump behind the copy.
                if distance < SLOT_SIZE {
                    let ip = self.at.as_usize().wrapping_add(distance);
                    regs.set_ip(self.width.truncate(ip));
                }
                false
            }
            After::Branch | After::Call => true,
            After::BranchIf { .. } => {
                let falls_through = regs.ip() == slot.wrapping_add(self.len.into());
                if falls_through {
                    regs.set_ip(self.next);
                }
                !falls_through
            }
            After::CallTo { target, .. } => {
                regs.set_ip(target);
                true
            }
        };
        // `popf` has already set the trap flag to its final value.
        if self.after != After::PopFlags {
            restore_trap_flag(state, regs);
        }
        let deliver_trap = state.trap_flag && (branched || !state.block_step);
        // Delivering the trap ends block stepping.
        if state.block_step && !deliver_trap {
            thread.set_block_step(true);
        }
        Finished::Done { deliver_trap }
    }

    /// Takes the thread out of the slot, back to the original ip, because it has raised an
    /// exception, or because it must not execute the instruction now.
    ///
    /// The thread must not have executed the instruction in the slot, except for iterations of a
    /// repeated instruction: see [`XolStep::finish_second_copy`].
    #[inline]
    pub fn abort(&self, state: StepState, regs: &mut PtRegs, thread: &mut impl ThreadAccess) {
        if self.after == After::Call {
            self.hide_slot(state, regs.sp(), thread);
        }
        regs.set_ip(self.at.as_usize());
        restore_trap_flag(state, regs);
        if state.block_step {
            thread.set_block_step(true);
        }
    }

    /// Ends the step of a thread that was in the slot and had not executed the instruction when the
    /// kernel or a debugger changed its instruction pointer. May be called with interrupts
    /// disabled.
    ///
    /// A debugger that steps by blocks gets its next trap after one instruction. The step must be
    /// neither finished nor aborted with the returned state.
    #[inline]
    pub fn forget(&self, state: StepState, regs: &mut PtRegs) -> StepState {
        restore_trap_flag(state, regs);
        StepState {
            is_forgotten: true,
            ..state
        }
    }

    /// Corrects the pushed value, or undoes the push.
    #[inline]
    fn correct_stacks(
        &self,
        state: StepState,
        regs: &mut PtRegs,
        thread: &mut impl ThreadAccess,
    ) -> Result<(), Fault> {
        let sp = regs.sp();
        let (size, result) = match self.after {
            After::Next
            | After::Repeat
            | After::Branch
            | After::BranchIf { .. }
            | After::PopFlags => return Ok(()),
            After::Call => (self.width.bytes(), self.correct_return(sp, true, thread)),
            After::CallTo { shadowed, .. } => (
                self.width.bytes(),
                self.correct_return(sp, shadowed, thread),
            ),
            After::PushFlags { .. } if state.trap_flag => return Ok(()),
            After::PushFlags { size } => {
                // The trap flag is in the second byte; no other flag in that byte differs from the
                // pushed value.
                let byte = (regs.flags() & !flags::TF) >> 8;
                let addr = self.width.truncate(sp.wrapping_add(1));
                let result = thread.store(addr, Width::W8, Width::W8.truncate(byte));
                (size.into(), result)
            }
        };
        if result.is_err() {
            regs.set_sp(self.width.truncate(sp.wrapping_add(size)));
        }
        result
    }

    /// Returns whether the executed copy has pushed to a shadow stack.
    fn has_pushed_to_shadow_stack(&self, thread: &impl ThreadAccess) -> bool {
        let pushes = match self.after {
            After::Call => true,
            After::CallTo { shadowed, .. } => shadowed,
            After::Next
            | After::Repeat
            | After::Branch
            | After::BranchIf { .. }
            | After::PushFlags { .. }
            | After::PopFlags => false,
        };
        pushes && thread.has_shadow_stack()
    }

    /// Corrects the return address that a call may have left below the top of the stack.
    ///
    /// Processors write the return address before they detect that the target is not canonical.
    #[inline]
    fn hide_slot(&self, state: StepState, sp: usize, thread: &mut impl ThreadAccess) {
        let below = self.width.truncate(sp.wrapping_sub(self.width.bytes()));
        let pushed = state.slot.as_usize().wrapping_add(self.len.into());
        if thread.load(below, self.width) == Ok(pushed) {
            // If the store fails, the address cannot be read by the program either.
            let _ = thread.store(below, self.width, self.next);
        }
    }

    /// Corrects the pushed return address.
    #[inline]
    fn correct_return(
        &self,
        sp: usize,
        shadowed: bool,
        thread: &mut impl ThreadAccess,
    ) -> Result<(), Fault> {
        thread.store(sp, self.width, self.next)?;
        if shadowed && thread.has_shadow_stack() {
            thread.update_shadow_stack(self.next)?;
        }
        Ok(())
    }
}

/// Returns the corrections that are necessary after the instruction has been stepped.
fn after(insn: &Decoded, next: usize, target: usize) -> After {
    let repeated = insn.prefixes.any(Prefixes::REP.and(Prefixes::REPNE));
    if insn.is_string() && repeated {
        return After::Repeat;
    }
    if insn.is_branch_if() {
        return After::BranchIf { target };
    }
    if insn.map != OpcodeMap::Primary {
        return After::Next;
    }
    match insn.opcode {
        0x9c => After::PushFlags {
            size: match insn.mode {
                _ if insn.is_16bit() => 2,
                Mode::Bits32 => 4,
                Mode::Bits64 => 8,
            },
        },
        0x9d => After::PopFlags,
        0xa1 if insn.is_absolute_jump() => After::Branch,
        0xc2 | 0xc3 => After::Branch,
        0xe8 => After::CallTo {
            target,
            shadowed: target != next,
        },
        0xff if insn.group(0xff) == Some(2) => After::Call,
        0xff if insn.group(0xff) == Some(4) => After::Branch,
        _ => After::Next,
    }
}

/// Restores the trap flag to its value before the step.
#[inline]
fn restore_trap_flag(state: StepState, regs: &mut PtRegs) {
    let bits = regs.flags() & !flags::TF;
    regs.set_flags(if state.trap_flag {
        bits | flags::TF
    } else {
        bits
    });
}
