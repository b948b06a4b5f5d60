// SPDX-License-Identifier: GPL-2.0

//! Contents of an XOL slot: the copy of an instruction, and the code that follows it.
//!
//! ```text
//!   0                             16                        24                   32
//!   +------+----------------------+---------------------------------------------+
//!   | copy | jump, if one follows | second copy, if it is a repeated instruction |
//!   +------+----------------------+-------------------------+--------------------+
//!   | push of the return, jump    | stand-in call           | return address     |
//!   +-----------------------------+-------------------------+--------------------+
//! ```
//!
//! The upper layout is the one for most instructions, the lower layout the one for a relative call.
//! In 32-bit code, the push contains the return address itself. Breakpoints fill the gaps between
//! the parts.
//!
//! The displacement of an operand relative to the instruction pointer is adjusted to the address of
//! the slot, and so is the displacement of a conditional jump, which always has the 32-bit form in
//! a slot. See [`super::step`] for the purpose of each part.

use super::{
    step::{
        After,
        XolStep, //
    },
    BREAKPOINT,
    BREAKPOINT_SIZE,
    MAX_INSN_SIZE, //
};
use crate::{
    OutOfReach,
    SlotAddr,
    Width, //
};

/// Size of a slot in bytes.
pub const SLOT_SIZE: usize = 32;

/// Offset of the second copy, or of the stand-in call, in the slot.
pub(super) const SECOND: usize = 16;

/// Offset of the return address in the slot. It is aligned, because some programs depend on that.
const RETURN: usize = 24;

/// `jmp` with a 32-bit displacement, and its length.
const JUMP: u8 = 0xe9;
const JUMP_SIZE: usize = 5;

/// The distance that a 32-bit displacement reaches for any length of the instruction.
const REACH: usize = (1 << 31) - SLOT_SIZE;

/// An operand relative to the instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Relative {
    /// Offset of the displacement in the instruction.
    pub(super) offset: u8,
    /// Whether the address is truncated to 32 bits.
    pub(super) is_32bit: bool,
}

/// A slot that is being filled.
struct SlotImage {
    bytes: [u8; SLOT_SIZE],
    slot: SlotAddr,
    width: Width,
}

impl SlotImage {
    fn put(&mut self, start: usize, bytes: &[u8]) -> Result<(), OutOfReach> {
        let room = self
            .bytes
            .get_mut(start..start.wrapping_add(bytes.len()))
            .ok_or(OutOfReach)?;
        room.copy_from_slice(bytes);
        Ok(())
    }

    /// Puts the displacement at `start`, of an instruction that ends at `end`, so that it leads to
    /// the address `to`. If `is_cut`, only the low half of the sum counts.
    fn put_displacement(
        &mut self,
        start: usize,
        end: usize,
        to: usize,
        is_cut: bool,
    ) -> Result<(), OutOfReach> {
        let distance = to.wrapping_sub(self.slot.as_usize().wrapping_add(end));
        let distance = if is_cut {
            distance as i32
        } else {
            i32::try_from(distance as i64).map_err(|_| OutOfReach)?
        };
        self.put(start, &distance.to_le_bytes())
    }

    /// Puts the displacement at the end of a jump to `target` that ends at `end`.
    fn put_target(&mut self, end: usize, target: usize) -> Result<(), OutOfReach> {
        let is_cut = self.width != Width::W64;
        self.put_displacement(end.wrapping_sub(4), end, target, is_cut)
    }
}

impl XolStep {
    /// Returns the first and the last address at which a slot for this instruction may be.
    ///
    /// The next instruction must be within reach of the jump. The target of a jump or call, and an
    /// operand that is addressed relative to the instruction pointer, must be within reach as well;
    /// they may be on the other side.
    pub fn slot_range(&self) -> (usize, usize) {
        if self.width == Width::W32 {
            return (0, Width::W32.truncate(usize::MAX));
        }
        let near = |addr: usize| (addr.saturating_sub(REACH), addr.saturating_add(REACH));
        let (low, high) = near(self.at.as_usize());
        match self.reached() {
            Some(reached) => {
                let (reached_low, reached_high) = near(reached);
                (low.max(reached_low), high.min(reached_high))
            }
            None => (low, high),
        }
    }

    /// Returns the address that has to be within reach besides the next instruction.
    fn reached(&self) -> Option<usize> {
        match self.after {
            After::CallTo { target, .. } | After::BranchIf { target } => Some(target),
            _ => self
                .relative
                .filter(|relative| !relative.is_32bit)
                .and_then(|relative| self.operand(relative)),
        }
    }

    /// Returns the address of an operand relative to the instruction pointer.
    fn operand(&self, relative: Relative) -> Option<usize> {
        let start = usize::from(relative.offset);
        let field = self.code.get(start..start.wrapping_add(4))?;
        let field = i32::from_le_bytes(field.try_into().ok()?);
        Some(self.next.wrapping_add(field as isize as usize))
    }

    /// Builds the contents of a slot at `slot`, which must be within [`XolStep::slot_range`].
    pub fn slot_image(&self, slot: SlotAddr) -> Result<[u8; SLOT_SIZE], OutOfReach> {
        let mut image = SlotImage {
            bytes: [BREAKPOINT; SLOT_SIZE],
            slot,
            width: self.width,
        };
        let len = usize::from(self.len);
        image.put(0, self.copy())?;
        if let Some(relative) = self.relative {
            let operand = self.operand(relative).ok_or(OutOfReach)?;
            image.put_displacement(relative.offset.into(), len, operand, relative.is_32bit)?;
        }
        if let After::BranchIf { target } = self.after {
            image.put_target(len, target)?;
        }
        if self.is_followed_by_jump() {
            const { assert!(MAX_INSN_SIZE + JUMP_SIZE <= SLOT_SIZE) };
            image.put(len, &[JUMP])?;
            image.put_target(len.wrapping_add(JUMP_SIZE), self.behind())?;
        }
        if self.has_second_copy() {
            image.put(SECOND, self.copy())?;
        }
        if let After::CallTo { shadowed, .. } = self.after {
            image.put(SECOND, &stand_in_call(shadowed))?;
            if self.width == Width::W64 {
                image.put(RETURN, &self.next.to_le_bytes())?;
            }
        }
        Ok(image.bytes)
    }

    fn copy(&self) -> &[u8] {
        self.code.get(..self.len.into()).unwrap_or(&[])
    }

    /// Returns whether the slot has a second copy of a repeated instruction. It has one unless the
    /// instruction is too long. String instructions have no operand relative to the instruction
    /// pointer.
    pub(super) fn has_second_copy(&self) -> bool {
        self.after == After::Repeat && usize::from(self.len) + JUMP_SIZE <= SECOND
    }
}

/// Returns whether `offset` in a slot is the start of an instruction that stands in for the
/// displaced instruction, which has not been executed yet at that point.
#[inline]
pub const fn is_at_copy(offset: usize) -> bool {
    // The copy at the beginning ends before the second copy, whatever its length.
    const { assert!(MAX_INSN_SIZE < SECOND) };
    offset == 0 || offset == SECOND
}

/// Returns a push of the return address, for the first part of the slot, and its length.
pub(super) fn push_return(width: Width, next: usize) -> ([u8; MAX_INSN_SIZE], u8) {
    const RIP_RELATIVE_SIZE: u8 = 6;
    const IMMEDIATE_SIZE: u8 = 5;

    let mut code = [0; MAX_INSN_SIZE];
    if width == Width::W64 {
        // PUSH [RIP + displacement].
        let displacement = RETURN as u8 - RIP_RELATIVE_SIZE;
        fill(&mut code, &[0xff, 0x35, displacement, 0, 0, 0]);
        (code, RIP_RELATIVE_SIZE)
    } else {
        // PUSH imm32.
        let [a, b, c, d] = (next as u32).to_le_bytes();
        fill(&mut code, &[0x68, a, b, c, d]);
        (code, IMMEDIATE_SIZE)
    }
}

/// Returns a conditional jump, with a displacement that depends on the slot, and its length.
pub(super) fn branch_if(opcode: u8) -> ([u8; MAX_INSN_SIZE], u8) {
    let jump = [0x0f, 0x80 | (opcode & 15), 0, 0, 0, 0];
    let mut code = [0; MAX_INSN_SIZE];
    fill(&mut code, &jump);
    (code, jump.len() as u8)
}

/// Returns the stand-in for a relative call. It calls the next byte or, if it must push to the
/// shadow stack, the byte after that.
fn stand_in_call(shadowed: bool) -> [u8; 5] {
    [0xe8, shadowed.into(), 0, 0, 0]
}

fn fill(code: &mut [u8; MAX_INSN_SIZE], bytes: &[u8]) {
    for (to, from) in code.iter_mut().zip(bytes) {
        *to = *from;
    }
}

const _: () = {
    // The stand-in call and both of its targets fit; so does a second copy of maximum length.
    assert!(SECOND + 5 + 2 <= RETURN && RETURN + 8 <= SLOT_SIZE);
    assert!(2 * SECOND - JUMP_SIZE + BREAKPOINT_SIZE <= SLOT_SIZE);
};
