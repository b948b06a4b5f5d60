// SPDX-License-Identifier: GPL-2.0

//! Instructions done by the CPU, on a copy in a slot.
//!
//! Most do the same wherever they are, if only an operand relative to the instruction pointer is
//! adjusted. Their copy is followed by a jump to the next instruction of the program, and the
//! thread is simply sent there ([`Step::can_boost`]).
//!
//! A repeated instruction that is to be finished before a signal is delivered would trap after each
//! iteration if it were stepped. So its slot holds a second copy, with a breakpoint behind it
//! ([`Step::begin_in_second_copy`]).
//!
//! With the others, and if the program is being stepped, the thread is sent to the slot with the
//! trap flag set, and comes back by the debug trap after one instruction. What the instruction has
//! got from its unusual address, or from the trap flag, is then put right before anybody else can
//! see it:
//!
//! - the instruction pointer, unless the instruction has set it to an absolute address;
//! - the return address that a call has pushed, on the stack and on the shadow stack. A relative
//!   call cannot be copied: in its place the slot holds a call to an address close by, which has
//!   the same effect on both stacks, and the thread is sent to the real target afterwards;
//! - the trap flag in a word that `pushf` has pushed.
//!
//! The reads and writes of `ret` and of indirect jumps need no correction, also with a shadow
//! stack: all addresses are the program's.

use super::{
    decode::{
        Decoded,
        Map,
        Prefixes, //
    },
    Mode,
    BREAKPOINT,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE, //
};
use crate::{
    Fault,
    Finished,
    OutOfReach,
    SlotAddr,
    Thread,
    Vaddr,
    Width, //
};
use kernel::ptregs::{
    flags,
    PtRegs, //
};

/// Bytes of a slot.
pub const SLOT_SIZE: usize = 32;

/// `jmp` by a displacement of 32 bits, and its length.
const JUMP: u8 = 0xe9;
const JUMP_SIZE: usize = 5;

/// How far a displacement of 32 bits reaches, whatever the instruction's length.
const REACH: usize = (1 << 31) - SLOT_SIZE;

/// What has to be done after the copy has been executed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum After {
    /// The next instruction follows.
    Next,
    /// The next instruction follows, but there may be more iterations before it.
    Repeat,
    /// The instruction has set the instruction pointer.
    Branch,
    /// The instruction has set the instruction pointer, and pushed a return address.
    Call,
    /// The slot holds a call in place of this one. It pushes to a shadow stack unless it goes to
    /// the next instruction: that is the CPU's rule.
    CallTo { target: usize, shadowed: bool },
    /// A word of so many bytes with the flags has been pushed.
    PushFlags { size: u8 },
    /// The flags have been popped.
    PopFlags,
}

/// An operand relative to the instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Relative {
    /// Offset of the displacement in the instruction.
    offset: u8,
    /// Whether the address is cut off after 32 bits.
    is_32bit: bool,
}

/// An instruction that is to be executed from a slot.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    at: Vaddr,
    next: usize,
    width: Width,
    len: u8,
    code: [u8; MAX_INSN_SIZE],
    relative: Option<Relative>,
    after: After,
}

/// What [`Step::begin`] has changed in the state of a thread.
#[must_use = "the step must be finished or aborted"]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StepState {
    slot: SlotAddr,
    trap_flag: bool,
    block_step: bool,
}

impl StepState {
    /// The slot in which the thread is.
    #[inline]
    pub fn slot(&self) -> SlotAddr {
        self.slot
    }
}

impl Step {
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
            After::CallTo { shadowed, .. } => stand_in_call(shadowed),
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

    /// Whether the copy in a slot needs no correction afterwards, so that a jump may follow it.
    pub fn can_boost(&self) -> bool {
        match self.after {
            After::Next | After::Repeat => true,
            After::Branch
            | After::Call
            | After::CallTo { .. }
            | After::PushFlags { .. }
            | After::PopFlags => false,
        }
    }

    /// Whether a thread that is sent to the copy comes back by itself: by the jump behind it, or as
    /// the instruction itself goes to an address of the program's.
    pub fn comes_back(&self) -> bool {
        self.can_boost() || self.after == After::Branch
    }

    /// Where slots for this instruction may be: the first and the last address.
    ///
    /// The next instruction must be within reach of the jump, and so must be an operand that is
    /// addressed relative to the instruction pointer, which may be on the other side.
    pub fn slot_range(&self) -> (usize, usize) {
        if self.width == Width::W32 {
            return (0, Width::W32.truncate(usize::MAX));
        }
        let near = |addr: usize| (addr.saturating_sub(REACH), addr.saturating_add(REACH));
        let (low, high) = near(self.at.as_usize());
        match self.operand() {
            Some(operand) => {
                let (operand_low, operand_high) = near(operand);
                (low.max(operand_low), high.min(operand_high))
            }
            None => (low, high),
        }
    }

    /// The address of an operand relative to the instruction pointer, unless it is cut off.
    fn operand(&self) -> Option<usize> {
        let relative = self.relative.filter(|relative| !relative.is_32bit)?;
        let field = displacement(&self.code, relative)?;
        Some(
            self.next
                .wrapping_add(i32::from_le_bytes(field) as isize as usize),
        )
    }

    /// What a slot at `slot`, within [`Step::slot_range`], must hold.
    pub fn slot_image(&self, slot: SlotAddr) -> Result<[u8; SLOT_SIZE], OutOfReach> {
        let mut image = [BREAKPOINT; SLOT_SIZE];
        for (to, from) in image.iter_mut().zip(&self.code).take(self.len.into()) {
            *to = *from;
        }
        if let Some(relative) = self.relative {
            let field = displacement(&image, relative).ok_or(OutOfReach)?;
            let moved = self.at.as_usize().wrapping_sub(slot.as_usize()) as i64;
            let value = i64::from(i32::from_le_bytes(field)).wrapping_add(moved);
            let value = if relative.is_32bit {
                // Only the low half of the sum counts.
                value as i32
            } else {
                i32::try_from(value).map_err(|_| OutOfReach)?
            };
            put(&mut image, relative.offset.into(), value)?;
        }
        if self.can_boost() {
            const { assert!(MAX_INSN_SIZE + JUMP_SIZE <= SLOT_SIZE) };
            let start = usize::from(self.len);
            let end = slot.as_usize().wrapping_add(start).wrapping_add(JUMP_SIZE);
            let distance = self.next.wrapping_sub(end);
            let distance = match self.width {
                // The sum is cut off.
                Width::W8 | Width::W16 | Width::W32 => distance as i32,
                Width::W64 => i32::try_from(distance as i64).map_err(|_| OutOfReach)?,
            };
            *image.get_mut(start).ok_or(OutOfReach)? = JUMP;
            put(&mut image, start.wrapping_add(1), distance)?;
        }
        if let Some(start) = self.second_copy() {
            let room = image.iter_mut().skip(start);
            for (to, from) in room.zip(&self.code).take(self.len.into()) {
                *to = *from;
            }
        }
        Ok(image)
    }

    /// Sends the thread to the slot, from which it returns by a debug trap. It may be there before.
    ///
    /// `slot` must hold the [`Step::slot_image`] for it. Must be called with interrupts enabled, as
    /// must be [`Step::finish`] and [`Step::abort`].
    #[inline]
    pub fn begin(&self, regs: &mut PtRegs, slot: SlotAddr, thread: &mut impl Thread) -> StepState {
        let block_step = thread.block_step();
        if block_step {
            // It would not trap after most instructions.
            thread.set_block_step(false);
        }
        let state = StepState {
            slot,
            trap_flag: regs.flags() & flags::TF != 0,
            block_step,
        };
        regs.set_flags(regs.flags() | flags::TF);
        regs.forget_software_event();
        regs.set_ip(slot.as_usize());
        state
    }

    /// Where in the slot a second copy of a repeated instruction begins, unless the instruction is
    /// too long for that. String instructions have no operand relative to the instruction pointer.
    fn second_copy(&self) -> Option<usize> {
        let len = usize::from(self.len);
        let start = second_copy(len);
        let fits = start + len + BREAKPOINT_SIZE <= SLOT_SIZE;
        (self.after == After::Repeat && fits).then_some(start)
    }

    /// Sends the thread to the second copy in the slot, if there is one, from which it returns by a
    /// breakpoint: [`Step::finish_by_breakpoint`]. The thread is not stepped otherwise.
    pub fn begin_in_second_copy(&self, regs: &mut PtRegs, slot: SlotAddr) -> Option<StepState> {
        let ip = slot.as_usize().wrapping_add(self.second_copy()?);
        regs.set_ip(ip);
        Some(StepState {
            slot,
            trap_flag: false,
            block_step: false,
        })
    }

    /// Takes the thread out of the slot if it has executed the second copy and the breakpoint
    /// behind it. Returns whether that is so.
    pub fn finish_by_breakpoint(&self, state: StepState, regs: &mut PtRegs) -> bool {
        let Some(start) = self.second_copy() else {
            return false;
        };
        let behind = start + usize::from(self.len) + BREAKPOINT_SIZE;
        if regs.ip() != state.slot.as_usize().wrapping_add(behind) {
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
        thread: &mut impl Thread,
    ) -> Finished {
        let slot = state.slot.as_usize();
        if let Some(start) = self.second_copy() {
            // Somebody steps the thread who has not been told where it is.
            let offset = regs.ip().wrapping_sub(slot);
            regs.set_ip(slot.wrapping_add(offset.checked_sub(start).unwrap_or(offset)));
        }
        if self.after == After::Repeat && regs.ip() == slot {
            return Finished::Again;
        }
        if let Err(fault) = self.correct_stacks(state, regs, thread) {
            self.abort(state, regs, thread);
            return Finished::Fault(fault);
        }

        let branched = match self.after {
            After::Next | After::Repeat | After::PushFlags { .. } | After::PopFlags => {
                let distance = regs.ip().wrapping_sub(slot);
                let ip = self.at.as_usize().wrapping_add(distance);
                regs.set_ip(self.width.truncate(ip));
                false
            }
            After::Branch | After::Call => true,
            After::CallTo { target, .. } => {
                regs.set_ip(target);
                true
            }
        };
        // `popf` has already said what the flag is to be.
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

    /// Takes the thread out of the slot, back to the instruction: because it has raised an
    /// exception, or because the thread is not to execute it now.
    ///
    /// The thread must not have executed the instruction in the slot, except for iterations of a
    /// repeated one.
    #[inline]
    pub fn abort(&self, state: StepState, regs: &mut PtRegs, thread: &mut impl Thread) {
        if self.after == After::Call {
            self.hide_slot(state, regs.sp(), thread);
        }
        regs.set_ip(self.at.as_usize());
        restore_trap_flag(state, regs);
        if state.block_step {
            thread.set_block_step(true);
        }
    }

    /// Ends the step of a thread whose instruction pointer has been changed meanwhile: it was in
    /// the slot, and had not executed the instruction. May be called with interrupts disabled.
    ///
    /// A debugger that steps by blocks gets its next trap after one instruction.
    #[inline]
    pub fn forget(&self, state: StepState, regs: &mut PtRegs) {
        restore_trap_flag(state, regs);
    }

    /// Corrects what has been pushed, or takes the push back.
    #[inline]
    fn correct_stacks(
        &self,
        state: StepState,
        regs: &mut PtRegs,
        thread: &mut impl Thread,
    ) -> Result<(), Fault> {
        let sp = regs.sp();
        let (size, result) = match self.after {
            After::Next | After::Repeat | After::Branch | After::PopFlags => return Ok(()),
            After::Call => (self.width.bytes(), self.correct_return(sp, true, thread)),
            After::CallTo { shadowed, .. } => (
                self.width.bytes(),
                self.correct_return(sp, shadowed, thread),
            ),
            After::PushFlags { .. } if state.trap_flag => return Ok(()),
            After::PushFlags { size } => {
                // The trap flag is in the second byte, and the only one there that is not as it
                // was pushed.
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

    /// Corrects what a call may have left below the top of the stack.
    ///
    /// Processors write the return address before they find that the target is not canonical.
    #[inline]
    fn hide_slot(&self, state: StepState, sp: usize, thread: &mut impl Thread) {
        let below = self.width.truncate(sp.wrapping_sub(self.width.bytes()));
        let pushed = state.slot.as_usize().wrapping_add(self.len.into());
        if thread.load(below, self.width) == Ok(pushed) {
            // If that is not possible, nobody can read it either.
            let _ = thread.store(below, self.width, self.next);
        }
    }

    /// Corrects the return address that has been pushed.
    #[inline]
    fn correct_return(
        &self,
        sp: usize,
        shadowed: bool,
        thread: &mut impl Thread,
    ) -> Result<(), Fault> {
        thread.store(sp, self.width, self.next)?;
        if shadowed && thread.has_shadow_stack() {
            thread.amend_shadow_stack(self.next)?;
        }
        Ok(())
    }
}

/// Where in its slot the second copy of an instruction of so many bytes begins, if there is one.
const fn second_copy(len: usize) -> usize {
    len + JUMP_SIZE
}

/// Returns whether an offset in the slot of an instruction of so many bytes is that of a copy, so
/// that it has not been executed yet.
#[inline]
pub const fn is_at_copy(offset: usize, len: usize) -> bool {
    offset == 0 || offset == second_copy(len)
}

/// The displacement field of an operand.
fn displacement(code: &[u8], relative: Relative) -> Option<[u8; 4]> {
    let start = usize::from(relative.offset);
    code.get(start..start.wrapping_add(4))?.try_into().ok()
}

/// Writes a displacement.
fn put(image: &mut [u8; SLOT_SIZE], start: usize, value: i32) -> Result<(), OutOfReach> {
    let field = image
        .get_mut(start..start.wrapping_add(4))
        .ok_or(OutOfReach)?;
    field.copy_from_slice(&value.to_le_bytes());
    Ok(())
}

/// A call for the slot in place of a relative one, to the next byte or, if it is to push to the
/// shadow stack, to the one after that; and its length.
fn stand_in_call(shadowed: bool) -> ([u8; MAX_INSN_SIZE], u8) {
    let call = [0xe8, shadowed.into(), 0, 0, 0];
    let mut code = [0; MAX_INSN_SIZE];
    for (to, from) in code.iter_mut().zip(call) {
        *to = from;
    }
    (code, call.len() as u8)
}

/// What has to be done after stepping the instruction.
fn after(insn: &Decoded, next: usize, target: usize) -> After {
    let repeated = insn.prefixes.any(Prefixes::REP.and(Prefixes::REPNE));
    if insn.is_string() && repeated {
        return After::Repeat;
    }
    if insn.map != Map::Primary {
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

/// Gives the trap flag the value that it had before the step.
#[inline]
fn restore_trap_flag(state: StepState, regs: &mut PtRegs) {
    let bits = regs.flags() & !flags::TF;
    regs.set_flags(if state.trap_flag {
        bits | flags::TF
    } else {
        bits
    });
}
