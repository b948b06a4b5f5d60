// SPDX-License-Identifier: GPL-2.0

//! What a slot holds: the copy of an instruction, and what follows it.
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
//! The upper one is of most instructions, the lower one of a call by a displacement. In 32-bit
//! code, the push has the return address in itself. Between the parts there are breakpoints.
//!
//! An operand relative to the instruction pointer is adjusted to where the slot is, and so is the
//! displacement of a conditional jump, which has the form with 32 bits there. See [`super::step`]
//! for what each part is there for.

use super::{
    step::{
        After,
        Step, //
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

/// Bytes of a slot.
pub const SLOT_SIZE: usize = 32;

/// Where in the slot there is another thing to execute.
pub(super) const SECOND: usize = 16;

/// Where in the slot a return address is. It is aligned, which some programs insist on.
const RETURN: usize = 24;

/// `jmp` by a displacement of 32 bits, and its length.
const JUMP: u8 = 0xe9;
const JUMP_SIZE: usize = 5;

/// How far a displacement of 32 bits reaches, whatever the instruction's length.
const REACH: usize = (1 << 31) - SLOT_SIZE;

/// An operand relative to the instruction pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Relative {
    /// Offset of the displacement in the instruction.
    pub(super) offset: u8,
    /// Whether the address is cut off after 32 bits.
    pub(super) is_32bit: bool,
}

/// A slot that is being filled.
struct Image {
    bytes: [u8; SLOT_SIZE],
    slot: SlotAddr,
    width: Width,
}

impl Image {
    fn put(&mut self, start: usize, bytes: &[u8]) -> Result<(), OutOfReach> {
        let room = self
            .bytes
            .get_mut(start..start.wrapping_add(bytes.len()))
            .ok_or(OutOfReach)?;
        room.copy_from_slice(bytes);
        Ok(())
    }

    /// Puts the displacement at `start`, of an instruction that ends at `end`, to an address. If
    /// `is_cut`, only the low half of the sum counts.
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

    /// Puts the displacement with which a jump that ends at `end` ends.
    fn put_target(&mut self, end: usize, target: usize) -> Result<(), OutOfReach> {
        let is_cut = self.width != Width::W64;
        self.put_displacement(end.wrapping_sub(4), end, target, is_cut)
    }
}

impl Step {
    /// Where slots for this instruction may be: the first and the last address.
    ///
    /// The next instruction must be within reach of the jump, and so must be the target of a jump
    /// or call, and an operand that is addressed relative to the instruction pointer, which may be
    /// on the other side.
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

    /// What has to be within reach, besides the next instruction.
    fn reached(&self) -> Option<usize> {
        match self.after {
            After::CallTo { target, .. } | After::BranchIf { target } => Some(target),
            _ => self
                .relative
                .filter(|relative| !relative.is_32bit)
                .and_then(|relative| self.operand(relative)),
        }
    }

    /// The address of an operand relative to the instruction pointer.
    fn operand(&self, relative: Relative) -> Option<usize> {
        let start = usize::from(relative.offset);
        let field = self.code.get(start..start.wrapping_add(4))?;
        let field = i32::from_le_bytes(field.try_into().ok()?);
        Some(self.next.wrapping_add(field as isize as usize))
    }

    /// What a slot at `slot`, within [`Step::slot_range`], must hold.
    pub fn slot_image(&self, slot: SlotAddr) -> Result<[u8; SLOT_SIZE], OutOfReach> {
        let mut image = Image {
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

    /// Whether the slot has a second copy of a repeated instruction, as it does unless the
    /// instruction is too long for that. String instructions have no operand relative to the
    /// instruction pointer.
    pub(super) fn has_second_copy(&self) -> bool {
        self.after == After::Repeat && usize::from(self.len) + JUMP_SIZE <= SECOND
    }
}

/// Returns whether an offset in a slot is where an instruction begins that stands for the
/// displaced one, which has not been executed yet then.
#[inline]
pub const fn is_at_copy(offset: usize) -> bool {
    // Whatever its length, the copy at the beginning ends before the second.
    const { assert!(MAX_INSN_SIZE < SECOND) };
    offset == 0 || offset == SECOND
}

/// A push of a return address, for the first part of the slot; and its length.
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

/// A conditional jump, whose displacement depends on the slot; and its length.
pub(super) fn branch_if(opcode: u8) -> ([u8; MAX_INSN_SIZE], u8) {
    let jump = [0x0f, 0x80 | (opcode & 15), 0, 0, 0, 0];
    let mut code = [0; MAX_INSN_SIZE];
    fill(&mut code, &jump);
    (code, jump.len() as u8)
}

/// A call for the slot in place of a relative one, to the next byte or, if it is to push to the
/// shadow stack, to the one after that.
fn stand_in_call(shadowed: bool) -> [u8; 5] {
    [0xe8, shadowed.into(), 0, 0, 0]
}

fn fill(code: &mut [u8; MAX_INSN_SIZE], bytes: &[u8]) {
    for (to, from) in code.iter_mut().zip(bytes) {
        *to = *from;
    }
}

const _: () = {
    // The stand-in call and what it may go to; a second copy of the greatest length.
    assert!(SECOND + 5 + 2 <= RETURN && RETURN + 8 <= SLOT_SIZE);
    assert!(2 * SECOND - JUMP_SIZE + BREAKPOINT_SIZE <= SLOT_SIZE);
};
